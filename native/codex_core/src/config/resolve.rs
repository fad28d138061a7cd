//! A layer as the CLI holds it.

use super::check::{Problem, Weight, check};
use super::schema::{ConfigSchema, Kind, Spec};
use super::value::{Node, Value};
use super::version::version;

/// A layer on its own: its version, its problems, and, if no error is among them, its form after
/// [`resolve`] rewrites it. The CLI leaves a layer with an error as it is written: a higher layer
/// may set the key anew.
pub fn prepare(
    schema: &ConfigSchema,
    node: &mut Node,
    base: &str,
    home: &str,
) -> (String, Vec<Problem>) {
    let problems = check(schema, node);
    let sound = problems.iter().all(|problem| problem.weight != Weight::Error);
    if sound {
        resolve(schema, node, base, home);
    }
    (version(node, sound), problems)
}

/// Moves values to the newer names of their keys, as the CLI does when it merges layers: in the
/// tables at the top of the file, but not in `features`, in which the older names stay.
pub fn rename_aliases(schema: &ConfigSchema, node: &mut Node) {
    let (Value::Table(root), Kind::Table(known)) = (&mut node.value, &schema.root.kind) else {
        return;
    };
    for (name, below) in root.iter_mut().filter(|(name, _)| *name != "features") {
        let (Some(spec), Value::Table(table)) = (known.fields.get(name), &mut below.value) else {
            continue;
        };
        let Kind::Table(spec) = &spec.kind else { continue };
        for (alias, field) in &spec.fields {
            if let (Some(newer), Some(value)) = (&field.alias_of, table.get(alias).cloned()) {
                table.remove(alias);
                table.entry(newer.clone()).or_insert(value);
            }
        }
    }
}

/// Drops the top-level keys that the CLI does not take from a project's file, and names them.
pub fn drop_project_keys(schema: &ConfigSchema, node: &mut Node) -> Vec<String> {
    let Value::Table(table) = &mut node.value else { return Vec::new() };
    schema
        .not_in_projects
        .iter()
        .filter(|key| table.remove(key.as_str()).is_some())
        .cloned()
        .collect()
}

/// Values of enums that the CLI still takes and holds under a newer name.
const RENAMED: [(&str, &str); 2] =
    [("guardian_subagent", "auto_review"), ("on-failure", "on-request")];

/// The base of relative paths, and the meaning of `~`.
struct Places<'p> {
    schema: &'p ConfigSchema,
    base: &'p str,
    home: &'p str,
}

/// Rewrites what the CLI rewrites before it merges a layer and makes its version: relative paths
/// and `~/` become absolute (`base` is the directory of the file), a number that may have a
/// fraction is a float, dates where a string belongs are strings, and the older name of an enum's
/// value is the newer one.
pub fn resolve(schema: &ConfigSchema, node: &mut Node, base: &str, home: &str) {
    Places { schema, base, home }.node(&schema.root, node);
}

impl Places<'_> {
    fn node(&self, spec: &Spec, node: &mut Node) {
        let spec = self.schema.resolve(spec);
        match (&spec.kind, &mut node.value) {
            (Kind::Path, Value::String(path)) => *path = absolute(path, self.base, self.home),
            (Kind::Number { .. }, Value::Integer(value)) => {
                node.value = Value::Float(*value as f64)
            }
            (Kind::Any, _) => plain_dates(node),
            (Kind::String, Value::Datetime(text)) => {
                node.value = Value::String(std::mem::take(text))
            }
            (Kind::Enum(values), Value::String(text)) => {
                let newer = RENAMED.iter().find(|(old, _)| text == old).map(|(_, new)| *new);
                if let Some(newer) = newer.filter(|newer| values.iter().any(|value| value == newer))
                {
                    *text = newer.to_owned();
                }
            }
            (Kind::Array(inner), Value::Array(items)) => {
                items.iter_mut().for_each(|item| self.node(inner, item))
            }
            (Kind::Map(inner), Value::Table(table)) => {
                table.values_mut().for_each(|item| self.node(inner, item))
            }
            (Kind::Table(inner), Value::Table(table)) => {
                for (key, item) in table {
                    if let Some(field) = inner.fields.get(key).or(inner.extra.as_ref()) {
                        self.node(field, item);
                    }
                }
            }
            // Keys of one form only: an alternative that does not fit changes nothing below.
            (Kind::Union(all), _) => all.iter().for_each(|spec| self.node(spec, node)),
            _ => {}
        }
    }
}

fn plain_dates(node: &mut Node) {
    match &mut node.value {
        Value::Datetime(text) => node.value = Value::String(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(plain_dates),
        Value::Table(table) => table.values_mut().for_each(plain_dates),
        _ => {}
    }
}

/// Only the text is looked at: no link is followed.
fn absolute(path: &str, base: &str, home: &str) -> String {
    let whole = match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => format!("{home}/{rest}"),
        _ if path.starts_with('/') => path.to_owned(),
        _ => format!("{base}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
