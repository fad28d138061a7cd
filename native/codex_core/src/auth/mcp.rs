//! Tokens of MCP servers (CLI 0.169). A keyring has one entry for each server; `.credentials.json` holds all of them, under the same
//! keys, in a flatter form. Here a server's tokens always have the form of the file.

use serde_json::{Map, Value, json};

use super::login::{LoginError, object};
use super::slot::digest;

/// The key of a server: its name, and a digest of its address.
pub fn account(server: &str, url: &str) -> String {
    // The CLI hashes this object with its members in this order.
    let identity = format!(r#"{{"type":"http","url":{},"headers":{{}}}}"#, Value::from(url));
    format!("{server}|{}", digest(identity.as_bytes()))
}

/// Whether a text has what the CLI needs.
pub(super) fn check(text: &str) -> Result<(), LoginError> {
    entry(&object(text.as_bytes())?).map(drop)
}

/// The tokens of one server, checked.
pub(super) fn entry(members: &Map<String, Value>) -> Result<&Map<String, Value>, LoginError> {
    for name in ["server_name", "server_url", "client_id", "access_token"] {
        if !members.get(name).is_some_and(Value::is_string) {
            return Err(LoginError(format!("{name} is not a string")));
        }
    }
    let valid = |name: &str, holds: fn(&Value) -> bool, expected: &str| match members.get(name) {
        Some(value) if !value.is_null() && !holds(value) => Err(LoginError(format!("{name} is not {expected}"))),
        _ => Ok(()),
    };
    valid("expires_at", Value::is_u64, "a time in milliseconds")?;
    valid("refresh_token", Value::is_string, "a string")?;
    valid("scopes", |value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string)), "a list of strings")?;
    Ok(members)
}

/// From the form of the file to that of the keyring.
pub(super) fn to_keyring(text: &str) -> Result<String, LoginError> {
    let members = object(text.as_bytes())?;
    let entry = entry(&members)?;
    let mut response = Map::new();
    response.insert("access_token".to_owned(), entry["access_token"].clone());
    response.insert("token_type".to_owned(), "bearer".into());
    if let Some(token) = entry.get("refresh_token").filter(|token| token.is_string()) {
        response.insert("refresh_token".to_owned(), token.clone());
    }
    let scopes: Vec<&str> =
        entry.get("scopes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if !scopes.is_empty() {
        response.insert("scope".to_owned(), scopes.join(" ").into());
    }
    let stored = json!({
        "server_name": entry["server_name"],
        "url": entry["server_url"],
        "client_id": entry["client_id"],
        "token_response": response,
        "expires_at": entry.get("expires_at").unwrap_or(&Value::Null),
    });
    Ok(stored.to_string())
}

/// From the form of the keyring to that of the file.
pub(super) fn from_keyring(text: &str) -> Result<String, LoginError> {
    let stored = object(text.as_bytes())?;
    let Some(response) = stored.get("token_response").and_then(Value::as_object) else {
        return Err(LoginError("token_response is not an object".to_owned()));
    };
    let scopes: Vec<&str> =
        response.get("scope").and_then(Value::as_str).map(|text| text.split_whitespace().collect()).unwrap_or_default();
    let of = |map: &Map<String, Value>, name: &str| map.get(name).cloned().unwrap_or(Value::Null);
    let flat = json!({
        "server_name": of(&stored, "server_name"),
        "server_url": of(&stored, "url"),
        "client_id": of(&stored, "client_id"),
        "access_token": of(response, "access_token"),
        "expires_at": of(&stored, "expires_at"),
        "refresh_token": of(response, "refresh_token"),
        "scopes": scopes,
    })
    .to_string();
    check(&flat).map(|()| flat)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same() {
        let flat = concat!(
            r#"{"access_token":"a","client_id":"c","expires_at":5,"refresh_token":"r","scopes":["x","y"],"#,
            r#""server_name":"s","server_url":"https://example.com/mcp"}"#
        );
        let stored = to_keyring(flat).unwrap();
        assert!(stored.contains(r#""scope":"x y""#));
        assert_eq!(from_keyring(&stored).unwrap(), flat);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(check("{}").unwrap_err().to_string(), "server_name is not a string");
        assert_eq!(from_keyring("{}").unwrap_err().to_string(), "token_response is not an object");
    }
}
