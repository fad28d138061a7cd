//! Matches a patch against the files below a directory.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::commit::{Plan, Removal, Write};
use super::{Change, Failure, Format, Kind, MAX_BYTES, Mismatch, Refusal, edit};
use crate::files::{self, FileError};

/// A longer chain of links is a loop. The kernel has the same limit.
const MAX_LINKS: usize = 40;

/// A change of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The operation.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// The new path of a file that moves.
    pub move_to: Option<PathBuf>,
}

/// Matches changes against the files below `root`, and writes nothing.
pub fn plan(root: &Path, changes: &[Change]) -> Result<Plan, Failure> {
    let real = fs::canonicalize(root).and_then(|real| match real.is_dir() {
        true => Ok(real),
        false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
    });
    let real = real.map_err(|error| Failure {
        path: root.to_string_lossy().into_owned(),
        refusal: Refusal::Io(error),
    })?;
    let mut planner = Planner { root, real, plan: Plan::default(), uses: HashMap::new() };
    for change in changes {
        planner.change(change).map_err(|(path, refusal)| Failure {
            path: path.unwrap_or(&change.path).to_string(),
            refusal,
        })?;
    }
    Ok(planner.plan)
}

/// The uses of a path by operations.
#[derive(Default)]
struct Use {
    /// An operation leaves a file there.
    written: bool,
    /// A file is changed there or deleted.
    changed: bool,
    /// A file is moved away.
    moved: bool,
}

struct Planner<'a> {
    root: &'a Path,
    real: PathBuf,
    plan: Plan,
    uses: HashMap<PathBuf, Use>,
}

type Refused<'c> = (Option<&'c str>, Refusal);

impl Planner<'_> {
    fn change<'c>(&mut self, change: &'c Change) -> Result<(), Refused<'c>> {
        let own = |refusal| (None, refusal);
        let file = self.resolve(&change.path, true).map_err(own)?;
        let entry = self.resolve(&change.path, false).map_err(own)?;
        let mut applied =
            Applied { kind: change.kind, path: self.root.join(&change.path), move_to: None };
        match (change.kind, &change.move_to) {
            (Kind::Add, _) => self.add(change, file).map_err(own)?,
            (Kind::Delete, _) => {
                self.take(&file, |u| &mut u.changed).map_err(own)?;
                let text = read(&file).map_err(own)?;
                // The diff holds the content.
                if change.format == Format::Unified && !change.hunks.is_empty() {
                    let rest = edit(&text, &change.hunks, change.format)
                        .map_err(|mismatch| own(Refusal::Mismatch(mismatch)))?;
                    if !rest.is_empty() {
                        return Err(own(Refusal::Mismatch(Mismatch::Lines(String::new()))));
                    }
                }
                self.remove(change, entry, text);
            }
            (Kind::Update, None) => {
                self.take(&file, |u| &mut u.changed).map_err(own)?;
                let (before, after) = updated(&file, change).map_err(own)?;
                writable(&file).map_err(own)?;
                let mode = mode(&file).map_err(own)?;
                self.write(change, file, Some(before.into_bytes()), after, mode);
            }
            (Kind::Update, Some(to)) => {
                self.take(&file, |u| &mut u.moved).map_err(own)?;
                let (before, after) = updated(&file, change).map_err(own)?;
                let there = |refusal| (Some(to.as_str()), refusal);
                let target = self.resolve(to, true).map_err(there)?;
                if target == file || target == entry {
                    return Err(own(Refusal::OntoItself));
                }
                let old = existing(&target).map_err(there)?;
                self.take(&target, |u| &mut u.written).map_err(there)?;
                let mode = mode(&file).map_err(own)?;
                self.write(change, target, old, after, mode);
                self.remove(change, entry, before);
                applied.move_to = Some(self.root.join(to));
            }
        }
        self.plan.applied.push(applied);
        Ok(())
    }

    fn add(&mut self, change: &Change, file: PathBuf) -> Result<(), Refusal> {
        self.take(&file, |u| &mut u.written)?;
        let old = existing(&file)?;
        if old.is_some() && change.format == Format::Unified {
            return Err(Refusal::Exists);
        }
        let text = match change.format {
            Format::Unified => edit("", &change.hunks, change.format).map_err(Refusal::Mismatch)?,
            Format::ApplyPatch => {
                let lines = change.hunks.iter().flat_map(|hunk| &hunk.lines);
                lines.flat_map(|line| [line.1.as_str(), "\n"]).collect()
            }
        };
        let mode = if old.is_some() { mode(&file)? } else { None };
        self.write(change, file, old, text, mode);
        Ok(())
    }

    /// Each path has one operation. Only a file that moves away leaves its path to another file.
    fn take(&mut self, file: &Path, flag: impl Fn(&mut Use) -> &mut bool) -> Result<(), Refusal> {
        let uses = self.uses.entry(file.to_path_buf()).or_default();
        let free = !std::mem::replace(flag(uses), true);
        let count = [uses.written, uses.changed, uses.moved].iter().filter(|u| **u).count();
        if free && (count == 1 || !uses.changed) { Ok(()) } else { Err(Refusal::Twice) }
    }

    fn write(
        &mut self,
        change: &Change,
        file: PathBuf,
        before: Option<Vec<u8>>,
        text: String,
        mode: Option<u32>,
    ) {
        let mode = match (change.executable, mode) {
            (Some(true), mode) => Some(mode.map_or(0o777, |mode| mode | ((mode & 0o444) >> 2))),
            (Some(false), Some(mode)) => Some(mode & !0o111),
            (_, mode) => mode,
        };
        let path = change.path.clone();
        self.plan.writes.push(Write { path, file, before, text, mode });
    }

    fn remove(&mut self, change: &Change, entry: PathBuf, before: String) {
        self.plan.removals.push(Removal { path: change.path.clone(), entry, before });
    }

    /// The real path of a file below the root, which need not exist. `follow` is about the last
    /// name.
    fn resolve(&self, path: &str, follow: bool) -> Result<PathBuf, Refusal> {
        let mut names = relative(path)?;
        let mut real = self.real.clone();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            let last = names.is_empty();
            match fs::symlink_metadata(&real) {
                Ok(metadata) if metadata.is_symlink() && (follow || !last) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Refusal::Io(io::Error::from_raw_os_error(libc::ELOOP)));
                    }
                    let target = fs::read_link(&real).map_err(Refusal::Io)?;
                    real.pop();
                    for component in target.components().rev() {
                        match component {
                            Component::Normal(name) => names.push_front(name.to_os_string()),
                            Component::ParentDir => names.push_front("..".into()),
                            Component::RootDir => real = PathBuf::from("/"),
                            Component::CurDir | Component::Prefix(_) => {}
                        }
                    }
                }
                Err(error) if missing(&error) => {}
                Err(error) => return Err(Refusal::Io(error)),
                Ok(_) => {}
            }
        }
        if real.starts_with(&self.real) && real != self.real {
            Ok(real)
        } else {
            Err(Refusal::Traversal)
        }
    }
}

