//! Values that one dialect writes in another form than the others.
//!
//! A value of an unexpected form stays as it is.

use std::borrow::Cow;

use crate::dialect::{Dialect, Key, Value};
use crate::sink::Tree;

/// The texts of a list of objects.
pub(crate) fn text<S: Tree>(sink: &mut S, value: S::Term) -> S::Term {
    let mut parts = Vec::new();
    if !sink.elements(value, &mut parts) {
        return value;
    }
    let mut text = Vec::new();
    for part in parts {
        if let Some(piece) = member(sink, part, b"text") {
            text.extend_from_slice(sink.text(piece).unwrap_or_default());
        }
    }
    sink.string(&text)
}

/// Words as a shell takes them.
pub(crate) fn command<S: Tree>(sink: &mut S, value: S::Term) -> S::Term {
    let mut words = Vec::new();
    if !sink.elements(value, &mut words) {
        return value;
    }
    let mut line = String::new();
    for (at, word) in words.into_iter().enumerate() {
        let Some(word) = sink.text(word) else { return value };
        if at > 0 {
            line.push(' ');
        }
        line.push_str(&quoted(&String::from_utf8_lossy(word)));
    }
    sink.string(line.as_bytes())
}

/// A word in quotes if a shell would take it for something else.
fn quoted(word: &str) -> Cow<'_, str> {
    // A word with a null byte has no form in a shell; it is only shown.
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}

/// The path of a `file` URL.
pub(crate) fn place<S: Tree>(sink: &mut S, value: S::Term) -> S::Term {
    let Some(path) = sink.text(value).and_then(|url| url.strip_prefix(b"file://")) else {
        return value;
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                decoded.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    sink.string(String::from_utf8_lossy(&decoded).as_bytes())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// Milliseconds of a duration.
pub(crate) fn millis<S: Tree>(sink: &mut S, value: S::Term) -> S::Term {
    let part = |name: &[u8]| member(sink, value, name).and_then(|part| sink.integer(part));
    match (part(b"secs"), part(b"nanos")) {
        (Some(secs), Some(nanos)) => {
            sink.int(secs.saturating_mul(1000).saturating_add(nanos / 1_000_000))
        }
        _ => value,
    }
}

/// States of agents: a word, or an object of a word and its message.
pub(crate) fn states<S: Tree>(sink: &mut S, value: S::Term) -> S::Term {
    let mut agents = Vec::new();
    if !sink.members(value, &mut agents) {
        return value;
    }
    let (mut ids, mut states) = (Vec::new(), Vec::new());
    for (id, state) in agents {
        let mut members = Vec::new();
        let (status, message) = match sink.members(state, &mut members) {
            false => (state, sink.null()),
            true => match members[..] {
                [(status, message)] => (status, message),
                _ => return value,
            },
        };
        let names = [sink.string(b"message"), sink.string(b"status")];
        ids.push(id);
        states.push(sink.map(&names, &[message, status]));
    }
    sink.map(&ids, &states)
}

/// Changes of files. The record has the keys of a change and the words of its kind.
pub(crate) fn changes<S: Tree>(
    sink: &mut S,
    dialect: &Dialect,
    (keys, values): (&[Key], &[Value]),
    value: S::Term,
) -> S::Term {
    let mut files = Vec::new();
    let names: Vec<S::Term> = keys
        .iter()
        .filter_map(|key| if let Key::Name(name) = key { Some(sink.name(*name)) } else { None })
        .collect();
    if names.len() != 4 || !sink.members(value, &mut files) {
        return value;
    }
    files.sort_by(|(one, _), (other, _)| sink.text(*one).cmp(&sink.text(*other)));
    let mut list = Vec::with_capacity(files.len());
    for (path, change) in files {
        let null = sink.null();
        let kind = member(sink, change, b"type").unwrap_or(null);
        let moved = member(sink, change, b"move_path").unwrap_or(null);
        let diff = member(sink, change, b"content")
            .or_else(|| member(sink, change, b"unified_diff"))
            .unwrap_or(null);
        let diff = with_move(sink, diff, moved);
        let kind = word(sink, dialect, values.get(1), kind);
        list.push(sink.map(&names, &[path, kind, diff, moved]));
    }
    sink.list(&list)
}

/// The app-server adds the new path to the diff.
fn with_move<S: Tree>(sink: &mut S, diff: S::Term, moved: S::Term) -> S::Term {
    let (Some(text), Some(path)) = (sink.text(diff), sink.text(moved)) else { return diff };
    let text = [text, b"\n\nMoved to: ", path].concat();
    sink.string(&text)
}

fn word<S: Tree>(sink: &mut S, dialect: &Dialect, value: Option<&Value>, word: S::Term) -> S::Term {
    let Some(Value::Enum(values)) = value else { return word };
    let names = dialect.enums.get(usize::from(*values));
    let name = sink.text(word).and_then(|text| names.and_then(|names| names.get(text).copied()));
    name.map_or(word, |name| sink.name(name))
}

fn member<S: Tree>(sink: &S, object: S::Term, name: &[u8]) -> Option<S::Term> {
    let mut members = Vec::new();
    sink.members(object, &mut members);
    let found = members.into_iter().rev().find(|(key, _)| sink.text(*key) == Some(name));
    found.map(|(_, value)| value).filter(|value| !sink.is_null(*value))
}
