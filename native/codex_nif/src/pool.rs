//! Threads for work that may wait. It runs in the pool of a resource and answers its caller with a
//! message `{Ref, Result}`. Exactly one comes, also after a panic, unless the caller gives up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use codex_core::Pool;
use rustler::env::SavedTerm;
use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, NifResult, OwnedEnv, Resource, ResourceArc, Term,
};

use crate::kept_page::KeptPage;

mod atoms {
    rustler::atoms! { ok, error, crashed }
}

pub struct PoolResource {
    pool: Pool,
    pub page: KeptPage,
}

impl Resource for PoolResource {}

/// One call: either its answer is sent, or its caller has given up.
pub struct CallResource(AtomicBool);

impl Resource for CallResource {}

impl CallResource {
    /// Decides the call; false if it was decided before.
    fn decide(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Gives a call up. False if its answer was sent, or is being sent.
#[rustler::nif]
fn pool_give_up(call: ResourceArc<CallResource>) -> bool {
    call.decide()
}

#[rustler::nif]
fn pool_new(env: Env<'_>) -> Term<'_> {
    match Pool::new() {
        Ok(pool) => {
            let pool = PoolResource { pool, page: KeptPage::default() };
            (atoms::ok(), ResourceArc::new(pool)).encode(env)
        }
        Err(error) => (atoms::error(), error.0.to_string()).encode(env),
    }
}

/// A path need not be UTF-8.
pub fn path(bytes: &Binary<'_>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;

    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_path_buf()
}

/// Does work that may block on a thread of the pool, and sends its result. That thread answers
/// itself: each change of threads would take as long as looking at a file. Work that has no thread
/// before its caller gives up is not done.
pub fn answer_blocking<T>(
    env: Env<'_>,
    pool: &ResourceArc<PoolResource>,
    reference: Term<'_>,
    work: impl FnOnce() -> T + Send + 'static,
    encode: impl for<'e> FnOnce(Env<'e>, T) -> Term<'e> + Send + 'static,
) -> ResourceArc<CallResource> {
    let call = ResourceArc::new(CallResource(AtomicBool::new(false)));
    let mut reply = Reply::new(env, pool, reference);
    reply.call = Some(call.clone());
    pool.pool.spawn_blocking(move || {
        if !reply.is_given_up() {
            let result = work();
            reply.send(|env| encode(env, result));
        }
    });
    call
}

/// The same for long work, which asks its guard now and then whether somebody still waits.
pub fn answer_guarded<T>(
    env: Env<'_>,
    pool: &ResourceArc<PoolResource>,
    reference: Term<'_>,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    encode: impl for<'e> FnOnce(Env<'e>, T) -> Term<'e> + Send + 'static,
) -> ResourceArc<CallResource> {
    let call = ResourceArc::new(CallResource(AtomicBool::new(false)));
    let mut reply = Reply::new(env, pool, reference);
    reply.call = Some(call.clone());
    pool.pool.spawn_blocking(move || {
        let result = work(&|| !reply.is_given_up() && is_alive(reply.to));
        reply.send(|env| encode(env, result));
    });
    call
}

fn is_alive(pid: LocalPid) -> bool {
    OwnedEnv::new().run(|env| pid.is_alive(env))
}

/// Does asynchronous work in the pool, and sends its result.
pub fn answer<T: 'static>(
    env: Env<'_>,
    pool: &ResourceArc<PoolResource>,
    reference: Term<'_>,
    work: impl Future<Output = T> + Send + 'static,
    encode: impl for<'e> FnOnce(Env<'e>, T) -> Term<'e> + Send + 'static,
) -> NifResult<Atom> {
    let mut reply = Reply::new(env, pool, reference);
    pool.pool.spawn(async move {
        let result = work.await;
        reply.send(|env| encode(env, result));
    });
    Ok(atoms::ok())
}

struct Reply {
    // The threads stay while somebody waits for them, whoever else lets them go.
    _pool: ResourceArc<PoolResource>,
    to: LocalPid,
    call: Option<ResourceArc<CallResource>>,
    env: Option<(OwnedEnv, SavedTerm)>,
}

impl Reply {
    fn new(env: Env<'_>, pool: &ResourceArc<PoolResource>, reference: Term<'_>) -> Self {
        let own = OwnedEnv::new();
        let saved = own.save(reference);
        Reply { _pool: pool.clone(), to: env.pid(), call: None, env: Some((own, saved)) }
    }

    fn is_given_up(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.0.load(Ordering::Acquire))
    }

    fn send(&mut self, result: impl for<'e> FnOnce(Env<'e>) -> Term<'e>) {
        if let Some((mut own, saved)) = self.env.take()
            && self.call.as_ref().is_none_or(|call| call.decide())
        {
            // A caller that is gone needs no answer.
            let _ = own.send_and_clear(&self.to, |env| {
                let crashed = |_panic| (atoms::error(), atoms::crashed()).encode(env);
                let result = catch_unwind(AssertUnwindSafe(|| result(env)));
                (saved.load(env), result.unwrap_or_else(crashed)).encode(env)
            });
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
