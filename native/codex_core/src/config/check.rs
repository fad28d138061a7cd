//! Checks a tree against the schema.

use serde_json::Value as Json;

use super::schema::{ConfigSchema, Kind, Spec, TableSpec, Unknown};
use super::value::{Node, Position, Table, Value};
use super::words::{expected, integer, json_text, list, nearest};

/// A problem of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The kind of the problem.
    pub reason: Reason,
    /// The severity.
    pub weight: Weight,
    /// The key, segment by segment.
    pub path: Vec<String>,
    /// The position of the value.
    pub at: Position,
    /// The layer, if the tree was merged.
    pub layer: usize,
    /// The message of the CLI, if it is known.
    pub message: String,
    /// The value, or the unknown key.
    pub found: String,
    /// The expected values.
    pub expected: String,
    /// The known key that is spelled most like an unknown one.
    pub nearest: Option<String>,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A value of another type.
    Type,
    /// A value of the right type that is not allowed: out of range, or not in the list.
    Value,
    /// No such key.
    UnknownKey,
    /// A table lacks a key.
    MissingKey,
    /// A key that exists and is refused.
    Refused,
}

/// The CLI's reaction to a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It does not start.
    Error,
    /// It does not start with `--strict-config`, and reports it otherwise.
    Strict,
    /// It says nothing.
    Silent,
}

/// All problems, in the order of the file.
pub fn check(schema: &ConfigSchema, root: &Node) -> Vec<Problem> {
    let mut checker = Checker { schema, path: Vec::new(), problems: Vec::new() };
    checker.node(&schema.root, root);
    let mut found = checker.problems;
    found.sort_by_key(|(problem, _)| (problem.layer, problem.at));
    let unknown = found.iter_mut().filter_map(|(problem, spec)| Some((problem, (*spec)?)));
    for (problem, spec) in unknown.take(MAX_GUESSES) {
        let known = spec.fields.iter().filter(|(_, field)| field.alias_of.is_none());
        problem.nearest = nearest(&problem.found, known);
    }
    found.into_iter().map(|(problem, _)| problem).collect()
}

/// The limit of unknown keys for which the nearest known key is searched: each is compared with all
/// known keys.
const MAX_GUESSES: usize = 200;

type Found<'s> = (Problem, Option<&'s TableSpec>);

struct Checker<'s> {
    schema: &'s ConfigSchema,
    path: Vec<String>,
    /// The unknown keys, each with its table.
    problems: Vec<Found<'s>>,
}

impl<'s> Checker<'s> {
    fn node(&mut self, spec: &'s Spec, node: &Node) {
        let spec = self.schema.resolve(spec);
        if let Some(words) = &spec.refused {
            let key = self.path.last().cloned().unwrap_or_default();
            let message =
                if words.is_empty() { format!("`{key}` is not supported") } else { words.clone() };
            return self.problem(Reason::Refused, Weight::Error, node, message, String::new());
        }
        match (&spec.kind, &node.value) {
            (Kind::Any | Kind::Ref(_), _) => {}
            (Kind::String | Kind::Path, Value::String(text)) => {
                if spec.non_empty && text.is_empty() {
                    let key = self.path.last().cloned().unwrap_or_default();
                    self.value(
                        node,
                        format!("{key} must not be empty"),
                        "a string that is not empty",
                    );
                }
            }
            (Kind::String | Kind::Path, Value::Datetime(_)) => {}
            (Kind::Keybinding, Value::String(_)) => {}
            (Kind::Keybinding, Value::Array(items))
                if items.iter().all(|item| matches!(item.value, Value::String(_))) => {}
            (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::Integer { int, min, max }, Value::Integer(value)) => {
                if min.is_some_and(|min| *value < min) || max.is_some_and(|max| *value > max) {
                    let expected = integer(int, *min);
                    self.value(
                        node,
                        format!("invalid value: {}, expected {expected}", node.found()),
                        &expected,
                    );
                }
            }
            (Kind::Number { min, exclusive }, Value::Integer(_) | Value::Float(_)) => {
                let value = match node.value {
                    Value::Integer(value) => value as f64,
                    Value::Float(value) => value,
                    _ => 0.0,
                };
                let low = min.is_some_and(|min| value < min || (*exclusive && value <= min));
                if low || !value.is_finite() {
                    self.value(
                        node,
                        format!("invalid value: {}, expected f64", node.found()),
                        "a larger number",
                    );
                }
            }
            (Kind::Enum(values), _) => self.choice(spec, values, node),
            (Kind::Array(inner), Value::Array(items)) => {
                if items.len() < spec.min_items {
                    self.value(
                        node,
                        format!("expected {} or more elements", spec.min_items),
                        "more elements",
                    );
                }
                for (index, item) in items.iter().enumerate() {
                    self.below(index.to_string(), inner, item);
                }
            }
            (Kind::Map(inner), Value::Table(table)) => {
                table.iter().for_each(|(key, node)| self.below(key.clone(), inner, node))
            }
            (Kind::Table(inner), Value::Table(table)) => self.table(inner, table, node),
            (Kind::Union(all), _) => self.union(all, node),
            (kind, _) => self.wrong_type(node, &expected(kind)),
        }
    }

    fn below(&mut self, key: String, spec: &'s Spec, node: &Node) {
        self.path.push(key);
        self.node(spec, node);
        self.path.pop();
    }

