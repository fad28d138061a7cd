//! The sums of rollouts as terms, and bytes that rollouts hold.

use std::cell::RefCell;
use std::path::PathBuf;

use codex_core::files::FileError;
use codex_core::rollout::{
    self, Audit, Cell, Meta, RawLines, ScanError, Status, Summary, Tally, Tokens, Turn, Workspace,
};
use rustler::{Atom, Binary, Encoder, Env, ResourceArc, Term};

use crate::files::{binary, file_reason};
use crate::pool::{CallResource, PoolResource, answer_guarded, path};
use crate::sink::TermSink;

mod atoms {
    rustler::atoms! {
        ok, error, nil, too_long, damaged, replaced, stopped,
        completed, failed, interrupted, in_progress, unknown,
        meta, generation, models, cwds, title, ended, images, compactions,
        lines, bad_lines, salvaged_lines, long_lines, first_bad,
        rate_limits, turns, spent, before, audit,
        id, started, cwd, originator, cli_version, source, model_provider, git,
        forked_from, parent, history_base,
        status, prompt, answer, model, reverted, inherited, ordinal, offset
    }
}

type Pool = ResourceArc<PoolResource>;
type Call = ResourceArc<CallResource>;

thread_local! {
    /// Threads of the pool end when they are idle, and their memory with them.
    pub static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Tells for each rollout whether its plain content holds these bytes. A file that cannot be read
/// may hold them.
#[rustler::nif]
fn rollout_contains<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    files: Vec<Binary<'a>>,
    bytes: Binary<'a>,
) -> Call {
    let (files, bytes): (Vec<_>, _) = (files.iter().map(path).collect(), bytes.to_vec());
    let work = move |guard: &dyn Fn() -> bool| {
        let contains = |file: &PathBuf| rollout::contains(file, &bytes, guard).unwrap_or(true);
        files.iter().map(contains).collect::<Vec<_>>()
    };
    answer_guarded(env, &pool, reference, work, |env, results| results.encode(env))
}

/// Reads whole lines of a rollout from the beginning of a line on, about `Most` bytes or one line
/// of at most `Longest`: `{ok, Bytes}`, or an error, `{error, too_long}` for a longer line. With 0
/// for `Longest`, any bytes from any position on.
#[rustler::nif]
fn rollout_raw<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    file: Binary<'a>,
    position: u64,
    most: usize,
    longest: usize,
) -> Call {
    let file = path(&file);
    let work = move |guard: &dyn Fn() -> bool| match longest {
        0 => rollout::raw_bytes(&file, position, most, guard).map(RawLines::Bytes),
        _ => rollout::raw_lines(&file, position, most, longest, guard),
    };
    answer_guarded(env, &pool, reference, work, |env, read| match read {
        Ok(RawLines::Bytes(bytes)) => (atoms::ok(), binary(env, &bytes)).encode(env),
        Ok(RawLines::TooLong) => (atoms::error(), atoms::too_long()).encode(env),
        Err(error) => scan_error(env, &error),
    })
}

/// The size of the plain content of a rollout: `{ok, Bytes}` or an error.
#[rustler::nif]
fn rollout_size<'a>(env: Env<'a>, pool: Pool, reference: Term<'a>, file: Binary<'a>) -> Call {
    let file = path(&file);
    let work = move |guard: &dyn Fn() -> bool| rollout::plain_size(&file, guard);
    answer_guarded(env, &pool, reference, work, |env, size| match size {
        Ok(size) => (atoms::ok(), size).encode(env),
        Err(error) => scan_error(env, &error),
    })
}

pub fn scan_error<'e>(env: Env<'e>, error: &ScanError) -> Term<'e> {
    (atoms::error(), scan_reason(env, error)).encode(env)
}

/// An error without a number is that of the decompressor.
pub fn scan_reason<'e>(env: Env<'e>, error: &ScanError) -> Term<'e> {
    match error {
        ScanError::Stopped => atoms::stopped().encode(env),
        ScanError::Replaced => atoms::replaced().encode(env),
        ScanError::File(FileError::Io(error)) if error.raw_os_error().is_none() => {
            atoms::damaged().encode(env)
        }
        ScanError::File(error) => file_reason(env, error),
    }
}

/// The map of a summary.
pub fn summary_term<'e>(env: Env<'e>, summary: &Summary, turns: bool) -> Term<'e> {
    let turns = match turns {
        true => summary.turns.iter().map(|turn| turn_term(env, turn)).collect(),
        false => Vec::new(),
    };
    map(
        env,
        &[
            (atoms::meta(), meta_term(env, &summary.meta)),
            (atoms::generation(), summary.generation.encode(env)),
            (atoms::models(), summary.models.encode(env)),
            (atoms::cwds(), summary.cwds.encode(env)),
            (atoms::title(), summary.title.encode(env)),
            (atoms::ended(), summary.ended.encode(env)),
            (atoms::images(), summary.images.encode(env)),
            (atoms::compactions(), summary.compactions.encode(env)),
            (atoms::lines(), summary.lines.encode(env)),
            (atoms::bad_lines(), summary.bad_lines.encode(env)),
            (atoms::salvaged_lines(), summary.salvaged_lines.encode(env)),
            (atoms::long_lines(), summary.long_lines.encode(env)),
            (atoms::first_bad(), summary.first_bad.encode(env)),
            (atoms::rate_limits(), json(env, summary.rate_limits.as_deref())),
            (atoms::turns(), turns.encode(env)),
            (atoms::spent(), cells(env, &summary.spent())),
            (atoms::before(), cells(env, &summary.before)),
            (atoms::audit(), audit_term(env, &summary.audit)),
        ],
    )
}

