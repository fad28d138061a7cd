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

mod find;
mod finders;
mod head;
mod lines;
mod name;
mod payload;
mod scanner;
mod summary;
mod tokens;
mod turns;
mod walk;

use std::io::Read;
use std::path::Path;

pub use find::contains;
pub use head::Head;
pub use lines::{BLOCK, Line, Lines, MAX_LINE};
pub use name::Name;
pub use payload::{HistoryBase, Meta};
pub use scanner::{Scanner, Seen, Texts};
pub use summary::{Audit, Cell, Summary, Tally};
pub use tokens::Tokens;
pub use turns::{Status, Turn};
pub use walk::{Entry, Found, Reason, Skipped, walk};

use crate::files::{self, FileError};

/// Why a rollout was not read to its end.
#[derive(Debug)]
pub enum ScanError {
    /// The file cannot be opened or read, or its compressed content is damaged.
    File(FileError),
    /// The guard stopped the scan.
    Stopped,
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

/// The content of a rollout file, decompressed if its name ends in `.zst`.
pub fn open(path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
    let (file, _) = files::open(path)?;
    match path.extension().is_some_and(|extension| extension == "zst") {
        true => Ok(Box::new(zstd::stream::read::Decoder::new(file)?)),
        false => Ok(Box::new(file)),
    }
}

/// Reads one rollout file to its end and sums it up. `thread` is the id of its name. The guard is
/// asked about every [`BLOCK`] bytes whether to go on.
pub fn scan(
    path: &Path,
    thread: &str,
    texts: Texts,
    guard: &dyn Fn() -> bool,
) -> Result<Summary, ScanError> {
    let mut lines = Lines::new(open(path)?, MAX_LINE);
    let mut scanner = Scanner::new(thread, texts);
    let mut next = BLOCK as u64;
    while let Some(line) = lines.next()? {
        let at = line.offset();
        scanner.read(line);
        if at >= next {
            next = at + BLOCK as u64;
            if !guard() {
                return Err(ScanError::Stopped);
            }
        }
    }
    Ok(scanner.finish())
}
