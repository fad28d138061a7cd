//! A rollout as a stream of lines: events by the dialect of rollouts, or objects as they stand.

use std::path::Path;
use std::sync::Mutex;

use codex_core::rollout::{
    Head, Line, Lines, MAX_LINE, Place, ScanError, Scanner, Seen, Source, Texts,
};
use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};

use crate::pool::{CallResource, PoolResource, answer_guarded, path};
use crate::rollout::{scan_error, summary_term, tokens};
use crate::sink::TermSink;
use crate::table::{self, Table};

mod atoms {
    rustler::atoms! { ok, error, more, wait, moved, done, none, stopped, event, line, closed }
}

type Pool = ResourceArc<PoolResource>;
type Call = ResourceArc<CallResource>;

/// The index of the dialect in the table.
const DIALECT: usize = 1;

/// Values and keys of a line.
const MAX_NODES: u64 = 2_000_000;

struct Reader {
    lines: Lines<Source>,
    place: Place,
    scanner: Scanner,
    /// The position at which the history that is wanted ends.
    end: u64,
    images: bool,
}

pub struct ReaderResource(Mutex<Option<Reader>>);

impl Resource for ReaderResource {}

/// Why no more lines came.
enum Rest {
    /// The piece is large enough.
    More,
    /// More lines may be written.
    Wait,
    /// More lines may be written, at another place.
    Moved,
    /// The file ends.
    Done,
}

/// Opens a rollout for `rollout_next`: `{ok, Reader}`. `wanted` is `{History, End, Images, Grows}`:
/// with `History`, lines that were copied from another thread are among the lines; `End` is the
/// position at which to stop, or 0. With `Images`, messages of the user stand in the lines once
/// more, with the bytes of their images. With `Grows`, the end of the file is its end for now.
#[rustler::nif]
fn rollout_open<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    file: Binary<'a>,
    thread: String,
    wanted: (bool, u64, bool, bool),
) -> Call {
    let file = path(&file);
    let (history, end, images, grows) = wanted;
    let work = move |guard: &dyn Fn() -> bool| Place::open(&file, 0, guard);
    answer_guarded(env, &pool, reference, work, move |env, opened| match opened {
        Ok((source, place)) => {
            let scanner = Scanner::new(&thread, Texts::Turns).strict();
            let scanner = if history { scanner.with_history() } else { scanner };
            let end = if end == 0 { u64::MAX } else { end };
            let lines = Lines::new(source, MAX_LINE);
            let lines = if grows { lines.growing() } else { lines };
            let reader = Reader { lines, place, scanner, end, images };
            let reader = ResourceArc::new(ReaderResource(Mutex::new(Some(reader))));
            (atoms::ok(), reader).encode(env)
        }
        Err(error) => scan_error(env, &error),
    })
}

/// Reads about so many bytes: `{more, Lines}`, `{done, Lines, Summary}` at the end, or an error. At
/// the end of a file that grows, `{wait, Lines}`, or `{moved, Lines}` if another file or none is at
/// its path. A line is `{Turn, Offset, Time, Ordinal, Tokens, Body}` with the index of its turn or
/// `none`, and the tokens of the turn so far if calls were recorded. The body is `{event, Event}`
/// or `{line, Type, PayloadType, Payload}`.
#[rustler::nif]
fn rollout_next<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    reader: ResourceArc<ReaderResource>,
    bytes: u64,
) -> Call {
    let work = |guard: &dyn Fn() -> bool| guard();
    answer_guarded(env, &pool, reference, work, move |env, wanted| {
        let (Ok(table), Ok(mut slot)) = (table::current(), reader.0.lock()) else {
            return (atoms::error(), atoms::closed()).encode(env);
        };
        if !wanted {
            return (atoms::error(), atoms::stopped()).encode(env);
        }
        let Some(mut reader) = slot.take() else {
            return (atoms::error(), atoms::closed()).encode(env);
        };
        let mut lines = Vec::new();
        let kind = match reader.next(env, &table, bytes, &mut lines) {
            Ok(Rest::More) => atoms::more(),
            Ok(Rest::Wait) => atoms::wait(),
            Ok(Rest::Moved) => atoms::moved(),
            Ok(Rest::Done) => {
                let summary = reader.scanner.finish();
                return (atoms::done(), lines, summary_term(env, &summary, true)).encode(env);
            }
            Err(error) => return scan_error(env, &error),
        };
        *slot = Some(reader);
        (kind, lines).encode(env)
    })
}

/// Goes on at another place of a file that grows, after its last whole line: `ok`, or an error,
/// which leaves the reader as it is.
#[rustler::nif]
fn rollout_reopen<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    reader: ResourceArc<ReaderResource>,
    file: Binary<'a>,
) -> Call {
    let file = path(&file);
    let work = move |guard: &dyn Fn() -> bool| reader.reopen(&file, guard);
    answer_guarded(env, &pool, reference, work, |env, reopened| match reopened {
        Ok(true) => atoms::ok().encode(env),
        Ok(false) => (atoms::error(), atoms::closed()).encode(env),
        Err(error) => scan_error(env, &error),
    })
}

