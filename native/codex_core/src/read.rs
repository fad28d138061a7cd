//! Reads an object by its row of a [`Dialect`].

use crate::convert;
use crate::dialect::{Dialect, Keep, Key, Member, Place, Selected, Shape, TooLong, Value};
use crate::schema::MAX_FIELDS;
use crate::sink::Tree;

/// Longer strings are not words of a protocol.
const LONGEST_WORD: usize = 64;

pub(crate) struct Reader<'r, S: Tree> {
    dialect: &'r Dialect,
    sink: &'r mut S,
    /// How many members and elements may still be looked at.
    work: u64,
    /// Members of the objects that are being read, the innermost last.
    members: Vec<(S::Term, S::Term)>,
    keys: Vec<S::Term>,
    values: Vec<S::Term>,
}

/// The fields of an object, as far as they were found.
struct Found<T> {
    terms: [T; MAX_FIELDS],
    ranks: [u8; MAX_FIELDS],
    seen: u64,
}

impl<T: Copy> Found<T> {
    fn new(null: T) -> Found<T> {
        Found { terms: [null; MAX_FIELDS], ranks: [u8::MAX; MAX_FIELDS], seen: 0 }
    }

    fn put(&mut self, place: Place, term: T) {
        let slot = usize::from(place.slot);
        if self.seen & 1 << slot == 0 || place.rank <= self.ranks[slot] {
            (self.terms[slot], self.ranks[slot]) = (term, place.rank);
            self.seen |= 1 << slot;
        }
    }
}

type Read<T> = Result<T, TooLong>;

impl<'r, S: Tree> Reader<'r, S> {
    pub(crate) fn new(dialect: &'r Dialect, sink: &'r mut S, work: u64) -> Self {
        let members = Vec::with_capacity(32);
        Reader { dialect, sink, work, members, keys: Vec::new(), values: Vec::with_capacity(16) }
    }

    pub(crate) fn event(
        mut self,
        wire_type: &[u8],
        object: S::Term,
        typed: bool,
    ) -> Read<Option<S::Term>> {
        let dialect = self.dialect;
        let Some(rows) = dialect.unions.first().and_then(|events| events.get(wire_type)) else {
            return Ok(None);
        };
        match self.open(object)? {
            true => self.variant(rows, 0, typed),
            false => Ok(None),
        }
    }

    /// Puts the members of an object on the stack; returns false for any other value.
    fn open(&mut self, value: S::Term) -> Read<bool> {
        let before = self.members.len();
        let is_object = self.sink.members(value, &mut self.members);
        self.spend(self.members.len() - before)?;
        Ok(is_object)
    }

    fn spend(&mut self, work: usize) -> Read<()> {
        self.work = self.work.checked_sub(work as u64).ok_or(TooLong)?;
        Ok(())
    }

    /// The object whose members stand on the stack from `base` on, by the first row whose condition
    /// holds.
    fn variant(&mut self, rows: &'r [Selected], base: usize, typed: bool) -> Read<Option<S::Term>> {
        for row in rows {
            if self.holds(row, base)? {
                return self.row(row, base, typed);
            }
        }
        Ok(None)
    }

    fn holds(&mut self, row: &Selected, base: usize) -> Read<bool> {
        let Some((path, text)) = &row.when else { return Ok(true) };
        let top = self.members.len();
        let (first, rest) = path;
        let mut found = self.member(base, first.as_bytes());
        if let (Some(name), Some(object)) = (rest, found) {
            self.open(object)?;
            found = self.member(top, name.as_bytes());
        }
        self.members.truncate(top);
        Ok(found.and_then(|value| self.sink.text(value)) == Some(text.as_bytes()))
    }

    fn member(&self, base: usize, name: &[u8]) -> Option<S::Term> {
        let members = self.members.iter().skip(base);
        members.rev().find(|(key, _)| self.sink.text(*key) == Some(name)).map(|(_, value)| *value)
    }

    fn row(&mut self, row: &'r Selected, base: usize, typed: bool) -> Read<Option<S::Term>> {
        let (keys, values) = (self.keys.len(), self.values.len());
        let null = self.sink.null();
        let mut found = Found::new(null);
        self.fill(&row.shape, base, typed, &mut found)?;
        let extra = match self.keys.len() > keys {
            true => self.sink.map(&self.keys[keys..], &self.values[values..]),
            false => null,
        };
        self.keys.truncate(keys);
        self.values.truncate(values);
        if row.shape.required & !found.seen != 0 {
            return Ok(None);
        }
        for (slot, value) in row.shape.values.iter().enumerate() {
            let seen = found.seen & 1 << slot != 0;
            match self.value(*value, seen.then_some(found.terms[slot]))? {
                Some(term) => self.values.push(term),
                None => {
                    self.values.truncate(values);
                    return Ok(None);
                }
            }
        }
        let variant = self.sink.variant(row.tag, &self.values[values..], extra);
        self.values.truncate(values);
        Ok(Some(variant))
    }

