//! Patches: read, matched and written on threads of the pool.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use codex_core::patch::{
    self, Applied, Change, Failure, Format, Hunk, Kind, Mismatch, ParseError, Refusal, Role,
};
use rustler::{Binary, Encoder, Env, NifMap, NifUnitEnum, ResourceArc, Term};

use crate::files::{binary, posix};
use crate::pool::{CallResource, PoolResource, answer_blocking, answer_guarded, path};

mod atoms {
    rustler::atoms! {
        ok, error, nil, stopped, parse_error, empty_patch, apply_patch, unified_diff,
        add, delete, update,
        absolute_path_not_allowed, path_traversal, invalid_path, multiple_operations,
        move_onto_itself, is_a_directory, not_a_file, eexist, not_text, file_too_large,
        context_mismatch, missing_anchor, changed
    }
}

type Pool = ResourceArc<PoolResource>;
type Call = ResourceArc<CallResource>;

#[derive(NifUnitEnum)]
enum RoleTerm {
    Context,
    Add,
    Remove,
}

#[derive(NifMap)]
struct HunkTerm {
    anchor: Option<String>,
    start: Option<usize>,
    lines: Vec<(RoleTerm, String)>,
    end_of_file: bool,
    old_unended: bool,
    new_unended: bool,
}

impl From<&Hunk> for HunkTerm {
    fn from(hunk: &Hunk) -> Self {
        let role = |role| match role {
            Role::Context => RoleTerm::Context,
            Role::Add => RoleTerm::Add,
            Role::Remove => RoleTerm::Remove,
        };
        HunkTerm {
            anchor: hunk.anchor.clone(),
            start: hunk.start,
            lines: hunk.lines.iter().map(|line| (role(line.0), line.1.clone())).collect(),
            end_of_file: hunk.end_of_file,
            old_unended: hunk.old_unended,
            new_unended: hunk.new_unended,
        }
    }
}

impl From<HunkTerm> for Hunk {
    fn from(hunk: HunkTerm) -> Self {
        let role = |role| match role {
            RoleTerm::Context => Role::Context,
            RoleTerm::Add => Role::Add,
            RoleTerm::Remove => Role::Remove,
        };
        Hunk {
            anchor: hunk.anchor,
            start: hunk.start,
            lines: hunk.lines.into_iter().map(|line| (role(line.0), line.1)).collect(),
            end_of_file: hunk.end_of_file,
            old_unended: hunk.old_unended,
            new_unended: hunk.new_unended,
        }
    }
}

/// The changes of a patch, as `{ok, [{Format, Kind, Path, MoveTo, Hunks, Added, Removed}]}`.
#[rustler::nif]
fn patch_parse<'a>(env: Env<'a>, pool: Pool, reference: Term<'a>, text: Binary<'a>) -> Call {
    let text = String::from_utf8_lossy(&text).into_owned();
    let work = move || patch::parse(&text);
    answer_blocking(env, &pool, reference, work, |env, result| match result {
        Ok(changes) => {
            let changes: Vec<_> = changes.iter().map(|change| change_term(env, change)).collect();
            (atoms::ok(), changes).encode(env)
        }
        Err(error) => parse_error(env, &error),
    })
}

fn change_term<'e>(env: Env<'e>, change: &Change) -> Term<'e> {
    let format = match change.format {
        Format::ApplyPatch => atoms::apply_patch(),
        Format::Unified => atoms::unified_diff(),
    };
    let hunks: Vec<_> = change.hunks.iter().map(HunkTerm::from).collect();
    let (added, removed) = change.counts();
    let kind = kind_term(env, change.kind);
    (format, kind, &change.path, &change.move_to, hunks, added, removed).encode(env)
}

fn kind_term(env: Env<'_>, kind: Kind) -> Term<'_> {
    match kind {
        Kind::Add => atoms::add(),
        Kind::Delete => atoms::delete(),
        Kind::Update => atoms::update(),
    }
    .encode(env)
}

fn parse_error<'e>(env: Env<'e>, error: &ParseError) -> Term<'e> {
    let tag = match error {
        ParseError::Empty => atoms::empty_patch(),
        _ => atoms::parse_error(),
    };
    (atoms::error(), (tag, error.to_string())).encode(env)
}

