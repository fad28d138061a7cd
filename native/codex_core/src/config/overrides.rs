//! Values of `-c key=value`.

use toml_edit::Document;

use super::parse::parse;
use super::value::{Node, Table, Value};

/// A key of more segments than this is refused: each of them is a level.
pub const MAX_SEGMENTS: usize = 256;

/// Why an override cannot be taken. Each holds the whole argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideError {
    /// There is no equals sign.
    MissingEquals(String),
    /// Nothing stands before the equals sign.
    EmptyKey(String),
    /// Its key has more than [`MAX_SEGMENTS`] segments.
    TooDeep(String),
}

/// The layer that these overrides make, as the CLI reads them: the key is split at every dot,
/// quotes or not; what is no TOML value is a string as it stands; a later one wins, and a table
/// replaces what earlier ones put there.
pub fn overrides(arguments: &[String]) -> Result<Node, OverrideError> {
    let mut root = Table::new();
    for argument in arguments {
        let (key, value) = argument
            .split_once('=')
            .ok_or_else(|| OverrideError::MissingEquals(argument.clone()))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(OverrideError::EmptyKey(argument.clone()));
        }
        if key.split('.').count() > MAX_SEGMENTS {
            return Err(OverrideError::TooDeep(argument.clone()));
        }
        put(&mut root, key, override_value(value.trim()));
    }
    Ok(Node::new(Value::Table(root)))
}

fn put(mut table: &mut Table, key: &str, value: Value) {
    let mut segments = key.split('.').peekable();
    while let Some(segment) = segments.next() {
        if segments.peek().is_none() {
            table.insert(segment.to_owned(), Node::new(value));
            return;
        }
        let node = table
            .entry(segment.to_owned())
            .or_insert_with(|| Node::new(Value::Table(Table::new())));
        if node.table().is_none() {
            node.value = Value::Table(Table::new());
        }
        let Value::Table(below) = &mut node.value else { return };
        table = below;
    }
}

/// The value that a text stands for: TOML, else the text without quotes around it.
pub fn override_value(text: &str) -> Value {
    let line = format!("_x_ = {text}");
    // One key and nothing else: a text with a newline could bring further keys.
    let single =
        Document::parse(line.as_str()).is_ok_and(|document| document.as_table().len() == 1);
    let parsed = if single { parse(line.as_bytes()).ok() } else { None };
    match parsed.map(|node| node.value) {
        Some(Value::Table(mut table)) => match table.remove("_x_") {
            Some(node) => without_places(node).value,
            None => raw(text),
        },
        _ => raw(text),
    }
}

fn raw(text: &str) -> Value {
    Value::String(text.trim_matches(|quote| quote == '"' || quote == '\'').to_owned())
}

fn without_places(mut node: Node) -> Node {
    node.value = match node.value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_places).collect()),
        Value::Table(table) => {
            Value::Table(table.into_iter().map(|(key, node)| (key, without_places(node))).collect())
        }
        other => other,
    };
    Node::new(node.value)
}
