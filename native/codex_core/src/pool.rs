//! Threads for what may wait: one that drives keyring calls, and a few for files. They end with the
//! pool.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use crate::auth::keyring::MAX_CALLS;

/// Threads that read and write files, made when needed. A disk that hangs (a lost network) holds
/// these and nothing else: calls beyond them wait for their deadline. Beside them there is one for
/// each keyring call, if those block.
const FILE_THREADS: usize = 16;

/// Runs work on [`files`](crate::files) and [credentials](crate::auth) off the caller's thread.
#[derive(Debug)]
pub struct Pool {
    runtime: Option<Runtime>,
}

/// The operating system gave no thread.
#[derive(Debug)]
pub struct PoolError(pub std::io::Error);

impl Pool {
    /// Starts the threads.
    pub fn new() -> Result<Self, PoolError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(FILE_THREADS + MAX_CALLS)
            .thread_name("codex_files")
            .enable_all()
            .build()
            .map_err(PoolError)?;
        Ok(Pool { runtime: Some(runtime) })
    }

    /// Starts some work and returns at once.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(runtime.spawn(work));
        }
    }

    /// Starts work that may block its thread, and returns at once.
    pub fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(runtime.spawn_blocking(work));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Never waits: this may run on a scheduler.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
