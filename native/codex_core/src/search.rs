//! Searches for files below a directory, by the glob of their paths and by a regular expression in
//! their lines.
//!
//! [`search`] first walks the tree on a few threads, and then reads the files in the order of their
//! paths until it has enough. Ignore files count as for ripgrep, links are not followed, and files
//! with a NUL byte are left out. The work is bounded: by files, by their size, by the matches of a
//! file, by the length of a line and by all text together.

mod lines;

use std::fs::File;
use std::io::{self, Read};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use ignore::{WalkBuilder, WalkState};
use memchr::memchr;

use lines::{Lines, Matches};

/// Threads of one search.
const MAX_THREADS: usize = 4;
/// Files whose paths match, before the search stops.
const MAX_FILES: usize = 500_000;
/// Bytes of a file whose lines are searched; larger files are left out.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Bytes of all lines together.
const MAX_TEXTS: usize = 4 * 1024 * 1024;
/// Files that all threads read before it is known whether more are needed.
const BATCH: usize = 64;
/// How often the guard is asked.
const POLL: Duration = Duration::from_millis(5);

/// A search.
#[derive(Debug, Clone)]
pub struct Query {
    /// The directory.
    pub root: PathBuf,
    /// The glob of the paths, which begin at the directory. `*` does not match `/`, `**` does.
    pub glob: String,
    /// The regular expression of lines; without one, files are found by their paths alone.
    pub content: Option<String>,
    /// The number of files to return.
    pub max_results: usize,
    /// Whether files and directories whose names begin with a dot count.
    pub hidden: bool,
    /// Whether files that `.gitignore` and the like name count.
    pub ignored: bool,
    /// Whether the regular expression distinguishes upper and lower case.
    pub case_sensitive: bool,
}

/// A file that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path from the directory on. Invalid UTF-8 becomes U+FFFD.
    pub path: String,
    /// The lines that match, with their numbers from 1 on.
    pub lines: Vec<(usize, String)>,
}

/// The files that match, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The files.
    pub files: Vec<Found>,
    /// Whether there may be more files or lines.
    pub truncated: bool,
}

/// A search that is not done.
#[derive(Debug)]
pub enum SearchError {
    /// The glob is invalid; the words are for people.
    Glob(String),
    /// The regular expression is invalid; the words are for people.
    Regex(String),
    /// The directory cannot be read.
    Io(io::Error),
}

/// Searches. The guard is asked every few milliseconds; when it returns false, the search stops and
/// returns `None`.
pub fn search(query: &Query, guard: &dyn Fn() -> bool) -> Result<Option<Answer>, SearchError> {
    let glob = GlobBuilder::new(query.glob.strip_prefix("./").unwrap_or(&query.glob))
        .literal_separator(true)
        .build()
        .map_err(|error| SearchError::Glob(error.to_string()))?
        .compile_matcher();
    let regex = match &query.content {
        Some(pattern) => Some(Lines::new(pattern, query.case_sensitive)?),
        None => None,
    };
    std::fs::read_dir(&query.root).map_err(SearchError::Io)?;
    Ok(watched(guard, |stop| run(query, &glob, regex.as_ref(), stop)))
}

/// Runs the work on threads of its own, and asks the guard meanwhile.
fn watched<T: Send>(
    guard: &dyn Fn() -> bool,
    work: impl FnOnce(&AtomicBool) -> T + Send,
) -> Option<T> {
    let stop = &AtomicBool::new(!guard());
    let (running, ended) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let _running = running;
            work(stop)
        });
        while ended.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            if !guard() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        worker.join()
    });
    match result {
        Ok(result) => (!stop.load(Ordering::Relaxed)).then_some(result),
        Err(panic) => resume_unwind(panic),
    }
}

fn run(query: &Query, glob: &GlobMatcher, regex: Option<&Lines>, stop: &AtomicBool) -> Answer {
    let (mut paths, full) = walk(query, glob, stop);
    paths.sort();
    let mut answer = match regex {
        Some(regex) => read(query, &paths, regex, stop),
        None => listed(query, &paths),
    };
    answer.truncated |= full;
    answer
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS))
}

/// The paths that match, in any order, and whether there were too many.
fn walk(query: &Query, glob: &GlobMatcher, stop: &AtomicBool) -> (Vec<PathBuf>, bool) {
    let found = Mutex::new(Vec::new());
    let full = AtomicBool::new(false);
    let walker = WalkBuilder::new(&query.root)
        .hidden(!query.hidden)
        .ignore(!query.ignored)
        .git_ignore(!query.ignored)
        .git_exclude(!query.ignored)
        .git_global(false)
        .parents(!query.ignored)
        .follow_links(false)
        .threads(threads())
        .build_parallel();
    walker.run(|| {
        Box::new(|entry| {
            if stop.load(Ordering::Relaxed) || full.load(Ordering::Relaxed) {
                return WalkState::Quit;
            }
            // A directory that cannot be read has no files.
            let Ok(entry) = entry else { return WalkState::Continue };
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                return WalkState::Continue;
            }
            let path = entry.path().strip_prefix(&query.root).unwrap_or(entry.path());
            if glob.is_match(path) {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if found.len() == MAX_FILES {
                    full.store(true, Ordering::Relaxed);
                    return WalkState::Quit;
                }
                found.push(path.to_path_buf());
            }
            WalkState::Continue
        })
    });
    (found.into_inner().unwrap_or_else(PoisonError::into_inner), full.into_inner())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn listed(query: &Query, paths: &[PathBuf]) -> Answer {
    let files = paths.iter().take(query.max_results);
    let files = files.map(|path| Found { path: text(path), lines: Vec::new() }).collect();
    Answer { files, truncated: paths.len() > query.max_results }
}

/// The files with lines that match, up to the limits.
fn read(query: &Query, paths: &[PathBuf], regex: &Lines, stop: &AtomicBool) -> Answer {
    let mut answer = Answer::default();
    let mut bytes = 0;
    for batch in paths.chunks(BATCH) {
        for (path, (lines, more)) in batch.iter().zip(matches(query, batch, regex, stop)) {
            if stop.load(Ordering::Relaxed) || lines.is_empty() {
                continue;
            }
            if answer.files.len() == query.max_results || bytes > MAX_TEXTS {
                answer.truncated = true;
                return answer;
            }
            bytes += lines.iter().map(|(_, text)| text.len()).sum::<usize>();
            answer.truncated |= more;
            answer.files.push(Found { path: text(path), lines });
        }
        if stop.load(Ordering::Relaxed) {
            return answer;
        }
    }
    answer
}

/// The matches of a batch of files, in its order.
fn matches(query: &Query, batch: &[PathBuf], regex: &Lines, stop: &AtomicBool) -> Vec<Matches> {
    let next = &AtomicUsize::new(0);
    let worker = move || {
        let mut found = Vec::new();
        let mut buffer = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = batch.get(index) else { break };
            buffer.clear();
            if content(&query.root.join(path), &mut buffer).is_ok() {
                found.push((index, regex.find(&buffer, stop)));
            }
        }
        found
    };
    let mut results = vec![Matches::default(); batch.len()];
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads()).map(|_| scope.spawn(worker)).collect();
        let mut found = worker();
        for worker in workers {
            match worker.join() {
                Ok(more) => found.extend(more),
                Err(panic) => resume_unwind(panic),
            }
        }
        for (index, matches) in found {
            results[index] = matches;
        }
    });
    results
}

/// Reads a text of limited size. A pipe that has taken the place of the file would block.
fn content(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.take(MAX_FILE).read_to_end(buffer)?;
    match memchr(0, buffer) {
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
