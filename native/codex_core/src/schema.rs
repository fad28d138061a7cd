//! Which objects are typed, and how. The caller makes it from its own table.

use crate::keys::KeyTable;

/// How the value of a field is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// As it stands: objects become maps.
    #[default]
    Any,
    /// A string of this enum becomes a name; any other value stays as it is.
    Enum(u16),
    /// An object of this union becomes a variant; an object of an unknown type becomes a map.
    Union(u16),
    /// In a list of objects each becomes a map with names as keys; any other value stays as it is.
    Records(u16),
}

/// A field that variants of a union share: its wire names (the first is the usual one) and how its
/// value is read unless the variant says otherwise.
#[derive(Debug, Clone)]
pub struct Field {
    /// The names under which it is found.
    pub names: Vec<String>,
    /// How its value is read.
    pub kind: Kind,
}

/// One type of a union.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The value of `type` that selects it.
    pub wire_type: String,
    /// Indexes into the fields of the union, in the order in which they are handed to the sink, and
    /// their kinds.
    pub fields: Vec<(usize, Kind)>,
    /// Those without which the object does not count as this variant.
    pub required: Vec<usize>,
}

/// Objects that differ by their `type`.
#[derive(Debug, Clone, Default)]
pub struct Union {
    pub(crate) keys: KeyTable<(u8, Kind)>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) types: KeyTable<u32>,
    pub(crate) variants: Vec<Layout>,
}

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<(u8, Kind)>,
    pub(crate) known: u64,
    pub(crate) required: u64,
}

/// An object of a fixed set of fields that has no `type`.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub(crate) keys: KeyTable<(u8, Kind)>,
    pub(crate) names: Vec<u32>,
}

/// The typed objects. `unions[0]` is the type of a line.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub(crate) unions: Vec<Union>,
    pub(crate) enums: Vec<KeyTable<u32>>,
    pub(crate) records: Vec<Record>,
}

/// Fields of one union or record: one bit each in a word.
pub(crate) const MAX_FIELDS: usize = 64;

/// The fault of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaError {
    /// A union or record has more than 64 fields.
    TooManyFields,
    /// A kind, or a variant's field, points outside the table.
    Dangling,
    /// A union stands inside a union that is not the root, or is the root: depth would have no
    /// bound.
    Nested,
}

impl Union {
    /// A union of `variants` over `fields`. The tag of a variant is its index.
    pub fn new(fields: Vec<Field>, variants: Vec<Variant>) -> Result<Union, SchemaError> {
        if fields.len() > MAX_FIELDS {
            return Err(SchemaError::TooManyFields);
        }
        let bits = |indexes: &mut dyn Iterator<Item = usize>| {
            let mut bits = 0u64;
            for i in indexes {
                bits |= if i < fields.len() { 1 << i } else { return Err(SchemaError::Dangling) };
            }
            Ok(bits)
        };
        let layouts = variants
            .iter()
            .map(|variant| {
                Ok(Layout {
                    known: bits(&mut variant.fields.iter().map(|(i, _)| *i))?,
                    required: bits(&mut variant.required.iter().copied())?,
                    fields: variant.fields.iter().map(|&(i, kind)| (i as u8, kind)).collect(),
                })
            })
            .collect::<Result<Vec<_>, SchemaError>>()?;
        let types =
            variants.into_iter().enumerate().map(|(i, variant)| (variant.wire_type, i as u32));
        Ok(Union {
            types: KeyTable::new(types),
            variants: layouts,
            kinds: fields.iter().map(|field| field.kind).collect(),
            keys: KeyTable::new(fields.into_iter().enumerate().flat_map(|(i, field)| {
                field.names.into_iter().map(move |name| (name, (i as u8, field.kind)))
            })),
        })
    }

    fn all_kinds(&self) -> impl Iterator<Item = Kind> {
        let of_variants =
            self.variants.iter().flat_map(|variant| variant.fields.iter().map(|(_, kind)| *kind));
        of_variants.chain(self.kinds.iter().copied())
    }
}

impl Record {
    /// A record of fields: wire name, the name that the sink knows it by, and the enum of its value
    /// if it has one.
    pub fn new(fields: Vec<(String, u32, Option<u16>)>) -> Result<Record, SchemaError> {
        if fields.len() > MAX_FIELDS {
            return Err(SchemaError::TooManyFields);
        }
        Ok(Record {
            names: fields.iter().map(|(_, name, _)| *name).collect(),
            keys: KeyTable::new(fields.into_iter().enumerate().map(|(i, (wire, _, values))| {
                (wire, (i as u8, values.map_or(Kind::Any, Kind::Enum)))
            })),
        })
    }

    fn has_dangling(&self, enums: usize) -> bool {
        self.keys
            .values()
            .any(|(_, kind)| matches!(kind, Kind::Enum(i) if usize::from(*i) >= enums))
    }
}

impl Schema {
    /// `enums` map strings to names of the sink. `unions[0]` is the root; the other unions stand
    /// inside it only.
    pub fn new(
        unions: Vec<Union>,
        enums: Vec<Vec<(String, u32)>>,
        records: Vec<Record>,
    ) -> Result<Schema, SchemaError> {
        let schema =
            Schema { unions, enums: enums.into_iter().map(KeyTable::new).collect(), records };
        for (at, union) in schema.unions.iter().enumerate() {
            for kind in union.all_kinds() {
                match kind {
                    Kind::Union(_) if at > 0 => return Err(SchemaError::Nested),
                    Kind::Union(0) => return Err(SchemaError::Nested),
                    Kind::Union(i) if usize::from(i) >= schema.unions.len() => {
                        return Err(SchemaError::Dangling);
                    }
                    Kind::Enum(i) if usize::from(i) >= schema.enums.len() => {
                        return Err(SchemaError::Dangling);
                    }
                    Kind::Records(i) if usize::from(i) >= schema.records.len() => {
                        return Err(SchemaError::Dangling);
                    }
                    _ => {}
                }
            }
        }
        if schema.records.iter().any(|record| record.has_dangling(schema.enums.len())) {
            return Err(SchemaError::Dangling);
        }
        Ok(schema)
    }
}
