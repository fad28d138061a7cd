//! Configuration overrides: terms in, arguments out.

use codex_core::overrides::{Override, Value, arguments, document, to_toml};
use rustler::{Error, NifResult, Term, TermType};

/// Deeper than any configuration; bounds the recursion.
const MAX_DEPTH: u32 = 64;

/// Takes a list of `{path, value}` and raw strings. Values are as `Codex.Options.Overrides` makes
/// them: strings, 64-bit integers, floats, booleans, lists, `{:datetime, text}`, and `{:table,
/// [{name, value}]}`.
#[rustler::nif]
fn override_arguments(overrides: Vec<Term>) -> NifResult<Result<Vec<String>, String>> {
    let overrides = overrides.into_iter().map(told).collect::<NifResult<Vec<_>>>()?;
    Ok(arguments(&overrides))
}

/// The same as a TOML document.
#[rustler::nif]
fn override_document(overrides: Vec<Term>) -> NifResult<String> {
    let overrides = overrides.into_iter().map(told).collect::<NifResult<Vec<_>>>()?;
    Ok(document(&overrides))
}

/// One value as TOML.
#[rustler::nif]
fn override_value(value: Term) -> NifResult<String> {
    Ok(to_toml(&self::value(value, MAX_DEPTH)?))
}

fn told(term: Term) -> NifResult<Override> {
    match term.get_type() {
        TermType::Binary => Ok(Override::Raw(term.decode()?)),
        _ => {
            let (path, value): (Vec<String>, Term) = term.decode()?;
            Ok(Override::Set(path, self::value(value, MAX_DEPTH)?))
        }
    }
}

fn value(term: Term, depth: u32) -> NifResult<Value> {
    let depth = depth.checked_sub(1).ok_or(Error::BadArg)?;
    match term.get_type() {
        TermType::Binary => Ok(Value::String(term.decode()?)),
        TermType::Integer => Ok(Value::Integer(term.decode()?)),
        TermType::Float => Ok(Value::Float(term.decode()?)),
        TermType::Atom => Ok(Value::Boolean(term.decode()?)),
        TermType::List => {
            let items: Vec<Term> = term.decode()?;
            Ok(Value::Array(
                items.into_iter().map(|item| value(item, depth)).collect::<NifResult<_>>()?,
            ))
        }
        TermType::Tuple => {
            let (kind, inner): (rustler::Atom, Term) = term.decode()?;
            if kind == atoms::datetime() {
                return Ok(Value::Datetime(inner.decode()?));
            }
            if kind != atoms::table() {
                return Err(Error::BadArg);
            }
            let members: Vec<(String, Term)> = inner.decode()?;
            let members =
                members.into_iter().map(|(name, member)| Ok((name, value(member, depth)?)));
            Ok(Value::Table(members.collect::<NifResult<_>>()?))
        }
        _ => Err(Error::BadArg),
    }
}

mod atoms {
    rustler::atoms! { datetime, table }
}
