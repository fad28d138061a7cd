//! Events out of objects that were decoded before: the dialects other than the lines of
//! `codex exec`.

use codex_core::dialect::TooLong;
use rustler::{Binary, Encoder, Env, Error, NifResult, Term};

use crate::sink::TermSink;
use crate::table;

mod atoms {
    rustler::atoms! { unknown, long }
}

/// Members and elements that one call looks at before it takes a dirty scheduler.
const WORK: u64 = 4096;

/// Reads an object as the event of its type: a tuple as the decoder makes it, `unknown`, or `long`
/// if `event_read_long` has to read it.
#[rustler::nif]
fn event_read<'a>(
    env: Env<'a>,
    dialect: usize,
    wire_type: Binary<'a>,
    object: Term<'a>,
) -> NifResult<Term<'a>> {
    read(env, dialect, &wire_type, object, WORK)
}

/// The same for an object of any size.
#[rustler::nif(schedule = "DirtyCpu")]
fn event_read_long<'a>(
    env: Env<'a>,
    dialect: usize,
    wire_type: Binary<'a>,
    object: Term<'a>,
) -> NifResult<Term<'a>> {
    read(env, dialect, &wire_type, object, u64::MAX)
}

fn read<'a>(
    env: Env<'a>,
    dialect: usize,
    wire_type: &[u8],
    object: Term<'a>,
    work: u64,
) -> NifResult<Term<'a>> {
    let table = table::current()?;
    let dialect = table.dialects.get(dialect).ok_or(Error::BadArg)?;
    let mut sink = TermSink::new(env, &table.names);
    match dialect.read(&mut sink, wire_type, object.as_c_arg(), work) {
        Ok(Some(event)) => Ok(sink.term(event)),
        Ok(None) => Ok(atoms::unknown().encode(env)),
        Err(TooLong) => Ok(atoms::long().encode(env)),
    }
}
