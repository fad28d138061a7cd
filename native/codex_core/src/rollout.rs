//! The rollout files that the CLI keeps of its threads: found, split into lines, and summed up.
//!
//! A rollout is a file of JSON lines in `sessions/YYYY/MM/DD/` or `archived_sessions/` of a home,
//! plain or compressed with zstd. Versions of the CLI have written four generations of lines;
//! [`Scanner`] reads all of them. [`scan`] reads one file: it parses only lines that carry facts,
//! keeps one line in memory, and stops when its guard says so.
//!
//! ```
//! use codex_core::rollout::{Scanner, Texts};
//!
//! let mut scanner = Scanner::new("01a21974-9a2c-7ee2-99c0-c701c4970c46", Texts::Title);
//! let line = br#"{"timestamp":"2026-11-26T20:00:00.000Z","type":"event_msg","payload":{}}"#;
//! scanner.line(line, 0);
//! let summary = scanner.finish();
//! assert_eq!((summary.lines, summary.bad_lines), (1, 0));
//! ```

mod codec;
mod file;
mod find;
mod finders;
mod head;
mod index;
mod lines;
mod name;
mod page;
mod payload;
mod place;
mod raw;
mod record;
mod referrers;
mod scanner;
mod spent;
mod store;
mod summary;
mod survey;
mod tokens;
mod turns;
mod walk;

use std::io::{BufReader, Read};
use std::path::Path;

use zstd::stream::read::Decoder;
use zstd::zstd_safe::DCtx;

pub use file::File;
pub use find::contains;
pub use head::Head;
pub use index::{Fresh, Index};
pub use lines::{BLOCK, Line, Lines, MAX_LINE};
pub use name::Name;
pub use page::{Filter, Page, Range};
pub use payload::{HistoryBase, Json, Meta};
pub use place::Place;
pub use raw::{RawLines, plain_size, raw_bytes, raw_lines};
pub use record::{Detail, Kind, Problem, ProblemKind, Record};
pub use referrers::Referrers;
pub use scanner::{Scanner, Seen, Texts};
pub use spent::{Part, Scope, Spent};
pub use store::{FileStamp, LeftOut, NAMES, Store, file_stamp};
pub use summary::{Audit, Cell, Summary, Tally};
pub use survey::Survey;
pub use tokens::Tokens;
pub use turns::{Status, Turn};
pub use walk::{Found, Reason, Skipped, walk};

use crate::files::{self, FileError};

/// Why a rollout was not read to its end.
#[derive(Debug)]
pub enum ScanError {
    /// The file cannot be opened or read, or its compressed content is damaged.
    File(FileError),
    /// The guard stopped the scan.
    Stopped,
    /// The file is shorter than before, or another one.
    Replaced,
}

impl From<FileError> for ScanError {
    fn from(error: FileError) -> Self {
        ScanError::File(error)
    }
}

impl From<std::io::Error> for ScanError {
    fn from(error: std::io::Error) -> Self {
        ScanError::File(FileError::Io(error))
    }
}

/// The plain content of a rollout.
pub type Source = Box<dyn Read + Send>;

/// The content of a rollout file, decompressed if its name ends in `.zst`.
pub fn open(path: &Path) -> Result<Source, FileError> {
    let (file, _) = files::open(path)?;
    match is_compressed(path) {
        true => Ok(Box::new(Decoder::new(file)?)),
        false => Ok(Box::new(file)),
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// The memory of scans: the buffer of lines and the state of the decompressor. Scans of many files
/// use one workspace: memory that is returned after each file costs more time than its lines.
#[derive(Default)]
pub struct Workspace {
    buffer: Vec<u8>,
    context: Option<DCtx<'static>>,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("buffer", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Workspace {
    /// Returns unusual amounts of memory: those of a long line, of a large window.
    fn shrink(&mut self) {
        if self.buffer.len() > KEPT {
            self.buffer = Vec::new();
        }
        self.context.take_if(|context| context.sizeof() > KEPT);
    }
}

/// A part of a workspace that is larger is not kept.
const KEPT: usize = 4 * 1024 * 1024;

/// The compressed bytes that are read at a time.
const INPUT: usize = 256 * 1024;

/// The bytes after which the guard is asked again.
const GUARDED: u64 = 1024 * 1024;

/// Reads one rollout file to its end and sums it up. `thread` is the id of its name. The guard is
/// asked about every MiB whether to go on.
pub fn scan(
    workspace: &mut Workspace,
    path: &Path,
    thread: &str,
    texts: Texts,
    guard: &dyn Fn() -> bool,
) -> Result<Summary, ScanError> {
    let (file, facts) = files::open(path)?;
    // What is appended from now on does not count, and the end needs no read to be found.
    let file = file.take(facts.len());
    let source: Box<dyn Read + '_> = match is_compressed(path) {
        true => {
            let context = workspace.context.get_or_insert_with(DCtx::create);
            Box::new(Decoder::with_context(BufReader::with_capacity(INPUT, file), context))
        }
        false => Box::new(file),
    };
    let mut lines = Lines::with_buffer(source, MAX_LINE, std::mem::take(&mut workspace.buffer));
    let mut scanner = Scanner::new(thread, texts);
    let mut next = GUARDED;
    while let Some(line) = lines.next()? {
        let at = line.offset();
        scanner.read(line);
        if at >= next {
            next = at + GUARDED;
            if !guard() {
                return Err(ScanError::Stopped);
            }
        }
    }
    workspace.buffer = lines.into_buffer();
    workspace.shrink();
    Ok(scanner.finish())
}
