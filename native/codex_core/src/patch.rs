//! Patches: the text of the CLI's tool `apply_patch`, and unified diffs.
//!
//! [`parse`] reads a patch, [`plan`] matches it against the files below a directory and writes
//! nothing, and [`Plan::commit`] writes all files or none.
//!
//! ```
//! use codex_core::patch;
//!
//! let patch = "*** Begin Patch\n*** Update File: a\n@@\n-old\n+new\n*** End Patch";
//! let changes = patch::parse(patch)?;
//! assert_eq!(patch::edit("old\n", &changes[0].hunks, changes[0].format)?, "new\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A patch may come from a model. Absolute paths, `..`, links out of the directory, two operations
//! on one path and a move of a file onto itself are refused. Another program that exchanges a
//! directory for a link between the check and the write is not noticed.

mod commit;
mod grammar;
mod lines;
mod matching;
mod tree;
mod unified;

use std::fmt;
use std::io;

pub use commit::Plan;
pub use matching::edit;
pub use tree::{Applied, plan};

/// The limit of a patch and of each file that a patch changes, in bytes.
pub const MAX_BYTES: u64 = crate::files::MAX_BYTES;

/// The form of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text between `*** Begin Patch` and `*** End Patch`. Lines are matched in four passes,
    /// and a changed file always ends with a line end.
    ApplyPatch,
    /// A unified diff. Lines are matched exactly.
    Unified,
}

/// The operation on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes a whole file.
    Add,
    /// Removes a file.
    Delete,
    /// Changes a file, and may move it.
    Update,
}

/// The role of a line in a hunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The line stays.
    Context,
    /// The line is new.
    Add,
    /// The line goes.
    Remove,
}

/// A place of a file that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// A line that stands before the hunk.
    pub anchor: Option<String>,
    /// The number of the first old line, from 1, as a unified diff states it.
    pub start: Option<usize>,
    /// The lines, without line ends.
    pub lines: Vec<(Role, String)>,
    /// The hunk ends with the file.
    pub end_of_file: bool,
    /// The last old line has no line end.
    pub old_unended: bool,
    /// The last new line gets no line end.
    pub new_unended: bool,
}

/// The change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The form of the patch.
    pub format: Format,
    /// The operation.
    pub kind: Kind,
    /// The path, as the patch states it.
    pub path: String,
    /// The new path of a file that moves.
    pub move_to: Option<String>,
    /// The changed places; of a new file, at most one hunk of added lines.
    pub hunks: Vec<Hunk>,
    /// Whether the file becomes executable, if the patch states it.
    pub executable: Option<bool>,
}

impl Change {
    /// The numbers of added and removed lines.
    pub fn counts(&self) -> (usize, usize) {
        let count = |role| {
            let lines = self.hunks.iter().flat_map(|hunk| &hunk.lines);
            lines.filter(|line| line.0 == role).count()
        };
        (count(Role::Add), count(Role::Remove))
    }
}

/// Why a text is not a patch. The words are those that the CLI tells a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// The text as a whole.
    Patch(String),
    /// The line with this number, from 1.
    Line(usize, String),
    /// The patch has no operation.
    Empty,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Patch(words) => write!(f, "invalid patch: {words}"),
            ParseError::Line(line, words) => write!(f, "invalid hunk at line {line}, {words}"),
            ParseError::Empty => f.write_str("the patch has no operations"),
        }
    }
}

impl std::error::Error for ParseError {}

/// Why hunks do not fit a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The file has no such line after the previous hunk.
    Anchor(String),
    /// The file does not have these lines after the previous hunk.
    Lines(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Anchor(anchor) => write!(f, "Failed to find context '{anchor}'"),
            Mismatch::Lines(lines) => write!(f, "Failed to find expected lines:\n{lines}"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Why a change is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The path is absolute.
    Absolute,
    /// The path has a `..`, or a link on it leads out of the directory.
    Traversal,
    /// The path is empty or has a null byte.
    InvalidPath,
    /// Two operations name the file.
    Twice,
    /// The file is moved onto itself.
    OntoItself,
    /// A directory has this path.
    Directory,
    /// Something else than a file has this path.
    NotAFile,
    /// A file of this name exists, and a diff creates it.
    Exists,
    /// The file is not UTF-8.
    NotText,
    /// The file is larger than [`MAX_BYTES`].
    TooLarge,
    /// The hunks do not fit.
    Mismatch(Mismatch),
    /// The file changed between the check and the write.
    Changed,
    /// The operating system refused.
    Io(io::Error),
}

/// A change that is refused, with its path.
#[derive(Debug)]
pub struct Failure {
    /// The path, as the patch states it.
    pub path: String,
    /// The reason.
    pub refusal: Refusal,
}

/// Reads a patch of either form.
pub fn parse(text: &str) -> Result<Vec<Change>, ParseError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(ParseError::Patch(format!("it has more than {MAX_BYTES} bytes")));
    }
    let changes = match unified::is_diff(text) {
        true => unified::parse(text)?,
        false => grammar::parse(text)?,
    };
    if changes.is_empty() { Err(ParseError::Empty) } else { Ok(changes) }
}