/// The names of a relative path without `..`.
fn relative(path: &str) -> Result<VecDeque<OsString>, Refusal> {
    if path.contains('\0') {
        return Err(Refusal::InvalidPath);
    }
    let mut names = VecDeque::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push_back(name.to_os_string()),
            Component::CurDir => {}
            Component::ParentDir => return Err(Refusal::Traversal),
            Component::RootDir | Component::Prefix(_) => return Err(Refusal::Absolute),
        }
    }
    if names.is_empty() { Err(Refusal::InvalidPath) } else { Ok(names) }
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn updated(file: &Path, change: &Change) -> Result<(String, String), Refusal> {
    let before = read(file)?;
    let after = edit(&before, &change.hunks, change.format).map_err(Refusal::Mismatch)?;
    Ok((before, after))
}

fn read(file: &Path) -> Result<String, Refusal> {
    String::from_utf8(bytes(file)?).map_err(|_| Refusal::NotText)
}

/// The content of a file. Root may read everything; a file without any permission to read stays
/// unread.
fn bytes(file: &Path) -> Result<Vec<u8>, Refusal> {
    let metadata = fs::metadata(file).map_err(Refusal::Io)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o444 == 0 {
        return Err(denied());
    }
    files::read(file, MAX_BYTES).map_err(|error| match error {
        FileError::NotRegular(files::Kind::Directory) => Refusal::Directory,
        FileError::NotRegular(_) => Refusal::NotAFile,
        FileError::TooLarge(_) => Refusal::TooLarge,
        FileError::Io(error) => Refusal::Io(error),
    })
}

/// The content of a file that is replaced, to notice changes; `None` if there is no file.
fn existing(file: &Path) -> Result<Option<Vec<u8>>, Refusal> {
    match fs::symlink_metadata(file) {
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(Refusal::Io(error)),
        Ok(metadata) if metadata.is_dir() => Err(Refusal::Directory),
        Ok(metadata) if !metadata.is_file() => Err(Refusal::NotAFile),
        Ok(_) => writable(file).and_then(|()| bytes(file)).map(Some),
    }
}

/// A file without any permission to write is read-only, also for root.
fn writable(file: &Path) -> Result<(), Refusal> {
    let permitted = |metadata: Metadata| metadata.permissions().mode() & 0o222 != 0;
    if !permitted(fs::metadata(file).map_err(Refusal::Io)?) {
        return Err(denied());
    }
    fs::OpenOptions::new().write(true).open(file).map(drop).map_err(Refusal::Io)
}

fn mode(file: &Path) -> Result<Option<u32>, Refusal> {
    let metadata = fs::metadata(file).map_err(Refusal::Io)?;
    Ok(Some(metadata.permissions().mode() & 0o7777))
}

fn denied() -> Refusal {
    Refusal::Io(io::Error::from_raw_os_error(libc::EACCES))
}
