//! Server-sent events (the WHATWG stream format) without a socket.
//!
//! ```
//! use codex_core::Progress;
//! use codex_core::sse::{Decoder, Event};
//!
//! let mut decoder = Decoder::new(1024);
//! let mut events = Vec::new();
//! let input = b"retry: 500\n: a comment\nid: 7\ndata: one\ndata: two\n\n";
//! assert_eq!(decoder.feed(input, 0, false, &mut events), Progress::Done);
//! assert_eq!(events[0], Event::Retry(500));
//! let Event::Message(message) = &events[1] else { panic!() };
//! assert_eq!(message.data, b"one\ntwo");
//! assert_eq!(message.id.as_deref(), Some(&b"7"[..]));
//! ```
//!
//! Unlike a browser, the decoder reports events with an id and without data: they carry no message,
//! but a client resumes the stream behind them. An event that the end of the stream cuts is
//! dropped.

use crate::lines::{LONG_LINE, Progress};

/// How many bytes one call reads. An event may have three of them.
const STEP: usize = 16 * 1024;

/// How many bytes one call reads that may take long.
const LONG_STEP: usize = 1024 * 1024;

/// The longest kept type or id. Longer ones are left out.
const MAX_FIELD: usize = 4096;

/// What stands in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// An event with data or with an id.
    Message(Message),
    /// The milliseconds to wait before the stream is opened again.
    Retry(u64),
    /// An event of so many bytes so far is over the limit. It is dropped.
    TooLong(usize),
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The type; `message` if the stream gives none.
    pub kind: Option<Vec<u8>>,
    /// The lines of data, joined.
    pub data: Vec<u8>,
    /// The id that stands in this event.
    pub id: Option<Vec<u8>>,
}

/// Collects the bytes of a stream, cut anywhere.
#[derive(Debug)]
pub struct Decoder {
    max_event: usize,
    line: Vec<u8>,
    message: Message,
    has_data: bool,
    /// Bytes of the current event, of which those over the limit are not kept.
    size: usize,
    /// The last byte was a carriage return: a line feed behind it ends no line.
    after_cr: bool,
    first_line: bool,
    /// Bytes of the current line, kept or not.
    line_size: usize,
    /// The current event is over the limit.
    dropped: bool,
}

impl Decoder {
    /// Returns a decoder of events with at most `max_event` bytes.
    pub fn new(max_event: usize) -> Decoder {
        Decoder {
            max_event,
            line: Vec::new(),
            message: Message::default(),
            has_data: false,
            size: 0,
            after_cr: false,
            first_line: true,
            line_size: 0,
            dropped: false,
        }
    }

