//! `codex_launcher mcp-server FILE SERVER COMMAND ARG…`: becomes an MCP server.
//!
//! The variables of the server stand in FILE, which only its owner may read: records of server,
//! name and value, each ended by a NUL byte. So they stand neither in arguments nor in the
//! environment of the program that starts the server.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The first argument that asks for this.
pub const WORD: &str = "mcp-server";

/// How long the first request of a client may be, in bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// Answers the first request of the client with an error, so that the client can say why there is
/// no server. Without an answer it knows only that the connection was closed.
pub fn refuse(input: impl Read, mut output: impl Write, reason: &str) {
    let mut request = Vec::new();
    let read = std::io::BufReader::new(input.take(LONGEST_REQUEST)).read_until(b'\n', &mut request);
    if read.is_err() {
        return;
    }
    let Some(id) = id(&String::from_utf8_lossy(&request)) else { return };
    let error = format!(r#"{{"code":-32000,"message":{}}}"#, json(reason));
    // A failure has no reader any more.
    let _ = writeln!(output, r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
        .and_then(|()| output.flush());
}

/// The id of a request, as it was written: a number, or a string without escapes.
fn id(request: &str) -> Option<String> {
    let (_, rest) = request.split_once("\"id\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let id = match rest.strip_prefix('"') {
        Some(text) => format!("\"{}\"", text.split_once('"')?.0),
        None => rest.chars().take_while(char::is_ascii_digit).collect(),
    };
    (!id.is_empty() && !id.contains('\\')).then_some(id)
}

/// A text as JSON.
fn json(text: &str) -> String {
    let mut out = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Becomes the server. Returns only if that fails, with the reason; no reason has a value in it.
pub fn run(mut args: impl Iterator<Item = OsString>) -> String {
    let (Some(file), Some(server), Some(command)) = (args.next(), args.next(), args.next()) else {
        return "expected FILE SERVER COMMAND".to_owned();
    };
    let content = match std::fs::read(Path::new(&file)) {
        Ok(content) => content,
        Err(error) => return format!("its variables cannot be read: {error}"),
    };
    let mut child = Command::new(&command);
    child.args(args);
    for (name, value) in variables(&content, server.as_bytes()) {
        child.env(name, value);
    }
    // Looked up on the PATH of the server, as the CLI does it.
    format!("{} cannot be started: {}", command.display(), child.exec())
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
        variables(content, server)
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
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

    fn refused(request: &str, reason: &str) -> String {
        let mut output = Vec::new();
        refuse(request.as_bytes(), &mut output, reason);
        String::from_utf8_lossy(&output).into_owned()
    }

    #[test]
    fn the_first_request_is_refused() {
        let error = |id, text| {
            let id_and_text = format!(r#""id":{id},"error":{{"code":-32000,"message":"{text}"}}"#);
            format!("{{\"jsonrpc\":\"2.0\",{id_and_text}}}\n")
        };
        let request = r#"{"jsonrpc":"2.0","id": 17 ,"method":"initialize"}"#;
        assert_eq!(refused(request, "no"), error("17", "no"));
        assert_eq!(refused(&format!("{request}\n{{\"id\":2}}\n"), "no"), error("17", "no"));
        assert_eq!(
            refused(r#"{"id":"a-1"}"#, "a \"b\"\\\n"),
            error("\"a-1\"", r#"a \"b\"\\\u000a"#)
        );
        for none in ["", "\n", "{}", r#"{"id":null}"#, r#"{"id":"#, r#"{"id":"a\"b"}"#, r#"{"id""#]
        {
            assert_eq!(refused(none, "no"), "", "{none}");
        }
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let args = ["/no/such/file", "docs", "cmd"].map(OsString::from);
        assert!(run(args.into_iter()).starts_with("its variables cannot be read: "));
        let args = ["/dev/null", "docs", "/no/such/cmd"].map(OsString::from);
        assert!(run(args.into_iter()).starts_with("/no/such/cmd cannot be started: "));
        assert_eq!(run([OsString::from("f")].into_iter()), "expected FILE SERVER COMMAND");
    }
}
