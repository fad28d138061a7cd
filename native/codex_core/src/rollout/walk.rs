//! Finds the rollout files of a home.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::name::Name;
use crate::files::Kind;

/// Years, months and days. Deeper folders are not the CLI's.
const DEPTH: usize = 4;

/// A folder that changes while it is listed is listed again, so that a file that moves is not
/// missed; but not forever.
const TRIES: usize = 4;

/// A rollout file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, from the home on.
    pub path: PathBuf,
    /// Whether it is archived.
    pub archived: bool,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Its number in the file system.
    pub inode: u64,
}

/// A file that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path, from the home on.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its name is not that of a rollout.
    Name,
    /// It is a link out of the home.
    Outside,
    /// It is not a regular file.
    Kind(Kind),
    /// It cannot be looked at; the number of the error, if it has one.
    Io(io::ErrorKind, Option<i32>),
}

/// The files of a home.
#[derive(Debug, Default)]
pub struct Found {
    /// Rollouts, in no order.
    pub entries: Vec<Entry>,
    /// Other files of the same folders.
    pub skipped: Vec<Skipped>,
}

/// Lists the rollouts of a home, live and archived. A home without the folders has none.
///
/// A file may move between the two while they are listed, so that it is in both or its path is
/// gone. It is not missed: archived files are listed before and after the live ones.
pub fn walk(home: &Path, guard: &dyn Fn() -> bool) -> Found {
    let mut walker = Walker { home, guard, found: Found::default(), at: HashMap::new() };
    walker.root("archived_sessions", true, 1);
    walker.root("sessions", false, DEPTH);
    walker.root("archived_sessions", true, 1);
    walker.found
}

struct Walker<'a> {
    home: &'a Path,
    guard: &'a dyn Fn() -> bool,
    found: Found,
    /// What was found or skipped before.
    at: HashMap<PathBuf, ()>,
}

impl Walker<'_> {
    fn root(&mut self, name: &str, archived: bool, depth: usize) {
        // The folder itself may be a link to another disk.
        let Ok(real) = fs::canonicalize(self.home.join(name)) else { return };
        self.folder(&real, PathBuf::from(name), archived, depth, &real);
    }

    fn folder(&mut self, real: &Path, path: PathBuf, archived: bool, depth: usize, root: &Path) {
        for _ in 0..TRIES {
            let before = modified(real);
            match fs::read_dir(real) {
                Ok(names) => {
                    for name in names {
                        if !(self.guard)() {
                            return;
                        }
                        match name {
                            Ok(name) => self.file(real, &path, &name, archived, depth, root),
                            Err(error) => self.skip(path.clone(), failed(&error)),
                        }
                    }
                }
                Err(error) => self.skip(path.clone(), failed(&error)),
            }
            if before == modified(real) {
                return;
            }
        }
    }

    fn file(
        &mut self,
        real: &Path,
        folder: &Path,
        entry: &fs::DirEntry,
        archived: bool,
        depth: usize,
        root: &Path,
    ) {
        let name = entry.file_name();
        let path = folder.join(&name);
        let Ok(kind) = entry.file_type() else { return };
        if kind.is_dir() {
            if depth > 1 {
                self.folder(&real.join(&name), path, archived, depth - 1, root);
            }
            return;
        }
        if self.at.contains_key(&path) {
            return;
        }
        if !is_rollout(&name) {
            return self.skip(path, Reason::Name);
        }
        let target = real.join(&name);
        if kind.is_symlink() && !fs::canonicalize(&target).is_ok_and(|to| to.starts_with(root)) {
            return self.skip(path, Reason::Outside);
        }
        match fs::metadata(&target) {
            Ok(facts) if facts.is_file() => {
                self.at.insert(path.clone(), ());
                let modified = facts.mtime().saturating_mul(1_000_000_000) + facts.mtime_nsec();
                let (size, inode) = (facts.len(), facts.ino());
                self.found.entries.push(Entry { path, archived, size, modified, inode });
            }
            Ok(facts) => self.skip(path, Reason::Kind(Kind::of(facts.file_type()))),
            // It moved: its new place is listed, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.skip(path, failed(&error)),
        }
    }

    fn skip(&mut self, path: PathBuf, reason: Reason) {
        if self.at.insert(path.clone(), ()).is_none() {
            self.found.skipped.push(Skipped { path, reason });
        }
    }
}

fn is_rollout(name: &OsStr) -> bool {
    std::str::from_utf8(name.as_bytes()).is_ok_and(|name| Name::parse(name).is_some())
}

fn failed(error: &io::Error) -> Reason {
    Reason::Io(error.kind(), error.raw_os_error())
}

fn modified(folder: &Path) -> Option<(i64, i64)> {
    fs::metadata(folder).ok().map(|facts| (facts.mtime(), facts.mtime_nsec()))
}
