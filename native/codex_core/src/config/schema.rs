//! The known keys of a configuration, as data.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Every known key with its type, for one version of the CLI.
#[derive(Debug, Clone)]
pub struct ConfigSchema {
    /// Top-level keys that the file of a project may not set.
    pub(super) not_in_projects: Vec<String>,
    pub(super) root: Spec,
}

/// The data is not a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault(pub String);

/// One key.
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    pub kind: Kind,
    pub non_empty: bool,
    pub min_items: usize,
    /// Never accepted: with the words of the CLI where they are known.
    pub refused: Option<String>,
    /// String values that are in the list of an enum and not accepted.
    pub refused_values: BTreeMap<String, String>,
    pub alias_of: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Kind {
    #[default]
    Any,
    String,
    Path,
    Keybinding,
    Boolean,
    Integer {
        int: String,
        min: Option<i64>,
        max: Option<i64>,
    },
    Number {
        min: Option<f64>,
        exclusive: bool,
    },
    Enum(Vec<Json>),
    Array(Box<Spec>),
    Map(Box<Spec>),
    Table(Box<TableSpec>),
    Union(Vec<Spec>),
    /// The same as this top-level key.
    Ref(String),
}

#[derive(Debug, Clone)]
pub(super) struct TableSpec {
    pub fields: BTreeMap<String, Spec>,
    pub extra: Option<Spec>,
    pub unknown: Unknown,
    pub required: Vec<String>,
    pub transport: Option<Transport>,
}

/// The CLI's reaction to an unknown key of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Reports it, and refuses it where it is strict.
    Reported,
    /// Nothing, strict or not.
    Silent,
    /// Refuses it always.
    Refused,
}

/// Which keys of an MCP server go together.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub exactly_one_of: Vec<String>,
    pub stdio_only: Vec<String>,
    pub http_only: Vec<String>,
}

impl ConfigSchema {
    /// Reads the schema from its JSON text: `keys`, as in `priv/config/schema.json`.
    pub fn from_json(text: &[u8]) -> Result<Self, SchemaFault> {
        let json: Json =
            serde_json::from_slice(text).map_err(|error| SchemaFault(error.to_string()))?;
        let fields = fields(&json["keys"]);
        if fields.is_empty() {
            return Err(SchemaFault("it has no `keys`".to_owned()));
        }
        let keys = json["keys"].as_object().into_iter().flatten();
        let not_in_projects = keys
            .filter(|(_, node)| node["project"] == "ignored")
            .map(|(key, _)| key.clone())
            .collect();
        let root = TableSpec {
            fields,
            extra: None,
            unknown: Unknown::Reported,
            required: vec![],
            transport: None,
        };
        Ok(ConfigSchema {
            not_in_projects,
            root: Spec { kind: Kind::Table(Box::new(root)), ..Spec::default() },
        })
    }

    /// Whether a value at this path can only be a table: a table or map may stand there, and no
    /// list. Elements of a list have the path of the list.
    pub fn is_table(&self, path: &[String]) -> bool {
        let mut specs = vec![&self.root];
        for name in path {
            specs = specs.into_iter().flat_map(|spec| self.below(spec, name)).collect();
        }
        let kinds: Vec<&Kind> =
            specs.into_iter().flat_map(|spec| self.alternatives(spec)).collect();
        let table = kinds.iter().any(|kind| matches!(kind, Kind::Table(_) | Kind::Map(_)));
        table && !kinds.iter().any(|kind| matches!(kind, Kind::Array(_) | Kind::Any))
    }

    fn below<'s>(&'s self, spec: &'s Spec, name: &str) -> Vec<&'s Spec> {
        match &self.resolve(spec).kind {
            Kind::Table(table) => {
                table.fields.get(name).or(table.extra.as_ref()).into_iter().collect()
            }
            Kind::Map(inner) => vec![inner],
            Kind::Array(inner) => self.below(inner, name),
            Kind::Union(all) => all.iter().flat_map(|spec| self.below(spec, name)).collect(),
            _ => vec![],
        }
    }

    fn alternatives<'s>(&'s self, spec: &'s Spec) -> Vec<&'s Kind> {
        match &self.resolve(spec).kind {
            Kind::Union(all) => all.iter().flat_map(|spec| self.alternatives(spec)).collect(),
            kind => vec![kind],
        }
    }

    /// The spec that a reference stands for, or the spec itself.
    pub(super) fn resolve<'s>(&'s self, spec: &'s Spec) -> &'s Spec {
        match (&spec.kind, &self.root.kind) {
            (Kind::Ref(key), Kind::Table(root)) => root.fields.get(key).unwrap_or(spec),
            _ => spec,
        }
    }
}

fn fields(json: &Json) -> BTreeMap<String, Spec> {
    json.as_object().into_iter().flatten().map(|(key, node)| (key.clone(), spec(node))).collect()
}

fn spec(json: &Json) -> Spec {
    let mut spec = Spec {
        kind: kind(json),
        non_empty: json["non_empty"] == true,
        min_items: json["min_items"].as_u64().unwrap_or(0) as usize,
        alias_of: json["alias_of"].as_str().map(str::to_owned),
        ..Spec::default()
    };
    match &json["refused"] {
        Json::Bool(true) => spec.refused = Some(String::new()),
        Json::Object(values) => {
            let words = values.iter().map(|(value, words)| (value.clone(), text(words)));
            spec.refused_values = words.collect();
        }
        _ => {}
    }
    if json["removed"] == true {
        spec.refused = Some(String::new());
    }
    spec
}

fn kind(json: &Json) -> Kind {
    if let Some(all) = json["any"].as_array() {
        return Kind::Union(all.iter().map(spec).collect());
    }
    if let Some(values) = json["enum"].as_array() {
        return Kind::Enum(values.clone());
    }
    if json["table"].is_object() || json["extra"].is_object() {
        return Kind::Table(Box::new(table(json)));
    }
    if json["map"].is_object() {
        return Kind::Map(Box::new(spec(&json["map"])));
    }
    if json["array"].is_object() {
        return Kind::Array(Box::new(spec(&json["array"])));
    }
    if let Some(key) = json["ref"].as_str() {
        return Kind::Ref(key.to_owned());
    }
    match json["type"].as_str() {
        Some("string") => Kind::String,
        Some("path") => Kind::Path,
        Some("keybinding") => Kind::Keybinding,
        Some("boolean") => Kind::Boolean,
        Some("integer") => {
            let int = json["int"].as_str().unwrap_or("integer").to_owned();
            Kind::Integer { int, min: json["min"].as_i64(), max: json["max"].as_i64() }
        }
        Some("number") => {
            let exclusive = json["exclusive_min"].as_f64();
            Kind::Number { min: exclusive.or(json["min"].as_f64()), exclusive: exclusive.is_some() }
        }
        _ => Kind::Any,
    }
}

fn table(json: &Json) -> TableSpec {
    TableSpec {
        fields: fields(&json["table"]),
        extra: json["extra"].is_object().then(|| spec(&json["extra"])),
        unknown: match json["unknown"].as_str() {
            Some("silent") => Unknown::Silent,
            Some("listed" | "untyped" | "variant") => Unknown::Refused,
            _ => Unknown::Reported,
        },
        required: strings(&json["required"]),
        transport: json["transport"].is_object().then(|| Transport {
            exactly_one_of: strings(&json["transport"]["exactly_one_of"]),
            stdio_only: strings(&json["transport"]["stdio_only"]),
            http_only: strings(&json["transport"]["http_only"]),
        }),
    }
}

fn strings(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().map(text).collect()
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}