/// The file grows no more: `rollout_next` reads it to its end.
#[rustler::nif]
fn rollout_end(reader: ResourceArc<ReaderResource>) -> Atom {
    if let Ok(mut slot) = reader.0.try_lock()
        && let Some(reader) = slot.as_mut()
    {
        reader.read_on();
        reader.lines.stop_growing();
    }
    atoms::ok()
}

/// Closes the file.
#[rustler::nif]
fn rollout_close(reader: ResourceArc<ReaderResource>) -> Atom {
    // A reader that is locked is in use by a call that nobody waits for; its end closes the file.
    if let Ok(mut slot) = reader.0.try_lock() {
        drop(slot.take());
    }
    atoms::ok()
}

impl ReaderResource {
    /// Returns whether the reader is open.
    fn reopen(&self, file: &Path, guard: &dyn Fn() -> bool) -> Result<bool, ScanError> {
        let Ok(mut slot) = self.0.lock() else { return Ok(false) };
        let Some(reader) = slot.as_mut() else { return Ok(false) };
        let (source, place) = Place::open(file, reader.lines.position(), guard)?;
        reader.lines.replace(source);
        reader.place = place;
        Ok(true)
    }
}

impl Reader {
    fn next<'e>(
        &mut self,
        env: Env<'e>,
        table: &Table,
        bytes: u64,
        out: &mut Vec<Term<'e>>,
    ) -> Result<Rest, ScanError> {
        if self.lines.is_growing() {
            self.read_on();
        }
        let mut first = None;
        loop {
            let Some(line) = self.lines.next()? else { return self.rest() };
            let offset = line.offset();
            if offset >= self.end {
                return Ok(Rest::Done);
            }
            let seen = self.scanner.read(line);
            let bytes_of_line = match line {
                Line::Whole(bytes, _) | Line::Null(bytes, _) | Line::Unended(bytes, _) => bytes,
                Line::TooLong(_) => continue,
            };
            let (bytes_of_line, turn) = match seen {
                Seen::Own(turn) => (bytes_of_line, turn),
                Seen::Salvaged(at, turn) => (&bytes_of_line[at..], turn),
                Seen::Blank | Seen::Other | Seen::Bad => continue,
            };
            let generation = self.scanner.generation();
            if let Some(body) = body(env, table, bytes_of_line, generation, self.images) {
                let (time, ordinal, body) = body;
                let spent = turn.and_then(|turn| self.scanner.tokens(turn));
                let spent = spent.map(|spent| tokens(env, &spent)).encode(env);
                let turn = match turn {
                    Some(turn) => turn.encode(env),
                    None => atoms::none().encode(env),
                };
                out.push((turn, offset, time, ordinal, spent, body).encode(env));
            }
            if offset.saturating_sub(*first.get_or_insert(offset)) >= bytes {
                return Ok(Rest::More);
            }
        }
    }

    /// A compressed file does not grow.
    fn read_on(&mut self) {
        if self.place.is_plain() {
            self.lines.read_on();
        }
    }

    fn rest(&self) -> Result<Rest, ScanError> {
        match self.lines.is_growing() {
            false => Ok(Rest::Done),
            true if self.place.is_current(self.lines.read_to())? => Ok(Rest::Wait),
            true => Ok(Rest::Moved),
        }
    }
}

/// The time, the ordinal and the content of a line.
type Body<'e> = (String, Option<u64>, Term<'e>);

fn body<'e>(
    env: Env<'e>,
    table: &Table,
    line: &[u8],
    generation: u8,
    images: bool,
) -> Option<Body<'e>> {
    let head = Head::read(std::str::from_utf8(line).ok()?)?;
    if !is_wanted(&head, generation, images) {
        return None;
    }
    let (time, ordinal) = (head.time.to_string(), head.ordinal);
    let mut sink = TermSink::new(env, &table.names);
    let value = codex_core::parse_document(&mut sink, line, MAX_NODES).ok()?;
    let whole = sink.term(value);
    let object = match head.envelope {
        true => whole.map_get("payload").ok()?,
        false => whole,
    };
    if head.kind == "event_msg" {
        let dialect = table.dialects.get(DIALECT)?;
        let kind = head.payload_kind.as_bytes();
        let event = dialect.read_typed(&mut sink, kind, object.as_c_arg(), u64::MAX);
        if let Ok(Some(event)) = event {
            return Some((time, ordinal, (atoms::event(), sink.term(event)).encode(env)));
        }
    }
    let body = (atoms::line(), head.kind, head.payload_kind, object).encode(env);
    Some((time, ordinal, body))
}

/// Lines that repeat an event in the form of the model's interface are left out, as are those that
/// tell the model about its world.
fn is_wanted(head: &Head<'_>, generation: u8, images: bool) -> bool {
    match (head.kind, head.payload_kind) {
        ("event_msg" | "session_meta" | "compacted", _) => true,
        ("response_item", "message") => images,
        ("response_item", "ghost_snapshot") => true,
        ("response_item", "reasoning") => false,
        ("response_item", _) => generation < 4,
        ("turn_context" | "world_state" | "token_usage_record" | "state", _) => false,
        _ => true,
    }
}
