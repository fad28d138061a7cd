//! The rollouts of a home at one moment, by thread. Nothing is read but names and facts about
//! files, and the names that threads were given.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::File;
use super::walk::{Found, Skipped, walk, walk_for};
use crate::files::{self, FileError};

/// The file with the names of threads.
pub const NAMES: &str = "session_index.jsonl";

/// The most bytes of it.
const MAX_NAMES: u64 = 64 * 1024 * 1024;

/// The rollouts of a home.
#[derive(Debug, Default)]
pub struct Store {
    /// The home.
    pub home: PathBuf,
    /// The files, those of a thread beside each other, its oldest first.
    pub files: Vec<File>,
    /// The files of each thread as a range, the newest thread first.
    pub threads: Vec<(u32, u32)>,
    /// The names of threads.
    pub names: HashMap<String, String>,
    /// Lines of the file of names that are not names.
    pub bad_names: u64,
    /// The reason why the names were not read.
    pub names_error: Option<FileError>,
    /// Files that are in the home twice.
    pub left_out: Vec<LeftOut>,
    /// Files that are not rollouts.
    pub skipped: Vec<Skipped>,
    /// The segments of all threads.
    segments: HashSet<String>,
}

/// A file that is not read, since another one of the same rollout is.
#[derive(Debug)]
pub struct LeftOut {
    /// The file.
    pub file: File,
    /// The one that is read.
    pub read: File,
}

/// Tells whether a file is as it was at another moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

/// The stamp of a file; nothing if there is none.
pub fn file_stamp(path: &Path) -> Option<FileStamp> {
    let facts = std::fs::metadata(path).ok()?;
    let modified = (facts.mtime(), facts.mtime_nsec());
    Some(FileStamp { size: facts.len(), modified, inode: facts.ino() })
}

impl Store {
    /// Lists the files of a home.
    pub fn open(home: &Path, guard: &dyn Fn() -> bool) -> Store {
        Store::with(home, walk(home, guard))
    }

    /// The store of a home with the files that were found in it.
    pub fn with(home: &Path, found: Found) -> Store {
        let mut store =
            Store { home: home.to_path_buf(), skipped: found.skipped, ..Store::default() };
        store.take(found.files);
        store.read_names();
        store
    }

    /// Tells whether a home is as it was at another moment: the same files of threads, not changed,
    /// and the same names. Equal stamps mean so.
    pub fn stamp(home: &Path, found: &Found) -> u64 {
        let mut stamp = DefaultHasher::new();
        (found, file_stamp(&home.join(NAMES))).hash(&mut stamp);
        stamp.finish()
    }

    /// A rollout may exist twice: live before archived, plain before compressed.
    fn take(&mut self, mut files: Vec<File>) {
        files.sort_unstable_by(|a, b| {
            let ids = (a.thread(), a.rollout()).cmp(&(b.thread(), b.rollout()));
            let place = |file: &File| (file.archived, file.compressed(), file.folder.clone());
            ids.then_with(|| place(a).cmp(&place(b)))
        });
        for file in files {
            match self.files.last() {
                Some(read)
                    if read.rollout() == file.rollout() && read.thread() == file.thread() =>
                {
                    self.left_out.push(LeftOut { read: read.clone(), file });
                }
                _ => {
                    self.segments.extend(file.segment().map(str::to_string));
                    self.files.push(file);
                }
            }
        }
        let mut from = 0;
        for files in self.files.chunk_by_mut(|a, b| a.thread() == b.thread()) {
            files.sort_unstable_by(|a, b| (a.time(), a.rollout()).cmp(&(b.time(), b.rollout())));
            self.threads.push((from, from + files.len() as u32));
            from += files.len() as u32;
        }
        let files = &self.files;
        let key = |(from, _to): &(u32, u32)| {
            let first = &files[*from as usize];
            (first.time(), first.thread())
        };
        self.threads.sort_unstable_by(|a, b| key(b).cmp(&key(a)));
    }

