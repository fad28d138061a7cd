//! The parser: one pass, no tree, values handed to a [`Sink`] as they end.
//!
//! It reads strict JSON (RFC 8259). Text is UTF-8 already when it comes here; [`crate::Decoder`]
//! sees to that.

mod number;
mod string;

use crate::schema::{Kind, MAX_FIELDS, Record, Schema, Union};
use crate::sink::Sink;

/// How deep arrays and objects may nest. Codex itself reads at most 128 levels.
pub const MAX_DEPTH: u32 = 256;

/// How many digits an integer may have: converting to binary takes the square of their number.
pub const MAX_DIGITS: usize = 1024;

/// The costs of parsing. A unit is the time for a byte of escapes, some nanoseconds; the weights
/// are worst cases that `bench/calls` found, with BEAM terms and a process that has no heap left.
pub(crate) mod work {
    /// One escape inside a string.
    pub(crate) const ESCAPE: u64 = 1;
    /// Any value.
    pub(crate) const VALUE: u64 = 6;
    /// A key that the schema does not know.
    pub(crate) const KEY: u64 = 8;
    /// An object, beside its members.
    pub(crate) const OBJECT: u64 = 8;
    /// The same once more for a map that is large enough to be a tree.
    pub(crate) const KEY_OF_LARGE: u64 = 10;
    /// More keys than this make a map large.
    pub(crate) const LARGE: usize = 32;
    /// A digit of a number that needs more than machine arithmetic: a half.
    pub(crate) const DIGITS: u64 = 2;
    /// A line, whatever it holds.
    pub(crate) const LINE: u64 = 12;
}

/// Why some bytes are not JSON that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends in the middle of a value.
    Eof,
    /// A byte that cannot stand there.
    Syntax,
    /// Something follows the value.
    Trailing,
    /// A control character inside a string: it must be escaped.
    Control,
    /// An unknown escape, or `\u` without four hexadecimal digits.
    Escape,
    /// A number that is not JSON: a leading zero or plus sign, no digit after the point.
    Number,
    /// A number that is JSON but beyond a 64 bit float, or an integer of over [`MAX_DIGITS`]
    /// digits.
    NumberRange,
    /// Nesting beyond [`MAX_DEPTH`].
    Depth,
    /// Not UTF-8.
    Utf8,
    /// More nodes than allowed.
    Nodes,
}

/// Parses one whole JSON document without a schema; white space around it is allowed.
///
/// `max_nodes` bounds its values and keys: bytes alone do not bound the memory of what a sink
/// makes. An empty object has three bytes, and takes over a hundred as a BEAM term; a short key
/// takes several hundred.
///
/// Fails with the fault, and the byte at which it was found.
pub fn parse_document<S: Sink>(
    sink: &mut S,
    document: &[u8],
    max_nodes: u64,
) -> Result<S::Term, (Fault, usize)> {
    if let Err(error) = simdutf8::compat::from_utf8(document) {
        return Err((Fault::Utf8, error.valid_up_to()));
    }
    let schema = Schema::default();
    let mut scratch = Vec::new();
    let mut parser = Parser::new(&schema, sink, document, &mut scratch);
    parser.newline_is_space = true;
    parser.nodes = max_nodes;
    match parser.document() {
        Ok(value) => Ok(value),
        Err(fault) => Err((fault, parser.pos)),
    }
}

/// A string that was read: a piece of the input, or unescaped into the scratch buffer.
#[derive(Clone, Copy)]
enum Text {
    Plain(usize, usize),
    Unescaped(usize),
}

/// The fields of a union that were seen so far: their values, and the beginnings of their keys.
struct Frame<T> {
    terms: [T; MAX_FIELDS],
    key_at: [usize; MAX_FIELDS],
}

pub(crate) struct Parser<'p, S: Sink> {
    schema: &'p Schema,
    sink: &'p mut S,
    buf: &'p [u8],
    scratch: &'p mut Vec<u8>,
    /// The position of the next byte; after a fault, the position of the fault.
    pub(crate) pos: usize,
    /// A lone surrogate was replaced since the caller last looked.
    pub(crate) lossy: bool,
    /// How much more [`work`] may be done.
    pub(crate) left: u64,
    /// How many more nodes there may be.
    pub(crate) nodes: u64,
    /// There was more to do than that: the fault that was returned means nothing.
    pub(crate) exhausted: bool,
    newline_is_space: bool,
    keys: Vec<S::Term>,
    values: Vec<S::Term>,
    /// One for the root union, one for the union inside it: they do not nest deeper.
    frames: [Frame<S::Term>; 2],
}

