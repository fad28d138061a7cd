//! Configuration overrides: values as TOML, and the arguments that carry them.
//!
//! The CLI takes `--config key=value`. It splits the key at every dot and knows no quotes,
//! so a name with a dot or an equals sign in it can only stand inside an inline table. A table in
//! turn *replaces* all that came before at its path. So overrides are merged first, here, and
//! written as one value for each leaf, or as one table where a name below it needs that.

use std::fmt::Write;

use crate::config;

/// A configuration value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// An integer; TOML has 64 bits.
    Integer(i64),
    /// A number; TOML has infinite ones, too.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date or time in the form of RFC 3339, or a part of it.
    Datetime(String),
    /// A list.
    Array(Vec<Value>),
    /// A table, in the order of its members.
    Table(Table),
}

/// Members of a table. Small, and their order matters: a list.
pub type Table = Vec<(String, Value)>;

/// An override of the caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Override {
    /// A value at a path of names; a table is merged with the one that is there.
    Set(Vec<String>, Value),
    /// `key=value`, written by the caller: passed on as it is.
    Raw(String),
}

/// The arguments for these overrides, in order; without the `--config` before each. Fails with the
/// name that stands at the top and cannot be written there.
///
/// ```
/// use codex_core::overrides::{Override, Value, arguments};
///
/// let set = |path: &[&str], value| Override::Set(path.iter().map(|s| s.to_string()).collect(), value);
/// let overrides = [
///     set(&["model"], Value::String("gpt \"6\"".into())),
///     set(&["projects", "/a.b", "trust_level"], Value::String("trusted".into())),
/// ];
/// assert_eq!(
///     arguments(&overrides).unwrap(),
///     [r#"model="gpt \"6\"""#, r#"projects={"/a.b" = {"trust_level" = "trusted"}}"#]
/// );
/// ```
pub fn arguments(overrides: &[Override]) -> Result<Vec<String>, String> {
    let mut merged = Table::new();
    let mut pending = Table::new();
    let mut arguments = Vec::new();
    for told in overrides {
        match told {
            Override::Set(path, value) => {
                set(&mut merged, path, value.clone());
                set(&mut pending, path, value.clone());
            }
            Override::Raw(text) => {
                flush(&mut pending, &merged, &mut arguments)?;
                arguments.push(text.clone());
                // Known as well, so that a table that is written later takes it along.
                if let Some((key, value)) = text.split_once('=') {
                    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
                    replace(&mut merged, &path, read(config::override_value(value.trim())));
                }
            }
        }
    }
    flush(&mut pending, &merged, &mut arguments)?;
    Ok(arguments)
}

/// Writes the same as a document: a line for each member at the top. Raw `key=value` arguments of
/// the caller have no place there and are left out.
pub fn document(overrides: &[Override]) -> String {
    let mut merged = Table::new();
    for told in overrides {
        if let Override::Set(path, value) = told {
            set(&mut merged, path, value.clone());
        }
    }
    let mut out = String::new();
    for (name, value) in &merged {
        write_string(&mut out, name);
        out.push_str(" = ");
        write_value(&mut out, value);
        out.push('\n');
    }
    out
}

/// Writes the pending members. A table takes along the members that were written into it earlier,
/// because it replaces them.
fn flush(pending: &mut Table, merged: &Table, arguments: &mut Vec<String>) -> Result<(), String> {
    for (name, value) in pending.drain(..) {
        if !is_plain(&name) {
            return Err(name);
        }
        let whole =
            merged.iter().find(|(other, _)| *other == name).map_or(&value, |(_, whole)| whole);
        write_argument(&name, &value, whole, arguments);
    }
    Ok(())
}

fn write_argument(path: &str, value: &Value, whole: &Value, arguments: &mut Vec<String>) {
    match (value, whole) {
        (Value::Table(members), Value::Table(all))
            if !members.is_empty() && members.iter().all(|(name, _)| is_plain(name)) =>
        {
            for (name, value) in members {
                let whole =
                    all.iter().find(|(other, _)| other == name).map_or(value, |(_, whole)| whole);
                write_argument(&format!("{path}.{name}"), value, whole, arguments);
            }
        }
        (Value::Table(_), whole) => arguments.push(format!("{path}={}", to_toml(whole))),
        (value, _) => arguments.push(format!("{path}={}", to_toml(value))),
    }
}

/// Whether a name may be part of a key as the CLI reads it. White space at its ends is trimmed
/// there, an empty name would pass unseen.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '=', '\0']) && name.trim() == name
}

/// Sets a value in a table; tables are merged, all else is replaced.
fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        if let Value::Table(members) = value {
            for (name, value) in members {
                set(table, &[name], value);
            }
        }
        return;
    };
    let at = table.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
        table.push((name.clone(), Value::Table(Table::new())));
        table.len() - 1
    });
    let slot = &mut table[at].1;
    match (&mut *slot, rest.is_empty(), value) {
        (Value::Table(inner), true, Value::Table(members)) => {
            for (name, value) in members {
                set(inner, &[name], value);
            }
        }
        (_, true, value) => *slot = value,
        (Value::Table(inner), false, value) => set(inner, rest, value),
        (_, false, value) => {
            let mut inner = Table::new();
            set(&mut inner, rest, value);
            *slot = Value::Table(inner);
        }
    }
}

