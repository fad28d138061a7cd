//! From the bytes of a pipe, cut anywhere, to one entry a line.

use memchr::{memchr, memrchr};

use crate::json::{Fault, Parser};
use crate::schema::Schema;
use crate::sink::Sink;

/// How many bytes one call decodes before it returns.
pub const BUDGET: usize = 64 * 1024;

/// How much work one call does before it returns: bytes alone say little, as `[[],[],…` makes a
/// value of every third one. Events need less than half of it for [`BUDGET`] bytes, notifications
/// of the app-server three quarters; the worst input takes about half a millisecond
/// (`bench/calls`).
pub const WORK: u64 = 48 * 1024;

/// A line beyond this is decoded only by a caller that may take long, and so is one that needs more
/// than [`WORK`].
pub const LONG_LINE: usize = 256 * 1024;

/// The byte order mark of UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Buffers larger than this are given back after the line that needed them.
const KEEP_BUFFER: usize = 1024 * 1024;

/// The point at which a call to [`Decoder::feed`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The input is used up.
    Done,
    /// Go on from this byte of the same input.
    More(usize),
    /// Go on from this byte of the same input, in a call that may take long: the line that ends
    /// next has over [`LONG_LINE`] bytes or needs more than [`WORK`].
    Long(usize),
}

/// Cuts a stream into lines and decodes them; keeps the part of a line that has no end yet.
#[derive(Debug)]
pub struct Decoder {
    carry: Vec<u8>,
    /// How much of a byte order mark the stream began with; nothing once that is decided.
    mark: Option<usize>,
    /// The size so far of a line over the limit.
    skipped: Option<u64>,
    max_line: usize,
    max_nodes: u64,
    scratch: Vec<u8>,
    work: u64,
}

impl Decoder {
    /// A line of more than `max_line` bytes is not kept: it becomes [`Sink::oversized`]. A line of
    /// more than `max_nodes` values, and keys that the schema does not know, becomes
    /// [`Sink::overfull`]; what was made of it is dropped.
    pub fn new(max_line: usize, max_nodes: u64) -> Decoder {
        Decoder {
            carry: Vec::new(),
            mark: Some(0),
            skipped: None,
            max_line,
            max_nodes,
            scratch: Vec::new(),
            work: 0,
        }
    }

    /// How many bytes of an unfinished line are held.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    /// How much of [`WORK`] the last call of [`Decoder::feed`] did.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Decodes `input` from byte `at` on; appends one entry a line to `out`.
    ///
    /// A call takes [`BUDGET`] bytes or does [`WORK`], or takes one longer line. Where it
    /// `may_be_long`, it takes one line, whatever it holds. A byte order mark at the start of the
    /// stream is skipped.
    pub fn feed<S: Sink>(
        &mut self,
        schema: &Schema,
        sink: &mut S,
        input: &[u8],
        at: usize,
        may_be_long: bool,
        out: &mut Vec<S::Term>,
    ) -> Progress {
        let mut at = at.min(input.len());
        at += self.skip_mark(&input[at..]);
        let first = at;
        self.work = 0;
        if self.skipped.is_some() || !self.carry.is_empty() {
            let reach = reach(input, at, may_be_long);
            let Some(length) = memchr(b'\n', &input[at..reach]) else {
                if reach < input.len() {
                    return Progress::Long(at);
                }
                self.keep(&input[at..]);
                return Progress::Done;
            };
            let held = self.carry.len();
            if held + length > LONG_LINE && !may_be_long {
                return Progress::Long(at);
            }
            self.keep(&input[at..at + length]);
            if !self.end_line(schema, sink, may_be_long, out) {
                self.carry.truncate(held);
                return Progress::Long(at);
            }
            at += length + 1;
            if may_be_long {
                return Progress::after(at, input);
            }
        }
        while at < input.len() {
            if at - first >= BUDGET {
                return Progress::More(at);
            }
            let window = if may_be_long { at } else { input.len().min(first + BUDGET) };
            let end = match memrchr(b'\n', &input[at..window]) {
                Some(length) => at + length + 1,
                None if at > first && window < input.len() => return Progress::More(at),
                None => {
                    let reach = reach(input, at, may_be_long);
                    match memchr(b'\n', &input[window..reach]) {
                        Some(length) => window + length + 1,
                        None if reach < input.len() => return Progress::Long(at),
                        None => {
                            self.keep(&input[at..]);
                            return Progress::Done;
                        }
                    }
                }
            };
            if end - at > LONG_LINE && !may_be_long {
                return Progress::Long(at);
            }
            let decoded = self.lines(schema, sink, may_be_long, out).decode(&input[at..end]);
            at += decoded;
            if at < end {
                // Out of work. A line that had the whole call for itself must be done elsewhere.
                return if at == first { Progress::Long(at) } else { Progress::More(at) };
            }
            if may_be_long {
                return Progress::after(at, input);
            }
        }
        self.scratch = shrunk(std::mem::take(&mut self.scratch));
        Progress::Done
    }

    /// Decodes a last line that has no newline, if there is one.
    pub fn finish<S: Sink>(&mut self, schema: &Schema, sink: &mut S, out: &mut Vec<S::Term>) {
        if let Some(cut) = self.mark.take() {
            self.keep(&MARK[..cut]);
        }
        if self.skipped.is_some() || !self.carry.is_empty() {
            self.end_line(schema, sink, true, out);
        }
    }

    /// How many bytes at the start of `input` belong to a byte order mark at the start of the
    /// stream.
    fn skip_mark(&mut self, input: &[u8]) -> usize {
        let Some(before) = self.mark else { return 0 };
        let rest = &MARK[before..];
        let same = rest.iter().zip(input).take_while(|(mark, byte)| mark == byte).count();
        if same == rest.len() {
            self.mark = None;
        } else if same == input.len() {
            self.mark = Some(before + same);
        } else {
            // Something else that begins alike.
            self.mark = None;
            self.keep(&MARK[..before]);
            return 0;
        }
        same
    }

