//! WebSocket frames without a socket, for the client of an app-server.
//!
//! The frames are those of `tungstenite`: masks, fragments, close handshake, UTF-8, sizes. It is
//! made for streams that block; here it reads from and writes to memory, and "would block" means
//! that the input is used up. The owner of the socket feeds received bytes and sends the bytes of
//! [`WebSocket::take_output`].
//!
//! ```
//! use codex_core::Progress;
//! use codex_core::websocket::{Event, WebSocket};
//!
//! let mut socket = WebSocket::new(1024);
//! let mut events = Vec::new();
//! // "hi" as one text, then a ping.
//! let progress = socket.feed(b"\x81\x02hi\x89\x00", 0, false, &mut events);
//! assert_eq!(progress, Progress::Done);
//! assert!(matches!(&events[..], [Event::Text(text)] if text.as_str() == "hi"));
//! // The pong: six bytes, as a client masks.
//! assert_eq!(socket.take_output().len(), 6);
//! ```
//!
//! After [`Event::Closed`] or [`Event::Failed`] nothing more is read: the rest could have a gap
//! before it.

use std::io::{self, Read, Write};

use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

pub use tungstenite::Utf8Bytes;

use crate::lines::{LONG_LINE, Progress};

/// How many bytes one call reads. A frame may have two, and each costs some tens of nanoseconds.
pub const STEP: usize = 16 * 1024;

/// How many bytes one call reads that may take long.
const LONG_STEP: usize = 1024 * 1024;

/// A received message or the end.
#[derive(Debug)]
pub enum Event {
    /// A text, whole.
    Text(Utf8Bytes),
    /// A binary message of so many bytes. An app-server sends none.
    Binary(usize),
    /// The other side has closed; the answer to that is in the output.
    Closed {
        /// The code, if the other side gave one.
        code: Option<u16>,
        /// The reason of the other side; at most 123 bytes.
        reason: Utf8Bytes,
    },
    /// The input was not WebSocket, or too much; a close frame that says so is in the output.
    Failed(Failure),
}

/// The reason for the end of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// A message of this size (or a part of one) is over the limit.
    TooLong(usize),
    /// A text is not UTF-8.
    NotUtf8,
    /// A frame that must not be, and which rule it breaks.
    Protocol(String),
}

/// The connection has been closed: nothing can be sent any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// The client's end of one connection, after its handshake.
#[derive(Debug)]
pub struct WebSocket {
    inner: tungstenite::WebSocket<Memory>,
    /// Bytes since the end of the last message.
    since: usize,
    over: bool,
}

impl WebSocket {
    /// A message of more than `max_message` bytes, in however many fragments, is a
    /// [`Failure::TooLong`].
    ///
    /// Up to twice as much is held: the fragments so far, and the current frame.
    pub fn new(max_message: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(STEP)
            .write_buffer_size(0)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let inner =
            tungstenite::WebSocket::from_raw_socket(Memory::default(), Role::Client, Some(config));
        WebSocket { inner, since: 0, over: false }
    }

    /// Reads from byte `at` of `input` on; appends the events to `out`.
    ///
    /// [`Progress::Long`] asks for a call that `may_be_long`: a message of over [`LONG_LINE`] bytes
    /// may end there.
    pub fn feed(
        &mut self,
        input: &[u8],
        at: usize,
        may_be_long: bool,
        out: &mut Vec<Event>,
    ) -> Progress {
        let at = at.min(input.len());
        if self.over {
            return Progress::Done;
        }
        let end = input.len().min(at + if may_be_long { LONG_STEP } else { STEP });
        self.since = self.since.saturating_add(end - at);
        if self.since > LONG_LINE && !may_be_long {
            self.since -= end - at;
            return Progress::Long(at);
        }
        self.inner.get_mut().put(&input[at..end]);
        while !self.over {
            match self.inner.read() {
                Ok(message) => self.message(message, out),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.fail(error, out),
            }
        }
        if end < input.len() && !self.over { Progress::More(end) } else { Progress::Done }
    }

    /// Appends a text to the output.
    pub fn text(&mut self, text: &str) -> Result<(), Closed> {
        self.send(Message::text(text))
    }

    /// Appends a ping to the output.
    pub fn ping(&mut self) -> Result<(), Closed> {
        self.send(Message::Ping(Default::default()))
    }

    /// Appends a close frame to the output, unless there was one: the other side answers it, and
    /// then closes its socket.
    pub fn close(&mut self) {
        self.close_with(CloseCode::Normal);
    }

