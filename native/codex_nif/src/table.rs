//! The tables of events and items, as Elixir hands them over when it loads this library.

use std::sync::{Arc, PoisonError, RwLock};

use codex_core::dialect::{Dialect, Keep, Key, Path, Row, Source, Value};
use codex_core::{Field, Kind, Record, Schema, Union, Variant};
use rustler::{Atom, Error, NifResult, Term};

/// The schema of lines, the other dialects, and the atoms that their names stand for.
pub struct Table {
    pub schema: Schema,
    pub dialects: Vec<Dialect>,
    pub names: Vec<Atom>,
}

// Written once a load. A code upgrade loads again, so it is not a OnceLock; decoders keep the table
// that they began with.
static TABLE: RwLock<Option<Arc<Table>>> = RwLock::new(None);

/// The table that was loaded last.
pub fn current() -> NifResult<Arc<Table>> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::BadArg)
}

type Fields = Vec<(Vec<String>, (u8, u16))>;
type Variants = Vec<(String, Vec<(usize, (u8, u16))>, Vec<usize>)>;
type Words = Vec<(String, Atom)>;
type Records = Vec<Vec<(String, Atom, Option<u16>)>>;
type Lines = (Vec<(Fields, Variants)>, Vec<Words>, Records);

type OtherValue<'a> = (u8, Term<'a>);
type OtherField<'a> = (Vec<Path>, OtherValue<'a>, bool);
type OtherRow<'a> = (String, Option<(Path, String)>, u32, Vec<OtherField<'a>>, Vec<(String, u8)>);
type OtherRecord<'a> = Vec<(Term<'a>, OtherField<'a>)>;
type Other<'a> = (Vec<Vec<OtherRow<'a>>>, Vec<Words>, Vec<OtherRecord<'a>>, bool);

/// Takes `{lines, dialects}` as `Codex.Events.Dialects.native/0` makes them.
pub fn load(info: Term) -> NifResult<()> {
    let (lines, others): (Lines, Vec<Other>) = info.decode()?;
    let mut names = Names::default();
    let schema = schema(lines, &mut names)?;
    let dialects =
        others.into_iter().map(|other| dialect(other, &mut names)).collect::<NifResult<_>>()?;
    let table = Table { schema, dialects, names: names.0 };
    *TABLE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(table));
    Ok(())
}

#[derive(Default)]
struct Names(Vec<Atom>);

impl Names {
    fn add(&mut self, atom: Atom) -> u32 {
        self.0.push(atom);
        (self.0.len() - 1) as u32
    }

    fn words(&mut self, words: Words) -> Vec<(String, u32)> {
        words.into_iter().map(|(wire, atom)| (wire, self.add(atom))).collect()
    }
}

fn schema((unions, enums, records): Lines, names: &mut Names) -> NifResult<Schema> {
    let unions = unions
        .into_iter()
        .map(|(fields, variants)| union(fields, variants))
        .collect::<NifResult<_>>()?;
    let enums = enums.into_iter().map(|words| names.words(words)).collect();
    let records = records
        .into_iter()
        .map(|fields| {
            let fields = fields.into_iter();
            let fields = fields.map(|(wire, atom, values)| (wire, names.add(atom), values));
            Record::new(fields.collect()).map_err(|_| Error::BadArg)
        })
        .collect::<NifResult<_>>()?;
    Schema::new(unions, enums, records).map_err(|_| Error::BadArg)
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

fn dialect((unions, enums, records, words): Other, names: &mut Names) -> NifResult<Dialect> {
    let unions = unions
        .into_iter()
        .map(|rows| rows.into_iter().map(|each| row(each, names)).collect())
        .collect::<NifResult<_>>()?;
    let enums = enums.into_iter().map(|words| names.words(words)).collect();
    let records = records
        .into_iter()
        .map(|fields| {
            fields
                .into_iter()
                .map(|(key, field)| Ok((self::key(key, names)?, source(field, names)?)))
                .collect()
        })
        .collect::<NifResult<_>>()?;
    Dialect::new(unions, enums, records, words).map_err(|_| Error::BadArg)
}

fn row((wire_type, when, tag, fields, keep): OtherRow, names: &mut Names) -> NifResult<Row> {
    let fields = fields.into_iter().map(|field| source(field, names)).collect::<NifResult<_>>()?;
    let keep = keep
        .into_iter()
        .map(|(name, rule)| match rule {
            1 => Ok((name, Keep::Whole)),
            2 => Ok((name, Keep::Nothing)),
            _ => Err(Error::BadArg),
        })
        .collect::<NifResult<_>>()?;
    Ok(Row { wire_type, when, tag, fields, keep })
}

fn key(key: Term, names: &mut Names) -> NifResult<Key> {
    match key.decode::<Atom>() {
        Ok(atom) => Ok(Key::Name(names.add(atom))),
        Err(_) => Ok(Key::Text(key.decode()?)),
    }
}

fn source((paths, (code, of), required): OtherField, names: &mut Names) -> NifResult<Source> {
    let value = match code {
        0 => Value::Any,
        1 => Value::Enum(of.decode()?),
        2 => Value::Union(of.decode()?),
        3 => Value::Records(of.decode()?),
        4 => Value::Object(of.decode()?),
        5 => Value::Const(names.add(of.decode()?)),
        6 => Value::Counts,
        7 => Value::Text,
        8 => Value::Command,
        9 => Value::Place,
        10 => Value::Millis,
        11 => Value::Changes(of.decode()?),
        12 => Value::States,
        _ => return Err(Error::BadArg),
    };
    Ok(Source { paths, value, required })
}
