//! Streams of server-sent events as a resource, and values of HTTP headers.

use std::sync::Mutex;

use codex_core::Progress;
use codex_core::http_headers;
use codex_core::sse::{Decoder, Event};
use rustler::{Binary, Encoder, Env, NewBinary, NifResult, Resource, ResourceArc, Term};

use crate::lock::lock;

mod atoms {
    rustler::atoms! { nil, done, more, long, event, retry, too_long }
}

pub struct SseResource(Mutex<Decoder>);

impl Resource for SseResource {}

#[rustler::nif]
fn sse_new(max_event: usize) -> ResourceArc<SseResource> {
    ResourceArc::new(SseResource(Mutex::new(Decoder::new(max_event))))
}

/// Reads from byte `at` on; returns the events and the next position.
#[rustler::nif]
fn sse_feed<'a>(
    env: Env<'a>,
    decoder: ResourceArc<SseResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    feed(env, &decoder, &chunk, at, false)
}

/// The same for input with the end of a long event.
#[rustler::nif(schedule = "DirtyCpu")]
fn sse_feed_long<'a>(
    env: Env<'a>,
    decoder: ResourceArc<SseResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    feed(env, &decoder, &chunk, at, true)
}

/// Returns the challenges of a `WWW-Authenticate` header: scheme, and names with values.
#[rustler::nif]
fn http_challenges<'a>(env: Env<'a>, value: Binary<'a>) -> Term<'a> {
    let found = http_headers::challenges(value.as_slice());
    let terms: Vec<Term> =
        found.iter().map(|challenge| (&challenge.scheme, &challenge.params).encode(env)).collect();
    terms.encode(env)
}

#[rustler::nif]
fn http_header_value(text: &str) -> String {
    http_headers::encode(text)
}

fn feed<'a>(
    env: Env<'a>,
    decoder: &ResourceArc<SseResource>,
    chunk: &Binary<'a>,
    at: usize,
    may_be_long: bool,
) -> NifResult<Term<'a>> {
    let mut decoder = lock(&decoder.0)?;
    let mut events = Vec::new();
    let progress = decoder.feed(chunk.as_slice(), at, may_be_long, &mut events);
    drop(decoder);
    let events: Vec<Term> = events.iter().map(|came| event(env, came)).collect();
    let next = match progress {
        Progress::Done => atoms::done().encode(env),
        Progress::More(next) => (atoms::more(), next).encode(env),
        Progress::Long(next) => (atoms::long(), next).encode(env),
    };
    Ok((events, next).encode(env))
}

fn event<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    match event {
        Event::Message(message) => {
            let kind = optional(env, message.kind.as_deref());
            let id = optional(env, message.id.as_deref());
            (atoms::event(), kind, bytes(env, &message.data), id).encode(env)
        }
        Event::Retry(ms) => (atoms::retry(), *ms).encode(env),
        Event::TooLong(size) => (atoms::too_long(), *size).encode(env),
    }
}

fn optional<'a>(env: Env<'a>, value: Option<&[u8]>) -> Term<'a> {
    value.map_or_else(|| atoms::nil().encode(env), |value| bytes(env, value))
}

fn bytes<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut room = NewBinary::new(env, bytes.len());
    room.as_mut_slice().copy_from_slice(bytes);
    Binary::from(room).to_term(env)
}
