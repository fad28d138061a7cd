//! Layers into one tree.

use super::value::{Node, Position, Table, Value};

/// Layers merged, and which of them each value came from.
#[derive(Debug, Clone)]
pub struct Layered {
    root: Node,
}

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The layer, counted from 0, lowest first.
    pub layer: usize,
    /// The position of its key in the file of the layer.
    pub at: Position,
}

impl Layered {
    /// Merges layers, lowest first. Tables are merged key by key; anything else replaces what lies
    /// beneath, whole.
    pub fn new(layers: &[&Node]) -> Self {
        let mut root = Node::new(Value::Table(Default::default()));
        for (index, layer) in layers.iter().enumerate() {
            lay(&mut root, layer, index);
        }
        Layered { root }
    }

    /// As [`Layered::new`], of some keys at the top of the files only.
    pub fn of_keys(layers: &[&Node], keys: &[String]) -> Self {
        let mut root = Table::new();
        for (index, layer) in layers.iter().enumerate() {
            for key in keys {
                if let Some(above) = layer.table().and_then(|table| table.get(key)) {
                    put(&mut root, key, above, index);
                }
            }
        }
        Layered { root: Node::new(Value::Table(root)) }
    }

    /// The merged tree; each node knows its layer.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the layer that set the value at `path`. A table that several layers share is of the
    /// highest layer that has it.
    pub fn origin(&self, path: &[String]) -> Option<Origin> {
        self.root.get(path).map(|node| Origin { layer: node.layer, at: node.key })
    }

    /// The merged tree itself.
    pub fn into_root(self) -> Node {
        self.root
    }
}

/// Every value that is neither array nor table, and every empty one of those, with its path.
pub fn leaves(root: &Node) -> Vec<(Vec<String>, Origin)> {
    let mut leaves = Vec::new();
    collect(root, &mut Vec::new(), &mut leaves);
    leaves
}

fn lay(below: &mut Node, above: &Node, layer: usize) {
    match (&mut below.value, &above.value) {
        (Value::Table(table), Value::Table(upper)) => {
            upper.iter().for_each(|(key, node)| put(table, key, node, layer));
            (below.at, below.key, below.layer) = (above.at, above.key, layer);
        }
        _ => *below = stamped(above, layer),
    }
}

fn put(table: &mut Table, key: &str, node: &Node, layer: usize) {
    match table.get_mut(key) {
        Some(lower) => lay(lower, node, layer),
        None => {
            table.insert(key.to_owned(), stamped(node, layer));
        }
    }
}

fn stamped(node: &Node, layer: usize) -> Node {
    let value = match &node.value {
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| stamped(item, layer)).collect())
        }
        Value::Table(table) => Value::Table(
            table.iter().map(|(key, node)| (key.clone(), stamped(node, layer))).collect(),
        ),
        other => other.clone(),
    };
    Node { value, at: node.at, key: node.key, layer }
}

fn collect(node: &Node, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Origin)>) {
    let mut below = |key: String, node: &Node| {
        path.push(key);
        collect(node, path, leaves);
        path.pop();
    };
    match &node.value {
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| below(index.to_string(), item));
        }
        Value::Table(table) if !table.is_empty() => {
            table.iter().for_each(|(key, node)| below(key.clone(), node))
        }
        _ => leaves.push((path.clone(), Origin { layer: node.layer, at: node.key })),
    }
}
