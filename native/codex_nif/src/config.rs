//! Configuration trees as resources. What grows with the size of a file runs on dirty schedulers.

use codex_core::config::{
    self, ConfigSchema, Edit, EditError, Layered, Lock, Node, OverrideError, Position, Problem,
    Reason, Strategy, Weight,
};
use std::sync::{Mutex, PoisonError};

use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};

use crate::sink::TermSink;

mod atoms {
    rustler::atoms! {
        ok, error, none, too_large,
        missing_equals, empty_key, too_deep,
        r#type = "type", value, unknown_key, missing_key, refused,
        strict, silent,
        syntax, bad_value
    }
}

pub struct SchemaResource(ConfigSchema);

impl Resource for SchemaResource {}

/// One layer, or several merged.
pub struct TreeResource(Node);

impl Resource for TreeResource {}

/// A lock on a file; it is free again when the last reference is gone, or by `config_unlock`.
pub struct LockResource(Mutex<Option<Lock>>);

impl LockResource {
    pub fn new(lock: Lock) -> Self {
        LockResource(Mutex::new(Some(lock)))
    }
}

impl Resource for LockResource {}

type Place = (u32, u32);
type Tree = ResourceArc<TreeResource>;

#[rustler::nif(schedule = "DirtyCpu")]
fn config_schema<'a>(env: Env<'a>, json: Binary<'a>) -> Term<'a> {
    match ConfigSchema::from_json(&json) {
        Ok(schema) => (atoms::ok(), ResourceArc::new(SchemaResource(schema))).encode(env),
        Err(fault) => (atoms::error(), fault.0).encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_parse<'a>(env: Env<'a>, text: Binary<'a>, max_nodes: usize) -> Term<'a> {
    match parsed(env, &text, max_nodes) {
        Ok(node) => (atoms::ok(), tree(node)).encode(env),
        Err(why) => (atoms::error(), why).encode(env),
    }
}

fn parsed<'a>(env: Env<'a>, text: &[u8], max_nodes: usize) -> Result<Node, Term<'a>> {
    if !config::is_within(text, max_nodes) {
        return Err(atoms::too_large().encode(env));
    }
    config::parse(text)
        .map_err(|fault| (place(fault.at), fault.message, fault.source_line).encode(env))
}

/// Nanoseconds that parsing alone takes: the limit that a benchmark compares with.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_parse_null(texts: Vec<&str>) -> (bool, u64) {
    let start = std::time::Instant::now();
    let all = texts.iter().all(|text| config::is_toml(text));
    (all, start.elapsed().as_nanos() as u64)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_overrides(env: Env<'_>, arguments: Vec<String>) -> Term<'_> {
    match config::overrides(&arguments) {
        Ok(node) => (atoms::ok(), tree(node)).encode(env),
        Err(OverrideError::MissingEquals(argument)) => {
            (atoms::error(), (atoms::missing_equals(), argument)).encode(env)
        }
        Err(OverrideError::EmptyKey(argument)) => {
            (atoms::error(), (atoms::empty_key(), argument)).encode(env)
        }
        Err(OverrideError::TooDeep(argument)) => {
            (atoms::error(), (atoms::too_deep(), argument)).encode(env)
        }
    }
}

/// A file as a layer ([`prepared`]), in one call: the tree of a large file takes as long to copy as
/// to make.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_layer<'a>(
    env: Env<'a>,
    schema: ResourceArc<SchemaResource>,
    text: Binary<'a>,
    max_nodes: usize,
    base: Binary<'a>,
    home: Binary<'a>,
    project: bool,
) -> Term<'a> {
    match parsed(env, &text, max_nodes) {
        Ok(node) => {
            (atoms::ok(), prepared(env, &schema, node, (&base, &home), project)).encode(env)
        }
        Err(why) => (atoms::error(), why).encode(env),
    }
}

/// A tree as a layer.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_prepare<'a>(
    env: Env<'a>,
    schema: ResourceArc<SchemaResource>,
    layer: Tree,
    base: Binary<'a>,
    home: Binary<'a>,
) -> Term<'a> {
    prepared(env, &schema, layer.0.clone(), (&base, &home), false)
}

