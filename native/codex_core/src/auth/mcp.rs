//! Tokens of MCP servers. A keyring has one entry for each server; `.credentials.json`
//! holds all of them, under the same keys, in a flatter form. Here a server's tokens always have
//! the form of the file.

use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::failure::LoginError;
use super::members::Members;

/// The members of an entry that the CLI knows.
const KNOWN: [&str; 8] = [
    "server_name",
    "server_url",
    "issuer",
    "client_id",
    "access_token",
    "expires_at",
    "refresh_token",
    "scopes",
];

/// The key of a server: its name, and a digest of its address.
pub fn account(server: &str, url: &str) -> String {
    // The CLI hashes this object with its members in this order.
    let identity =
        format!(r#"{{"type":"http","url":{},"headers":{{}}}}"#, serde_json::Value::from(url));
    format!("{server}|{}", digest(identity.as_bytes()))
}

/// The first sixteen hexadecimal digits of a SHA-256.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;

    Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns whether a text has the members that the CLI needs.
pub(super) fn check(text: &str) -> Result<(), LoginError> {
    entry(text).map(drop)
}

/// The tokens of one server, checked.
pub(super) fn entry(text: &str) -> Result<Members, LoginError> {
    let members = Members::parse(text.as_bytes())?;
    members.once(&KNOWN)?;
    for name in ["server_name", "server_url", "client_id", "access_token"] {
        if members.text(name)?.is_none() {
            return Err(LoginError(format!("{name} is not a string")));
        }
    }
    members.get::<u64>("expires_at", "a time in milliseconds")?;
    members.text("refresh_token")?;
    members.text("issuer")?;
    members.get::<Vec<String>>("scopes", "a list of strings")?;
    Ok(members)
}

/// The members that the CLI knows, as an object: all of them have a form in any language.
pub fn known(text: &str) -> String {
    let mut members = Members::parse(text.as_bytes()).unwrap_or_default();
    members.retain(|name, _| KNOWN.contains(&name));
    members.compact(&[])
}

/// As [`renew`], as texts.
pub fn renewed(old: &str, new: &str) -> Result<String, LoginError> {
    let old = RawValue::from_string(old.to_owned()).ok();
    Ok(renew(old.as_deref(), new)?.compact(&[]))
}

/// New tokens of a server in place of old ones: what the new ones do not say stays, if it is the
/// issuer or unknown.
pub(super) fn renew(old: Option<&RawValue>, new: &str) -> Result<Members, LoginError> {
    let mut new = entry(new)?;
    let Some(old) = old.and_then(|old| Members::parse(old.get().as_bytes()).ok()) else {
        return Ok(new);
    };
    if new.raw("issuer").is_none() {
        new.retain(|name, _| name != "issuer");
    }
    for (name, value) in old.iter() {
        if !new.has(name) && (name == "issuer" || !KNOWN.contains(&name)) {
            new.push(name, value.to_owned());
        }
    }
    Ok(new)
}

/// Whether an entry is that of a server.
pub(super) fn names(entry: &RawValue, server: &str, url: &str) -> bool {
    identity(entry).is_some_and(|(name, address)| name == server && address == url)
}

/// Name and address of the server of an entry.
pub(super) fn identity(entry: &RawValue) -> Option<(String, String)> {
    let entry = Members::parse(entry.get().as_bytes()).ok()?;
    Some((entry.text("server_name").ok()??, entry.text("server_url").ok()??))
}

/// From the form of the file to that of the keyring.
pub(super) fn to_keyring(text: &str) -> Result<String, LoginError> {
    let entry = entry(text)?;
    let mut response = Members::default();
    copy(&entry, "access_token", &mut response, "access_token");
    response.push_text("token_type", "bearer");
    copy(&entry, "refresh_token", &mut response, "refresh_token");
    let scopes = entry.get::<Vec<String>>("scopes", "a list of strings")?.unwrap_or_default();
    if !scopes.is_empty() {
        response.push_text("scope", &scopes.join(" "));
    }
    let mut stored = Members::default();
    copy(&entry, "server_name", &mut stored, "server_name");
    copy(&entry, "server_url", &mut stored, "url");
    copy(&entry, "issuer", &mut stored, "issuer");
    copy(&entry, "client_id", &mut stored, "client_id");
    stored.push("token_response", response.to_raw()?);
    stored.push("expires_at", entry.raw("expires_at").unwrap_or(RawValue::NULL).to_owned());
    rest(&entry, &KNOWN, &mut stored);
    Ok(stored.compact(&[]))
}

/// From the form of the keyring to that of the file.
pub(super) fn from_keyring(text: &str) -> Result<String, LoginError> {
    let stored = Members::parse(text.as_bytes())?;
    let known = ["server_name", "url", "issuer", "client_id", "token_response", "expires_at"];
    stored.once(&known)?;
    let Some(response) = stored.object("token_response")? else {
        return Err(LoginError("token_response is not an object".to_owned()));
    };
    let scope = response.text("scope")?.unwrap_or_default();
    let mut flat = Members::default();
    copy(&stored, "server_name", &mut flat, "server_name");
    copy(&stored, "url", &mut flat, "server_url");
    copy(&stored, "issuer", &mut flat, "issuer");
    copy(&stored, "client_id", &mut flat, "client_id");
    copy(&response, "access_token", &mut flat, "access_token");
    copy(&stored, "expires_at", &mut flat, "expires_at");
    copy(&response, "refresh_token", &mut flat, "refresh_token");
    // Strings have a form in JSON.
    if let Ok(scopes) = to_raw_value(&scope.split_whitespace().collect::<Vec<_>>()) {
        flat.push("scopes", scopes);
    }
    rest(&stored, &known, &mut flat);
    let flat = flat.compact(&[]);
    check(&flat).map(|()| flat)
}

fn copy(from: &Members, name: &str, to: &mut Members, other: &str) {
    if let Some(value) = from.raw(name) {
        to.push(other, value.to_owned());
    }
}

fn rest(from: &Members, known: &[&str], to: &mut Members) {
    for (name, value) in from.iter().filter(|(name, _)| !known.contains(name)) {
        if !to.has(name) {
            to.push(name, value.to_owned());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same() {
        let flat = concat!(
            r#"{"server_name":"s","server_url":"https://example.com/mcp","issuer":"https://example.com","client_id":"c","#,
            r#""access_token":"a","expires_at":5,"refresh_token":"r","scopes":["x","y"],"zz":1e400}"#
        );
        let stored = to_keyring(flat).unwrap();
        assert!(stored.contains(r#""scope":"x y""#));
        assert_eq!(from_keyring(&stored).unwrap(), flat);
    }

    #[test]
    fn issuer_and_unknown_members_of_older_tokens_stay() {
        let old = r#"{"server_name":"s","server_url":"u","issuer":"i","client_id":"c","access_token":"a","zz":1e400}"#;
        let new = r#"{"server_name":"s","server_url":"u","issuer":null,"client_id":"d","access_token":"b"}"#;
        let old = RawValue::from_string(old.to_owned()).unwrap();
        let renewed = r#"{"server_name":"s","server_url":"u","client_id":"d","access_token":"b","issuer":"i","zz":1e400}"#;
        assert_eq!(renew(Some(&old), new).unwrap().compact(&[]), renewed);
        assert_eq!(renew(None, new).unwrap().compact(&[]), new);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(check("{}").unwrap_err().to_string(), "server_name is not a string");
        assert_eq!(from_keyring("{}").unwrap_err().to_string(), "token_response is not an object");
    }
}
