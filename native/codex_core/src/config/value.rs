//! The tree of a configuration.

use std::collections::BTreeMap;

use crate::Sink;

/// The position of a value in its file. Line and column count from 1, columns in characters; both
/// are 0 without a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// The keys of a table, sorted.
pub type Table = BTreeMap<String, Node>;

/// A value and its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// The beginning of the value.
    pub at: Position,
    /// The beginning of its key; for an element of an array, the same as `at`.
    pub key: Position,
    /// The layer that set the value, once layers are merged.
    pub layer: usize,
}

/// The values of TOML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer of 64 signed bits.
    Integer(i64),
    /// A float, which may be infinite or no number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date, a time, or both, as it is written.
    Datetime(String),
    /// An array, also one of tables.
    Array(Vec<Node>),
    /// A table of any form.
    Table(Table),
}

impl Node {
    /// A value that stands in no file.
    pub fn new(value: Value) -> Self {
        Node { value, at: Position::default(), key: Position::default(), layer: 0 }
    }

    /// The table that this is, if it is one.
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns the value at `path`; an element of an array has its index, counted from 0, as its
    /// key.
    pub fn get(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| match &node.value {
            Value::Table(table) => table.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Names the value as serde does: ``integer `3` ``, `string "x"`, `map`.
    pub fn found(&self) -> String {
        match &self.value {
            Value::String(text) => format!("string {text:?}"),
            Value::Integer(value) => format!("integer `{value}`"),
            Value::Float(value) if value.fract() == 0.0 => format!("floating point `{value:.1}`"),
            Value::Float(value) => format!("floating point `{value}`"),
            Value::Boolean(value) => format!("boolean `{value}`"),
            Value::Datetime(_) | Value::Table(_) => "map".to_owned(),
            Value::Array(_) => "sequence".to_owned(),
        }
    }
}

/// Builds the value with a sink. Dates are strings; infinite floats and NaN are the strings that
/// TOML has for them.
pub fn build<S: Sink>(node: &Node, sink: &mut S) -> S::Term {
    match &node.value {
        Value::String(text) | Value::Datetime(text) => sink.string(text.as_bytes()),
        Value::Integer(value) => sink.int(*value),
        Value::Float(value) if value.is_finite() => sink.float(*value),
        Value::Float(value) if value.is_nan() => sink.string(b"nan"),
        Value::Float(value) => sink.string(if *value > 0.0 { b"inf" } else { b"-inf" }),
        Value::Boolean(value) => sink.bool(*value),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| build(item, sink)).collect();
            sink.list(&items)
        }
        Value::Table(table) => {
            let (mut keys, mut values) =
                (Vec::with_capacity(table.len()), Vec::with_capacity(table.len()));
            for (key, node) in table {
                keys.push(sink.key(key.as_bytes()));
                values.push(build(node, sink));
            }
            sink.map(&keys, &values)
        }
    }
}
