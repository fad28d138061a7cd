//! The version of a layer.

use sha2::{Digest, Sha256};

use super::value::{Node, Value};

/// `sha256:` and the hex digest of [`canonical`]. Comments, order and layout of the file do not
/// change it.
pub fn version(node: &Node, rewritten: bool) -> String {
    use std::fmt::Write;

    let digest = Sha256::digest(canonical(node, rewritten).as_bytes());
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Compact JSON with sorted keys and nothing escaped that need not be. In a layer that was
/// rewritten ([`prepare`](super::prepare)), a number below the top-level key `desktop` is an object
/// with its text, since that is what the CLI hashes there.
pub fn canonical(node: &Node, rewritten: bool) -> String {
    let mut text = String::new();
    match node.table() {
        Some(table) => object(table.iter(), &mut text, |key, node, text| {
            write(node, text, rewritten && key == "desktop")
        }),
        None => write(node, &mut text, false),
    }
    text
}

fn write(node: &Node, text: &mut String, wrapped: bool) {
    match &node.value {
        Value::String(value) => json(value, text),
        Value::Datetime(value) => {
            // Where the CLI knows no type, it hashes its parser's own form.
            text.push_str("{\"$__toml_private_datetime\":");
            json(value, text);
            text.push('}');
        }
        Value::Integer(value) => number(*value, text, wrapped),
        Value::Float(value) => match serde_json::Number::from_f64(*value) {
            Some(value) => number(value, text, wrapped),
            None => text.push_str("null"),
        },
        Value::Boolean(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text, wrapped);
            }
            text.push(']');
        }
        Value::Table(table) => {
            object(table.iter(), text, |_, node, text| write(node, text, wrapped))
        }
    }
}

fn object<'t>(
    members: impl Iterator<Item = (&'t String, &'t Node)>,
    text: &mut String,
    mut value: impl FnMut(&str, &'t Node, &mut String),
) {
    text.push('{');
    for (index, (key, node)) in members.enumerate() {
        if index > 0 {
            text.push(',');
        }
        json(key, text);
        text.push(':');
        value(key, node, text);
    }
    text.push('}');
}

fn number<N: Into<serde_json::Number>>(value: N, text: &mut String, wrapped: bool) {
    let digits = value.into().to_string();
    match wrapped {
        true => text.push_str(&format!("{{\"$serde_json::private::Number\":\"{digits}\"}}")),
        false => text.push_str(&digits),
    }
}

fn json(value: &str, text: &mut String) {
    let escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if value.bytes().any(escaped) {
        // Strings always have a JSON form.
        text.push_str(&serde_json::Value::from(value).to_string());
    } else {
        text.extend(["\"", value, "\""]);
    }
}
