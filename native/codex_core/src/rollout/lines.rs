//! Lines of a file of any size, with one buffer.

use std::io::{self, Read};

use memchr::{memchr, memchr2};

/// The bytes that are read at a time. A block stays in the cache of a core while its lines are
/// looked at.
pub const BLOCK: usize = 128 * 1024;

/// A buffer that a long line has made larger than this is not kept for the lines after it. Most
/// long lines are shorter, and growing the buffer again costs more than reading them.
const KEPT: usize = 2 * 1024 * 1024;

/// The longest line that is read. Longer lines are skipped, in constant memory.
pub const MAX_LINE: usize = 256 * 1024 * 1024;

/// A line without its newline, and the position of its first byte in the plain file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line that ends in a newline.
    Whole(&'a [u8], u64),
    /// A line that ends in a newline and has a null byte, which JSON cannot have.
    Null(&'a [u8], u64),
    /// The rest of a file that does not end in a newline.
    Unended(&'a [u8], u64),
    /// A line over the limit: its bytes are not kept.
    TooLong(u64),
}

impl Line<'_> {
    /// The position of the first byte.
    pub fn offset(&self) -> u64 {
        match *self {
            Line::Whole(_, offset) | Line::Null(_, offset) => offset,
            Line::Unended(_, offset) | Line::TooLong(offset) => offset,
        }
    }
}

/// Splits a source into lines.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// The bytes of the buffer that hold content not handed out yet.
    start: usize,
    end: usize,
    /// Up to here there is no newline.
    searched: usize,
    /// There is a null byte.
    null: bool,
    /// The position of `start` in the source.
    offset: u64,
    max_line: usize,
    ended: bool,
    /// The end of the source is the end for now.
    growing: bool,
    /// The first byte of a line over the limit whose newline has not come.
    skipping: Option<u64>,
}

impl<R: Read> Lines<R> {
    /// Lines of at most `max_line` bytes.
    pub fn new(source: R, max_line: usize) -> Self {
        Lines::with_buffer(source, max_line, Vec::new())
    }

    /// Lines that use the buffer of others, whose content is lost.
    pub fn with_buffer(source: R, max_line: usize, mut buffer: Vec<u8>) -> Self {
        if buffer.len() < BLOCK {
            buffer.resize(BLOCK, 0);
        }
        let (offset, ended) = (0, false);
        Lines {
            source,
            buffer,
            start: 0,
            end: 0,
            searched: 0,
            null: false,
            offset,
            max_line,
            ended,
            growing: false,
            skipping: None,
        }
    }

    /// The source grows: a last line without a newline is kept until its newline comes.
    pub fn growing(mut self) -> Self {
        self.growing = true;
        self
    }

    /// Whether the source may still grow.
    pub fn is_growing(&self) -> bool {
        self.growing
    }

    /// Looks for more behind the end of the source.
    pub fn read_on(&mut self) {
        self.ended = false;
    }

    /// The source grows no more: its last line is handed out at its end.
    pub fn stop_growing(&mut self) {
        self.growing = false;
    }

    /// The first byte that was not handed out: the beginning of a line.
    pub fn position(&self) -> u64 {
        self.skipping.unwrap_or(self.offset)
    }

