//! The JSON Lines decoder as a resource.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use codex_core::{BUDGET, Decoder, NullSink, Progress, Sink};
use rustler::{Atom, Binary, Encoder, Env, Error, NifResult, Resource, ResourceArc, Term};

use crate::sink::TermSink;
use crate::table::{self, Table};

mod atoms {
    rustler::atoms! { done, more, long }
}

pub struct DecoderResource {
    decoder: Mutex<Decoder>,
    table: Arc<Table>,
}

#[rustler::resource_impl]
impl Resource for DecoderResource {}

impl DecoderResource {
    /// Never waits: another process may hold it for as long as a huge line takes.
    fn lock(&self) -> NifResult<MutexGuard<'_, Decoder>> {
        match self.decoder.try_lock() {
            Ok(decoder) => Ok(decoder),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::RaiseAtom("in_use")),
        }
    }
}

#[rustler::nif]
fn decoder_new(max_line: usize) -> NifResult<ResourceArc<DecoderResource>> {
    Ok(ResourceArc::new(DecoderResource { decoder: Mutex::new(Decoder::new(max_line)), table: table::current()? }))
}

/// Decodes from byte `at` on; answers what came out and where to go on.
#[rustler::nif]
fn decoder_feed<'a>(
    env: Env<'a>,
    decoder: ResourceArc<DecoderResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    let result = feed(env, &decoder, &chunk, at, false);
    // A call that used up the budget took about a tenth of a millisecond, which is a tenth of a timeslice.
    rustler::schedule::consume_timeslice(env, (chunk.len().saturating_sub(at).min(BUDGET) * 10 / BUDGET).max(1) as i32);
    result
}

/// The same for the rest of a huge line.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_feed_long<'a>(
    env: Env<'a>,
    decoder: ResourceArc<DecoderResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    feed(env, &decoder, &chunk, at, true)
}

/// Decodes a last line without a newline; it may be huge.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_finish<'a>(env: Env<'a>, decoder: ResourceArc<DecoderResource>) -> NifResult<Term<'a>> {
    let mut out = Vec::new();
    let mut sink = TermSink::new(env, &decoder.table.names);
    decoder.lock()?.finish(&decoder.table.schema, &mut sink, &mut out);
    let lines = sink.list(&out);
    Ok(sink.term(lines))
}

/// What `decoder_feed_long` does, with nothing built: the limit that a benchmark compares with.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_feed_null(decoder: ResourceArc<DecoderResource>, chunks: Vec<Binary>) -> NifResult<(u64, u64)> {
    let mut guard = decoder.lock()?;
    let mut out = Vec::new();
    let mut lines = 0;
    let start = std::time::Instant::now();
    for chunk in &chunks {
        let mut at = 0;
        loop {
            let progress = guard.feed(&decoder.table.schema, &mut NullSink, chunk, at, true, &mut out);
            lines += out.len() as u64;
            out.clear();
            match progress {
                Progress::Done => break,
                Progress::More(next) | Progress::Long(next) => at = next,
            }
        }
    }
    Ok((lines, start.elapsed().as_nanos() as u64))
}

fn feed<'a>(
    env: Env<'a>,
    decoder: &ResourceArc<DecoderResource>,
    chunk: &Binary<'a>,
    at: usize,
    may_be_long: bool,
) -> NifResult<Term<'a>> {
    let mut out = Vec::with_capacity(64);
    let mut sink = TermSink::new(env, &decoder.table.names);
    let progress = decoder.lock()?.feed(&decoder.table.schema, &mut sink, chunk.as_slice(), at, may_be_long, &mut out);
    let lines = sink.list(&out);
    let events = sink.term(lines);
    let tagged = |tag: Atom, next: usize| (events, (tag, next)).encode(env);
    Ok(match progress {
        Progress::Done => (events, atoms::done()).encode(env),
        Progress::More(next) => tagged(atoms::more(), next),
        Progress::Long(next) => tagged(atoms::long(), next),
    })
}