type Parsed<T> = Result<T, Fault>;

impl<'p, S: Sink> Parser<'p, S> {
    pub(crate) fn new(
        schema: &'p Schema,
        sink: &'p mut S,
        buf: &'p [u8],
        scratch: &'p mut Vec<u8>,
    ) -> Self {
        let null = sink.null();
        let frame = || Frame { terms: [null; MAX_FIELDS], key_at: [0; MAX_FIELDS] };
        Parser {
            schema,
            sink,
            buf,
            scratch,
            pos: 0,
            lossy: false,
            left: u64::MAX,
            nodes: u64::MAX,
            exhausted: false,
            newline_is_space: false,
            keys: Vec::new(),
            values: Vec::new(),
            frames: [frame(), frame()],
        }
    }

    pub(crate) fn sink(&mut self) -> &mut S {
        self.sink
    }

    /// The value of the line at `pos` and whether it is a known variant; nothing for a blank line.
    /// Leaves `pos` at the newline or at the end of the input.
    pub(crate) fn line(&mut self) -> Parsed<Option<(S::Term, bool)>> {
        self.keys.clear();
        self.values.clear();
        self.lossy = false;
        let first = self.after_space();
        if !matches!(first, None | Some(b'\n')) {
            self.spend(work::LINE)?;
        }
        let parsed = match first {
            None | Some(b'\n') => return Ok(None),
            Some(b'{') if !self.schema.unions.is_empty() => self.variant_or_map(0, MAX_DEPTH)?,
            Some(_) => (self.value(MAX_DEPTH)?, false),
        };
        match self.after_space() {
            None | Some(b'\n') => Ok(Some(parsed)),
            Some(_) => Err(Fault::Trailing),
        }
    }

    fn document(&mut self) -> Parsed<S::Term> {
        self.after_space();
        let value = self.value(MAX_DEPTH)?;
        match self.after_space() {
            None => Ok(value),
            Some(_) => Err(Fault::Trailing),
        }
    }

