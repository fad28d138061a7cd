//! The JSON Lines decoder as a resource.

use std::sync::{Arc, Mutex};

use codex_core::{Decoder, NullSink, Progress, Sink, WORK};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

use crate::lock::lock;
use crate::sink::TermSink;
use crate::table::{self, Table};

mod atoms {
    rustler::atoms! { done, more, long }
}

pub struct DecoderResource {
    decoder: Mutex<Decoder>,
    table: Arc<Table>,
}

impl Resource for DecoderResource {}

#[rustler::nif]
fn decoder_new(max_line: usize, max_nodes: u64) -> NifResult<ResourceArc<DecoderResource>> {
    let decoder = Mutex::new(Decoder::new(max_line, max_nodes));
    Ok(ResourceArc::new(DecoderResource { decoder, table: table::current()? }))
}

/// Decodes from byte `at` on; returns the lines and the next position.
#[rustler::nif]
fn decoder_feed<'a>(
    env: Env<'a>,
    decoder: ResourceArc<DecoderResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    let (result, work) = feed(env, &decoder, &chunk, at, false)?;
    // A call that did all of the work took some tenths of a millisecond; a timeslice is one.
    rustler::schedule::consume_timeslice(env, (work * 25 / WORK).max(1) as i32);
    Ok(result)
}

/// The same for one line that takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_feed_long<'a>(
    env: Env<'a>,
    decoder: ResourceArc<DecoderResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    Ok(feed(env, &decoder, &chunk, at, true)?.0)
}

/// Decodes a last line without a newline; it may be huge.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_finish<'a>(env: Env<'a>, decoder: ResourceArc<DecoderResource>) -> NifResult<Term<'a>> {
    let mut out = Vec::new();
    let mut sink = TermSink::new(env, &decoder.table.names);
    lock(&decoder.decoder)?.finish(&decoder.table.schema, &mut sink, &mut out);
    let lines = sink.list(&out);
    Ok(sink.term(lines))
}

/// Does the same as `decoder_feed`, with nothing built: the limit that a benchmark compares with.
#[rustler::nif(schedule = "DirtyCpu")]
fn decoder_feed_null(
    decoder: ResourceArc<DecoderResource>,
    chunks: Vec<Binary>,
) -> NifResult<(u64, u64)> {
    let mut guard = lock(&decoder.decoder)?;
    let mut out = Vec::new();
    let mut lines = 0;
    let start = std::time::Instant::now();
    for chunk in &chunks {
        let (mut at, mut long) = (0, false);
        loop {
            let progress =
                guard.feed(&decoder.table.schema, &mut NullSink, chunk, at, long, &mut out);
            lines += out.len() as u64;
            out.clear();
            (at, long) = match progress {
                Progress::Done => break,
                Progress::More(next) => (next, false),
                Progress::Long(next) => (next, true),
            };
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
) -> NifResult<(Term<'a>, u64)> {
    let mut out = Vec::with_capacity(64);
    let mut sink = TermSink::new(env, &decoder.table.names);
    let mut guard = lock(&decoder.decoder)?;
    let progress =
        guard.feed(&decoder.table.schema, &mut sink, chunk.as_slice(), at, may_be_long, &mut out);
    let work = guard.work();
    drop(guard);
    let lines = sink.list(&out);
    let events = sink.term(lines);
    let tagged = |tag: Atom, next: usize| (events, (tag, next)).encode(env);
    let result = match progress {
        Progress::Done => (events, atoms::done()).encode(env),
        Progress::More(next) => tagged(atoms::more(), next),
        Progress::Long(next) => tagged(atoms::long(), next),
    };
    Ok((result, work))
}