    /// Reads from byte `at` of `input` on; appends the events to `out`.
    ///
    /// [`Progress::Long`] asks for a call that `may_be_long`: an event of over [`LONG_LINE`] bytes
    /// may end there.
    pub fn feed(
        &mut self,
        input: &[u8],
        at: usize,
        may_be_long: bool,
        out: &mut Vec<Event>,
    ) -> Progress {
        let at = at.min(input.len());
        let end = input.len().min(at.saturating_add(if may_be_long { LONG_STEP } else { STEP }));
        if !may_be_long && self.size.saturating_add(end - at) > LONG_LINE {
            return Progress::Long(at);
        }
        let mut rest = &input[at..end];
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(length) = memchr::memchr2(b'\n', b'\r', rest) {
            self.keep(&rest[..length], out);
            let ending = rest[length];
            rest = &rest[length + 1..];
            if ending == b'\r' {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line(out);
        }
        self.keep(rest, out);
        if end < input.len() { Progress::More(end) } else { Progress::Done }
    }

    fn keep(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        self.line_size = self.line_size.saturating_add(bytes.len());
        self.size = self.size.saturating_add(bytes.len());
        if self.size > self.max_event {
            if !std::mem::replace(&mut self.dropped, true) {
                out.push(Event::TooLong(self.size));
            }
            self.line = Vec::new();
            self.message = Message::default();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn line(&mut self, out: &mut Vec<Event>) {
        let empty = std::mem::take(&mut self.line_size) == 0;
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if self.dropped {
            if empty {
                self.reset();
            }
        } else if line.is_empty() {
            self.dispatch(out);
        } else {
            self.field(&line, out);
            line.clear();
        }
        // The next line takes the room of this one, if it is of ordinary size.
        if line.capacity() <= STEP {
            self.line = line;
        }
    }

    fn field(&mut self, line: &[u8], out: &mut Vec<Event>) {
        let (name, value) = match memchr::memchr(b':', line) {
            // A comment.
            Some(0) => return,
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.message.data.push(b'\n');
                }
                self.has_data = true;
                self.message.data.extend_from_slice(value);
            }
            b"event" if value.len() <= MAX_FIELD => self.message.kind = Some(value.to_vec()),
            b"id" if value.len() <= MAX_FIELD && !value.contains(&0) => {
                self.message.id = Some(value.to_vec());
            }
            b"retry" => {
                if let Some(ms) = digits(value) {
                    out.push(Event::Retry(ms));
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, out: &mut Vec<Event>) {
        let message = std::mem::take(&mut self.message);
        if self.has_data || message.id.is_some() {
            out.push(Event::Message(message));
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.message = Message::default();
        self.has_data = false;
        self.size = 0;
        self.dropped = false;
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(max: usize, chunks: &[&[u8]]) -> Vec<Event> {
        let mut decoder = Decoder::new(max);
        let mut events = Vec::new();
        for chunk in chunks {
            let (mut at, mut long) = (0, false);
            loop {
                match decoder.feed(chunk, at, long, &mut events) {
                    Progress::Done => break,
                    Progress::More(next) => (at, long) = (next, false),
                    Progress::Long(next) => (at, long) = (next, true),
                }
            }
        }
        events
    }

    fn message(kind: Option<&str>, data: &str, id: Option<&str>) -> Event {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Event::Message(Message { kind: kind.map(bytes), data: bytes(data), id: id.map(bytes) })
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let text = b"\xEF\xBB\xBFevent: e\r\ndata:a\r\n:c\r\ndata:  b\rid: 1\r\rdata\n\n";
        let expected = [message(Some("e"), "a\n b", Some("1")), message(None, "", None)];
        assert_eq!(decode(100, &[text]), expected);
    }

    #[test]
    fn an_id_alone_counts_and_a_type_alone_does_not() {
        let text = b"id: 3\n\nevent: e\n\nid: 4\ndata:\n\n";
        assert_eq!(
            decode(100, &[text]),
            [message(None, "", Some("3")), message(None, "", Some("4"))]
        );
    }

    #[test]
    fn invalid_fields_and_a_cut_event_are_left_out() {
        let text = b"retry: 1s\nretry:\nid: a\0b\nother: x\ndata: a\n\ndata: cut\n";
        assert_eq!(decode(100, &[text]), [message(None, "a", None)]);
    }

    #[test]
    fn an_event_over_the_limit_is_dropped_alone() {
        let text = format!("data: {}\ndata: x\n\ndata: b\n\n", "a".repeat(50));
        let events = decode(20, &[text.as_bytes()]);
        assert!(matches!(events[0], Event::TooLong(size) if size >= 50));
        assert_eq!(events[1..], [message(None, "b", None)]);
    }

    #[test]
    fn a_long_event_asks_for_a_long_call() {
        let text = format!("data: {}\n\n", "a".repeat(3 * LONG_LINE));
        let mut decoder = Decoder::new(usize::MAX);
        let mut events = Vec::new();
        let mut at = 0;
        while let Progress::More(next) = decoder.feed(text.as_bytes(), at, false, &mut events) {
            at = next;
        }
        assert!(matches!(decoder.feed(text.as_bytes(), at, false, &mut events), Progress::Long(_)));
        assert_eq!(decode(usize::MAX, &[text.as_bytes()]).len(), 1);
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            text in "(data|id|event|retry|:|:|\n|\r|\r\n|\n\n|a| |1|\u{feff}){0,60}",
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
            max in 1usize..40,
        ) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let [mut cut, mut whole] = [decode(max, &chunks), decode(max, &[bytes])];
            // The size up to which an event was read depends on the cuts.
            for event in cut.iter_mut().chain(whole.iter_mut()) {
                if let Event::TooLong(size) = event {
                    *size = 0;
                }
            }
            prop_assert_eq!(cut, whole);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(50, &[&bytes]);
        }
    }
}