/// The layer as it is merged, its values as the CLI holds them, its version, its problems, and the
/// keys that a project may not set.
fn prepared<'a>(
    env: Env<'a>,
    schema: &SchemaResource,
    mut node: Node,
    (base, home): (&[u8], &[u8]),
    project: bool,
) -> Term<'a> {
    // Paths need not be UTF-8; the values made of them are.
    let (base, home) = (String::from_utf8_lossy(base), String::from_utf8_lossy(home));
    let dropped =
        if project { config::drop_project_keys(&schema.0, &mut node) } else { Vec::new() };
    let (version, problems) = config::prepare(&schema.0, &mut node, &base, &home);
    let values = term(env, &node);
    config::rename_aliases(&schema.0, &mut node);
    (tree(node), values, version, problem_terms(env, &problems), dropped).encode(env)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_merge(layers: Vec<Tree>, keys: Option<Vec<String>>) -> Tree {
    let nodes: Vec<&Node> = layers.iter().map(|layer| &layer.0).collect();
    let merged = match keys {
        Some(keys) => Layered::of_keys(&nodes, &keys),
        None => Layered::new(&nodes),
    };
    tree(merged.into_root())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_check<'a>(
    env: Env<'a>,
    schema: ResourceArc<SchemaResource>,
    layer: Tree,
) -> Vec<Term<'a>> {
    problem_terms(env, &config::check(&schema.0, &layer.0))
}

/// Whether a value at this path can only be a table. A few steps in a small tree.
#[rustler::nif]
fn config_is_table(schema: ResourceArc<SchemaResource>, path: Vec<String>) -> bool {
    schema.0.is_table(&path)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_term<'a>(env: Env<'a>, layer: Tree) -> Term<'a> {
    term(env, &layer.0)
}

/// The value at a path with its layer and place.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_get<'a>(env: Env<'a>, layer: Tree, path: Vec<String>) -> Term<'a> {
    match layer.0.get(&path) {
        Some(node) => (atoms::ok(), term(env, node), node.layer, place(node.key)).encode(env),
        None => atoms::none().encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn config_leaves(layer: Tree) -> Vec<(Vec<String>, usize, Place)> {
    config::leaves(&layer.0)
        .into_iter()
        .map(|(path, origin)| (path, origin.layer, place(origin.at)))
        .collect()
}

/// Each change is the path, the value as JSON or nothing, and whether a table is merged.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_edit<'a>(
    env: Env<'a>,
    text: &str,
    edits: Vec<(Vec<String>, Option<String>, bool)>,
    max_nodes: usize,
) -> Term<'a> {
    if !config::is_within(text.as_bytes(), max_nodes) {
        return (atoms::error(), atoms::too_large()).encode(env);
    }
    let edits = edits.into_iter().map(|(path, json, upsert)| {
        let strategy = if upsert { Strategy::Upsert } else { Strategy::Replace };
        Edit::from_json(path, json.as_deref(), strategy)
    });
    match edits.collect::<Result<Vec<_>, _>>().and_then(|edits| config::edit(text, &edits)) {
        Ok(text) => (atoms::ok(), text).encode(env),
        Err(EditError::Syntax) => (atoms::error(), atoms::syntax()).encode(env),
        Err(EditError::Value(path)) => (atoms::error(), (atoms::bad_value(), path)).encode(env),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn config_unlock(lock: ResourceArc<LockResource>) -> Atom {
    lock.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    atoms::ok()
}

fn tree(node: Node) -> Tree {
    ResourceArc::new(TreeResource(node))
}

fn place(at: Position) -> Place {
    (at.line, at.column)
}

fn term<'a>(env: Env<'a>, node: &Node) -> Term<'a> {
    let mut sink = TermSink::new(env, &[]);
    let made = config::build(node, &mut sink);
    sink.term(made)
}

fn problem_terms<'a>(env: Env<'a>, problems: &[Problem]) -> Vec<Term<'a>> {
    problems.iter().map(|problem| problem_term(env, problem)).collect()
}

fn problem_term<'a>(env: Env<'a>, problem: &Problem) -> Term<'a> {
    let head = (reason(problem.reason), weight(problem.weight), problem.layer, place(problem.at));
    let words = (&problem.message, &problem.found, &problem.expected, &problem.nearest);
    (head, &problem.path, words).encode(env)
}

fn reason(reason: Reason) -> Atom {
    match reason {
        Reason::Type => atoms::r#type(),
        Reason::Value => atoms::value(),
        Reason::UnknownKey => atoms::unknown_key(),
        Reason::MissingKey => atoms::missing_key(),
        Reason::Refused => atoms::refused(),
    }
}

fn weight(weight: Weight) -> Atom {
    match weight {
        Weight::Error => atoms::error(),
        Weight::Strict => atoms::strict(),
        Weight::Silent => atoms::silent(),
    }
}