    fn choice(&mut self, spec: &Spec, values: &[Json], node: &Node) {
        let same = |json: &Json| match (&node.value, json) {
            (Value::String(text), Json::String(other)) => text == other,
            (Value::Integer(value), Json::Number(other)) => other.as_i64() == Some(*value),
            _ => false,
        };
        let listed = || list(&values.iter().map(json_text).collect::<Vec<_>>());
        match &node.value {
            Value::String(text) if values.iter().any(same) => {
                if let Some(words) = spec.refused_values.get(text) {
                    self.problem(
                        Reason::Refused,
                        Weight::Error,
                        node,
                        words.clone(),
                        String::new(),
                    );
                }
            }
            _ if values.iter().any(same) => {}
            Value::String(text) => self.value(
                node,
                format!("unknown variant `{text}`, expected {}", listed()),
                &listed(),
            ),
            _ => self.wrong_type(node, &listed()),
        }
    }

    fn table(&mut self, spec: &'s TableSpec, table: &Table, node: &Node) {
        for key in &spec.required {
            if !table.contains_key(key) {
                let message = format!("missing field `{key}`");
                self.problem(Reason::MissingKey, Weight::Error, node, message, format!("`{key}`"));
            }
        }
        for (key, inner) in table {
            match (spec.fields.get(key), &spec.extra) {
                (Some(field), _) => self.below(key.clone(), field, inner),
                (None, Some(extra)) => self.below(key.clone(), extra, inner),
                (None, None) => self.unknown(spec, key, inner),
            }
        }
        if let Some(transport) = &spec.transport {
            let has = |key: &&String| table.contains_key(key.as_str());
            let kinds: Vec<_> = transport.exactly_one_of.iter().filter(has).collect();
            let (forbidden, kind) = match kinds.as_slice() {
                [only] if *only == "command" => (&transport.http_only, "stdio"),
                [_] => (&transport.stdio_only, "streamable_http"),
                [] => {
                    let expected = list(&transport.exactly_one_of);
                    let message = "invalid transport".to_owned();
                    return self.problem(
                        Reason::MissingKey,
                        Weight::Error,
                        node,
                        message,
                        expected,
                    );
                }
                _ => return self.not_for(table, &transport.exactly_one_of[1], "stdio"),
            };
            if let Some(key) = forbidden.iter().find(has) {
                self.not_for(table, key, kind);
            }
        }
    }

    fn not_for(&mut self, table: &Table, key: &str, kind: &str) {
        let Some(node) = table.get(key) else { return };
        self.path.push(key.to_owned());
        let message = format!("{key} is not supported for {kind}");
        self.problem(Reason::Refused, Weight::Error, node, message, String::new());
        self.path.pop();
    }

    fn unknown(&mut self, spec: &'s TableSpec, key: &str, node: &Node) {
        self.path.push(key.to_owned());
        let weight = match spec.unknown {
            Unknown::Reported => Weight::Strict,
            Unknown::Silent => Weight::Silent,
            Unknown::Refused => Weight::Error,
        };
        let (message, expected) = match weight {
            Weight::Error => {
                let known = list(&spec.fields.keys().cloned().collect::<Vec<_>>());
                (format!("unknown field `{key}`, expected {known}"), known)
            }
            _ => (format!("unknown configuration field `{}`", self.path.join(".")), String::new()),
        };
        self.problem(Reason::UnknownKey, weight, node, message, expected);
        if let Some((problem, unknown_in)) = self.problems.last_mut() {
            problem.found = key.to_owned();
            problem.at = node.key;
            *unknown_in = Some(spec);
        }
        self.path.pop();
    }

    /// The alternative with the fewest errors decides; if none has the right shape, all of them are
    /// named.
    fn union(&mut self, all: &'s [Spec], node: &Node) {
        let mut best: Option<Vec<Found>> = None;
        for spec in all.iter().filter(|spec| shaped(&self.schema.resolve(spec).kind, node)) {
            let mut trial =
                Checker { schema: self.schema, path: self.path.clone(), problems: Vec::new() };
            trial.node(spec, node);
            let rank = |problems: &[Found]| {
                (
                    problems.iter().filter(|(problem, _)| problem.weight == Weight::Error).count(),
                    problems.len(),
                )
            };
            if best.as_ref().is_none_or(|best| rank(&trial.problems) < rank(best)) {
                best = Some(trial.problems);
            }
        }
        match best {
            Some(problems) => self.problems.extend(problems),
            None => {
                let all: Vec<_> = all.iter().map(|spec| expected(&spec.kind)).collect();
                self.wrong_type(node, &all.join(" or "));
            }
        }
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = format!("invalid type: {}, expected {expected}", node.found());
        self.problem(Reason::Type, Weight::Error, node, message, expected.to_owned());
    }

    fn value(&mut self, node: &Node, message: String, expected: &str) {
        self.problem(Reason::Value, Weight::Error, node, message, expected.to_owned());
    }

    fn problem(
        &mut self,
        reason: Reason,
        weight: Weight,
        node: &Node,
        message: String,
        expected: String,
    ) {
        let (path, found) = (self.path.clone(), node.found());
        let (at, layer) = (node.at, node.layer);
        let problem =
            Problem { reason, weight, path, at, layer, message, found, expected, nearest: None };
        self.problems.push((problem, None));
    }
}

/// Whether a value has the outer form that a kind asks for.
fn shaped(kind: &Kind, node: &Node) -> bool {
    match (kind, &node.value) {
        (Kind::Table(_) | Kind::Map(_), value) => matches!(value, Value::Table(_)),
        (Kind::Array(_), value) => matches!(value, Value::Array(_)),
        (Kind::Enum(_) | Kind::String | Kind::Path, value) => matches!(value, Value::String(_)),
        (Kind::Boolean, value) => matches!(value, Value::Boolean(_)),
        (Kind::Integer { .. } | Kind::Number { .. }, value) => {
            matches!(value, Value::Integer(_) | Value::Float(_))
        }
        _ => true,
    }
}
