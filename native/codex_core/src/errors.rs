//! Classifies a failure: its kind, whether the same call may succeed later, and when.
//!
//! Classification is a search in a table of rows (`errors/table.rs`), each with its origin and the
//! version of the CLI; the first row whose conditions all hold wins. The CLI's `codexErrorInfo`
//! comes first, then codes and the HTTP status, then the words.
//!
//! ```
//! use codex_core::errors::{Failure, Kind, classify};
//!
//! let text = b"rate limit exceeded: Rate limit reached. Please try again in 0.5s.";
//! let verdict = classify(&Failure { text, ..Failure::default() });
//! assert_eq!((verdict.kind, verdict.retryable, verdict.wait_ms), (Kind::RateLimit, true, Some(500)));
//! ```
//!
//! No input makes it panic. It is linear: of a text, only the first and the last [`REACH`] bytes
//! are searched.

mod kind;
mod table;
mod text;
mod time;

pub use kind::Kind;
pub use text::{REACH, last_words, without_stack};
pub use time::{Reset, retry_after};

use table::{ROWS, When};
use text::{Body, Folded};

/// The known facts of a failure; all are optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failure<'a> {
    /// The words of the failure: a message, or the last stderr output of the program.
    pub text: &'a [u8],
    /// The name in `codexErrorInfo`.
    pub info: Option<&'a str>,
    /// The HTTP status that came with it.
    pub http_status: Option<u16>,
    /// The code of the payload; those of JSON-RPC as decimal numbers.
    pub code: Option<&'a str>,
    /// The type of the payload.
    pub r#type: Option<&'a str>,
    /// Set if the process ended: `text` is its last stderr output then.
    pub ended: Option<End>,
    /// Seconds since 1970, for dates.
    pub now: i64,
    /// The same moment as a local clock shows it.
    pub local_now: i64,
}

/// The end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Its exit status, unless a signal ended it.
    pub status: Option<i32>,
    /// The number of the signal.
    pub signal: Option<i32>,
    /// Whether the program had announced a thread before.
    pub started: bool,
}

/// The classification of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The kind of the failure.
    pub kind: Kind,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// The wait in milliseconds, if the text names one.
    pub wait_ms: Option<u64>,
    /// The time of the next attempt, if the text names one.
    pub resets: Option<Reset>,
    /// The HTTP status, given or found in the text.
    pub http_status: Option<u16>,
}

/// Classifies a failure.
pub fn classify(failure: &Failure) -> Verdict {
    let seen = Seen::new(failure);
    let row = ROWS.iter().find(|row| seen.has(row.when));
    let (kind, retryable) = match row {
        Some(row) => (row.kind, row.retryable),
        None if failure.ended.is_some() => (Kind::Crashed, false),
        None => (Kind::Unknown, false),
    };
    Verdict {
        kind,
        retryable,
        wait_ms: time::wait_ms(seen.text.as_str()),
        resets: time::reset(seen.text.as_str(), failure.local_now),
        http_status: seen.http_status,
    }
}

/// A failure as the rows see it.
struct Seen<'a> {
    failure: &'a Failure<'a>,
    text: Folded,
    body: Option<Body>,
    http_status: Option<u16>,
    /// Whether rows that are not about the end of a process count, too.
    general: bool,
}

impl<'a> Seen<'a> {
    fn new(failure: &'a Failure<'a>) -> Self {
        let text = match failure.ended {
            Some(_) => Folded::new(last_words(failure.text).as_bytes()),
            None => Folded::new(failure.text),
        };
        let body = text.body();
        let text = body.as_ref().and_then(|body| body.message.clone()).unwrap_or(text);
        // Stderr holds any output of the program and its children: only text that the CLI announces
        // as an error counts.
        let general = failure.ended.is_none() || text.starts_with("error");
        let text = if failure.ended.is_some() { text.without("error: ") } else { text };
        let http_status = failure.http_status.or_else(|| text.http_status());
        Seen { failure, text, body, http_status, general }
    }

    fn has(&self, conditions: &[When]) -> bool {
        let ending = conditions.iter().any(|when| matches!(when, When::Ended | When::Signal(_)));
        (ending || self.general) && conditions.iter().all(|when| self.is(when))
    }

    fn is(&self, when: &When) -> bool {
        let end = self.failure.ended;
        match *when {
            When::Ended => end.is_some(),
            When::Exit(status) => end.is_some_and(|end| end.status == Some(status)),
            When::Signal(signal) => end.is_some_and(|end| {
                end.signal.is_some() && signal.is_none_or(|n| end.signal == Some(n))
            }),
            When::Started => end.is_some_and(|end| end.started),
            When::Silent => self.text.as_str().is_empty(),
            When::Info(name) => self.failure.info == Some(name),
            When::Code(code) => {
                let body = self.body.as_ref();
                let told = [self.failure.code, self.failure.r#type];
                let inner = [
                    body.and_then(|body| body.code.as_deref()),
                    body.and_then(|body| body.r#type.as_deref()),
                ];
                told.iter().chain(&inner).any(|name| *name == Some(code))
            }
            When::Status(from, to) => {
                self.http_status.is_some_and(|status| (from..=to).contains(&status))
            }
            When::Begins(words) => self.text.starts_with(words),
            When::Has(words) => self.text.contains(words),
        }
    }
}
