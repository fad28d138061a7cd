//! The claims of a JSON Web Token. Nothing here is verified: a claim is the word of its writer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A longer token is not looked at.
pub const MAX_BYTES: usize = 64 * 1024;

/// The claims of a ChatGPT token that the CLI uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// `email`, or that of the profile.
    pub email: Option<String>,
    /// The plan that is paid for, in the issuer's spelling.
    pub plan: Option<String>,
    /// The user.
    pub user_id: Option<String>,
    /// The workspace, which is the account that requests are made for.
    pub workspace_id: Option<String>,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<i64>,
}

/// Why a token has no claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtError {
    /// Not three parts with dots between them, or too long.
    Format,
    /// The middle part is not base64url.
    Base64,
    /// The payload is not a JSON object.
    Json,
}

impl std::fmt::Display for JwtError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            JwtError::Format => "it is not a JSON Web Token",
            JwtError::Base64 => "its claims are not base64url",
            JwtError::Json => "its claims are not a JSON object",
        })
    }
}

/// The claims of a token.
///
/// ```
/// use codex_core::auth::jwt;
///
/// // {"alg":"none"} . {"email":"ann@example.com","exp":1900000000} . s
/// let token = "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSIsImV4cCI6MTkwMDAwMDAwMH0.cw";
/// let claims = jwt::claims(token).unwrap();
/// assert_eq!(claims.email.as_deref(), Some("ann@example.com"));
/// assert_eq!(claims.expires_at, Some(1_900_000_000));
/// assert!(jwt::claims("not.a").is_err());
/// ```
pub fn claims(token: &str) -> Result<Claims, JwtError> {
    let object = payload(token)?;
    let auth = object.get("https://api.openai.com/auth").and_then(Value::as_object);
    let profile = object.get("https://api.openai.com/profile").and_then(Value::as_object);
    let of = |map: Option<&Map<String, Value>>, key: &str| text(map?.get(key)?);
    Ok(Claims {
        email: object.get("email").and_then(text).or_else(|| of(profile, "email")),
        plan: of(auth, "chatgpt_plan_type"),
        user_id: of(auth, "chatgpt_user_id").or_else(|| of(auth, "user_id")),
        workspace_id: of(auth, "chatgpt_account_id"),
        expires_at: object.get("exp").and_then(Value::as_i64),
    })
}

/// The claims of a token as they stand.
pub fn payload(token: &str) -> Result<Map<String, Value>, JwtError> {
    if token.len() > MAX_BYTES {
        return Err(JwtError::Format);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(JwtError::Format);
    };
    if header.is_empty() || claims.is_empty() || signature.is_empty() {
        return Err(JwtError::Format);
    }
    let bytes = URL_SAFE_NO_PAD.decode(claims).map_err(|_| JwtError::Base64)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(JwtError::Json),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
