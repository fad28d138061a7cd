//! The CLI's own login: the content of `auth.json`, or of the same object in the keyring.

use super::failure::LoginError;
use super::jwt::{self, Claims};
use super::members::Members;

/// The way in which requests are paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A key of the API.
    ApiKey,
    /// A ChatGPT account, with tokens that the CLI renews.
    Chatgpt,
    /// A ChatGPT account, with tokens that a host hands over.
    ChatgptAuthTokens,
    /// An agent with an identity of its own.
    AgentIdentity,
    /// A personal access token (`at-…`).
    PersonalAccessToken,
    /// A key of Amazon Bedrock.
    BedrockApiKey,
    /// Access keys of Amazon Bedrock.
    BedrockAccessKeys,
}

/// The word that stands for a method in the document.
const METHODS: [(&str, Method); 7] = [
    ("apikey", Method::ApiKey),
    ("chatgpt", Method::Chatgpt),
    ("chatgptAuthTokens", Method::ChatgptAuthTokens),
    ("agentIdentity", Method::AgentIdentity),
    ("personalAccessToken", Method::PersonalAccessToken),
    ("bedrockApiKey", Method::BedrockApiKey),
    ("bedrockAccessKeys", Method::BedrockAccessKeys),
];

/// The members in the order in which the CLI writes them; unknown members come after.
const ORDER: [&str; 8] = [
    "auth_mode",
    "OPENAI_API_KEY",
    "tokens",
    "last_refresh",
    "agent_identity",
    "personal_access_token",
    "bedrock_api_key",
    "bedrock_access_keys",
];

/// Members that hold keys of Amazon Bedrock, each with its required and its optional members.
const BEDROCK: [(&str, &[&str], &[&str]); 2] = [
    ("bedrock_api_key", &["api_key", "region"], &[]),
    ("bedrock_access_keys", &["access_key_id", "secret_access_key"], &["session_token"]),
];

/// A login that the CLI would take.
#[derive(Clone, PartialEq)]
pub struct Login {
    /// The way to pay: the document's own word, else the kind of its keys.
    pub method: Method,
    /// The key of the API.
    pub api_key: Option<String>,
    /// Tokens of a ChatGPT account.
    pub tokens: Option<Tokens>,
    /// When the tokens were last renewed, as it is written.
    pub last_refresh: Option<String>,
    /// A personal access token.
    pub personal_access_token: Option<String>,
    /// The identity of an agent, a JSON Web Token.
    pub agent_identity: Option<String>,
    members: Members,
}

/// Tokens of a ChatGPT account.
#[derive(Clone, PartialEq)]
pub struct Tokens {
    /// The claims of the identity token.
    pub id: Claims,
    /// The token that requests carry.
    pub access_token: String,
    /// The end of the access token, in seconds since 1970, if the token names it.
    pub expires_at: Option<i64>,
    /// The token that renews the others.
    pub refresh_token: String,
    /// The account that requests are made for.
    pub account_id: Option<String>,
}

impl Login {
    /// Reads a document. Refuses the same documents as the CLI.
    ///
    /// ```
    /// use codex_core::auth::login::{Login, Method};
    ///
    /// let login = Login::parse(br#"{"OPENAI_API_KEY":"sk-1"}"#).unwrap();
    /// assert_eq!(login.method, Method::ApiKey);
    /// let error = Login::parse(br#"{"OPENAI_API_KEY":5}"#).err().unwrap();
    /// assert_eq!(error.to_string(), "OPENAI_API_KEY is not a string");
    /// ```
    pub fn parse(text: &[u8]) -> Result<Self, LoginError> {
        let members = Members::parse(text)?;
        members.once(&ORDER)?;
        let api_key = members.text("OPENAI_API_KEY")?;
        let personal_access_token = members.text("personal_access_token")?;
        let agent_identity = members.text("agent_identity")?;
        let last_refresh = members.text("last_refresh")?;
        if let Some(time) = &last_refresh {
            time.parse::<chrono::DateTime<chrono::Utc>>()
                .map_err(|_| LoginError("last_refresh is not a time".to_owned()))?;
        }
        let tokens = members.object("tokens")?.map(Tokens::read).transpose()?;
        for (name, required, known) in BEDROCK {
            if let Some(keys) = members.object(name)? {
                read(name, &keys, required, known)?;
            }
        }
        let method = match members.text("auth_mode")? {
            Some(word) => match METHODS.iter().find(|(known, _)| *known == word) {
                Some((_, method)) => *method,
                None => return Err(LoginError("auth_mode is none that the CLI knows".to_owned())),
            },
            None if personal_access_token.is_some() => Method::PersonalAccessToken,
            None if members.raw("bedrock_api_key").is_some() => Method::BedrockApiKey,
            None if members.raw("bedrock_access_keys").is_some() => Method::BedrockAccessKeys,
            None if api_key.is_some() => Method::ApiKey,
            None => Method::Chatgpt,
        };
        Ok(Login {
            method,
            api_key,
            tokens,
            last_refresh,
            personal_access_token,
            agent_identity,
            members,
        })
    }

