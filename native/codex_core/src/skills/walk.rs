//! Finds the files of skills below a root.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{FILE, Problem, Reason};

/// Folders below a root, as a skill may be nested.
const MAX_DEPTH: usize = 6;
const MAX_DIRECTORIES: usize = 2_000;
const MAX_ENTRIES: usize = 20_000;

/// Returns the paths of the files, breadth first. Hidden directories are left out, and each
/// directory is read once, so that a loop of links ends.
pub fn files(root: &Path, links: bool, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let Ok(root) = root.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    let mut entries = 0;
    let mut seen = HashSet::from([root.clone()]);
    let mut queue = VecDeque::from([(root.clone(), 0)]);
    while let Some((directory, depth)) = queue.pop_front() {
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            Err(why) if why.kind() == ErrorKind::NotADirectory => continue,
            Err(why) => {
                let message = format!("the directory cannot be read: {why}");
                problems.push(Problem::new(&directory, Reason::UnreadableDirectory, message));
                continue;
            }
        };
        for entry in listed.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES || seen.len() > MAX_DIRECTORIES {
                let message = "the search ended: the limits are 2000 directories and 20000 entries";
                problems.push(Problem::new(&root, Reason::Limit, message));
                return found;
            }
            match kind(&entry, links) {
                Entry::Skill(path) => found.push(path),
                Entry::Directory(path) if depth < MAX_DEPTH && seen.insert(path.clone()) => {
                    queue.push_back((path, depth + 1));
                }
                _other => {}
            }
        }
    }
    found
}

enum Entry {
    Skill(PathBuf),
    Directory(PathBuf),
    Other,
}

fn kind(entry: &DirEntry, links: bool) -> Entry {
    let name = entry.file_name();
    let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else { return Entry::Other };
    if name.starts_with('.') {
        return Entry::Other;
    }
    let directory = kind.is_dir() || (links && kind.is_symlink() && entry.path().is_dir());
    if directory {
        entry.path().canonicalize().map_or(Entry::Other, Entry::Directory)
    } else if kind.is_file() && name == FILE {
        Entry::Skill(entry.path())
    } else {
        Entry::Other
    }
}
