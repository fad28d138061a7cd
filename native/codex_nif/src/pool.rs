//! Threads for what may wait. Work runs in the pool of a resource and answers its caller with a
//! message `{Ref, Result}`. Exactly one comes, also after a panic.

use std::path::{Path, PathBuf};

use codex_core::Pool;
use rustler::env::SavedTerm;
use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, NifResult, OwnedEnv, Resource, ResourceArc, Term,
};

mod atoms {
    rustler::atoms! { ok, error, crashed }
}

pub struct PoolResource(Pool);

impl Resource for PoolResource {}

#[rustler::nif]
fn pool_new(env: Env<'_>) -> Term<'_> {
    match Pool::new() {
        Ok(pool) => (atoms::ok(), ResourceArc::new(PoolResource(pool))).encode(env),
        Err(error) => (atoms::error(), error.0.to_string()).encode(env),
    }
}

/// A path need not be UTF-8.
pub fn path(bytes: &Binary<'_>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;

    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_path_buf()
}

/// Does the work in the pool, and sends what came of it.
pub fn answer<T: 'static>(
    env: Env<'_>,
    pool: &ResourceArc<PoolResource>,
    reference: Term<'_>,
    work: impl Future<Output = T> + Send + 'static,
    encode: impl for<'e> FnOnce(Env<'e>, T) -> Term<'e> + Send + 'static,
) -> NifResult<Atom> {
    let mut reply = Reply::new(env, pool, reference);
    pool.0.spawn(async move {
        let result = work.await;
        reply.send(|env| encode(env, result));
    });
    Ok(atoms::ok())
}

struct Reply {
    // The threads stay while somebody waits for them, whoever else lets them go.
    _pool: ResourceArc<PoolResource>,
    to: LocalPid,
    env: Option<(OwnedEnv, SavedTerm)>,
}

impl Reply {
    fn new(env: Env<'_>, pool: &ResourceArc<PoolResource>, reference: Term<'_>) -> Self {
        let own = OwnedEnv::new();
        let saved = own.save(reference);
        Reply { _pool: pool.clone(), to: env.pid(), env: Some((own, saved)) }
    }

    fn send(&mut self, result: impl for<'e> FnOnce(Env<'e>) -> Term<'e>) {
        if let Some((mut own, saved)) = self.env.take() {
            // A caller that is gone needs no answer.
            let _ = own.send_and_clear(&self.to, |env| (saved.load(env), result(env)).encode(env));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // A panic unwinds a thread of the pool; anywhere else nothing may be sent from here.
        if std::thread::panicking() {
            self.send(|env| (atoms::error(), atoms::crashed()).encode(env));
        }
    }
}