    #[inline(always)]
    fn spend(&mut self, work: u64) -> Parsed<()> {
        match self.left.checked_sub(work) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.exhausted = true;
                Err(Fault::Eof)
            }
        }
    }

    #[inline(always)]
    fn count(&mut self, nodes: u64) -> Parsed<()> {
        self.nodes = self.nodes.checked_sub(nodes).ok_or(Fault::Nodes)?;
        Ok(())
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.buf.get(self.pos).copied()
    }

    #[inline(always)]
    fn after_space(&mut self) -> Option<u8> {
        // Codex writes no spaces.
        match self.peek() {
            Some(byte) if byte > b' ' => Some(byte),
            _ => self.skip_space(),
        }
    }

    #[inline(never)]
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r') => self.pos += 1,
                Some(b'\n') if self.newline_is_space => self.pos += 1,
                other => return other,
            }
        }
    }

    fn unexpected(&self) -> Fault {
        match self.peek() {
            None => Fault::Eof,
            Some(b'\n') if !self.newline_is_space => Fault::Eof,
            Some(_) => Fault::Syntax,
        }
    }

    fn value(&mut self, depth: u32) -> Parsed<S::Term> {
        self.spend(work::VALUE)?;
        self.count(1)?;
        if self.peek() == Some(b'"') {
            let text = self.string()?;
            return Ok(self.sink.string(text_of(self.buf, self.scratch, text)));
        }
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth, Kind::Any),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true").map(|()| self.sink.bool(true)),
            Some(b'f') => self.literal(b"false").map(|()| self.sink.bool(false)),
            Some(b'n') => self.literal(b"null").map(|()| self.sink.null()),
            _ => Err(self.unexpected()),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Parsed<()> {
        match self.buf[self.pos..].starts_with(word) {
            true => {
                self.pos += word.len();
                Ok(())
            }
            false => Err(Fault::Syntax),
        }
    }

    /// A value of the schema; anything that does not look as the kind says is taken as it stands.
    #[inline]
    fn typed(&mut self, kind: Kind, depth: u32) -> Parsed<S::Term> {
        match (kind, self.peek()) {
            (Kind::Enum(values), Some(b'"')) => {
                let text = self.string()?;
                let text = text_of(self.buf, self.scratch, text);
                match self.schema.enums[usize::from(values)].get(text) {
                    Some(&name) => Ok(self.sink.name(name)),
                    None => Ok(self.sink.string(text)),
                }
            }
            (Kind::Union(union), Some(b'{')) => Ok(self.variant_or_map(union, depth)?.0),
            (Kind::Records(_), Some(b'[')) => {
                self.count(1)?;
                self.list(depth, kind)
            }
            _ => self.value(depth),
        }
    }

    fn list(&mut self, depth: u32, kind: Kind) -> Parsed<S::Term> {
        let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
        let base = self.values.len();
        self.pos += 1;
        if self.after_space() == Some(b']') {
            self.pos += 1;
            return Ok(self.sink.list(&[]));
        }
        let schema = self.schema;
        loop {
            let item = match (kind, self.peek()) {
                (Kind::Records(record), Some(b'{')) => {
                    self.record(&schema.records[usize::from(record)], depth)?
                }
                _ => self.value(depth)?,
            };
            self.values.push(item);
            match self.after_space() {
                Some(b',') => self.pos += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected()),
            }
            self.after_space();
        }
        self.pos += 1;
        let list = self.sink.list(&self.values[base..]);
        self.values.truncate(base);
        Ok(list)
    }

    fn map(&mut self, depth: u32) -> Parsed<S::Term> {
        self.spend(work::OBJECT)?;
        let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
        let (keys, values) = (self.keys.len(), self.values.len());
        self.pos += 1;
        let mut more = self.first_member()?;
        while more {
            self.spend(work::KEY)?;
            self.count(1)?;
            let key = self.member_key()?;
            let key = self.sink.key(text_of(self.buf, self.scratch, key));
            self.keys.push(key);
            let value = self.value(depth)?;
            self.values.push(value);
            more = self.next_member()?;
        }
        self.take_map(keys, values)
    }

    /// A map with the names of the record as keys, all of them, and unknown members under their own
    /// keys.
    fn record(&mut self, record: &'p Record, depth: u32) -> Parsed<S::Term> {
        self.spend(work::VALUE + work::OBJECT)?;
        self.count(1 + record.names.len() as u64)?;
        let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
        let (keys, values) = (self.keys.len(), self.values.len());
        for &name in &record.names {
            let (name, null) = (self.sink.name(name), self.sink.null());
            self.keys.push(name);
            self.values.push(null);
        }
        self.pos += 1;
        let mut more = self.first_member()?;
        while more {
            let key = self.member_key()?;
            let text = text_of(self.buf, self.scratch, key);
            if let Some(&(slot, kind)) = record.keys.get(text) {
                self.values[values + usize::from(slot)] = self.typed(kind, depth)?;
            } else {
                self.spend(work::KEY)?;
                self.count(1)?;
                let text = text_of(self.buf, self.scratch, key);
                let key = self.sink.key(text);
                self.keys.push(key);
                let value = self.value(depth)?;
                self.values.push(value);
            }
            more = self.next_member()?;
        }
        self.take_map(keys, values)
    }

    fn take_map(&mut self, keys: usize, values: usize) -> Parsed<S::Term> {
        let length = self.keys.len() - keys;
        if length > work::LARGE {
            self.spend(length as u64 * work::KEY_OF_LARGE)?;
        }
        let map = self.sink.map(&self.keys[keys..], &self.values[values..]);
        self.keys.truncate(keys);
        self.values.truncate(values);
        Ok(map)
    }

    /// An object of a union, and whether it is a known variant. An unknown type, or a required
    /// field that is missing, makes it a map: parsed again from its start, at most once a level.
    fn variant_or_map(&mut self, union: u16, depth: u32) -> Parsed<(S::Term, bool)> {
        self.count(1)?;
        let (start, nodes) = (self.pos, self.nodes);
        let schema = self.schema;
        let (keys, values) = (self.keys.len(), self.values.len());
        match self.variant(&schema.unions[usize::from(union)], usize::from(union.min(1)), depth)? {
            Some(found) => Ok(found),
            None => {
                self.keys.truncate(keys);
                self.values.truncate(values);
                (self.pos, self.nodes) = (start, nodes);
                Ok((self.map(depth)?, false))
            }
        }
    }

    /// The variant and true, the map of an object without a single name of the union and false, or
    /// nothing.
    fn variant(
        &mut self,
        union: &'p Union,
        frame: usize,
        depth: u32,
    ) -> Parsed<Option<(S::Term, bool)>> {
        self.spend(work::OBJECT)?;
        let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
        let (keys, values) = (self.keys.len(), self.values.len());
        let (mut typed, mut tag) = (false, None);
        let mut seen = 0u64;
        self.pos += 1;
        let mut more = self.first_member()?;
        while more {
            let key_at = self.pos;
            let key = self.member_key()?;
            let text = text_of(self.buf, self.scratch, key);
            if text == b"type" {
                typed = true;
                tag = self.type_tag(union, depth)?;
            } else if let Some(&(slot, kind)) = union.keys.get(text) {
                let slot = usize::from(slot);
                let value = self.typed(kind, depth)?;
                self.frames[frame].terms[slot] = value;
                self.frames[frame].key_at[slot] = key_at;
                seen |= 1 << slot;
            } else {
                self.spend(work::KEY)?;
                self.count(1)?;
                let text = text_of(self.buf, self.scratch, key);
                let key = self.sink.key(text);
                self.keys.push(key);
                let value = self.value(depth)?;
                self.values.push(value);
            }
            more = self.next_member()?;
        }
        let Some(tag) = tag else {
            // All was read as a map would be: a message of the app-server, for example.
            return if seen == 0 && !typed {
                Ok(Some((self.take_map(keys, values)?, false)))
            } else {
                Ok(None)
            };
        };
        let layout = &union.variants[tag as usize];
        if layout.required & !seen != 0 {
            return Ok(None);
        }

        let mut foreign = seen & !layout.known;
        while foreign != 0 {
            let slot = foreign.trailing_zeros() as usize;
            foreign &= foreign - 1;
            let (key, value) = self.reread(self.frames[frame].key_at[slot], Kind::Any, depth)?;
            self.keys.push(key);
            self.values.push(value);
        }
        let extra = match self.keys.len() > keys {
            true => self.take_map(keys, values)?,
            false => self.sink.null(),
        };

        for &(slot, kind) in &layout.fields {
            let slot = usize::from(slot);
            let value = if seen & (1 << slot) == 0 {
                self.sink.null()
            } else if kind == union.kinds[slot] {
                self.frames[frame].terms[slot]
            } else {
                self.reread(self.frames[frame].key_at[slot], kind, depth)?.1
            };
            self.values.push(value);
        }
        let variant = self.sink.variant(tag, &self.values[values..], extra);
        self.values.truncate(values);
        Ok(Some((variant, true)))
    }

    fn type_tag(&mut self, union: &'p Union, depth: u32) -> Parsed<Option<u32>> {
        if self.peek() == Some(b'"') {
            let text = self.string()?;
            Ok(union.types.get(text_of(self.buf, self.scratch, text)).copied())
        } else {
            self.value(depth)?;
            Ok(None)
        }
    }

    /// Reads a member again whose value was taken for another kind than its variant has. Its nodes
    /// were counted before.
    fn reread(&mut self, key_at: usize, kind: Kind, depth: u32) -> Parsed<(S::Term, S::Term)> {
        let end = std::mem::replace(&mut self.pos, key_at);
        let nodes = std::mem::replace(&mut self.nodes, u64::MAX);
        let key = self.member_key()?;
        let key = self.sink.key(text_of(self.buf, self.scratch, key));
        let value = self.typed(kind, depth)?;
        (self.pos, self.nodes) = (end, nodes);
        Ok((key, value))
    }

    /// Behind the opening brace: whether there is a member; `pos` is at its key then.
    #[inline(always)]
    fn first_member(&mut self) -> Parsed<bool> {
        match self.after_space() {
            Some(b'"') => Ok(true),
            Some(b'}') => {
                self.pos += 1;
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Behind a value: whether another member follows; `pos` is at its key then.
    #[inline(always)]
    fn next_member(&mut self) -> Parsed<bool> {
        match self.after_space() {
            Some(b',') => {
                self.pos += 1;
                match self.after_space() {
                    Some(b'"') => Ok(true),
                    _ => Err(self.unexpected()),
                }
            }
            Some(b'}') => {
                self.pos += 1;
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A key and the colon; `pos` is at the value then.
    #[inline(always)]
    fn member_key(&mut self) -> Parsed<Text> {
        let key = self.string()?;
        if self.after_space() != Some(b':') {
            return Err(self.unexpected());
        }
        self.pos += 1;
        self.after_space();
        Ok(key)
    }
}

#[inline(always)]
fn text_of<'t>(buf: &'t [u8], scratch: &'t [u8], text: Text) -> &'t [u8] {
    match text {
        Text::Plain(start, end) => &buf[start..end],
        Text::Unescaped(len) => &scratch[..len],
    }
}
