//! A sink that builds `serde_json` values, so that results can be compared with anything.
#![allow(dead_code)]

use std::cell::RefCell;

use codex_core::{Decoder, Fault, Progress, Schema, Sink, Tree};
use serde_json::{Map, Value, json};

/// Terms are indexes into the values that were built so far.
#[derive(Default)]
pub struct ValueSink {
    built: RefCell<Vec<Value>>,
}

impl ValueSink {
    pub fn take(&self, term: usize) -> Value {
        self.built.borrow()[term].clone()
    }

    pub fn put(&self, value: Value) -> usize {
        let mut built = self.built.borrow_mut();
        built.push(value);
        built.len() - 1
    }
}

impl Sink for ValueSink {
    type Term = usize;

    fn null(&mut self) -> usize {
        self.put(Value::Null)
    }
    fn bool(&mut self, value: bool) -> usize {
        self.put(value.into())
    }
    fn int(&mut self, value: i64) -> usize {
        self.put(value.into())
    }
    fn big_int(&mut self, digits: &str) -> usize {
        self.put(serde_json::from_str(digits).expect("digits are JSON"))
    }
    fn float(&mut self, value: f64) -> usize {
        assert!(value.is_finite());
        self.put(value.into())
    }
    fn string(&mut self, text: &[u8]) -> usize {
        self.put(std::str::from_utf8(text).expect("strings are UTF-8").into())
    }
    fn key(&mut self, text: &[u8]) -> usize {
        self.string(text)
    }
    fn list(&mut self, items: &[usize]) -> usize {
        self.put(items.iter().map(|&item| self.take(item)).collect())
    }
    fn map(&mut self, keys: &[usize], values: &[usize]) -> usize {
        let members = keys.iter().zip(values).map(|(&key, &value)| match self.take(key) {
            Value::String(key) => (key, self.take(value)),
            other => panic!("key {other}"),
        });
        self.put(Value::Object(members.collect::<Map<_, _>>()))
    }
    fn name(&mut self, name: u32) -> usize {
        self.put(format!("name {name}").into())
    }
    fn variant(&mut self, tag: u32, fields: &[usize], extra: usize) -> usize {
        let fields: Vec<_> = fields.iter().map(|&field| self.take(field)).collect();
        self.put(json!({ "tag": tag, "fields": fields, "extra": self.take(extra) }))
    }
    fn line(&mut self, value: usize, known: bool, lossy: bool) -> usize {
        self.put(json!({ "line": self.take(value), "known": known, "lossy": lossy }))
    }
    fn rejected(&mut self, line: &[u8], fault: Fault, at: usize) -> usize {
        assert!(at <= line.len() + 1, "{fault:?} at {at} of {}", line.len());
        self.put(json!({ "rejected": line, "fault": format!("{fault:?}") }))
    }
    fn oversized(&mut self, size: u64) -> usize {
        self.put(json!({ "oversized": size }))
    }
    fn overfull(&mut self, limit: u64, size: u64) -> usize {
        self.put(json!({ "overfull": limit, "size": size }))
    }
}

impl Tree for ValueSink {
    fn members(&self, value: usize, out: &mut Vec<(usize, usize)>) -> bool {
        let Value::Object(members) = self.take(value) else { return false };
        out.extend(members.into_iter().map(|(key, value)| (self.put(key.into()), self.put(value))));
        true
    }
    fn elements(&self, value: usize, out: &mut Vec<usize>) -> bool {
        let Value::Array(items) = self.take(value) else { return false };
        out.extend(items.into_iter().map(|item| self.put(item)));
        true
    }
    fn text(&self, value: usize) -> Option<&[u8]> {
        // Leaked: a test does not live long.
        match self.take(value) {
            Value::String(text) => Some(text.leak().as_bytes()),
            _ => None,
        }
    }
    fn is_null(&self, value: usize) -> bool {
        self.take(value).is_null()
    }
    fn integer(&self, value: usize) -> Option<i64> {
        self.take(value).as_i64()
    }

    fn is_integer(&self, value: usize) -> bool {
        self.take(value).is_i64()
    }
}

/// Feeds the pieces one by one, as a pipe would, and finishes.
pub fn decode<'p>(
    schema: &Schema,
    max_line: usize,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<Value> {
    decode_limited(schema, max_line, u64::MAX, pieces)
}

/// The same with a limit on nodes.
pub fn decode_limited<'p>(
    schema: &Schema,
    max_line: usize,
    max_nodes: u64,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<Value> {
    let mut decoder = Decoder::new(max_line, max_nodes);
    let mut sink = ValueSink::default();
    let mut out = Vec::new();
    for piece in pieces {
        let (mut at, mut long) = (0, false);
        loop {
            match decoder.feed(schema, &mut sink, piece, at, long, &mut out) {
                Progress::Done => break,
                Progress::More(next) => {
                    assert!(next > at, "no progress");
                    (at, long) = (next, false);
                }
                Progress::Long(next) => {
                    assert!(!long, "asked twice");
                    (at, long) = (next, true);
                }
            }
        }
    }
    decoder.finish(schema, &mut sink, &mut out);
    assert_eq!(decoder.pending(), 0);
    out.into_iter().map(|line| sink.take(line)).collect()
}
