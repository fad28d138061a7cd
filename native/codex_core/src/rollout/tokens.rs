//! Tokens of model calls.

use serde::Deserialize;

/// Tokens by the names of the CLI. Cached tokens are part of the input, reasoning is part of the
/// output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// All input.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Input from the cache.
    #[serde(rename = "cached_input_tokens")]
    pub cached: u64,
    /// Input that was written to the cache.
    #[serde(rename = "cache_write_input_tokens")]
    pub cache_write: u64,
    /// All output.
    #[serde(rename = "output_tokens")]
    pub output: u64,
    /// Output that was reasoning.
    #[serde(rename = "reasoning_output_tokens")]
    pub reasoning: u64,
}

impl Tokens {
    /// Adds the tokens of another call.
    pub fn add(&mut self, other: &Tokens) {
        for (sum, more) in self.parts().into_iter().zip(other.values()) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Whether no token was counted.
    pub fn is_zero(&self) -> bool {
        *self == Tokens::default()
    }

    /// The numbers: input, cached, cache_write, output, reasoning.
    pub fn values(&self) -> [u64; 5] {
        [self.input, self.cached, self.cache_write, self.output, self.reasoning]
    }

    fn parts(&mut self) -> [&mut u64; 5] {
        let Tokens { input, cached, cache_write, output, reasoning } = self;
        [input, cached, cache_write, output, reasoning]
    }

    /// Reads an object of plain numbers at the beginning of `text`. Nothing for anything else,
    /// which a JSON parser has to read.
    pub(crate) fn read(text: &[u8]) -> Option<Tokens> {
        let mut tokens = Tokens::default();
        let mut rest = text.strip_prefix(b"{")?;
        loop {
            rest = rest.strip_prefix(b"\"")?;
            let length = memchr::memchr(b'"', rest)?;
            let (key, after) = rest.split_at(length);
            let digits = after.strip_prefix(b"\":")?;
            let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            // 19 digits fit 64 bits.
            if count == 0 || count > 19 {
                return None;
            }
            let (digits, after) = digits.split_at(count);
            let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            match key {
                b"input_tokens" => tokens.input = number,
                b"cached_input_tokens" => tokens.cached = number,
                b"cache_write_input_tokens" => tokens.cache_write = number,
                b"output_tokens" => tokens.output = number,
                b"reasoning_output_tokens" => tokens.reasoning = number,
                _ => {}
            }
            match after.split_first()? {
                (b',', more) => rest = more,
                (b'}', _) => return Some(tokens),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tokens;

    #[test]
    fn plain_objects_are_read_as_a_parser_does() {
        let text =
            r#"{"input_tokens":10,"cached_input_tokens":4,"total_tokens":15,"output_tokens":5}"#;
        let quick = Tokens::read(format!("{text},more").as_bytes()).expect("plain");
        assert_eq!(quick, serde_json::from_str(text).expect("JSON"));
        assert_eq!(quick.values(), [10, 4, 0, 5, 0]);
    }

    #[test]
    fn other_forms_are_left_to_a_parser() {
        for text in ["{}", "{\"a\": 1}", "{\"a\":-1}", "{\"a\":1.5}", "{\"a\":1", "null", "{\"a\":"]
        {
            assert_eq!(Tokens::read(text.as_bytes()), None, "{text}");
        }
    }
}
