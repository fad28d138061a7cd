//! Members of lines that the CLI writes in a fixed form, found without a parse.
//!
//! In a line of tokens, no string can hold the bytes that are looked for: its quotes would be
//! escaped. A line of another form is left to the parser.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use super::payload::Record;
use super::tokens::Tokens;

/// The beginning of a line with an envelope.
pub(super) const BEGIN: &[u8] = br#"{"timestamp":""#;

pub(super) struct Finders {
    pub begin: Finder<'static>,
    usage: Finder<'static>,
    thread: Finder<'static>,
    turn: Finder<'static>,
    total: Finder<'static>,
    last: Finder<'static>,
    limits: Finder<'static>,
    open: Finder<'static>,
    pub item: Finder<'static>,
}

/// Made once for all files.
pub(super) static FINDERS: LazyLock<Finders> = LazyLock::new(Finders::new);

/// The bytes that follow the first place of a member.
pub(super) fn after<'a>(line: &'a [u8], member: &Finder<'_>) -> Option<&'a [u8]> {
    member.find(line).map(|at| &line[at + member.needle().len()..])
}

impl Finders {
    fn new() -> Self {
        Finders {
            begin: Finder::new(BEGIN),
            usage: Finder::new(br#","usage":"#),
            thread: Finder::new(br#""thread_id":""#),
            turn: Finder::new(br#","turn_id":""#),
            total: Finder::new(br#""total_token_usage":"#),
            last: Finder::new(br#""last_token_usage":"#),
            limits: Finder::new(br#""rate_limits":{"#),
            open: Finder::new(b":{"),
            item: Finder::new(br#""item":{"type":""#),
        }
    }

    /// The record of a call.
    pub fn record<'a>(&self, line: &'a [u8], id: &str) -> Option<Record<'a>> {
        let thread = after(line, &self.thread)?;
        let turn = after(thread, &self.turn)?;
        let usage = Tokens::read(after(turn, &self.usage)?)?;
        let thread_id = std::str::from_utf8(thread.get(..id.len())?).ok()?;
        let turn_id = std::str::from_utf8(&turn[..memchr(b'"', turn)?]).ok()?;
        let (thread_id, turn_id) = (Cow::Borrowed(thread_id), Cow::Borrowed(turn_id));
        Some(Record { thread_id: Some(thread_id), turn_id: Some(turn_id), usage })
    }

    /// The running total and the last call.
    pub fn count(&self, line: &[u8]) -> Option<(Tokens, Tokens)> {
        let total = after(line, &self.total)?;
        let last = after(total, &self.last)?;
        Some((Tokens::read(total)?, Tokens::read(last)?))
    }

    /// Whether the limits of the account hold an object.
    pub fn has_limits(&self, line: &[u8]) -> bool {
        after(line, &self.limits).is_some_and(|limits| self.open.find(limits).is_some())
    }
}