    /// Takes the members from `base` on off the stack: into fields, or to the keys and values of
    /// `extra`. The type of a `typed` object is neither.
    fn fill(
        &mut self,
        shape: &Shape,
        base: usize,
        typed: bool,
        found: &mut Found<S::Term>,
    ) -> Read<()> {
        let top = self.members.len();
        for at in base..top {
            let (key, value) = self.members[at];
            let name = self.sink.text(key).unwrap_or_default();
            match shape.members.get(name).copied() {
                Some(Member::Field(place)) => found.put(place, value),
                Some(Member::Open(at)) => self.inner(shape, at, (key, value), found)?,
                None if typed && name == b"type" => {}
                None => self.left_over(key, value),
            }
        }
        self.members.truncate(base);
        Ok(())
    }

    fn inner(
        &mut self,
        shape: &Shape,
        at: u8,
        (key, value): (S::Term, S::Term),
        found: &mut Found<S::Term>,
    ) -> Read<()> {
        let opened = &shape.opened[usize::from(at)];
        let (base, left) = (self.members.len(), self.keys.len());
        let (before, is_object) = (found.seen, self.open(value)?);
        for at in base..self.members.len() {
            let (key, value) = self.members[at];
            match opened.members.get(self.sink.text(key).unwrap_or_default()) {
                Some(place) => found.put(*place, value),
                None if opened.keep == Keep::Rest => self.left_over(key, value),
                None => {}
            }
        }
        self.members.truncate(base);
        match opened.itself {
            Some(place) if found.seen == before => {
                let dropped = self.keys.len() - left;
                self.keys.truncate(left);
                self.values.truncate(self.values.len() - dropped);
                found.put(place, value);
            }
            None if !is_object || opened.keep == Keep::Whole => self.left_over(key, value),
            _ => {}
        }
        Ok(())
    }

    fn left_over(&mut self, key: S::Term, value: S::Term) {
        self.keys.push(key);
        self.values.push(value);
    }

    /// Nothing means that the object is not of its row.
    fn value(&mut self, value: Value, term: Option<S::Term>) -> Read<Option<S::Term>> {
        let Some(term) = term else {
            return Ok(Some(match value {
                Value::Const(name) => self.sink.name(name),
                _ => self.sink.null(),
            }));
        };
        Ok(Some(match value {
            Value::Any => term,
            Value::Const(name) => self.sink.name(name),
            Value::Enum(values) => self.word(values, term),
            Value::Union(union) => self.item(union, term)?,
            Value::Object(record) => self.record(record, term)?,
            Value::Records(record) => self.records(record, term)?,
            Value::Counts => return self.counts(term),
            Value::Text => convert::text(self.sink, term),
            Value::Command => convert::command(self.sink, term),
            Value::Place => convert::place(self.sink, term),
            Value::Millis => convert::millis(self.sink, term),
            Value::States => convert::states(self.sink, term),
            Value::Changes(record) => {
                let (keys, shape) = &self.dialect.records[usize::from(record)];
                convert::changes(self.sink, self.dialect, (keys, &shape.values), term)
            }
        }))
    }

    fn word(&mut self, values: u16, term: S::Term) -> S::Term {
        let values = &self.dialect.enums[usize::from(values)];
        let Some(text) = self.sink.text(term) else { return term };
        let mut room = [0; 2 * LONGEST_WORD];
        let changed = if self.dialect.words { snake_case(text, &mut room) } else { None };
        let word = changed.map_or(text, |length| &room[..length]);
        match (values.get(word), changed) {
            (Some(name), _) => self.sink.name(*name),
            (None, Some(length)) => self.sink.string(&room[..length]),
            (None, None) => term,
        }
    }

