//! Changes to a file that leave the rest of it as it is, comments and order included.

use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::overrides::MAX_SEGMENTS;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The key, segment by segment.
    pub path: Vec<String>,
    /// The new value; `None` deletes the key.
    pub value: Option<Json>,
    /// The rule for a table in the place of another table.
    pub strategy: Strategy,
}

impl Edit {
    /// A change whose value is given as a JSON text, or none to delete the key.
    pub fn from_json(
        path: Vec<String>,
        json: Option<&str>,
        strategy: Strategy,
    ) -> Result<Self, EditError> {
        let value = json
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| EditError::Value(path.clone()))?;
        Ok(Edit { path, value, strategy })
    }
}

/// The rule for a table in the place of another table. Any other value replaces the old value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Takes its place.
    Replace,
    /// Is merged into it, key by key.
    Upsert,
}

/// Why a change cannot be made. Nothing is changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// The text is not TOML.
    Syntax,
    /// TOML has no form for the value (null, or an integer beyond 64 bits), or the key has no
    /// segment or more than [`MAX_SEGMENTS`]. Holds the key.
    Value(Vec<String>),
}

/// Returns the text with all changes made, in their order.
pub fn edit(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|_| EditError::Syntax)?;
    for edit in edits {
        let (Some((last, above)), true) = (edit.path.split_last(), edit.path.len() <= MAX_SEGMENTS)
        else {
            return Err(EditError::Value(edit.path.clone()));
        };
        match &edit.value {
            None => delete(document.as_table_mut(), above, last),
            Some(json) => {
                let value = value(json).ok_or_else(|| EditError::Value(edit.path.clone()))?;
                put(reach(document.as_table_mut(), above), last, value, edit.strategy);
            }
        }
    }
    Ok(document.to_string())
}

fn delete(root: &mut Table, above: &[String], last: &str) {
    let mut table: &mut dyn TableLike = root;
    for key in above {
        match table.get_mut(key).and_then(Item::as_table_like_mut) {
            Some(below) => table = below,
            None => return,
        }
    }
    table.remove(last);
}

/// Returns the table at a path, and whether tables in it may have headers. Other values on the way
/// are replaced by tables.
fn reach<'t>(root: &'t mut Table, above: &[String]) -> (&'t mut dyn TableLike, bool) {
    let mut headed = true;
    let mut table: &mut dyn TableLike = root;
    for key in above {
        if !table.get(key).is_some_and(Item::is_table_like) {
            table.remove(key);
            let mut below = Table::new();
            below.set_implicit(true);
            table.insert(
                key,
                if headed { Item::Table(below) } else { Item::Value(InlineTable::new().into()) },
            );
        }
        let Some(item) = table.get_mut(key) else { unreachable!("a table was put there") };
        headed = headed && has_header(item);
        let Some(below) = item.as_table_like_mut() else { unreachable!("it is a table") };
        table = below;
    }
    (table, headed)
}

/// Tables below one that braces or dots hold cannot have headers of their own.
fn has_header(item: &Item) -> bool {
    matches!(item, Item::Table(table) if !table.is_dotted())
}

fn put((table, headed): (&mut dyn TableLike, bool), key: &str, value: Value, strategy: Strategy) {
    match (table.get_mut(key), value) {
        (Some(item), Value::InlineTable(new)) if item.is_table_like() => {
            let headed = headed && has_header(item);
            if strategy == Strategy::Replace && new.is_empty() {
                return empty(item);
            }
            let Some(old) = item.as_table_like_mut() else { return };
            if strategy == Strategy::Replace {
                old.clear();
            }
            for (key, value) in new {
                put((&mut *old, headed), &key, value, strategy);
            }
        }
        (Some(Item::Value(old)), mut new) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (there, new) => {
            if there.is_some() {
                table.remove(key);
            }
            let item = match new {
                Value::InlineTable(new) if headed && !new.is_empty() => {
                    Item::Table(with_header(new))
                }
                new => Item::Value(new),
            };
            table.insert(key, item);
        }
    }
}

/// A table of dotted keys is not there without them; one without a header of its own needs it now.
fn empty(item: &mut Item) {
    match item {
        Item::Table(table) if !table.is_dotted() => {
            table.clear();
            table.set_implicit(false);
        }
        item => *item = Item::Value(InlineTable::new().into()),
    }
}

fn with_header(inline: InlineTable) -> Table {
    let mut table = Table::new();
    // A header of its own only if a value stands right below it.
    table.set_implicit(
        inline
            .iter()
            .all(|(_, value)| matches!(value, Value::InlineTable(table) if !table.is_empty())),
    );
    for (key, value) in inline {
        put((&mut table, true), &key, value, Strategy::Replace);
    }
    table
}

fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(value) => (*value).into(),
        Json::String(text) => text.as_str().into(),
        Json::Number(number) if number.is_f64() => number.as_f64()?.into(),
        Json::Number(number) => number.as_i64()?.into(),
        Json::Array(items) => Value::Array(items.iter().map(value).collect::<Option<Array>>()?),
        Json::Object(members) => {
            let mut table = InlineTable::new();
            for (key, member) in members {
                table.insert(key, value(member)?);
            }
            Value::InlineTable(table)
        }
    })
}
