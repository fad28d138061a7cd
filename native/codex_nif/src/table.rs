//! The table of events and items, as Elixir hands it over when it loads this library.

use std::sync::{Arc, PoisonError, RwLock};

use codex_core::{Field, Kind, Record, Schema, Union, Variant};
use rustler::{Atom, Error, NifResult, Term};

/// The schema and the atoms that its names stand for.
pub struct Table {
    pub schema: Schema,
    pub names: Vec<Atom>,
}

// Written once a load. A code upgrade loads again, so it is not a OnceLock; decoders keep the one
// they began with.
static TABLE: RwLock<Option<Arc<Table>>> = RwLock::new(None);

/// The table that was loaded last.
pub fn current() -> NifResult<Arc<Table>> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::BadArg)
}

type Fields = Vec<(Vec<String>, (u8, u16))>;
type Variants = Vec<(String, Vec<(usize, (u8, u16))>, Vec<usize>)>;
type Names = Vec<(String, Atom)>;
type Records = Vec<Vec<(String, Atom, Option<u16>)>>;

/// Takes `{unions, enums, records}` as `Codex.Wire.native/0` makes it.
pub fn load(info: Term) -> NifResult<()> {
    let (unions, enums, records): (Vec<(Fields, Variants)>, Vec<Names>, Records) = info.decode()?;
    let mut names = Vec::new();
    let mut name = |atom: Atom| {
        names.push(atom);
        (names.len() - 1) as u32
    };
    let unions = unions
        .into_iter()
        .map(|(fields, variants)| union(fields, variants))
        .collect::<NifResult<_>>()?;
    let enums = enums
        .into_iter()
        .map(|values| values.into_iter().map(|(wire, atom)| (wire, name(atom))).collect())
        .collect();
    let records = records
        .into_iter()
        .map(|fields| {
            Record::new(
                fields.into_iter().map(|(wire, atom, values)| (wire, name(atom), values)).collect(),
            )
            .map_err(|_| Error::BadArg)
        })
        .collect::<NifResult<_>>()?;
    let schema = Schema::new(unions, enums, records).map_err(|_| Error::BadArg)?;
    *TABLE.write().unwrap_or_else(PoisonError::into_inner) =
        Some(Arc::new(Table { schema, names }));
    Ok(())
}

fn union(fields: Fields, variants: Variants) -> NifResult<Union> {
    let fields = fields
        .into_iter()
        .map(|(names, code)| Ok(Field { names, kind: kind(code)? }))
        .collect::<NifResult<Vec<_>>>()?;
    let variants = variants
        .into_iter()
        .map(|(wire_type, fields, required)| {
            let fields = fields
                .into_iter()
                .map(|(field, code)| Ok((field, kind(code)?)))
                .collect::<NifResult<_>>()?;
            Ok(Variant { wire_type, fields, required })
        })
        .collect::<NifResult<Vec<_>>>()?;
    Union::new(fields, variants).map_err(|_| Error::BadArg)
}

fn kind(code: (u8, u16)) -> NifResult<Kind> {
    match code {
        (0, _) => Ok(Kind::Any),
        (1, values) => Ok(Kind::Enum(values)),
        (2, union) => Ok(Kind::Union(union)),
        (3, record) => Ok(Kind::Records(record)),
        _ => Err(Error::BadArg),
    }
}
