//! The lines of a text that match a regular expression.

use std::sync::atomic::{AtomicBool, Ordering};

use memchr::{memchr, memchr_iter};
use regex::bytes::{Regex, RegexBuilder};

use super::SearchError;

/// Lines that match in one file.
pub(super) const MAX_LINES: usize = 1_000;
/// Bytes of a line that are returned.
pub(super) const MAX_TEXT: usize = 1_000;
/// Bytes that a compiled regular expression may have.
const MAX_REGEX: usize = 10 * 1024 * 1024;

/// Lines with their numbers, and whether there are more.
pub(super) type Matches = (Vec<(usize, String)>, bool);

/// A regular expression for the lines of a text, each by itself.
pub(super) struct Lines {
    line: Regex,
    /// Matches a whole text if a line of it matches.
    whole: Option<Regex>,
}

impl Lines {
    pub(super) fn new(pattern: &str, case_sensitive: bool) -> Result<Self, SearchError> {
        let build = |multi_line| {
            RegexBuilder::new(pattern)
                .case_insensitive(!case_sensitive)
                .multi_line(multi_line)
                .size_limit(MAX_REGEX)
                .build()
                .map_err(|error| SearchError::Regex(error.to_string()))
        };
        // These mean something else in a whole text.
        let anchored = ["\\A", "\\z", "(?"].iter().any(|part| pattern.contains(part));
        let whole = if anchored { None } else { Some(build(true)?) };
        Ok(Lines { line: build(false)?, whole })
    }

    pub(super) fn find(&self, text: &[u8], stop: &AtomicBool) -> Matches {
        let mut found = Vec::new();
        // A line may end in a carriage return, which is not a part of it.
        if let Some(whole) = &self.whole
            && memchr(b'\r', text).is_none()
            && !whole.is_match(text)
        {
            return (found, false);
        }
        let mut start = 0;
        let ends = memchr_iter(b'\n', text).chain(std::iter::once(text.len()));
        for (index, end) in ends.enumerate() {
            let line = text.get(start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let last = end == text.len();
            start = end + 1;
            if (last && line.is_empty()) || !self.line.is_match(line) {
                continue;
            }
            if found.len() == MAX_LINES {
                return (found, true);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            found.push((index + 1, shown(line)));
        }
        (found, false)
    }
}

/// A line for people and models, cut if it is long.
fn shown(line: &[u8]) -> String {
    if line.len() <= MAX_TEXT {
        return String::from_utf8_lossy(line).into_owned();
    }
    let text = String::from_utf8_lossy(&line[..MAX_TEXT]);
    // The cut may go through a character.
    format!("{}…", text.trim_end_matches('\u{FFFD}'))
}
