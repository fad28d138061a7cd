//! Classification of failures: small and bounded work, whatever the size of the text.

use std::borrow::Cow;

use codex_core::errors::{self, End, Failure, Reset};
use rustler::{Atom, Binary, Encoder, Env, NifResult, OwnedBinary, Term};

mod atoms {
    rustler::atoms! { nil, unix, local }
}

type Names<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<u16>);

/// The text; `{codexErrorInfo, code, type, http_status}`; `{exit_status, signal, started?}` or nil;
/// the time and the local time in seconds. Returns `{kind, retryable?, wait_ms, reset,
/// http_status}` with `{:unix, s}`, `{:local, s}` or nil for the reset.
#[rustler::nif]
fn error_classify<'a>(
    env: Env<'a>,
    text: Binary<'a>,
    (info, code, r#type, http_status): Names<'a>,
    ended: Option<(Option<i32>, Option<i32>, bool)>,
    (now, local_now): (i64, i64),
) -> NifResult<Term<'a>> {
    let ended = ended.map(|(status, signal, started)| End { status, signal, started });
    let text = text.as_slice();
    let verdict =
        errors::classify(&Failure { text, info, http_status, code, r#type, ended, now, local_now });
    // The names are a closed set of ours; nothing that came from outside becomes an atom.
    let kind = Atom::from_str(env, verdict.kind.name())?;
    let resets = reset(env, verdict.resets);
    Ok((kind, verdict.retryable, verdict.wait_ms, resets, verdict.http_status).encode(env))
}

/// Returns the last error on stderr of a program.
#[rustler::nif]
fn error_last_words(text: Binary) -> String {
    errors::last_words(&text)
}

/// The text without stack backtraces.
#[rustler::nif]
fn error_without_stack<'a>(env: Env<'a>, text: Binary<'a>) -> Binary<'a> {
    match errors::without_stack(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(kept) => {
            let mut binary = OwnedBinary::new(kept.len());
            binary.as_mut_slice().copy_from_slice(&kept);
            Binary::from_owned(binary, env)
        }
    }
}

/// `{wait_ms, reset}` of the value of a `Retry-After` header, or nil.
#[rustler::nif]
fn error_retry_after<'a>(env: Env<'a>, value: Binary<'a>, now: i64) -> Term<'a> {
    let read = std::str::from_utf8(&value).ok().and_then(|value| errors::retry_after(value, now));
    match read {
        Some((ms, at)) => (ms, reset(env, at)).encode(env),
        None => atoms::nil().encode(env),
    }
}

/// All kinds that `error_classify` can return.
#[rustler::nif]
fn error_kinds(env: Env<'_>) -> NifResult<Vec<Atom>> {
    errors::Kind::ALL.iter().map(|kind| Atom::from_str(env, kind.name())).collect()
}

fn reset<'a>(env: Env<'a>, reset: Option<Reset>) -> Term<'a> {
    match reset {
        Some(Reset::Unix(at)) => (atoms::unix(), at).encode(env),
        Some(Reset::Local(at)) => (atoms::local(), at).encode(env),
        None => atoms::nil().encode(env),
    }
}
