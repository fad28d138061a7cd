//! The client's end of a WebSocket as a resource.

use std::sync::Mutex;

use codex_core::Progress;
use codex_core::websocket::{Event, Failure, WebSocket};
use rustler::{Binary, Encoder, Env, NewBinary, NifResult, Resource, ResourceArc, Term};

use crate::lock::lock;

mod atoms {
    rustler::atoms! { nil, done, more, long, text, binary, closed, too_long, not_utf8, protocol }
}

pub struct SocketResource(Mutex<WebSocket>);

impl Resource for SocketResource {}

#[rustler::nif]
fn websocket_new(max_message: usize) -> ResourceArc<SocketResource> {
    ResourceArc::new(SocketResource(Mutex::new(WebSocket::new(max_message))))
}

/// Reads from byte `at` on; returns the events, the bytes to send, and the next position.
#[rustler::nif]
fn websocket_feed<'a>(
    env: Env<'a>,
    socket: ResourceArc<SocketResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    feed(env, &socket, &chunk, at, false)
}

/// The same for input with the end of a long message.
#[rustler::nif(schedule = "DirtyCpu")]
fn websocket_feed_long<'a>(
    env: Env<'a>,
    socket: ResourceArc<SocketResource>,
    chunk: Binary<'a>,
    at: usize,
) -> NifResult<Term<'a>> {
    feed(env, &socket, &chunk, at, true)
}

/// Returns a text as a frame; empty if the connection has been closed.
#[rustler::nif]
fn websocket_text<'a>(
    env: Env<'a>,
    socket: ResourceArc<SocketResource>,
    text: &str,
) -> NifResult<Term<'a>> {
    frame(env, &socket, text)
}

/// The same for a text that takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn websocket_text_long<'a>(
    env: Env<'a>,
    socket: ResourceArc<SocketResource>,
    text: &str,
) -> NifResult<Term<'a>> {
    frame(env, &socket, text)
}

/// Returns a ping as a frame; empty if the connection has been closed.
#[rustler::nif]
fn websocket_ping<'a>(env: Env<'a>, socket: ResourceArc<SocketResource>) -> NifResult<Term<'a>> {
    let mut socket = lock(&socket.0)?;
    let _ = socket.ping();
    Ok(bytes(env, &socket.take_output()))
}

/// Returns a close frame; empty if there was one.
#[rustler::nif]
fn websocket_close<'a>(env: Env<'a>, socket: ResourceArc<SocketResource>) -> NifResult<Term<'a>> {
    let mut socket = lock(&socket.0)?;
    socket.close();
    Ok(bytes(env, &socket.take_output()))
}

fn feed<'a>(
    env: Env<'a>,
    socket: &ResourceArc<SocketResource>,
    chunk: &Binary<'a>,
    at: usize,
    may_be_long: bool,
) -> NifResult<Term<'a>> {
    let mut socket = lock(&socket.0)?;
    let mut events = Vec::new();
    let progress = socket.feed(chunk.as_slice(), at, may_be_long, &mut events);
    let output = bytes(env, &socket.take_output());
    drop(socket);
    let events: Vec<Term> = events.iter().map(|came| event(env, came)).collect();
    let next = match progress {
        Progress::Done => atoms::done().encode(env),
        Progress::More(next) => (atoms::more(), next).encode(env),
        Progress::Long(next) => (atoms::long(), next).encode(env),
    };
    Ok((events, output, next).encode(env))
}

fn frame<'a>(
    env: Env<'a>,
    socket: &ResourceArc<SocketResource>,
    text: &str,
) -> NifResult<Term<'a>> {
    let mut socket = lock(&socket.0)?;
    let _ = socket.text(text);
    Ok(bytes(env, &socket.take_output()))
}

fn event<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    match event {
        Event::Text(text) => (atoms::text(), bytes(env, text.as_str().as_bytes())).encode(env),
        Event::Binary(size) => (atoms::binary(), *size).encode(env),
        Event::Closed { code, reason } => (atoms::closed(), (*code, reason.as_str())).encode(env),
        Event::Failed(Failure::TooLong(size)) => (atoms::too_long(), *size).encode(env),
        Event::Failed(Failure::NotUtf8) => (atoms::not_utf8(), atoms::nil()).encode(env),
        Event::Failed(Failure::Protocol(rule)) => (atoms::protocol(), rule.as_str()).encode(env),
    }
}

fn bytes<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut room = NewBinary::new(env, bytes.len());
    room.as_mut_slice().copy_from_slice(bytes);
    Binary::from(room).to_term(env)
}