    /// The end of what was read.
    pub fn read_to(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// Goes on in another source, which is at [`Lines::position`].
    pub fn replace(&mut self, source: R) {
        self.offset = self.position();
        (self.start, self.end, self.searched, self.null) = (0, 0, 0, false);
        (self.source, self.skipping, self.ended) = (source, None, false);
    }

    /// The buffer, for other lines.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Reads on at this position, which the source is at: the beginning of a line.
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The next line; nothing at the end, which a growing source reaches several times.
    #[allow(clippy::should_implement_trait)] // a line borrows the buffer
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if let Some(at) = memchr2(b'\n', 0, &self.buffer[self.searched..self.end]) {
                let (from, to, null) = (self.start, self.searched + at, self.null);
                if self.buffer[to] == 0 {
                    (self.null, self.searched) = (true, to + 1);
                    continue;
                }
                let offset = self.take(to + 1);
                let line = without_return(&self.buffer[from..to]);
                let kind = if null { Line::Null } else { Line::Whole };
                return Ok(Some(kind(line, offset)));
            }
            self.searched = self.end;
            if let Some(line) = self.skipping {
                return self.skip(line);
            }
            if self.ended {
                let (from, to) = (self.start, self.end);
                if from == to || self.growing {
                    return Ok(None);
                }
                let offset = self.take(to);
                return Ok(Some(Line::Unended(&self.buffer[from..to], offset)));
            }
            if self.end - self.start > self.max_line {
                return self.skip(self.offset);
            }
            self.fill()?;
        }
    }

    /// Moves on to `to`; returns the position before.
    fn take(&mut self, to: usize) -> u64 {
        let offset = self.offset;
        self.offset += (to - self.start) as u64;
        (self.start, self.searched, self.null) = (to, to, false);
        offset
    }

    fn fill(&mut self) -> io::Result<()> {
        let kept = self.end - self.start;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end, self.searched) = (0, kept, kept);
        }
        if kept == self.buffer.len() {
            // In steps of a quarter, so that the buffer is little longer than the longest line.
            let more = (kept / 4).max(BLOCK);
            self.buffer.reserve_exact(more);
            self.buffer.resize(kept + more, 0);
        } else if kept < BLOCK / 2 && self.buffer.len() > KEPT {
            self.buffer.truncate(BLOCK);
            self.buffer.shrink_to_fit();
        }
        self.end += self.read()?;
        Ok(())
    }

    /// Reads a block at most, also if the buffer has room for more after a long line: a block that
    /// does not fit the cache of a core is read twice from memory.
    fn read(&mut self) -> io::Result<usize> {
        let end = self.buffer.len().min(self.end + BLOCK);
        loop {
            match self.source.read(&mut self.buffer[self.end..end]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Drops a line that began at this position, of which the buffer may be full.
    fn skip(&mut self, line: u64) -> io::Result<Option<Line<'static>>> {
        if self.skipping.replace(line).is_none() {
            self.buffer.truncate(BLOCK);
            self.buffer.shrink_to_fit();
            self.offset += (self.end - self.start) as u64;
            (self.start, self.end, self.searched, self.null) = (0, 0, 0, false);
        }
        loop {
            let read = if self.ended { 0 } else { self.read()? };
            if self.ended {
                if self.growing {
                    return Ok(None);
                }
                self.skipping = None;
                return Ok(Some(Line::TooLong(line)));
            }
            if let Some(at) = memchr(b'\n', &self.buffer[..read]) {
                self.offset += at as u64 + 1;
                (self.start, self.end, self.searched) = (at + 1, read, at + 1);
                self.skipping = None;
                return Ok(Some(Line::TooLong(line)));
            }
            self.offset += read as u64;
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn all(text: &[u8], step: usize, max: usize) -> Vec<(char, Vec<u8>, u64)> {
        let mut lines = Lines::new(Drops(text, step), max);
        let mut out = Vec::new();
        while let Some(line) = lines.next().expect("memory") {
            out.push(match line {
                Line::Whole(bytes, at) => ('w', bytes.to_vec(), at),
                Line::Null(bytes, at) => ('n', bytes.to_vec(), at),
                Line::Unended(bytes, at) => ('u', bytes.to_vec(), at),
                Line::TooLong(at) => ('l', Vec::new(), at),
            });
        }
        out
    }

    #[test]
    fn lines_have_their_positions_however_they_are_read() {
        let long = vec![b'x'; 3 * BLOCK + 5];
        let text = [b"a\r\n\nbb\n", &long[..], b"\nend"].concat();
        let wanted = vec![
            ('w', b"a".to_vec(), 0),
            ('w', b"".to_vec(), 3),
            ('w', b"bb".to_vec(), 4),
            ('w', long.clone(), 7),
            ('u', b"end".to_vec(), 8 + long.len() as u64),
        ];
        for step in [1 << 20, BLOCK, 4099] {
            assert!(all(&text, step, MAX_LINE) == wanted, "{step}");
        }
    }

    #[test]
    fn null_bytes_are_noticed() {
        for step in [1, 4099] {
            let kinds = all(b"a\n\0\0\nb\0c\nd\n\0", step, MAX_LINE);
            let kinds: String = kinds.into_iter().map(|(kind, _, _)| kind).collect();
            assert_eq!(kinds, "wnnwu");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_skipped() {
        let long = vec![b'x'; 4 * BLOCK];
        let text = [b"a\n", &long[..], b"\nb\n"].concat();
        for step in [1 << 20, 4099] {
            let kinds = all(&text, step, BLOCK);
            let found = kinds.iter().map(|(kind, line, at)| (*kind, line.len(), *at));
            let at = 3 + long.len() as u64;
            assert_eq!(found.collect::<Vec<_>>(), [('w', 1, 0), ('l', 0, 2), ('w', 1, at)]);
        }
        assert_eq!(all(&long, 4099, BLOCK), [('l', vec![], 0)]);
    }

    /// A file that grows by these pieces.
    #[derive(Clone, Default)]
    struct Grows(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl Read for Grows {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut bytes = self.0.borrow_mut();
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            bytes.drain(..count);
            Ok(count)
        }
    }

    fn lines_now(lines: &mut Lines<Grows>) -> Vec<String> {
        lines.read_on();
        let mut out = Vec::new();
        while let Some(line) = lines.next().expect("memory") {
            out.push(match line {
                Line::Whole(bytes, at) => format!("{} at {at}", String::from_utf8_lossy(bytes)),
                other => format!("{other:?}"),
            });
        }
        out
    }

    #[test]
    fn half_a_line_of_a_growing_source_waits_for_its_newline() {
        let source = Grows::default();
        let add = |bytes: &[u8]| source.0.borrow_mut().extend_from_slice(bytes);
        let mut lines = Lines::new(source.clone(), BLOCK).growing();
        assert!(lines_now(&mut lines).is_empty());
        add(b"a\nhal");
        assert_eq!(lines_now(&mut lines), ["a at 0"]);
        assert_eq!((lines.position(), lines.read_to()), (2, 5));
        assert!(lines_now(&mut lines).is_empty());
        add(b"f\ntwo\nx");
        assert_eq!(lines_now(&mut lines), ["half at 2", "two at 7"]);

        // The same content in another file, from the beginning of the line.
        let moved = Grows::default();
        moved.0.borrow_mut().extend_from_slice(b"xyz\n");
        lines.replace(moved.clone());
        assert_eq!(lines_now(&mut lines), ["xyz at 11"]);

        // A line over the limit, in pieces.
        let before = 15;
        for _ in 0..3 {
            moved.0.borrow_mut().extend_from_slice(&vec![b'l'; BLOCK]);
            assert!(lines_now(&mut lines).is_empty());
            assert_eq!(lines.position(), before);
        }
        moved.0.borrow_mut().extend_from_slice(b"l\nb\nrest");
        let after = before + 3 * BLOCK as u64 + 2;
        assert_eq!(lines_now(&mut lines), [format!("TooLong({before})"), format!("b at {after}")]);

        lines.stop_growing();
        assert_eq!(lines_now(&mut lines), [format!("{:?}", Line::Unended(b"rest", after + 2))]);
    }
}