    /// A login with a key.
    pub fn with_api_key(key: &str) -> Self {
        let mut members = Members::default();
        members.push_text("auth_mode", "apikey");
        members.push_text("OPENAI_API_KEY", key);
        Login {
            method: Method::ApiKey,
            api_key: Some(key.to_owned()),
            tokens: None,
            last_refresh: None,
            personal_access_token: None,
            agent_identity: None,
            members,
        }
    }

    /// The document as the CLI writes it into the keyring.
    pub fn compact(&self) -> String {
        self.members.compact(&ORDER)
    }

    /// The document as the CLI writes it into `auth.json`.
    pub fn pretty(&self) -> String {
        self.members.pretty(&ORDER)
    }
}

impl Tokens {
    fn read(members: Members) -> Result<Self, LoginError> {
        let required = ["id_token", "access_token", "refresh_token"];
        read("tokens", &members, &required, &["account_id"])?;
        let text = |name: &str| members.text(name).map(Option::unwrap_or_default);
        let id = jwt::claims(&text("id_token")?)
            .map_err(|why| LoginError(format!("tokens.id_token: {why}")))?;
        let access_token = text("access_token")?;
        let expires_at = jwt::claims(&access_token).ok().and_then(|claims| claims.expires_at);
        let (refresh_token, account_id) = (text("refresh_token")?, members.text("account_id")?);
        Ok(Tokens { id, access_token, expires_at, refresh_token, account_id })
    }
}

