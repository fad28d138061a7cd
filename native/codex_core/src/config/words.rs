//! Names the expected values in the words of the CLI, and the key that was meant.

use serde_json::Value as Json;

use super::schema::{Kind, Spec};

pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::String => "a string".to_owned(),
        Kind::Path => "path string".to_owned(),
        Kind::Keybinding => "a string or a sequence of strings".to_owned(),
        Kind::Boolean => "a boolean".to_owned(),
        Kind::Integer { int, min, .. } => integer(int, *min),
        Kind::Number { .. } => "f64".to_owned(),
        Kind::Enum(values) => list(&values.iter().map(json_text).collect::<Vec<_>>()),
        Kind::Array(_) => "a sequence".to_owned(),
        Kind::Map(_) | Kind::Table(_) => "a map".to_owned(),
        Kind::Union(all) => {
            all.iter().map(|spec| expected(&spec.kind)).collect::<Vec<_>>().join(" or ")
        }
        Kind::Any | Kind::Ref(_) => "a value".to_owned(),
    }
}

pub(super) fn integer(int: &str, min: Option<i64>) -> String {
    match min {
        Some(1) if int.starts_with('u') => format!("a nonzero {int}"),
        _ => int.to_owned(),
    }
}

pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => "there are no fields".to_owned(),
        [one] => format!("`{one}`"),
        [one, two] => format!("`{one}` or `{two}`"),
        many => format!(
            "one of {}",
            many.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

pub(super) fn json_text(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

/// Spelled alike enough to be meant.
const ALIKE: f64 = 0.75;

/// Longer keys are not misspellings.
const LONGEST: usize = 80;

pub(super) fn nearest<'k>(
    key: &str,
    known: impl Iterator<Item = (&'k String, &'k Spec)>,
) -> Option<String> {
    if key.len() > LONGEST {
        return None;
    }
    known
        .map(|(name, _)| (strsim::jaro_winkler(key, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, name)| name.clone())
}
