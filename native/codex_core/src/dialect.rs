//! Events and items out of objects that are decoded already, by the table of their dialect.
//!
//! A dialect is a column of the table of events: the types as a program names them, the paths under
//! which it sends the fields, and the kinds of their values. [`Dialect::read`] finds the row of an
//! object and hands its fields to the [`Sink`](crate::Sink) in the order of the row, with `extra`:
//! the members that no field takes. The sink builds the same variants from the lines of
//! `codex exec`, where the [parser](crate::Decoder) does that in one pass.

use crate::keys::KeyTable;
use crate::read::Reader;
use crate::schema::{MAX_FIELDS, SchemaError};
use crate::sink::Tree;

/// How the value of a field is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// As it stands.
    Any,
    /// A string of this enum becomes a name; another string stays a string, by [`Dialect::words`]
    /// in snake case.
    Enum(u16),
    /// An object of this union becomes a variant; an object of an unknown type stays as it is.
    Union(u16),
    /// In a list, each object becomes a map by this record.
    Records(u16),
    /// An object becomes a map by this record.
    Object(u16),
    /// An object becomes a map of its integers, with keys in snake case; anything else is not this
    /// row.
    Counts,
    /// A name that the type itself says: the field is not read.
    Const(u32),
    /// A list of objects becomes their texts, one after the other.
    Text,
    /// A list of words becomes a line of a shell.
    Command,
    /// A URL of a file becomes its path.
    Place,
    /// An object of seconds and nanoseconds becomes milliseconds.
    Millis,
    /// An object of changes by path becomes a list of maps by this record, whose fields are the
    /// path, the kind, the diff and the new path. It is sorted by path.
    Changes(u16),
    /// An object of states becomes one of objects with the members `status` and `message`.
    States,
}

/// A member of an object, or a member of an object that is a member.
pub type Path = (String, Option<String>);

/// A field of a row.
#[derive(Debug, Clone)]
pub struct Source {
    /// The places of the field, best first; the first one that is present counts.
    pub paths: Vec<Path>,
    /// How its value is read.
    pub value: Value,
    /// An object without the field is not of this row.
    pub required: bool,
}

/// The rule for those members of an opened object that no path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// They stand among the extra members.
    #[default]
    Rest,
    /// The whole object does.
    Whole,
    /// They are dropped.
    Nothing,
}

/// One type of a union, in this dialect.
#[derive(Debug, Clone)]
pub struct Row {
    /// The type that selects the row.
    pub wire_type: String,
    /// The row counts only if the path holds this string. Such a row precedes those of the same
    /// type without a condition.
    pub when: Option<(Path, String)>,
    /// The tag of the variant.
    pub tag: u32,
    /// Its fields, in the order in which they are handed to the sink.
    pub fields: Vec<Source>,
    /// The objects that are opened for a path and do not follow [`Keep::Rest`].
    pub keep: Vec<(String, Keep)>,
}

/// The key of a record's field.
#[derive(Debug, Clone)]
pub enum Key {
    /// A name of the sink. The map has it even if the object does not.
    Name(u32),
    /// A string. The map has it if the object does.
    Text(String),
}

/// The names and types of one dialect. `unions[0]` holds the events.
#[derive(Debug, Clone, Default)]
pub struct Dialect {
    pub(crate) unions: Vec<KeyTable<Vec<Selected>>>,
    pub(crate) enums: Vec<KeyTable<u32>>,
    pub(crate) records: Vec<(Vec<Key>, Shape)>,
    /// Words that stand for names are in camel case.
    pub(crate) words: bool,
}

/// A row that a type may select.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    pub(crate) when: Option<(Path, String)>,
    pub(crate) tag: u32,
    pub(crate) shape: Shape,
}

/// The fields of a row or record, laid out for lookup.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) values: Vec<Value>,
    pub(crate) required: u64,
    pub(crate) members: KeyTable<Member>,
    pub(crate) opened: Vec<Opened>,
}

/// The meaning of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member {
    Field(Place),
    Open(u8),
}

/// A field, and how good this place is for it: 0 is best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: u8,
    pub(crate) rank: u8,
}

/// An object that holds fields.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) members: KeyTable<Place>,
    /// The field that the object is itself, unless it holds one.
    pub(crate) itself: Option<Place>,
    pub(crate) keep: Keep,
}

impl Dialect {
    /// A dialect of unions, enums (strings to names of the sink) and records.
    pub fn new(
        unions: Vec<Vec<Row>>,
        enums: Vec<Vec<(String, u32)>>,
        records: Vec<Vec<(Key, Source)>>,
        words: bool,
    ) -> Result<Dialect, SchemaError> {
        let sizes = (unions.len(), enums.len(), records.len());
        let records = records
            .into_iter()
            .map(|fields| {
                let (keys, sources): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
                Ok((keys, Shape::new(sources, &[])?))
            })
            .collect::<Result<Vec<_>, SchemaError>>()?;
        let unions = unions.into_iter().map(union).collect::<Result<Vec<_>, SchemaError>>()?;
        let enums = enums.into_iter().map(KeyTable::new).collect();
        let dialect = Dialect { unions, enums, records, words };
        dialect.check(sizes)?;
        Ok(dialect)
    }

