//! Finds the end of strings and decodes their escapes.

use super::{Fault, Parsed, Parser, Text, work};
use crate::scan::{BLOCK, find_special, special_mask};
use crate::sink::Sink;

impl<'p, S: Sink> Parser<'p, S> {
    /// `pos` is at the opening quote, and behind the closing one afterwards.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Parsed<Text> {
        let start = self.pos + 1;
        let end = find_special(self.buf, start);
        match self.buf.get(end) {
            Some(b'"') => {
                self.pos = end + 1;
                Ok(Text::Plain(start, end))
            }
            Some(b'\\') => self.escaped(start, end),
            _ => Err(self.unterminated(end)),
        }
    }

    fn unterminated(&mut self, at: usize) -> Fault {
        self.pos = at;
        match self.unexpected() {
            Fault::Eof => Fault::Eof,
            _ => Fault::Control,
        }
    }

    /// The rest of a string whose first escape is at `at`. Copies and scans in one go, block by
    /// block: bytes copied in excess behind an escape are overwritten, and the length says how much
    /// counts.
    #[inline(never)]
    fn escaped(&mut self, start: usize, mut at: usize) -> Parsed<Text> {
        let mut len = at - start;
        reserve(self.scratch, len + 3 * BLOCK);
        self.scratch[..len].copy_from_slice(&self.buf[start..at]);
        loop {
            // A block, the bytes behind its escapes, and the last escape.
            reserve(self.scratch, len + 3 * BLOCK);
            let Some(block) = self.block(at) else {
                let end = find_special(self.buf, at);
                self.scratch[len..len + end - at].copy_from_slice(&self.buf[at..end]);
                (at, len) = (end, len + end - at);
                if self.buf.get(at) != Some(&b'\\') {
                    return self.end_of_escaped(at, len);
                }
                (at, len) = self.unescape(at, len)?;
                continue;
            };
            let block_at = at;
            self.scratch[len..len + BLOCK].copy_from_slice(block);
            let mut specials = special_mask(block);
            loop {
                if specials == 0 {
                    (at, len) = (block_at + BLOCK, len + block_at + BLOCK - at);
                    break;
                }
                let special = block_at + specials.trailing_zeros() as usize;
                (at, len) = (special, len + special - at);
                if self.buf[at] != b'\\' {
                    return self.end_of_escaped(at, len);
                }
                (at, len) = self.unescape(at, len)?;
                let Some(rest) = self.block(at).filter(|_| at < block_at + BLOCK) else { break };
                self.scratch[len..len + BLOCK].copy_from_slice(rest);
                specials &= u64::MAX << (at - block_at);
            }
        }
    }

    #[inline(always)]
    fn block(&self, at: usize) -> Option<&'p [u8; BLOCK]> {
        self.buf.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>())
    }

    fn end_of_escaped(&mut self, at: usize, len: usize) -> Parsed<Text> {
        if self.buf.get(at) != Some(&b'"') {
            return Err(self.unterminated(at));
        }
        self.pos = at + 1;
        Ok(Text::Unescaped(len))
    }

    /// Writes the character of the escape at `at`; returns the next positions of input and output.
    #[inline(always)]
    fn unescape(&mut self, at: usize, len: usize) -> Parsed<(usize, usize)> {
        self.pos = at;
        self.spend(work::ESCAPE)?;
        match self.buf.get(at + 1).map_or(0, |&byte| UNESCAPED[usize::from(byte)]) {
            0 if self.buf.get(at + 1) == Some(&b'u') => self.unescape_unicode(at, len),
            0 => Err(Fault::Escape),
            byte => {
                self.scratch[len] = byte;
                Ok((at + 2, len + 1))
            }
        }
    }

    #[inline(never)]
    fn unescape_unicode(&mut self, at: usize, len: usize) -> Parsed<(usize, usize)> {
        let unit = hex4(self.buf, at + 2).ok_or(Fault::Escape)?;
        let mut next = at + 6;
        let mut code = u32::from(unit);
        if (0xd800..0xdc00).contains(&unit) && self.buf[next..].starts_with(b"\\u") {
            // A fault in the second escape is met when its turn comes.
            if let Some(low @ 0xdc00..=0xdfff) = hex4(self.buf, next + 2) {
                code = 0x10000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                next += 6;
            }
        }
        let char = char::from_u32(code).unwrap_or_else(|| {
            self.lossy = true;
            char::REPLACEMENT_CHARACTER
        });
        let written = char.encode_utf8(&mut self.scratch[len..len + 4]).len();
        Ok((next, len + written))
    }
}

/// The character of the letter behind a backslash; 0 if it needs another look. A table, because a
/// processor cannot guess which letter comes next.
const UNESCAPED: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'n' as usize] = b'\n';
    table[b't' as usize] = b'\t';
    table[b'r' as usize] = b'\r';
    table[b'b' as usize] = 0x08;
    table[b'f' as usize] = 0x0c;
    table
};

/// Grows in large steps, so that the check nearly always says no.
#[inline(always)]
fn reserve(scratch: &mut Vec<u8>, len: usize) {
    if scratch.len() < len {
        scratch.resize((len * 2).max(4096), 0);
    }
}

fn hex4(buf: &[u8], at: usize) -> Option<u16> {
    let digits = buf.get(at..at + 4)?;
    let mut value = 0u16;
    for &digit in digits {
        value = value << 4 | (digit as char).to_digit(16)? as u16;
    }
    Some(value)
}