/// Members of an object that are strings: some must be there, others may.
fn read(
    object: &str,
    members: &Members,
    required: &[&str],
    optional: &[&str],
) -> Result<(), LoginError> {
    let inside = |LoginError(why)| LoginError(format!("{object}.{why}"));
    members.once(required).and_then(|()| members.once(optional)).map_err(inside)?;
    for name in required {
        if members.text(name).map_err(inside)?.is_none() {
            let why = if members.has(name) { "is not a string" } else { "is missing" };
            return Err(LoginError(format!("{object}.{name} {why}")));
        }
    }
    optional.iter().try_for_each(|name| members.text(name).map(drop).map_err(inside))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // {"email":"a@b.c","https://api.openai.com/auth":{"chatgpt_plan_type":"pro","chatgpt_account_id":"acc-1"}}
    const ID: &str = concat!(
        "eyJhbGciOiJub25lIn0.",
        "eyJlbWFpbCI6ImFAYi5jIiwiaHR0cHM6Ly9hcGkub3BlbmFpLmNvbS9hdXRoIjp7ImNoYXRncHRfcGxhbl90eXBlIjoicHJvIiwiY2hhdGdwdF",
        "9hY2NvdW50X2lkIjoiYWNjLTEifX0.c2ln"
    );

    fn message(text: &str) -> String {
        Login::parse(text.as_bytes()).err().unwrap().to_string()
    }

    fn method(text: &str) -> Method {
        Login::parse(text.as_bytes()).ok().unwrap().method
    }

    #[test]
    fn what_pays_is_what_the_document_says_else_what_it_holds() {
        assert_eq!(method("{}"), Method::Chatgpt);
        assert_eq!(method(r#"{"OPENAI_API_KEY":null}"#), Method::Chatgpt);
        assert_eq!(method(r#"{"OPENAI_API_KEY":""}"#), Method::ApiKey);
        assert_eq!(method(r#"{"OPENAI_API_KEY":"k","auth_mode":"chatgpt"}"#), Method::Chatgpt);
        assert_eq!(
            method(r#"{"OPENAI_API_KEY":"k","personal_access_token":"at-1"}"#),
            Method::PersonalAccessToken
        );
        assert_eq!(
            method(r#"{"OPENAI_API_KEY":"k","bedrock_api_key":{"api_key":"b","region":"r"}}"#),
            Method::BedrockApiKey
        );
        assert_eq!(method(r#"{"agent_identity":"x"}"#), Method::Chatgpt);
    }

    #[test]
    fn errors_name_members_and_places_and_no_values() {
        assert_eq!(message("{nope"), "it is not JSON (line 1, column 2)");
        assert_eq!(message("[]"), "it is not a JSON object");
        assert_eq!(message(r#"{"auth_mode":"sk-secret"}"#), "auth_mode is none that the CLI knows");
        assert_eq!(message(r#"{"last_refresh":"sk-secret"}"#), "last_refresh is not a time");
        let no_token =
            r#"{"tokens":{"id_token":"sk-secret","access_token":"a","refresh_token":"r"}}"#;
        assert_eq!(message(no_token), "tokens.id_token: it is not a JSON Web Token");
        assert_eq!(
            message(&format!(r#"{{"tokens":{{"id_token":"{ID}"}}}}"#)),
            "tokens.access_token is missing"
        );
    }

    // Each was shown to `codex login status`.
    #[test]
    fn a_member_that_the_cli_knows_may_stand_once() {
        assert_eq!(
            message(r#"{"OPENAI_API_KEY":"k","OPENAI_API_KE\u0059":"l"}"#),
            "OPENAI_API_KEY stands there twice"
        );
        assert_eq!(message(r#"{"tokens":null,"tokens":null}"#), "tokens stands there twice");
        let twice = r#"{"bedrock_api_key":{"api_key":"b","region":"r","region":"r"}}"#;
        assert_eq!(message(twice), "bedrock_api_key.region stands there twice");
        assert_eq!(
            message(r#"{"bedrock_access_keys":{}}"#),
            "bedrock_access_keys.access_key_id is missing"
        );
        let tokens = format!(r#""id_token":"{ID}","access_token":"a","refresh_token":"r""#);
        let twice = format!(r#"{{"tokens":{{{tokens},"account_id":null,"account_id":null}}}}"#);
        assert_eq!(message(&twice), "tokens.account_id stands there twice");
        method(&format!(
            r#"{{"tokens":{{{tokens},"zz":1e400,"zz":"\ud800"}},"zz":1e400,"zz":{{"a":1,"a":2}}}}"#
        ));
    }

    #[test]
    fn claims_of_the_tokens_are_there() {
        let text =
            format!(r#"{{"tokens":{{"id_token":"{ID}","access_token":"a","refresh_token":"r"}}}}"#);
        let tokens = Login::parse(text.as_bytes()).ok().unwrap().tokens.unwrap();
        assert_eq!(tokens.id.plan.as_deref(), Some("pro"));
        assert_eq!(tokens.id.workspace_id.as_deref(), Some("acc-1"));
        assert_eq!((tokens.account_id, tokens.expires_at), (None, None));
    }

    #[test]
    fn it_is_written_in_the_order_of_the_cli_and_keeps_what_is_unknown() {
        let login = Login::parse(br#"{"zz":1,"OPENAI_API_KEY":"k","aa":[2],"auth_mode":"apikey"}"#)
            .ok()
            .unwrap();
        assert_eq!(
            login.compact(),
            r#"{"auth_mode":"apikey","OPENAI_API_KEY":"k","zz":1,"aa":[2]}"#
        );
        let pretty = "{\n  \"auth_mode\": \"apikey\",\n  \"OPENAI_API_KEY\": \"k\"\n}";
        assert_eq!(Login::with_api_key("k").pretty(), pretty);
    }
}
