//! From the bytes of a pipe, cut anywhere, to one entry a line.

use memchr::{memchr, memrchr};

use crate::json::{Fault, Parser};
use crate::schema::Schema;
use crate::sink::Sink;

/// How many bytes one call decodes before it returns: 64 KiB stays below a millisecond whatever they are.
pub const BUDGET: usize = 64 * 1024;

/// A line beyond this is decoded only by a caller that may take long.
pub const LONG_LINE: usize = 256 * 1024;

/// Buffers larger than this are given back after the line that needed them.
const KEEP_BUFFER: usize = 1024 * 1024;

/// Where a call to [`Decoder::feed`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The input is used up.
    Done,
    /// Go on from this byte of the same input.
    More(usize),
    /// Go on from this byte of the same input, where it does not matter that the call takes long: a line of over
    /// [`LONG_LINE`] bytes ends there.
    Long(usize),
}

/// Cuts a stream into lines and decodes them; keeps the part of a line that has no end yet.
#[derive(Debug)]
pub struct Decoder {
    carry: Vec<u8>,
    /// The size so far of a line over the limit.
    skipped: Option<u64>,
    max_line: usize,
    scratch: Vec<u8>,
}

impl Decoder {
    /// A line of more than `max_line` bytes is not kept: it becomes [`Sink::oversized`].
    pub fn new(max_line: usize) -> Decoder {
        Decoder { carry: Vec::new(), skipped: None, max_line, scratch: Vec::new() }
    }

    /// How many bytes of an unfinished line are held.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    /// Decodes `input` from byte `at` on; appends one entry a line to `out`.
    ///
    /// A call takes [`BUDGET`] bytes, or one longer line; lines over [`LONG_LINE`] only where `may_be_long`.
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
        let first = at;
        if self.skipped.is_some() || !self.carry.is_empty() {
            let Some(length) = memchr(b'\n', &input[at..]) else {
                self.keep(&input[at..]);
                return Progress::Done;
            };
            let long = self.carry.len() + length > LONG_LINE;
            if long && !may_be_long {
                return Progress::Long(at);
            }
            self.keep(&input[at..at + length]);
            at += length + 1;
            self.end_line(schema, sink, out);
            if long && at < input.len() {
                return Progress::More(at);
            }
        }
        while at < input.len() {
            if at - first >= BUDGET {
                return Progress::More(at);
            }
            let window = input.len().min(at + BUDGET);
            let end = match memrchr(b'\n', &input[at..window]) {
                Some(length) => at + length + 1,
                None => match memchr(b'\n', &input[window..]) {
                    Some(length) => window + length + 1,
                    None => {
                        self.keep(&input[at..]);
                        return Progress::Done;
                    }
                },
            };
            if end - at > LONG_LINE && !may_be_long {
                return Progress::Long(at);
            }
            self.lines(schema, sink, out).decode(&input[at..end]);
            at = end;
        }
        self.scratch = shrunk(std::mem::take(&mut self.scratch));
        Progress::Done
    }

    /// Decodes a last line that has no newline, if there is one.
    pub fn finish<S: Sink>(&mut self, schema: &Schema, sink: &mut S, out: &mut Vec<S::Term>) {
        if self.skipped.is_some() || !self.carry.is_empty() {
            self.end_line(schema, sink, out);
        }
    }

    fn lines<'l, S: Sink>(
        &'l mut self,
        schema: &'l Schema,
        sink: &'l mut S,
        out: &'l mut Vec<S::Term>,
    ) -> Lines<'l, S> {
        Lines { schema, sink, scratch: &mut self.scratch, max_line: self.max_line, out }
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

    fn end_line<S: Sink>(&mut self, schema: &Schema, sink: &mut S, out: &mut Vec<S::Term>) {
        if let Some(size) = self.skipped.take() {
            out.push(sink.oversized(size));
            return;
        }
        let mut line = std::mem::take(&mut self.carry);
        line.push(b'\n');
        self.lines(schema, sink, out).decode(&line);
        line.clear();
        self.carry = shrunk(line);
        self.scratch = shrunk(std::mem::take(&mut self.scratch));
    }
}

fn shrunk(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEEP_BUFFER { Vec::new() } else { buffer }
}

/// What decoding some whole lines needs.
struct Lines<'l, S: Sink> {
    schema: &'l Schema,
    sink: &'l mut S,
    scratch: &'l mut Vec<u8>,
    max_line: usize,
    out: &'l mut Vec<S::Term>,
}

impl<S: Sink> Lines<'_, S> {
    fn decode(&mut self, lines: &[u8]) {
        // One check for all of them; only where it fails is each line looked at.
        if simdutf8::basic::from_utf8(lines).is_ok() {
            return self.decode_utf8(lines, None);
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if line.len() - 1 > self.max_line {
                self.out.push(self.sink.oversized(line.len() as u64 - 1));
            } else if std::str::from_utf8(line).is_ok() {
                self.decode_utf8(line, None);
            } else {
                self.decode_utf8(String::from_utf8_lossy(line).as_bytes(), Some(line));
            }
        }
    }

    /// `original` holds the bytes of the only line, where some were replaced to make it UTF-8.
    fn decode_utf8(&mut self, lines: &[u8], original: Option<&[u8]>) {
        let mut parser = Parser::new(self.schema, self.sink, lines, self.scratch);
        let mut start = 0;
        while start < lines.len() {
            parser.pos = start;
            let parsed = parser.line();
            let (end, fault_at) = match parsed {
                Ok(_) => (parser.pos, 0),
                Err(_) => {
                    let length = memchr(b'\n', &lines[start..]).unwrap_or(lines.len() - start);
                    (start + length, parser.pos.saturating_sub(start))
                }
            };
            let lossy = original.is_some() || parser.lossy;
            match parsed {
                _ if original.is_none() && end - start > self.max_line => {
                    self.out.push(parser.sink().oversized((end - start) as u64));
                }
                Ok(None) => {}
                Ok(Some((value, known))) => self.out.push(parser.sink().line(value, known, lossy)),
                Err(fault) => {
                    let line = trim_end(original.unwrap_or(&lines[start..end]));
                    let (fault, fault_at) = in_original(original, fault, fault_at);
                    self.out.push(parser.sink().rejected(line, fault, fault_at));
                }
            }
            start = end + 1;
        }
    }
}

/// Behind the first replaced byte, offsets into the replaced text mean nothing to whoever has the original.
fn in_original(original: Option<&[u8]>, fault: Fault, at: usize) -> (Fault, usize) {
    match original.map(simdutf8::compat::from_utf8) {
        Some(Err(error)) if at >= error.valid_up_to() => (Fault::Utf8, error.valid_up_to()),
        _ => (fault, at),
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