    fn lines<'l, S: Sink>(
        &'l mut self,
        schema: &'l Schema,
        sink: &'l mut S,
        may_be_long: bool,
        out: &'l mut Vec<S::Term>,
    ) -> Lines<'l, S> {
        Lines {
            schema,
            sink,
            scratch: &mut self.scratch,
            max_line: self.max_line,
            max_nodes: self.max_nodes,
            may_be_long,
            work: &mut self.work,
            out,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.skipped {
            Some(size) => *size += bytes.len() as u64,
            None if self.carry.len() + bytes.len() > self.max_line => {
                self.skipped = Some((self.carry.len() + bytes.len()) as u64);
                self.carry = Vec::new();
            }
            None => self.carry.extend_from_slice(bytes),
        }
    }

    /// Decodes the line that was carried over; false if that is too much work, and then it still is
    /// carried over.
    fn end_line<S: Sink>(
        &mut self,
        schema: &Schema,
        sink: &mut S,
        may_be_long: bool,
        out: &mut Vec<S::Term>,
    ) -> bool {
        if let Some(size) = self.skipped.take() {
            out.push(sink.oversized(size));
            return true;
        }
        let mut line = std::mem::take(&mut self.carry);
        line.push(b'\n');
        let ended = self.lines(schema, sink, may_be_long, out).decode(&line) > 0;
        if ended {
            line.clear();
            self.scratch = shrunk(std::mem::take(&mut self.scratch));
            line = shrunk(line);
        }
        self.carry = line;
        ended
    }
}

impl Progress {
    fn after(at: usize, input: &[u8]) -> Progress {
        if at < input.len() { Progress::More(at) } else { Progress::Done }
    }
}

/// How far the end of the line at `at` is looked for, and how much of a line without one is kept:
/// that takes time, too.
fn reach(input: &[u8], at: usize, may_be_long: bool) -> usize {
    if may_be_long { input.len() } else { input.len().min(at + LONG_LINE + 1) }
}

fn shrunk(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEEP_BUFFER { Vec::new() } else { buffer }
}

/// The arguments for decoding some whole lines.
struct Lines<'l, S: Sink> {
    schema: &'l Schema,
    sink: &'l mut S,
    scratch: &'l mut Vec<u8>,
    max_line: usize,
    max_nodes: u64,
    may_be_long: bool,
    work: &'l mut u64,
    out: &'l mut Vec<S::Term>,
}

impl<S: Sink> Lines<'_, S> {
    /// Returns how many bytes of whole lines were decoded before the work was done.
    fn decode(&mut self, lines: &[u8]) -> usize {
        // One check for all of them; only if it fails is each line looked at.
        if simdutf8::basic::from_utf8(lines).is_ok() {
            return self.decode_utf8(lines, lines);
        }
        if lines.len() > BUDGET && !self.may_be_long {
            return 0;
        }
        // Each newline keeps its place among the others, so that lines and their originals go in
        // step.
        self.decode_utf8(String::from_utf8_lossy(lines).as_bytes(), lines)
    }

    /// `originals` are the same lines; if they differ, bytes were replaced to make `lines` UTF-8.
    fn decode_utf8(&mut self, lines: &[u8], originals: &[u8]) -> usize {
        let replaced = lines.len() != originals.len() || lines.as_ptr() != originals.as_ptr();
        let mut parser = Parser::new(self.schema, self.sink, lines, self.scratch);
        if !self.may_be_long {
            parser.left = WORK.saturating_sub(*self.work);
        }
        let before = parser.left;
        let (mut start, mut original_start) = (0, 0);
        while start < lines.len() {
            parser.pos = start;
            parser.nodes = self.max_nodes;
            let parsed = parser.line();
            if parser.exhausted {
                break;
            }
            let (end, fault_at) = match parsed {
                Ok(_) => (parser.pos, 0),
                Err(_) => (line_end(lines, start), parser.pos.saturating_sub(start)),
            };
            let original = match replaced {
                false => &lines[start..end],
                true => &originals[original_start..line_end(originals, original_start)],
            };
            let lossy = parser.lossy || replaced && *original != lines[start..end];
            match parsed {
                _ if original.len() > self.max_line => {
                    self.out.push(parser.sink().oversized(original.len() as u64));
                }
                Ok(None) => {}
                Ok(Some((value, known))) => self.out.push(parser.sink().line(value, known, lossy)),
                Err(Fault::Nodes) => {
                    self.out.push(parser.sink().overfull(self.max_nodes, original.len() as u64));
                }
                Err(fault) => {
                    let (fault, fault_at) = if lossy {
                        in_original(original, fault, fault_at)
                    } else {
                        (fault, fault_at)
                    };
                    self.out.push(parser.sink().rejected(trim_end(original), fault, fault_at));
                }
            }
            start = end + 1;
            original_start += original.len() + 1;
        }
        *self.work += before - parser.left;
        original_start.min(originals.len())
    }
}

fn line_end(lines: &[u8], start: usize) -> usize {
    memchr(b'\n', &lines[start..]).map_or(lines.len(), |length| start + length)
}

/// Behind the first replaced byte, offsets into the replaced text mean nothing to a reader of the
/// original.
fn in_original(original: &[u8], fault: Fault, at: usize) -> (Fault, usize) {
    match simdutf8::compat::from_utf8(original) {
        Err(error) if at >= error.valid_up_to() => (Fault::Utf8, error.valid_up_to()),
        _ => (fault, at),
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