/// Sets a value as the CLI does: a table replaces the older value.
fn replace(table: &mut Table, path: &[String], value: Value) {
    set(table, path, Value::Boolean(false));
    set(table, path, value);
}

fn read(value: config::Value) -> Value {
    match value {
        config::Value::String(text) => Value::String(text),
        config::Value::Integer(n) => Value::Integer(n),
        config::Value::Float(n) => Value::Float(n),
        config::Value::Boolean(b) => Value::Boolean(b),
        config::Value::Datetime(text) => Value::Datetime(text),
        config::Value::Array(items) => {
            Value::Array(items.into_iter().map(|node| read(node.value)).collect())
        }
        config::Value::Table(members) => {
            Value::Table(members.into_iter().map(|(name, node)| (name, read(node.value))).collect())
        }
    }
}

/// A value as TOML on one line.
pub fn to_toml(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::String(text) => {
            write_string(out, text);
            Ok(())
        }
        Value::Integer(n) => write!(out, "{n}"),
        // Debug, unlike Display, keeps a point or an exponent: without one it would be an integer.
        Value::Float(n) if n.is_nan() => write!(out, "nan"),
        Value::Float(n) => write!(out, "{n:?}"),
        Value::Boolean(b) => write!(out, "{b}"),
        Value::Datetime(text) => write!(out, "{text}"),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_value(out, item);
            }
            out.push(']');
            Ok(())
        }
        Value::Table(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_string(out, name);
                out.push_str(" = ");
                write_value(out, value);
            }
            out.push('}');
            Ok(())
        }
    };
}

/// A basic string: one line, with the escapes that TOML 1.0 has.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn set_to(names: &[&str], value: Value) -> Override {
        Override::Set(path(names), value)
    }

    fn table(members: &[(&str, Value)]) -> Value {
        Value::Table(
            members.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        )
    }

    fn int(n: i64) -> Value {
        Value::Integer(n)
    }

    #[test]
    fn leaves_stand_alone_and_later_ones_win() {
        let overrides = [
            set_to(&["a"], table(&[("b", int(1)), ("c", table(&[("d e", int(2))]))])),
            set_to(&["a", "b"], int(3)),
            set_to(&["f"], table(&[])),
        ];
        assert_eq!(
            arguments(&overrides),
            Ok(vec!["a.b=3".into(), "a.c.d e=2".into(), "f={}".into()])
        );
    }

    #[test]
    fn a_name_that_a_key_cannot_hold_makes_its_table_inline_with_all_that_is_in_it() {
        let overrides = [
            set_to(&["a", "plain"], int(1)),
            Override::Raw("a.raw=9".into()),
            set_to(&["a"], table(&[("x.y", int(2))])),
        ];
        assert_eq!(
            arguments(&overrides),
            Ok(vec![
                "a.plain=1".into(),
                "a.raw=9".into(),
                "a={\"plain\" = 1, \"raw\" = 9, \"x.y\" = 2}".into()
            ])
        );
        for name in ["", "a.b", "a=b", " a", "a\n", "a\0"] {
            assert_eq!(arguments(&[set_to(&[name], int(1))]), Err(name.to_string()), "{name:?}");
            let inline = arguments(&[set_to(&["t", name], int(1))]).unwrap();
            assert!(inline[0].starts_with("t={\""), "{inline:?}");
        }
    }

    #[test]
    fn a_scalar_gives_way_to_a_table_and_back() {
        let overrides =
            [set_to(&["a"], int(1)), set_to(&["a", "b"], int(2)), set_to(&["a", "b", "c"], int(3))];
        assert_eq!(arguments(&overrides), Ok(vec!["a.b.c=3".into()]));
        let overrides = [set_to(&["a", "b"], int(2)), set_to(&["a"], int(1))];
        assert_eq!(arguments(&overrides), Ok(vec!["a=1".into()]));
    }

    #[test]
    fn a_document_has_a_line_for_each_member() {
        let overrides = [
            set_to(&["a.b"], int(1)),
            set_to(&["t", "x"], int(2)),
            set_to(&["t", "y"], Value::Boolean(true)),
        ];
        assert_eq!(document(&overrides), "\"a.b\" = 1\n\"t\" = {\"x\" = 2, \"y\" = true}\n");
    }

    #[test]
    fn values_are_toml() {
        let value = Value::Array(vec![
            Value::String("a\"\\\n\t\r\u{8}\u{c}\0\u{1b}\u{7f}é\u{2028}😀".into()),
            Value::Float(1e300),
            Value::Float(-0.0),
            Value::Float(2.0),
            Value::Boolean(true),
            Value::Datetime("1979-05-27T07:32:00Z".into()),
            table(&[("", int(i64::MIN))]),
        ]);
        assert_eq!(
            to_toml(&value),
            "[\"a\\\"\\\\\\n\\t\\r\\b\\f\\u0000\\u001B\\u007Fé\u{2028}😀\", 1e300, -0.0, 2.0, true, \
             1979-05-27T07:32:00Z, {\"\" = -9223372036854775808}]"
        );
    }
}
