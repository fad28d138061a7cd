//! Searches for files, on threads of the pool.

use codex_core::search::{Query, SearchError, search};
use rustler::{Binary, Encoder, Env, NifMap, ResourceArc, Term};

use crate::files::posix;
use crate::pool::{CallResource, PoolResource, answer_guarded, path};

mod atoms {
    rustler::atoms! { ok, error, stopped, glob_error, regex_error }
}

#[derive(NifMap)]
struct Options {
    max_results: usize,
    hidden: bool,
    ignored: bool,
    case_sensitive: bool,
}

/// The files below a directory whose paths match a glob, with the lines that match a regular
/// expression, if there is one: `{ok, {[{Path, [{Line, Text}]}], Truncated}}`.
#[rustler::nif]
fn search_files<'a>(
    env: Env<'a>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'a>,
    root: Binary<'a>,
    pattern: String,
    content: Option<String>,
    options: Options,
) -> ResourceArc<CallResource> {
    let query = Query {
        root: path(&root),
        glob: pattern,
        content,
        max_results: options.max_results,
        hidden: options.hidden,
        ignored: options.ignored,
        case_sensitive: options.case_sensitive,
    };
    let work = move |guard: &dyn Fn() -> bool| search(&query, guard);
    answer_guarded(env, &pool, reference, work, |env, result| match result {
        Ok(Some(answer)) => {
            let files: Vec<_> =
                answer.files.into_iter().map(|file| (file.path, file.lines)).collect();
            (atoms::ok(), (files, answer.truncated)).encode(env)
        }
        Ok(None) => (atoms::error(), atoms::stopped()).encode(env),
        Err(SearchError::Glob(words)) => (atoms::error(), (atoms::glob_error(), words)).encode(env),
        Err(SearchError::Regex(words)) => {
            (atoms::error(), (atoms::regex_error(), words)).encode(env)
        }
        Err(SearchError::Io(error)) => (atoms::error(), posix(&error)).encode(env),
    })
}
