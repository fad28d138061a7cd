//! The destination of decoded values.

use crate::Fault;

/// Builds the values that a parser finds. A term is `Copy`: a handle, not the value itself.
///
/// The names in `list`, `map`, `record` and `variant` are those of a [`Schema`](crate::Schema).
pub trait Sink {
    /// A handle to a built value.
    type Term: Copy;

    /// JSON null, and a field of a variant that the line does not have.
    fn null(&mut self) -> Self::Term;
    /// JSON true or false.
    fn bool(&mut self, value: bool) -> Self::Term;
    /// A number without fraction and exponent that fits 64 signed bits.
    fn int(&mut self, value: i64) -> Self::Term;
    /// Such a number beyond that: an optional minus sign and at most
    /// [`MAX_DIGITS`](crate::MAX_DIGITS) digits.
    fn big_int(&mut self, digits: &str) -> Self::Term;
    /// Any other number; always finite.
    fn float(&mut self, value: f64) -> Self::Term;
    /// A string, unescaped; always valid UTF-8.
    fn string(&mut self, text: &[u8]) -> Self::Term;
    /// The key of an object outside the schema; unescaped, valid UTF-8.
    fn key(&mut self, text: &[u8]) -> Self::Term;
    /// An array.
    fn list(&mut self, items: &[Self::Term]) -> Self::Term;
    /// An object outside the schema. Keys may repeat: the last one wins.
    fn map(&mut self, keys: &[Self::Term], values: &[Self::Term]) -> Self::Term;
    /// A name of the schema: an enum value or the field of a record.
    fn name(&mut self, name: u32) -> Self::Term;
    /// An object of a union whose type is known: `fields` in the order of the variant, null if
    /// absent, and `extra`, a map of the members that the variant does not name (null if there are
    /// no such members).
    fn variant(&mut self, tag: u32, fields: &[Self::Term], extra: Self::Term) -> Self::Term;

    /// One whole line, decoded. `known`: it became a variant of the root union. `lossy`: invalid
    /// UTF-8 or lone surrogates were replaced by U+FFFD.
    fn line(&mut self, value: Self::Term, known: bool, lossy: bool) -> Self::Term;
    /// A line that is not JSON, with its bytes, the fault, and the byte of the line at which it was
    /// found.
    fn rejected(&mut self, line: &[u8], fault: Fault, at: usize) -> Self::Term;
    /// A line over the byte budget; only its size is known.
    fn oversized(&mut self, size: u64) -> Self::Term;
    /// A line of more nodes than `limit`, and its size.
    fn overfull(&mut self, limit: u64, size: u64) -> Self::Term;
}

/// Looks into values that are built already, by this sink or another one of the same kind.
pub trait Tree: Sink {
    /// Appends the members of an object; returns false for any other value.
    fn members(&self, value: Self::Term, out: &mut Vec<(Self::Term, Self::Term)>) -> bool;
    /// Appends the elements of an array; returns false for any other value.
    fn elements(&self, value: Self::Term, out: &mut Vec<Self::Term>) -> bool;
    /// The bytes of a string.
    fn text(&self, value: Self::Term) -> Option<&[u8]>;
    /// Whether the value is null.
    fn is_null(&self, value: Self::Term) -> bool;
    /// Whether the value is an integer.
    fn is_integer(&self, value: Self::Term) -> bool;
    /// An integer of 64 signed bits.
    fn integer(&self, value: Self::Term) -> Option<i64>;
}

/// Builds nothing: only the cost of parsing remains.
#[derive(Debug, Default, Clone, Copy)]
pub struct NullSink;

impl Sink for NullSink {
    type Term = ();

    fn null(&mut self) {}
    fn bool(&mut self, value: bool) {
        std::hint::black_box(value);
    }
    fn int(&mut self, value: i64) {
        std::hint::black_box(value);
    }
    fn big_int(&mut self, digits: &str) {
        std::hint::black_box(digits);
    }
    fn float(&mut self, value: f64) {
        std::hint::black_box(value);
    }
    fn string(&mut self, text: &[u8]) {
        std::hint::black_box(text);
    }
    fn key(&mut self, text: &[u8]) {
        std::hint::black_box(text);
    }
    fn list(&mut self, items: &[()]) {
        std::hint::black_box(items.len());
    }
    fn map(&mut self, keys: &[()], _values: &[()]) {
        std::hint::black_box(keys.len());
    }
    fn name(&mut self, name: u32) {
        std::hint::black_box(name);
    }
    fn variant(&mut self, tag: u32, fields: &[()], _extra: ()) {
        std::hint::black_box((tag, fields.len()));
    }
    fn line(&mut self, _value: (), known: bool, lossy: bool) {
        std::hint::black_box((known, lossy));
    }
    fn rejected(&mut self, line: &[u8], fault: Fault, at: usize) {
        std::hint::black_box((line, fault, at));
    }
    fn oversized(&mut self, size: u64) {
        std::hint::black_box(size);
    }
    fn overfull(&mut self, limit: u64, size: u64) {
        std::hint::black_box((limit, size));
    }
}
