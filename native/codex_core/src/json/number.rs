//! Numbers: integers of any size that is sensible, and floats.

use super::{Fault, MAX_DIGITS, Parsed, Parser, work};
use crate::sink::Sink;

impl<S: Sink> Parser<'_, S> {
    pub(super) fn number(&mut self) -> Parsed<S::Term> {
        let start = self.pos;
        let negative = self.peek() == Some(b'-');
        self.pos += usize::from(negative);
        let first = self.pos;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.pos += 1;
        }
        let digits = self.pos - first;
        if digits == 0 || (digits > 1 && self.buf[first] == b'0') {
            return Err(if digits == 0 && self.unexpected() == Fault::Eof {
                Fault::Eof
            } else {
                Fault::Number
            });
        }
        if let Some(b'.' | b'e' | b'E') = self.peek() {
            return self.float(start);
        }
        // 18 digits always fit; only longer ones need a second look.
        if digits <= 18 {
            return Ok(match (negative, value) {
                (true, 0) => self.sink.float(-0.0),
                (true, _) => self.sink.int(-(value as i64)),
                (false, _) => self.sink.int(value as i64),
            });
        }
        if digits > MAX_DIGITS {
            return Err(Fault::NumberRange);
        }
        self.spend(work::VALUE + digits as u64 / work::DIGITS)?;
        let text = ascii(&self.buf[start..self.pos])?;
        Ok(match text.parse::<i64>() {
            Ok(value) => self.sink.int(value),
            Err(_) => self.sink.big_int(text),
        })
    }

    fn float(&mut self, start: usize) -> Parsed<S::Term> {
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.pos += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.pos += 1;
            }
            self.digits()?;
        }
        self.spend((self.pos - start) as u64 / work::DIGITS)?;
        match ascii(&self.buf[start..self.pos])?.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(self.sink.float(value)),
            _ => Err(Fault::NumberRange),
        }
    }

    fn digits(&mut self) -> Parsed<()> {
        let first = self.pos;
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        if self.pos > first { Ok(()) } else { Err(Fault::Number) }
    }
}

fn ascii(bytes: &[u8]) -> Parsed<&str> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Number)
}
