//! The words of a failure, bounded and folded.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;

/// How many bytes at the beginning, and at the end, of a text are looked at.
pub const REACH: usize = 8 * 1024;

/// A text in lower case (ASCII), with typographic apostrophes made plain, in one piece or as its
/// beginning and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded(String);

/// The error in a JSON body.
#[derive(Debug)]
pub struct Body {
    pub message: Option<Folded>,
    pub code: Option<String>,
    pub r#type: Option<String>,
}

impl Folded {
    pub fn new(text: &[u8]) -> Self {
        let mut lossy = match text.len() > 2 * REACH {
            false => String::from_utf8_lossy(text).into_owned(),
            true => {
                let head = String::from_utf8_lossy(&text[..REACH]);
                let tail = String::from_utf8_lossy(&text[text.len() - REACH..]);
                format!("{head}\n{tail}")
            }
        };
        lossy.make_ascii_lowercase();
        // The CLI writes "You’ve"; its former versions wrote "You've".
        Folded(lossy.trim().replace('\u{2019}', "'"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn starts_with(&self, words: &str) -> bool {
        self.0.starts_with(words)
    }

    pub fn contains(&self, words: &str) -> bool {
        memmem::find(self.0.as_bytes(), words.as_bytes()).is_some()
    }

    pub fn without(self, prefix: &str) -> Self {
        match self.0.strip_prefix(prefix) {
            Some(rest) => Folded(rest.to_owned()),
            None => self,
        }
    }

    /// The status that the CLI puts into the text: `unexpected status 401 …`, `…, last status: 429
    /// …`.
    pub fn http_status(&self) -> Option<u16> {
        let rest = self.0.strip_prefix("unexpected status ").or_else(|| {
            let rest = self.0.strip_prefix("exceeded retry limit, last status: ")?;
            Some(rest)
        });
        let digits = rest?.get(..3)?;
        digits.parse().ok().filter(|status| (100..600).contains(status))
    }

    /// The CLI passes the body of a 400 on as it came.
    pub fn body(&self) -> Option<Body> {
        if !self.0.starts_with('{') {
            return None;
        }
        let value: Value = serde_json::from_str(&self.0).ok()?;
        let error = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
        let word = |name| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = word("message")
            .or_else(|| word("detail"))
            .or_else(|| value.get("error")?.as_str().map(str::to_owned));
        Some(Body {
            message: message.map(|message| Folded::new(message.as_bytes())),
            code: word("code"),
            r#type: word("type"),
        })
    }
}

/// The last words of a program on stderr: from the last line that begins with "error" on, else its
/// last line. Log lines, which begin with a time, and the CLI's notes about stdin do not count.
pub fn last_words(text: &[u8]) -> String {
    // A stack may be longer than the reach, and its heading stands before it.
    let text = without_stack(text);
    let tail = &text[text.len().saturating_sub(REACH)..];
    let tail = String::from_utf8_lossy(tail);
    let lines: Vec<&str> = tail.lines().filter(|line| !is_log(line) && !is_note(line)).collect();
    let from = lines.iter().rposition(|line| starts_with_error(line));
    let from = from.or_else(|| lines.iter().rposition(|line| !line.trim().is_empty()));
    from.map_or(String::new(), |from| lines[from..].join("\n").trim().to_owned())
}

/// The text without the stack backtraces that Rust programs print with `RUST_BACKTRACE` set: the
/// heading, the frames below it, and the note about `RUST_BACKTRACE`.
pub fn without_stack(text: &[u8]) -> Cow<'_, [u8]> {
    const HEADING: &[u8] = b"tack backtrace:";
    if memmem::find(text, HEADING).is_none() {
        return Cow::Borrowed(text);
    }
    let mut kept = Vec::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let words = line.trim_ascii();
        inside = match words {
            b"stack backtrace:" | b"Stack backtrace:" => true,
            _ => inside && is_frame(line, words),
        };
        if !(inside
            || words.starts_with(b"note: ") && memmem::find(words, b"RUST_BACKTRACE").is_some())
        {
            kept.extend_from_slice(line);
        }
    }
    Cow::Owned(kept.trim_ascii_end().to_vec())
}

/// `  12: codex_core::run`, and below it `             at /src/lib.rs:1:2`.
fn is_frame(line: &[u8], words: &[u8]) -> bool {
    let digits = words.iter().take_while(|byte| byte.is_ascii_digit()).count();
    line.starts_with(b" ")
        && (words.starts_with(b"at ") || digits > 0 && words.get(digits) == Some(&b':'))
}

fn starts_with_error(line: &str) -> bool {
    line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"))
}

/// `2026-11-20T02:38:49.531145Z ERROR codex_core::session: …`
fn is_log(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.len() > 20
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes.iter().take(40).any(|byte| *byte == b'Z')
}

fn is_note(line: &str) -> bool {
    ["Reading additional input from stdin...", "Reading prompt from stdin..."]
        .contains(&line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_statement_counts_and_log_lines_do_not() {
        let text = "Reading prompt from stdin...\n\
                    2026-11-20T02:58:14.339371Z ERROR codex_core::session: Failed\n\
                    Error loading config.toml:\n/h/config.toml:4:1: duplicate key\n  |\n4 | model = 1\n  | ^^^^^\n\n";
        assert_eq!(
            last_words(text.as_bytes()),
            "Error loading config.toml:\n/h/config.toml:4:1: duplicate key\n  |\n4 | model = 1\n  | ^^^^^"
        );
        assert_eq!(last_words(b"a\nb\n\n"), "b");
        assert_eq!(last_words(b"error: a\nERROR: b\nc"), "ERROR: b\nc");
        assert_eq!(last_words(b"Reading additional input from stdin...\n"), "");
        assert_eq!(last_words("ééé".as_bytes()), "ééé");
    }

    #[test]
    fn stacks_are_left_out() {
        let frames =
            "   0: <unknown>\n   1: std::rt::start\n             at /rustc/library/std/src/rt.rs:1:2\n".repeat(2000);
        let without =
            |text: &str| String::from_utf8_lossy(&without_stack(text.as_bytes())).into_owned();
        let error = "Error: a\n\nCaused by:\n    0: b\n    1: c";
        for text in [
            format!("{error}\n\nStack backtrace:\n{frames}"),
            format!(
                "{error}\n\nStack backtrace:\n{frames}note: run with `RUST_BACKTRACE=full` for more\n"
            ),
        ] {
            assert_eq!(without(&text), error);
            assert_eq!(last_words(text.as_bytes()), error);
        }
        let panic = format!("thread 'a' panicked at b.rs:1:2:\nwords\nstack backtrace:\n{frames}");
        assert_eq!(last_words(panic.as_bytes()), "words");
        assert_eq!(
            without(&format!("{panic}Error: after\nit")),
            "thread 'a' panicked at b.rs:1:2:\nwords\nError: after\nit"
        );
        for text in
            ["no stack\n  0: a\n", "a stack backtrace: of words\n 1: b", "", "note: RUST_BACKTRACE"]
        {
            assert_eq!(without(text).trim_end(), text.trim_end());
        }
    }

    #[test]
    fn long_texts_are_looked_at_from_both_ends() {
        let long = ["Begin ".as_bytes(), &b"\xc3\xa9".repeat(1_000_000), b"\xff end"].concat();
        let folded = Folded::new(&long);
        assert!(folded.as_str().len() < 3 * REACH);
        assert!(folded.starts_with("begin") && folded.contains(" end"));
        assert_eq!(last_words(&long).chars().last(), Some('d'));
    }

    #[test]
    fn the_status_is_read_where_the_cli_puts_it() {
        let status = |text: &str| Folded::new(text.as_bytes()).http_status();
        assert_eq!(status("unexpected status 503 Service Unavailable: x"), Some(503));
        assert_eq!(status("exceeded retry limit, last status: 429 Too Many Requests"), Some(429));
        for none in [
            "status 503",
            "unexpected status 9",
            "unexpected status é01",
            "unexpected status 999",
            "",
        ] {
            assert_eq!(status(none), None, "{none}");
        }
    }
}