    /// Returns the bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inner.get_mut().output)
    }

    fn send(&mut self, message: Message) -> Result<(), Closed> {
        self.inner.send(message).map_err(|_| Closed)
    }

    fn message(&mut self, message: Message, out: &mut Vec<Event>) {
        self.since = 0;
        match message {
            Message::Text(text) => out.push(Event::Text(text)),
            Message::Binary(bytes) => out.push(Event::Binary(bytes.len())),
            Message::Close(frame) => {
                let (code, reason) = match frame {
                    Some(frame) => (Some(frame.code.into()), frame.reason),
                    None => (None, Utf8Bytes::default()),
                };
                self.end(Event::Closed { code, reason }, out);
            }
            // Pongs are written by themselves.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    fn fail(&mut self, error: Error, out: &mut Vec<Event>) {
        let (failure, code) = match error {
            Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
                (Failure::TooLong(size), CloseCode::Size)
            }
            Error::Utf8(_) => (Failure::NotUtf8, CloseCode::Invalid),
            other => (Failure::Protocol(other.to_string()), CloseCode::Protocol),
        };
        self.close_with(code);
        self.end(Event::Failed(failure), out);
    }

    fn end(&mut self, event: Event, out: &mut Vec<Event>) {
        // The answer to a close frame is written by the next call, whatever it is.
        let _ = self.inner.flush();
        self.over = true;
        out.push(event);
    }

    fn close_with(&mut self, code: CloseCode) {
        // If the connection was closed before, there is nothing to say.
        let _ = self.inner.close(Some(CloseFrame { code, reason: Utf8Bytes::default() }));
    }
}