/// Applies hunks to a text. Hunks with a line number are those of a diff.
#[rustler::nif]
fn patch_edit<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    content: Binary<'a>,
    hunks: Vec<HunkTerm>,
) -> Call {
    let content = content.to_vec();
    let work = move || {
        let hunks: Vec<Hunk> = hunks.into_iter().map(Hunk::from).collect();
        let format = match hunks.iter().any(|hunk| hunk.start.is_some()) {
            true => Format::Unified,
            false => Format::ApplyPatch,
        };
        let text = String::from_utf8(content).map_err(|_| Refusal::NotText)?;
        patch::edit(&text, &hunks, format).map_err(Refusal::Mismatch)
    };
    answer_blocking(env, &pool, reference, work, |env, result| match result {
        Ok(text) => (atoms::ok(), text).encode(env),
        Err(refusal) => (atoms::error(), refusal_term(env, &refusal)).encode(env),
    })
}

/// Applies a patch below a directory: `{ok, [{Kind, Path, MovePath}]}`. The paths of the patch
/// begin at `folder`, a path from `root` on, if it is not empty. Nothing is written if the caller
/// does not wait any more.
#[rustler::nif]
fn patch_apply<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    root: Binary<'a>,
    folder: String,
    text: Binary<'a>,
    dry_run: bool,
) -> Call {
    let (root, text) = (path(&root), String::from_utf8_lossy(&text).into_owned());
    let work = move |guard: &dyn Fn() -> bool| apply(&root, &folder, &text, dry_run, guard);
    answer_guarded(env, &pool, reference, work, |env, result| match result {
        Ok(Some(applied)) => {
            let applied: Vec<_> = applied.iter().map(|one| applied_term(env, one)).collect();
            (atoms::ok(), applied).encode(env)
        }
        Ok(None) => (atoms::error(), atoms::stopped()).encode(env),
        Err(Failed::Parse(error)) => parse_error(env, &error),
        Err(Failed::Refused(failure)) => {
            let reason = refusal_term(env, &failure.refusal);
            (atoms::error(), (failure.path, reason)).encode(env)
        }
    })
}

enum Failed {
    Parse(ParseError),
    Refused(Failure),
}

fn apply(
    root: &Path,
    folder: &str,
    text: &str,
    dry_run: bool,
    guard: &dyn Fn() -> bool,
) -> Result<Option<Vec<Applied>>, Failed> {
    let mut changes = patch::parse(text).map_err(Failed::Parse)?;
    for change in changes.iter_mut().filter(|_| !folder.is_empty()) {
        for path in std::iter::once(&mut change.path).chain(&mut change.move_to) {
            // An absolute path stays one, and is refused.
            if !path.starts_with('/') {
                *path = format!("{folder}/{path}");
            }
        }
    }
    let plan = patch::plan(root, &changes).map_err(Failed::Refused)?;
    let done = dry_run || plan.commit(guard).map_err(Failed::Refused)?;
    Ok(done.then(|| plan.applied().to_vec()))
}

fn applied_term<'e>(env: Env<'e>, applied: &Applied) -> Term<'e> {
    let path = |path: &Path| binary(env, path.as_os_str().as_bytes());
    let moved = applied.move_to.as_deref().map_or(atoms::nil().encode(env), path);
    (kind_term(env, applied.kind), path(&applied.path), moved).encode(env)
}

fn refusal_term<'e>(env: Env<'e>, refusal: &Refusal) -> Term<'e> {
    let atom = match refusal {
        Refusal::Absolute => atoms::absolute_path_not_allowed(),
        Refusal::Traversal => atoms::path_traversal(),
        Refusal::InvalidPath => atoms::invalid_path(),
        Refusal::Twice => atoms::multiple_operations(),
        Refusal::OntoItself => atoms::move_onto_itself(),
        Refusal::Directory => atoms::is_a_directory(),
        Refusal::NotAFile => atoms::not_a_file(),
        Refusal::Exists => atoms::eexist(),
        Refusal::NotText => atoms::not_text(),
        Refusal::TooLarge => atoms::file_too_large(),
        Refusal::Changed => atoms::changed(),
        Refusal::Io(error) => posix(error),
        Refusal::Mismatch(mismatch) => {
            let tag = match mismatch {
                Mismatch::Anchor(_) => atoms::missing_anchor(),
                Mismatch::Lines(_) => atoms::context_mismatch(),
            };
            return (tag, mismatch.to_string()).encode(env);
        }
    };
    atom.encode(env)
}