    /// Unions stand inside the first one only, and records hold nothing but plain values and enums:
    /// reading ends whatever the objects hold.
    fn check(&self, (unions, enums, records): (usize, usize, usize)) -> Result<(), SchemaError> {
        let inside = |value: &Value, nested: bool| match *value {
            Value::Union(_) | Value::Records(_) | Value::Object(_) | Value::Changes(_)
                if nested =>
            {
                Err(SchemaError::Nested)
            }
            Value::Union(0) => Err(SchemaError::Nested),
            Value::Union(i) if usize::from(i) >= unions => Err(SchemaError::Dangling),
            Value::Enum(i) if usize::from(i) >= enums => Err(SchemaError::Dangling),
            Value::Records(i) | Value::Object(i) | Value::Changes(i)
                if usize::from(i) >= records =>
            {
                Err(SchemaError::Dangling)
            }
            _ => Ok(()),
        };
        for (at, union) in self.unions.iter().enumerate() {
            for value in union.values().flatten().flat_map(|row| &row.shape.values) {
                if at > 0 && matches!(value, Value::Union(_)) {
                    return Err(SchemaError::Nested);
                }
                inside(value, false)?;
            }
        }
        let mut of_records = self.records.iter().flat_map(|(_, shape)| &shape.values);
        of_records.try_for_each(|value| inside(value, true))
    }

    /// Reads `object` as the event of this type.
    ///
    /// Returns nothing if the type is unknown, or if the object lacks a required field. Fails if
    /// more than `work` members and elements would have to be looked at.
    pub fn read<S: Tree>(
        &self,
        sink: &mut S,
        wire_type: &[u8],
        object: S::Term,
        work: u64,
    ) -> Result<Option<S::Term>, TooLong> {
        Reader::new(self, sink, work).event(wire_type, object, false)
    }

    /// The same for an object that has its type as the member `type`, which is not an extra one.
    pub fn read_typed<S: Tree>(
        &self,
        sink: &mut S,
        wire_type: &[u8],
        object: S::Term,
        work: u64,
    ) -> Result<Option<S::Term>, TooLong> {
        Reader::new(self, sink, work).event(wire_type, object, true)
    }
}

/// An object was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

fn union(rows: Vec<Row>) -> Result<KeyTable<Vec<Selected>>, SchemaError> {
    let mut types: Vec<(String, Vec<Selected>)> = Vec::new();
    for Row { wire_type, when, tag, fields, keep } in rows {
        let selected = Selected { when, tag, shape: Shape::new(fields, &keep)? };
        match types.iter_mut().find(|(name, _)| *name == wire_type) {
            Some((_, same)) => same.push(selected),
            None => types.push((wire_type, vec![selected])),
        }
    }
    Ok(KeyTable::new(types))
}

impl Shape {
    fn new(sources: Vec<Source>, keep: &[(String, Keep)]) -> Result<Shape, SchemaError> {
        if sources.len() > MAX_FIELDS {
            return Err(SchemaError::TooManyFields);
        }
        let mut flat: Vec<(String, Place)> = Vec::new();
        let mut inner: Vec<(String, Vec<(String, Place)>)> = Vec::new();
        let mut required = 0;
        for (slot, source) in sources.iter().enumerate() {
            required |= u64::from(source.required) << slot;
            for (rank, path) in source.paths.iter().enumerate() {
                let place = Place { slot: slot as u8, rank: rank.min(usize::from(u8::MAX)) as u8 };
                let (head, Some(name)) = path else {
                    flat.push((path.0.clone(), place));
                    continue;
                };
                match inner.iter_mut().find(|(same, _)| same == head) {
                    Some((_, members)) => members.push((name.clone(), place)),
                    None => inner.push((head.clone(), vec![(name.clone(), place)])),
                }
            }
        }
        // An object that only has a rule for its rest is opened, too.
        for (head, _) in keep {
            if !inner.iter().any(|(same, _)| same == head) {
                inner.push((head.clone(), Vec::new()));
            }
        }
        let mut members: Vec<(String, Member)> =
            flat.iter().map(|(name, place)| (name.clone(), Member::Field(*place))).collect();
        let mut opened = Vec::new();
        for (at, (head, places)) in inner.into_iter().enumerate() {
            let itself = flat.iter().find(|(name, _)| *name == head).map(|(_, place)| *place);
            let rule = keep.iter().find(|(name, _)| *name == head);
            members.push((head, Member::Open(at as u8)));
            opened.push(Opened {
                members: KeyTable::new(places),
                itself,
                keep: rule.map_or(Keep::Rest, |(_, keep)| *keep),
            });
        }
        let values = sources.iter().map(|source| source.value).collect();
        Ok(Shape { values, required, members: KeyTable::new(members), opened })
    }
}