/// Both directions of a socket, in memory.
#[derive(Debug, Default)]
struct Memory {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Memory {
    fn put(&mut self, bytes: &[u8]) {
        self.input.drain(..self.read);
        self.read = 0;
        self.input.extend_from_slice(bytes);
    }
}

impl Read for Memory {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = &self.input[self.read..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = left.len().min(room.len());
        room[..taken].copy_from_slice(&left[..taken]);
        self.read += taken;
        Ok(taken)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server's frame: `0x80` in `first` is the last fragment, the rest is the opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(length as u8),
            length @ 126..0x10000 => {
                bytes.push(126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    /// Feeds all of it as the glue does; says whether a call that may be long was asked for.
    fn feed(socket: &mut WebSocket, input: &[u8], out: &mut Vec<Event>) -> bool {
        let (mut at, mut long, mut ever) = (0, false, false);
        loop {
            (at, long) = match socket.feed(input, at, long, out) {
                Progress::Done => return ever,
                Progress::More(next) => (next, false),
                Progress::Long(next) => (next, true),
            };
            ever |= long;
        }
    }

    fn events(max: usize, input: &[u8]) -> (Vec<Event>, Vec<u8>) {
        let (mut socket, mut out) = (WebSocket::new(max), Vec::new());
        feed(&mut socket, input, &mut out);
        (out, socket.take_output())
    }

    /// The one failure, and the close code that is sent.
    fn failure(input: &[u8]) -> (Failure, u16) {
        let (mut out, told) = events(1000, input);
        assert_eq!(out.len(), 1, "{out:?}");
        let Some(Event::Failed(failure)) = out.pop() else { panic!("no failure") };
        (failure, unmasked_code(&told))
    }

    fn unmasked_code(close: &[u8]) -> u16 {
        assert_eq!(close[0], 0x88);
        u16::from_be_bytes([close[6] ^ close[2], close[7] ^ close[3]])
    }

    #[test]
    fn failures_have_their_codes() {
        assert_eq!(failure(&frame(0x81, &[b'a'; 1001])), (Failure::TooLong(1001), 1009));
        // The announced length counts, before any of the payload has come.
        assert_eq!(
            failure(&[0x81, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0]),
            (Failure::TooLong(0x7f << 56), 1009)
        );
        let parts = [frame(1, &[b'a'; 600]), frame(0, &[b'a'; 600])].concat();
        assert_eq!(failure(&parts), (Failure::TooLong(1200), 1009));
        assert_eq!(failure(&frame(0x81, b"\xff")), (Failure::NotUtf8, 1007));
        assert_eq!(
            failure(&[frame(1, b"\xe2\x82"), frame(0x80, b"")].concat()),
            (Failure::NotUtf8, 1007)
        );
        for broken in [
            &b"\x81\x81abcdx"[..],                         // masked
            &frame(0xc1, b"x"),                            // a reserved bit
            &frame(0x83, b"x"),                            // an unknown opcode
            &frame(0x80, b"x"),                            // goes on with nothing
            &frame(0x09, b"x"),                            // a ping in fragments
            &frame(0x89, &[b'x'; 126]),                    // a ping that is too big
            &frame(0x88, b"x"),                            // half a close code
            &[frame(1, b"x"), frame(0x81, b"y")].concat(), // a text within a text
        ] {
            let (failure, code) = failure(broken);
            assert!(
                matches!(failure, Failure::Protocol(_)) && code == 1002,
                "{broken:?}: {failure:?} {code}"
            );
        }
    }

    #[test]
    fn a_close_is_answered_and_ends_it() {
        for (payload, code, text, answer) in [
            (&b"\x03\xe9later"[..], Some(1001), "later", Some(1001)),
            (&b""[..], None, "", None),
            // A code that must not be on the wire.
            (&b"\x03\xee"[..], Some(1002), "Protocol violation", Some(1002)),
        ] {
            let mut input = frame(0x88, payload);
            input.extend(frame(0x81, b"after"));
            let (out, told) = events(1000, &input);
            let [Event::Closed { code: came, reason }] = &out[..] else { panic!("{out:?}") };
            assert_eq!((*came, reason.as_str()), (code, text));
            match answer {
                Some(answer) => assert_eq!(unmasked_code(&told), answer),
                None => assert_eq!(told[..2], [0x88, 0x80]),
            }
        }
    }

    #[test]
    fn nothing_is_sent_after_a_close() {
        let mut socket = WebSocket::new(10);
        assert_eq!(socket.ping(), Ok(()));
        assert_eq!(socket.take_output()[..2], [0x89, 0x80]);
        socket.close();
        assert_eq!(unmasked_code(&socket.take_output()), 1000);
        socket.close();
        assert_eq!(
            (socket.text("x"), socket.ping(), socket.take_output().len()),
            (Err(Closed), Err(Closed), 0)
        );
    }

    #[test]
    fn a_long_message_asks_for_time() {
        let long = vec![b'a'; LONG_LINE * 2];
        let (mut socket, mut out) = (WebSocket::new(long.len()), Vec::new());
        assert!(!feed(&mut socket, &frame(0x81, b"short"), &mut out));
        assert!(feed(&mut socket, &frame(0x81, &long), &mut out));
        assert!(!feed(&mut socket, &frame(0x81, b"short"), &mut out));
        let sizes: Vec<_> = out
            .iter()
            .map(|event| if let Event::Text(text) = event { text.len() } else { 0 })
            .collect();
        assert_eq!(sizes, [5, long.len(), 5]);
    }

    /// Frames that a server may send, and the text that results.
    fn message() -> impl Strategy<Value = (Vec<u8>, Option<String>)> {
        let text = prop_oneof!["\\PC{0,300}", "a{65530,65540}"];
        prop_oneof![
            text.prop_map(|text: String| (frame(0x81, text.as_bytes()), Some(text))),
            ("\\PC{0,300}", any::<prop::sample::Index>()).prop_map(|(text, cut)| {
                let cut = cut.index(text.len() + 1);
                let (one, two) = text.as_bytes().split_at(cut);
                // A ping may stand between fragments.
                ([frame(1, one), frame(0x89, b"?"), frame(0x80, two)].concat(), Some(text))
            }),
            Just((frame(0x89, b"ping"), None)),
            Just((frame(0x8a, b""), None)),
        ]
    }

    proptest! {
        #[test]
        fn texts_come_whole_however_they_are_cut(
            messages in prop::collection::vec(message(), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let (mut socket, mut out, mut start) = (WebSocket::new(100_000), Vec::new(), 0);
            for end in ends {
                feed(&mut socket, &bytes[start..end], &mut out);
                start = end;
            }
            let came: Vec<&str> =
                out.iter().map(|event| if let Event::Text(text) = event { text.as_str() } else { "?" }).collect();
            let sent: Vec<&str> = messages.iter().filter_map(|(_, text)| text.as_deref()).collect();
            prop_assert_eq!(came, sent);
        }

        #[test]
        fn whatever_comes_is_no_panic_and_ends_once(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            let (out, told) = events(1000, &input);
            let ends = out.iter().filter(|event| matches!(event, Event::Closed { .. } | Event::Failed(_))).count();
            prop_assert!(ends <= 1);
            prop_assert!(told.len() <= input.len() * 4 + 8);
        }

        #[test]
        fn a_server_reads_what_is_sent(texts in prop::collection::vec("\\PC{0,300}", 1..5)) {
            let mut socket = WebSocket::new(1000);
            for text in &texts {
                socket.text(text).expect("it is open");
            }
            let mut memory = Memory::default();
            memory.put(&socket.take_output());
            let mut server = tungstenite::WebSocket::from_raw_socket(memory, Role::Server, None);
            for text in &texts {
                prop_assert_eq!(server.read().expect("a message"), Message::text(text.as_str()));
            }
        }
    }
}
