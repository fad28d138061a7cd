//! JSON documents outside the event stream.

use rustler::{Binary, Encoder, Env, Term};

use crate::faults;
use crate::sink::TermSink;

mod atoms {
    rustler::atoms! { ok, error }
}

#[rustler::nif]
fn json_decode<'a>(env: Env<'a>, document: Binary<'a>, max_nodes: u64) -> Term<'a> {
    decode(env, &document, max_nodes)
}

/// The same for documents that may take more than a millisecond.
#[rustler::nif(schedule = "DirtyCpu")]
fn json_decode_long<'a>(env: Env<'a>, document: Binary<'a>, max_nodes: u64) -> Term<'a> {
    decode(env, &document, max_nodes)
}

/// Panics: the tests show that the VM gets an exception, and goes on.
#[rustler::nif]
fn panic() -> bool {
    panic!("on purpose")
}

fn decode<'a>(env: Env<'a>, document: &Binary<'a>, max_nodes: u64) -> Term<'a> {
    let mut sink = TermSink::new(env, &[]);
    match codex_core::parse_document(&mut sink, document.as_slice(), max_nodes) {
        Ok(value) => (atoms::ok(), sink.term(value)).encode(env),
        Err((fault, at)) => (atoms::error(), (faults::atom(fault), at)).encode(env),
    }
}