    fn item(&mut self, union: u16, term: S::Term) -> Read<S::Term> {
        let dialect = self.dialect;
        let base = self.members.len();
        if !self.open(term)? {
            return Ok(term);
        }
        let wire_type = self.member(base, b"type").and_then(|value| self.sink.text(value));
        let rows = wire_type.and_then(|name| dialect.unions[usize::from(union)].get(name));
        let variant = match rows {
            Some(rows) => self.variant(rows, base, true)?,
            None => None,
        };
        self.members.truncate(base);
        Ok(variant.unwrap_or(term))
    }

    fn records(&mut self, record: u16, list: S::Term) -> Read<S::Term> {
        let base = self.values.len();
        if !self.sink.elements(list, &mut self.values) {
            return Ok(list);
        }
        let top = self.values.len();
        self.spend(top - base)?;
        for at in base..top {
            self.values[at] = self.record(record, self.values[at])?;
        }
        let list = self.sink.list(&self.values[base..]);
        self.values.truncate(base);
        Ok(list)
    }

    fn record(&mut self, record: u16, term: S::Term) -> Read<S::Term> {
        let dialect = self.dialect;
        let (names, shape) = &dialect.records[usize::from(record)];
        let (base, keys, values) = (self.members.len(), self.keys.len(), self.values.len());
        if !self.open(term)? {
            return Ok(term);
        }
        let null = self.sink.null();
        let mut found = Found::new(null);
        self.fill(shape, base, false, &mut found)?;
        for (slot, name) in names.iter().enumerate() {
            let seen = found.seen & 1 << slot != 0;
            let key = match name {
                Key::Name(name) => self.sink.name(*name),
                Key::Text(text) if seen => self.sink.string(text.as_bytes()),
                Key::Text(_) => continue,
            };
            let value = self.value(shape.values[slot], seen.then_some(found.terms[slot]))?;
            self.left_over(key, value.unwrap_or(null));
        }
        let map = self.sink.map(&self.keys[keys..], &self.values[values..]);
        self.keys.truncate(keys);
        self.values.truncate(values);
        Ok(map)
    }

    fn counts(&mut self, term: S::Term) -> Read<Option<S::Term>> {
        let (base, keys, values) = (self.members.len(), self.keys.len(), self.values.len());
        if !self.open(term)? {
            return Ok(self.sink.is_null(term).then_some(term));
        }
        for at in base..self.members.len() {
            let (key, value) = self.members[at];
            if self.sink.is_integer(value) {
                let key = self.snake_key(key);
                self.left_over(key, value);
            }
        }
        self.members.truncate(base);
        let map = self.sink.map(&self.keys[keys..], &self.values[values..]);
        self.keys.truncate(keys);
        self.values.truncate(values);
        Ok(Some(map))
    }

    fn snake_key(&mut self, key: S::Term) -> S::Term {
        let mut room = [0; 2 * LONGEST_WORD];
        match self.sink.text(key).and_then(|text| snake_case(text, &mut room)) {
            Some(length) => self.sink.string(&room[..length]),
            None => key,
        }
    }
}

/// Writes a word of camel case in snake case, and returns its length; nothing if it has no capital
/// or is no word.
fn snake_case(word: &[u8], room: &mut [u8; 2 * LONGEST_WORD]) -> Option<usize> {
    if word.len() > LONGEST_WORD || !word.is_ascii() || !word.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut length = 0;
    let mut before = b'_';
    for (at, &byte) in word.iter().enumerate() {
        let ends_capitals = word.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let begins = byte.is_ascii_uppercase() && (!before.is_ascii_uppercase() || ends_capitals);
        if begins && before != b'_' {
            room[length] = b'_';
            length += 1;
        }
        room[length] = byte.to_ascii_lowercase();
        length += 1;
        before = byte;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_snake_case() {
        let snake = |word: &str| {
            let mut room = [0; 2 * LONGEST_WORD];
            match snake_case(word.as_bytes(), &mut room) {
                Some(length) => String::from_utf8_lossy(&room[..length]).into_owned(),
                None => word.to_string(),
            }
        };
        for (camel, words) in [
            ("inProgress", "in_progress"),
            ("SpawnAgent", "spawn_agent"),
            ("in_progress", "in_progress"),
            ("aURLOf", "a_url_of"),
            ("sha256Sum", "sha256_sum"),
            ("x", "x"),
            ("", ""),
            ("groß", "groß"),
        ] {
            assert_eq!(snake(camel), words);
        }
        let long = "aB".repeat(LONGEST_WORD);
        assert_eq!(snake(&long), long);
        assert_eq!(snake(&"A".repeat(LONGEST_WORD)), "a".repeat(LONGEST_WORD));
    }
}
