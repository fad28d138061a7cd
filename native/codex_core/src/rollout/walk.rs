//! Finds the rollout files of a home.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
/// A file may move between the two while they are listed, so that it is in both or in neither. The
/// home is listed again then, but not forever.
pub fn walk(home: &Path, guard: &dyn Fn() -> bool) -> Found {
    let archive = home.join("archived_sessions");
    let mut found = Found::default();
    for pass in 0..TRIES {
        let before = modified(&archive);
        let mut walker = Walker { home, guard, found: Found::default(), at: HashMap::new() };
        walker.root("sessions", false, DEPTH);
        walker.root("archived_sessions", true, 1);
        found = match pass {
            0 => walker.found,
            _ => walker.found.after(found, home),
        };
        if before == modified(&archive) && !is_fresh(before) {
            break;
        }
    }
    found
}

impl Found {
    /// Adds files that were found before. Of a rollout that was found at several places, those
    /// where it is not any more are left out; all of them stay if it is on the move.
    fn after(mut self, before: Found, home: &Path) -> Found {
        let known: HashSet<_> = self.entries.iter().map(|entry| entry.path.clone()).collect();
        self.entries.extend(before.entries.into_iter().filter(|old| !known.contains(&old.path)));
        let mut places: HashMap<OsString, u32> = HashMap::new();
        for entry in &self.entries {
            *places.entry(entry.plain_name()).or_default() += 1;
        }
        let is_there = |entry: &Entry| {
            places.get(&entry.plain_name()) == Some(&1) || home.join(&entry.path).exists()
        };
        let (there, gone): (Vec<_>, Vec<_>) = self.entries.into_iter().partition(is_there);
        let names: HashSet<_> = there.iter().map(Entry::plain_name).collect();
        let moving = gone.into_iter().filter(|entry| !names.contains(&entry.plain_name()));
        self.entries = moving.collect();
        self.entries.extend(there);
        self
    }
}

impl Entry {
    /// The name without the ending of compressed files.
    fn plain_name(&self) -> OsString {
        let compressed = self.path.extension().is_some_and(|extension| extension == "zst");
        let name = if compressed { self.path.file_stem() } else { self.path.file_name() };
        name.unwrap_or_default().to_os_string()
    }
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

/// Times of folders are not exact: another change may have the same time.
const FRESH: Duration = Duration::from_millis(20);

fn is_fresh(modified: Option<(i64, i64)>) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    modified.is_some_and(|(seconds, nanos)| {
        let seconds = Duration::from_secs(seconds.try_into().unwrap_or_default());
        let then = seconds + Duration::from_nanos(nanos.try_into().unwrap_or_default());
        now.saturating_sub(then) < FRESH
    })
}

fn modified(folder: &Path) -> Option<(i64, i64)> {
    fs::metadata(folder).ok().map(|facts| (facts.mtime(), facts.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), archived: false, size: 0, modified: 0, inode: 0 }
    }

    fn found(paths: &[&str]) -> Found {
        Found { entries: paths.iter().map(|path| entry(path)).collect(), skipped: Vec::new() }
    }

    #[test]
    fn files_of_an_earlier_look_stay_where_they_are_or_if_they_are_nowhere() {
        let home = tempfile::tempdir().expect("a folder");
        for path in ["a", "b.zst", "d"] {
            std::fs::write(home.path().join(path), "").expect("a file");
        }
        std::fs::create_dir(home.path().join("x")).expect("a folder");
        std::fs::write(home.path().join("x/d"), "").expect("a file");
        let before = found(&["a", "b", "c", "d", "x/e"]);
        let after = found(&["x/a", "b.zst", "x/d", "y/e"]).after(before, home.path());
        let mut paths: Vec<_> = after.entries.iter().filter_map(|e| e.path.to_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["a", "b.zst", "c", "d", "x/d", "x/e", "y/e"]);
    }
}
