//! Skills below their roots, as one JSON text.

use codex_core::skills;
use rustler::{Atom, Binary, Encoder, Env, ResourceArc, Term};

use crate::files::binary;
use crate::pool::{CallResource, PoolResource, answer_blocking, path};

mod atoms {
    rustler::atoms! { ok, error, native }
}

/// Scans roots, each given with whether links to directories are followed. The answer is
/// `{ok, Json}`: the scans, and `paths` without the links on the way to them.
#[rustler::nif]
fn skills_scan<'a>(
    env: Env<'a>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'a>,
    roots: Vec<(Binary<'a>, bool)>,
    paths: Vec<Binary<'a>>,
) -> ResourceArc<CallResource> {
    let roots: Vec<_> = roots.iter().map(|(root, links)| (path(root), *links)).collect();
    let paths: Vec<_> = paths.iter().map(path).collect();
    let work = move || {
        let scans: Vec<_> = roots.iter().map(|(root, links)| skills::scan(root, *links)).collect();
        skills::to_json(&scans, &paths)
    };
    answer_blocking(env, &pool, reference, work, |env, json| match json {
        Ok(json) => (atoms::ok(), binary(env, &json)).encode(env),
        Err(words) => {
            let reason: (Atom, String) = (atoms::native(), words);
            (atoms::error(), reason).encode(env)
        }
    })
}
