//! `codex_launcher mcp-server FILE SERVER COMMAND ARG…`: becomes an MCP server.
//!
//! The variables of the server stand in FILE, which only its owner may read: records of server,
//! name and value, each ended by a NUL byte. So they stand neither in arguments nor in the
//! environment of the program that starts the server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The first argument that asks for this.
pub const WORD: &str = "mcp-server";

/// Becomes the server. Returns only if that fails, with the reason; no reason has a value in it.
pub fn run(mut args: impl Iterator<Item = OsString>) -> String {
    let (Some(file), Some(server), Some(command)) = (args.next(), args.next(), args.next()) else {
        return "expected FILE SERVER COMMAND".to_owned();
    };
    let content = match std::fs::read(Path::new(&file)) {
        Ok(content) => content,
        Err(error) => return format!("the variables of {server:?} cannot be read: {error}"),
    };
    let mut child = Command::new(&command);
    child.args(args);
    for (name, value) in variables(&content, server.as_bytes()) {
        child.env(name, value);
    }
    // Looked up on the PATH of the server, as the CLI does it.
    format!("{command:?} of the MCP server {server:?} cannot be started: {}", child.exec())
}

/// The variables of one server.
fn variables<'c>(content: &'c [u8], server: &[u8]) -> impl Iterator<Item = (&'c OsStr, &'c OsStr)> {
    let mut texts = content.split(|byte| *byte == 0);
    let records = std::iter::from_fn(move || Some((texts.next()?, texts.next()?, texts.next()?)));
    records
        .filter(move |(owner, name, _)| *owner == server && !name.is_empty())
        .map(|(_, name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'c>(content: &'c [u8], server: &[u8]) -> Vec<(&'c [u8], &'c [u8])> {
        variables(content, server).map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
    }

    #[test]
    fn each_server_has_its_own_variables() {
        let content = b"a\0TOKEN\0one\0b\0TOKEN\0two\0a\0EMPTY\0\0a b\0X\0=\n\0";
        assert_eq!(of(content, b"a"), [(&b"TOKEN"[..], &b"one"[..]), (b"EMPTY", b"")]);
        assert_eq!(of(content, b"b"), [(&b"TOKEN"[..], &b"two"[..])]);
        assert_eq!(of(content, b"a b"), [(&b"X"[..], &b"=\n"[..])]);
        assert_eq!(of(content, b"c"), []);
        assert_eq!(of(b"", b""), []);
    }

    #[test]
    fn a_file_that_was_cut_gives_what_is_whole() {
        assert_eq!(of(b"a\0TOKEN\0one\0a\0TOK", b"a"), [(&b"TOKEN"[..], &b"one"[..])]);
        assert_eq!(of(b"a\0", b"a"), []);
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let args = ["/no/such/file", "docs", "cmd"].map(OsString::from);
        assert!(run(args.into_iter()).starts_with("the variables of \"docs\" cannot be read: "));
        assert_eq!(run([OsString::from("f")].into_iter()), "expected FILE SERVER COMMAND");
    }
}
