//! Finds the rollout files of a home.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::file::File;
use crate::files::Kind;

/// Years, months and days. Deeper folders are not the CLI's.
const DEPTH: usize = 4;

/// A folder that changes while it is listed is listed again, so that a file that moves is not
/// missed; but not forever.
const TRIES: usize = 4;

/// The guard is asked after so many files: it may cost as much as looking at a file.
const GUARDED: usize = 256;

/// A file that is not read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Skipped {
    /// Its path, from the home on.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Default, Hash)]
pub struct Found {
    /// Rollouts, in no order.
    pub files: Vec<File>,
    /// Other files of the same folders.
    pub skipped: Vec<Skipped>,
}

/// Lists the rollouts of a home, live and archived. A home without the folders has none.
///
/// A file may move between the two while they are listed, so that it is in both or in neither. The
/// home is listed again then, but not forever.
pub fn walk(home: &Path, guard: &dyn Fn() -> bool) -> Found {
    walk_for(home, None, guard)
}

/// Lists the rollouts whose name has this id. Facts about other files are not asked for, which is
/// most of the time that a large home takes.
pub(super) fn walk_for(home: &Path, only: Option<&str>, guard: &dyn Fn() -> bool) -> Found {
    let archive = home.join("archived_sessions");
    let mut found = Found::default();
    for pass in 0..TRIES {
        let before = modified(&archive);
        let (found_now, moving) = (Found::default(), HashSet::new());
        let mut walker = Walker { home, only, guard, seen: 0, found: found_now, moving };
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
        let known: HashSet<_> = self.files.iter().map(File::path).collect();
        self.files.extend(before.files.into_iter().filter(|old| !known.contains(&old.path())));
        let mut places: HashMap<String, u32> = HashMap::new();
        for file in &self.files {
            *places.entry(file.plain_name().to_string()).or_default() += 1;
        }
        let is_there = |file: &File| {
            places.get(file.plain_name()) == Some(&1) || home.join(file.path()).exists()
        };
        let (there, gone): (Vec<_>, Vec<_>) = self.files.into_iter().partition(is_there);
        let names: HashSet<_> = there.iter().map(File::plain_name).collect();
        let moving = gone.into_iter().filter(|file| !names.contains(file.plain_name()));
        self.files = moving.collect();
        self.files.extend(there);
        self
    }
}

struct Walker<'a> {
    home: &'a Path,
    /// The id of the wanted files.
    only: Option<&'a str>,
    guard: &'a dyn Fn() -> bool,
    /// The number of names so far.
    seen: usize,
    found: Found,
    /// What was found or skipped in folders that are listed more than once.
    moving: HashSet<PathBuf>,
}

/// A folder that is listed.
struct Folder<'a> {
    /// Where it is, without links.
    real: &'a Path,
    /// Its path, from the home on.
    path: Arc<Path>,
    archived: bool,
    /// The levels of folders from here on.
    depth: usize,
    /// Links may lead to files below this folder.
    root: &'a Path,
    /// It is, or may be, listed again.
    again: bool,
}

impl Walker<'_> {
    fn root(&mut self, name: &str, archived: bool, depth: usize) {
        // The folder itself may be a link to another disk.
        let Ok(real) = fs::canonicalize(self.home.join(name)) else { return };
        self.folder(&real, Path::new(name), archived, depth, &real);
    }

    fn folder(&mut self, real: &Path, path: &Path, archived: bool, depth: usize, root: &Path) {
        let mut folder = Folder { real, path: path.into(), archived, depth, root, again: false };
        for _ in 0..TRIES {
            let (before, first) = (modified(real), self.found.files.len());
            if !self.list(&folder) || before == modified(real) {
                return;
            }
            if !folder.again {
                folder.again = true;
                let files = &self.found.files[first..];
                self.moving.extend(files.iter().map(File::path));
            }
        }
    }

    /// Returns false if the guard says so.
    fn list(&mut self, folder: &Folder<'_>) -> bool {
        let names = match fs::read_dir(folder.real) {
            Ok(names) => names,
            Err(error) => {
                self.skip(folder.path.to_path_buf(), failed(&error));
                return true;
            }
        };
        for name in names {
            self.seen += 1;
            if self.seen.is_multiple_of(GUARDED) && !(self.guard)() {
                return false;
            }
            match name {
                Ok(name) => self.entry(folder, &name),
                Err(error) => self.skip(folder.path.to_path_buf(), failed(&error)),
            }
        }
        true
    }

    fn entry(&mut self, folder: &Folder<'_>, entry: &fs::DirEntry) {
        let Ok(kind) = entry.file_type() else { return };
        let name = entry.file_name();
        if kind.is_dir() {
            if folder.depth > 1 {
                let (real, path) = (folder.real.join(&name), folder.path.join(&name));
                self.folder(&real, &path, folder.archived, folder.depth - 1, folder.root);
            }
            return;
        }
        if self.only.is_some_and(|id| !name.to_str().is_some_and(|name| name.contains(id))) {
            return;
        }
        if folder.again && self.moving.contains(&folder.path.join(&name)) {
            return;
        }
        let file = name.into_string().and_then(|name| {
            File::new(&folder.path, name, folder.archived).map_err(OsString::from)
        });
        let mut file = match file {
            Ok(file) => file,
            Err(name) => return self.skip(folder.path.join(name), Reason::Name),
        };
        let facts = if kind.is_symlink() {
            let target = folder.real.join(&*file.name);
            if !fs::canonicalize(&target).is_ok_and(|to| to.starts_with(folder.root)) {
                return self.skip(file.path(), Reason::Outside);
            }
            fs::metadata(target)
        } else {
            // Relative to the folder, which is open: the system need not look its path up.
            entry.metadata()
        };
        match facts {
            Ok(facts) if facts.is_file() => {
                if folder.again {
                    self.moving.insert(file.path());
                }
                file.modified = facts.mtime().saturating_mul(1_000_000_000) + facts.mtime_nsec();
                (file.size, file.inode) = (facts.len(), facts.ino());
                self.found.files.push(file);
            }
            Ok(facts) => self.skip(file.path(), Reason::Kind(Kind::of(facts.file_type()))),
            // It moved: its new place is listed, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.skip(file.path(), failed(&error)),
        }
    }

    fn skip(&mut self, path: PathBuf, reason: Reason) {
        if self.moving.insert(path.clone()) {
            self.found.skipped.push(Skipped { path, reason });
        }
    }
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

    /// Names are single letters here.
    fn file(path: &str) -> File {
        let path = Path::new(path);
        let folder = path.parent().unwrap_or(Path::new("")).into();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().into();
        File { folder, name, archived: false, size: 0, modified: 0, inode: 0 }
    }

    fn found(paths: &[&str]) -> Found {
        Found { files: paths.iter().map(|path| file(path)).collect(), skipped: Vec::new() }
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
        let mut paths: Vec<_> =
            after.files.iter().map(|file| file.path().display().to_string()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["a", "b.zst", "c", "d", "x/d", "x/e", "y/e"]);
    }
}
