//! Reads threads of a store on several threads of the system.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::file::File;
use super::index::{Fresh, Index};
use super::record::Record;
use super::store::Store;
use super::summary::Summary;
use super::{ScanError, Texts, Workspace, scan};
use crate::files::FileError;

/// More threads would take more memory: each has a buffer for its longest line.
const MAX_WORKERS: usize = 4;

/// Less is read by the caller's thread alone.
const SMALL: u64 = 4 * 1024 * 1024;

/// What opening a file costs, in bytes.
const OPENING: u64 = 16 * 1024;

/// Reads threads of a store. The sums of files that have not changed come from the index.
#[derive(Debug)]
pub struct Survey<'a> {
    /// The store.
    pub store: &'a Store,
    /// The index; it has no turns.
    pub index: Option<&'a Index>,
    /// The texts of sums.
    pub texts: Texts,
}

/// One worker: what it has made of its records, and the sums for the index.
struct Worker<S> {
    state: S,
    fresh: Vec<Fresh>,
}

impl Survey<'_> {
    /// Reads the threads of these positions, and hands each record with its place in `wanted` to
    /// the state of a worker. Returns the states and the sums of files that the index did not have;
    /// nothing if the guard stopped it.
    pub fn run<S: Send>(
        &self,
        wanted: &[usize],
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
        new: impl Fn() -> S + Sync,
        take: impl Fn(&mut S, usize, Record) + Sync,
    ) -> Option<(Vec<S>, Vec<Fresh>)> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = |workspace: &mut Workspace, guard: &dyn Fn() -> bool| {
            let mut worker = Worker { state: new(), fresh: Vec::new() };
            let goes_on = || !stopped.load(Ordering::Relaxed) && guard();
            let mut asked = 0;
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(at) = wanted.get(place) else { return worker };
                asked += 1;
                if usize::is_multiple_of(asked, 64) && !goes_on() {
                    stopped.store(true, Ordering::Relaxed);
                }
                if stopped.load(Ordering::Relaxed) {
                    return worker;
                }
                let record = self.record(*at, workspace, &goes_on, &mut worker.fresh);
                take(&mut worker.state, place, record);
            }
        };
        let others = self.workers(wanted).saturating_sub(1);
        let workers: Vec<_> = std::thread::scope(|scope| {
            let helper = || work(&mut Workspace::default(), &|| true);
            let helpers: Vec<_> = (0..others).map(|_| scope.spawn(helper)).collect();
            let own = work(workspace, guard);
            let helpers = helpers.into_iter().map(|helper| match helper.join() {
                Ok(worker) => worker,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            std::iter::once(own).chain(helpers).collect()
        });
        if stopped.load(Ordering::Relaxed) || !guard() {
            return None;
        }
        let (mut states, mut fresh) = (Vec::new(), Vec::new());
        for worker in workers {
            states.push(worker.state);
            fresh.extend(worker.fresh);
        }
        Some((states, fresh))
    }

    /// Reads the thread of one position.
    pub fn one(&self, at: usize, workspace: &mut Workspace, guard: &dyn Fn() -> bool) -> Record {
        self.record(at, workspace, guard, &mut Vec::new())
    }

    fn workers(&self, wanted: &[usize]) -> usize {
        let mut bytes = 0;
        for file in wanted.iter().flat_map(|at| self.store.thread(*at)) {
            if self.index.is_none_or(|index| !index.has(file)) {
                bytes += file.size + OPENING;
            }
            if bytes > SMALL {
                let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
                return cores.min(MAX_WORKERS);
            }
        }
        1
    }

    fn record(
        &self,
        at: usize,
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
        fresh: &mut Vec<Fresh>,
    ) -> Record {
        let files = self.store.thread(at).iter().map(|file| {
            if let Some(summary) = self.index.and_then(|index| index.get(file)) {
                return (file.clone(), Ok(summary));
            }
            let (file, result) = self.read(file, workspace, guard);
            if let (Some(_), Ok(summary)) = (self.index, &result) {
                fresh.push(Fresh::new(&file, summary));
            }
            (file, result.map_err(Arc::new))
        });
        Record { files: files.collect() }
    }

    /// Reads a file. One that is gone is looked for at its other places.
    fn read(
        &self,
        file: &File,
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
    ) -> (File, Result<Summary, ScanError>) {
        let home: &Path = &self.store.home;
        let mut read = |file: &File| {
            scan(workspace, &home.join(file.path()), file.thread(), self.texts, guard)
        };
        match read(file) {
            Err(ScanError::File(FileError::Io(error))) if is_missing(&error) => {
                match file.moved(home) {
                    Some(moved) => {
                        let result = read(&moved);
                        (moved, result)
                    }
                    None => (file.clone(), Err(error.into())),
                }
            }
            result => (file.clone(), result),
        }
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