fn meta_term<'e>(env: Env<'e>, meta: &Meta) -> Term<'e> {
    let base = meta.history_base.as_ref();
    let base = base.map(|base| {
        (base.thread_id.as_str(), base.end_ordinal_exclusive, base.end_byte_offset).encode(env)
    });
    map(
        env,
        &[
            (atoms::id(), meta.id.encode(env)),
            (atoms::started(), meta.timestamp.encode(env)),
            (atoms::cwd(), meta.cwd.encode(env)),
            (atoms::originator(), meta.originator.encode(env)),
            (atoms::cli_version(), meta.cli_version.encode(env)),
            (atoms::source(), json(env, meta.source.as_ref().map(|json| &*json.0))),
            (atoms::model_provider(), meta.model_provider.encode(env)),
            (atoms::git(), json(env, meta.git.as_ref().map(|json| &*json.0))),
            (atoms::forked_from(), meta.forked_from_id.encode(env)),
            (atoms::parent(), meta.parent_thread_id.encode(env)),
            (atoms::history_base(), base.encode(env)),
        ],
    )
}

fn turn_term<'e>(env: Env<'e>, turn: &Turn) -> Term<'e> {
    let status = match turn.status {
        Status::Completed => atoms::completed(),
        Status::Failed => atoms::failed(),
        Status::Interrupted => atoms::interrupted(),
        Status::InProgress => atoms::in_progress(),
        Status::Unknown => atoms::unknown(),
    };
    map(
        env,
        &[
            (atoms::id(), turn.id.encode(env)),
            (atoms::status(), status.encode(env)),
            (atoms::prompt(), turn.prompt.encode(env)),
            (atoms::answer(), turn.answer.encode(env)),
            (atoms::model(), turn.model.encode(env)),
            (atoms::cwd(), turn.cwd.encode(env)),
            (atoms::reverted(), turn.reverted.encode(env)),
            (atoms::inherited(), turn.inherited.encode(env)),
            (atoms::spent(), cells(env, &turn.spent)),
            (atoms::ordinal(), turn.ordinal.encode(env)),
            (atoms::offset(), turn.offset.encode(env)),
            (atoms::started(), turn.started.encode(env)),
            (atoms::ended(), turn.ended.encode(env)),
        ],
    )
}

fn map<'e>(env: Env<'e>, members: &[(Atom, Term<'e>)]) -> Term<'e> {
    // The keys differ, so that there is a map.
    Term::map_from_pairs(env, members).unwrap_or_else(|_| Term::map_new(env))
}

/// `{Day, Model, Cwd, Calls, Tokens}` for each.
fn cells<'e>(env: Env<'e>, cells: &[Cell]) -> Term<'e> {
    let cells = cells.iter().map(|cell| {
        (cell.day.as_str(), cell.model, cell.cwd, cell.calls, tokens(env, &cell.tokens)).encode(env)
    });
    cells.collect::<Vec<_>>().encode(env)
}

pub fn tokens<'e>(env: Env<'e>, tokens: &Tokens) -> Term<'e> {
    let [input, cached, cache_write, output, reasoning] = tokens.values();
    (input, cached, cache_write, output, reasoning).encode(env)
}

/// Counted, repeated, inherited and foreign reports as `{Calls, Tokens}`, covered reports, resets.
pub fn audit_term<'e>(env: Env<'e>, audit: &Audit) -> Term<'e> {
    let tally = |tally: &Tally| (tally.calls, tokens(env, &tally.tokens)).encode(env);
    let Audit { counted, repeated, inherited, foreign, covered, resets } = audit;
    let (counted, repeated) = (tally(counted), tally(repeated));
    (counted, repeated, tally(inherited), tally(foreign), *covered, *resets).encode(env)
}

/// A member that is kept as JSON. The line around it was parsed, so a fault is one of limits.
pub fn json<'e>(env: Env<'e>, text: Option<&str>) -> Term<'e> {
    const MAX_NODES: u64 = 10_000;
    let Some(text) = text else { return atoms::nil().encode(env) };
    let mut sink = TermSink::new(env, &[]);
    match codex_core::parse_document(&mut sink, text.as_bytes(), MAX_NODES) {
        Ok(value) => sink.term(value),
        Err(_) => atoms::nil().encode(env),
    }
}