    /// The last line of an id counts.
    fn read_names(&mut self) {
        let text = match files::read(&self.home.join(NAMES), MAX_NAMES) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return,
            Err(error) => return self.names_error = Some(error),
        };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Named>(line) {
                Ok(Named { id, thread_name }) => drop(self.names.insert(id, thread_name)),
                Err(_) if has_id(line) => {}
                Err(_) => self.bad_names += 1,
            }
        }
    }

    /// The files of a thread.
    pub fn thread(&self, at: usize) -> &[File] {
        let (from, to) = self.threads[at];
        &self.files[from as usize..to as usize]
    }

    /// The id of a thread.
    pub fn id(&self, at: usize) -> &str {
        self.files[self.threads[at].0 as usize].thread()
    }

    /// The files of the thread of an id.
    fn of(&self, id: &str) -> &[File] {
        let from = self.files.partition_point(|file| file.thread() < id);
        let count = self.files[from..].iter().take_while(|file| file.thread() == id).count();
        &self.files[from..from + count]
    }

    /// Lists the files of a thread, or the file of a rollout, the oldest first.
    pub fn related(home: &Path, id: &str, guard: &dyn Fn() -> bool) -> Vec<File> {
        let mut store = Store { home: home.to_path_buf(), ..Store::default() };
        store.take(walk_for(home, Some(id), guard).files);
        let of_thread = store.of(id);
        match of_thread.is_empty() {
            true => store.files.iter().filter(|file| file.rollout() == id).cloned().collect(),
            false => of_thread.to_vec(),
        }
    }

    /// Whether there is a file of this thread.
    pub fn has_thread(&self, id: &str) -> bool {
        !self.of(id).is_empty()
    }

    /// Whether there is a file of this rollout.
    pub fn has_rollout(&self, id: &str) -> bool {
        self.segments.contains(id) || self.of(id).iter().any(|file| file.segment().is_none())
    }

    /// The positions of threads by their ids.
    pub fn positions(&self) -> HashMap<&str, usize> {
        (0..self.threads.len()).map(|at| (self.id(at), at)).collect()
    }

    /// The position of a thread.
    pub fn position(&self, id: &str) -> Option<usize> {
        let time = self.of(id).first()?.time();
        let at = self.threads.partition_point(|(from, _)| {
            let first = &self.files[*from as usize];
            (first.time(), first.thread()) > (time, id)
        });
        (at < self.threads.len() && self.id(at) == id).then_some(at)
    }
}

#[derive(Deserialize)]
struct Named {
    id: String,
    thread_name: String,
}

fn has_id(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|line| line.get("id").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_thread_or_of_a_rollout_are_found() {
        let home = tempfile::tempdir().expect("a folder");
        let (thread, other) =
            ("01a21974-8f0c-7940-b1d5-036bc64902f4", "01a21974-8f0c-7940-b1d5-036bc64902f5");
        let segment = "01a21974-9999-7940-b1d5-036bc64902f4";
        let names = [
            format!("sessions/2026/11/26/rollout-2026-11-26T20-03-18-{thread}.jsonl"),
            format!("archived_sessions/rollout-2026-11-26T20-03-18-{thread}.jsonl"),
            format!("sessions/2026/11/27/rollout-2026-11-27T20-03-18-{thread}_{segment}.jsonl.zst"),
            format!("sessions/2026/11/26/rollout-2026-11-26T20-03-18-{other}.jsonl"),
            format!("sessions/2026/11/26/backup-{thread}.jsonl"),
        ];
        for name in &names {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, "x").expect("a file");
        }
        let found = |id: &str| {
            let files = Store::related(home.path(), id, &|| true);
            files.iter().map(|file| file.path().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(thread), [names[0].as_str(), names[2].as_str()]);
        assert_eq!(found(segment), [names[2].as_str()]);
        assert_eq!(found(other), [names[3].as_str()]);
        assert!(found("01a21974-0000-7940-b1d5-036bc64902f4").is_empty());
    }
}
