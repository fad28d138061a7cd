//! Values of HTTP headers: challenges of `WWW-Authenticate`, and texts that are no plain ASCII.
//!
//! ```
//! use codex_core::http_headers::{challenges, encode};
//!
//! let value = br#"Basic realm="x", Bearer scope="a b", error=invalid_token"#;
//! let found = challenges(value);
//! assert_eq!(found[1].scheme, "bearer");
//! assert_eq!(found[1].params[0], ("scope".to_string(), "a b".to_string()));
//! assert_eq!(encode("plain text"), "plain text");
//! assert_eq!(encode("\u{e4}"), "=?base64?w6Q=?=");
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The most challenges and parameters that are kept of one value.
const MOST: usize = 64;

/// One challenge of `WWW-Authenticate` (RFC 9110, 11.6.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case.
    pub scheme: String,
    /// The parameters, with names in lower case, in their order. A token68 has no name.
    pub params: Vec<(String, String)>,
}

/// Parses the value of one `WWW-Authenticate` header. Stops at the first byte that breaks the
/// grammar, and returns the challenges before it.
pub fn challenges(value: &[u8]) -> Vec<Challenge> {
    let mut rest = Cursor { bytes: value, at: 0 };
    let mut found: Vec<Challenge> = Vec::new();
    while found.len() < MOST {
        rest.separators();
        let Some(word) = rest.token() else { break };
        let spaces = rest.spaces();
        let last_full = found.last().is_some_and(|last| last.params.len() >= MOST);
        if rest.equals() {
            // A parameter of the challenge before.
            let (Some(value), false) = (rest.value(), last_full) else { break };
            let Some(last) = found.last_mut() else { break };
            last.params.push((word.to_ascii_lowercase(), value));
            continue;
        }
        let mut challenge = Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() };
        if spaces && let Some(token) = rest.token68() {
            challenge.params.push((String::new(), token));
        }
        found.push(challenge);
    }
    found
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &[u8] {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn spaces(&mut self) -> bool {
        !self.take_while(|byte| matches!(byte, b' ' | b'\t')).is_empty()
    }

    fn separators(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b','));
    }

    fn token(&mut self) -> Option<String> {
        text(self.take_while(is_token))
    }

    fn equals(&mut self) -> bool {
        let found = self.peek() == Some(b'=');
        if found {
            self.at += 1;
            self.spaces();
        }
        found
    }

    fn value(&mut self) -> Option<String> {
        if self.peek() != Some(b'"') {
            // Some servers leave out the quotes of URLs.
            return text(self.take_while(|byte| byte.is_ascii_graphic() && byte != b','));
        }
        self.at += 1;
        let mut value = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(String::from_utf8_lossy(&value).into_owned()),
                b'\\' => {
                    value.push(self.peek()?);
                    self.at += 1;
                }
                byte => value.push(byte),
            }
        }
    }

    // A token68 is followed by the end or by a comma; otherwise the word is a parameter's name.
    fn token68(&mut self) -> Option<String> {
        let start = self.at;
        let token = text(self.take_while(|byte| is_token(byte) || byte == b'/'));
        let padding = self.take_while(|byte| byte == b'=').len();
        self.spaces();
        match (token, self.peek()) {
            (Some(token), None | Some(b',')) => Some(token + &"=".repeat(padding)),
            _ => {
                self.at = start;
                None
            }
        }
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns a text as the value of an MCP header: as it is if it is plain ASCII, else as
/// `=?base64?…?=`. A text that looks like the latter is encoded, too.
pub fn encode(text: &str) -> String {
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    let outer_space = text.starts_with(' ') || text.ends_with(' ');
    let printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
    let plain = printable && !outer_space && !looks_encoded;
    if plain { text.to_string() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: &str) -> Vec<(String, Vec<(String, String)>)> {
        challenges(value.as_bytes()).into_iter().map(|c| (c.scheme, c.params)).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_string(), value.to_string())
    }

    #[test]
    fn parameters_with_and_without_quotes() {
        let found =
            parse(r#"Bearer Realm = "a \"b\", c" , scope=x,resource_metadata=https://a/b?c=d"#);
        let params = vec![
            pair("realm", "a \"b\", c"),
            pair("scope", "x"),
            pair("resource_metadata", "https://a/b?c=d"),
        ];
        assert_eq!(found, [("bearer".to_string(), params)]);
    }

    #[test]
    fn several_challenges_and_a_token68() {
        let found = parse("Negotiate YWJj==, Digest, Bearer error=\"e\"");
        let schemes: Vec<&str> = found.iter().map(|(scheme, _)| scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "digest", "bearer"]);
        assert_eq!(found[0].1, [pair("", "YWJj==")]);
        assert_eq!(found[2].1, [pair("error", "e")]);
    }

    #[test]
    fn a_broken_value_keeps_what_stands_before_it() {
        assert_eq!(parse("Bearer a=b, c=\"open"), [("bearer".to_string(), vec![pair("a", "b")])]);
        assert_eq!(parse("=x"), []);
        assert_eq!(parse("a=b"), []);
    }

    #[test]
    fn texts_that_a_header_cannot_hold_are_encoded() {
        assert_eq!(encode(" a"), "=?base64?IGE=?=");
        assert_eq!(encode("a\nb"), "=?base64?YQpi?=");
        assert_eq!(encode("=?base64?YQ==?="), "=?base64?PT9iYXNlNjQ/WVE9PT89?=");
        assert_eq!(encode(""), "");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = challenges(&bytes);
        }

        #[test]
        fn encoded_texts_are_plain_and_come_back(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| matches!(byte, 0x20..=0x7E)));
            let back = match encoded.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
                Some(inner) => String::from_utf8(STANDARD.decode(inner).unwrap()).unwrap(),
                None => encoded,
            };
            prop_assert_eq!(back, text);
        }
    }
}
