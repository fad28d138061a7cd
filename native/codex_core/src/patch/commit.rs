//! Writes a plan: all files, or none.
//!
//! New contents are complete files beside their targets before the first target changes. Each old
//! file keeps a second name until all targets have changed, so that a failure puts it back. Only a
//! process that is killed in between leaves a part, and the names of old files
//! (`.codex_patch_…`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::{Applied, Failure, Refusal};
use crate::files;

const PREFIX: &str = ".codex_patch_";

/// Changes that fit the files.
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) removals: Vec<Removal>,
    pub(super) applied: Vec<Applied>,
}

/// A file that gets a new content.
#[derive(Debug)]
pub(super) struct Write {
    pub path: String,
    pub file: PathBuf,
    /// The content that the plan is based on.
    pub before: Option<Vec<u8>>,
    pub text: String,
    pub mode: Option<u32>,
}

/// A file that goes.
#[derive(Debug)]
pub(super) struct Removal {
    pub path: String,
    pub entry: PathBuf,
    pub before: String,
}

impl Plan {
    /// The changes, in the order of the patch.
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// Writes all files or none. `goes_on` is asked right before the first file changes; if it
    /// returns false, nothing is written and the result is false.
    pub fn commit(&self, goes_on: &dyn Fn() -> bool) -> Result<bool, Failure> {
        let mut undo = Undo::default();
        let mut new = Vec::new();
        for write in &self.writes {
            let prepared = prepare(write, &mut undo);
            new.push(prepared.map_err(|error| failure(&write.path, Refusal::Io(error)))?);
        }
        self.unchanged()?;
        if !goes_on() {
            return Ok(false);
        }
        for removal in &self.removals {
            let removed = undo.set_aside(&removal.entry);
            removed.map_err(|error| failure(&removal.path, Refusal::Io(error)))?;
        }
        for (write, new) in self.writes.iter().zip(new) {
            let replaced = undo.replace(new, &write.file);
            replaced.map_err(|error| failure(&write.path, Refusal::Io(error)))?;
        }
        undo.forget();
        Ok(true)
    }

    fn unchanged(&self) -> Result<(), Failure> {
        let writes = self.writes.iter().map(|w| (&w.path, &w.file, w.before.as_deref()));
        let removals = self.removals.iter();
        let removals = removals.map(|r| (&r.path, &r.entry, Some(r.before.as_bytes())));
        for (path, file, before) in writes.chain(removals) {
            let now = match files::read(file, super::MAX_BYTES) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.is_missing() => None,
                Err(_) => return Err(failure(path, Refusal::Changed)),
            };
            if now.as_deref() != before {
                return Err(failure(path, Refusal::Changed));
            }
        }
        Ok(())
    }
}

fn failure(path: &str, refusal: Refusal) -> Failure {
    Failure { path: path.to_string(), refusal }
}

/// Makes the directories of a file, and the new file beside it.
fn prepare(write: &Write, undo: &mut Undo) -> io::Result<NamedTempFile> {
    let folder = write.file.parent().unwrap_or(Path::new("/"));
    undo.make_folders(folder)?;
    // A directory without any permission to write is read-only, also for root.
    if fs::metadata(folder)?.permissions().mode() & 0o222 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    // A name that is too long fails here, and not after other files have changed.
    if let Err(error) = fs::symlink_metadata(&write.file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut builder = tempfile::Builder::new();
    // The umask applies.
    builder.prefix(PREFIX).permissions(PermissionsExt::from_mode(0o666));
    let mut new = builder.tempfile_in(folder)?;
    new.write_all(write.text.as_bytes())?;
    if let Some(mode) = write.mode {
        let mode = if write.before.is_none() && mode == 0o777 { executable(&new)? } else { mode };
        new.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    }
    new.as_file().sync_all()?;
    Ok(new)
}

/// Whoever may read a new file may run it.
fn executable(new: &NamedTempFile) -> io::Result<u32> {
    let mode = new.as_file().metadata()?.permissions().mode() & 0o777;
    Ok(mode | ((mode & 0o444) >> 2))
}

/// Steps that a failure takes back, the last one first.
#[derive(Default)]
struct Undo {
    steps: Vec<Step>,
}

enum Step {
    Folder(PathBuf),
    /// The file has this second name.
    Restore(TempPath, PathBuf),
    /// The file is new.
    Remove(PathBuf),
}

impl Undo {
    fn make_folders(&mut self, folder: &Path) -> io::Result<()> {
        let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder)?;
            self.steps.push(Step::Folder(folder.to_path_buf()));
        }
        Ok(())
    }

    fn set_aside(&mut self, entry: &Path) -> io::Result<()> {
        let folder = entry.parent().unwrap_or(Path::new("/"));
        if fs::metadata(folder)?.permissions().mode() & 0o222 == 0 {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let aside = aside(folder)?;
        fs::rename(entry, &aside)?;
        self.steps.push(Step::Restore(aside, entry.to_path_buf()));
        Ok(())
    }

    fn replace(&mut self, new: NamedTempFile, file: &Path) -> io::Result<()> {
        if fs::symlink_metadata(file).is_ok() {
            let aside = aside(file.parent().unwrap_or(Path::new("/")))?;
            // A file system without hard links has no file of this name for a moment.
            fs::remove_file(&aside)?;
            if fs::hard_link(file, &aside).is_err() {
                fs::rename(file, &aside)?;
            }
            self.steps.push(Step::Restore(aside, file.to_path_buf()));
        } else {
            self.steps.push(Step::Remove(file.to_path_buf()));
        }
        new.persist(file).map_err(|error| error.error)?;
        let _ = File::open(file.parent().unwrap_or(Path::new("/"))).and_then(|f| f.sync_all());
        Ok(())
    }

    /// Nothing is taken back. The old files go.
    fn forget(mut self) {
        self.steps.clear();
    }
}

/// A free name for an old file; the file goes with the value.
fn aside(folder: &Path) -> io::Result<TempPath> {
    Ok(tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?.into_temp_path())
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            // Nobody is left to be told; the next step may still work.
            let _ = match step {
                Step::Folder(folder) => fs::remove_dir(folder),
                // Two names of one file stay as they are; the second one goes with its value.
                Step::Restore(aside, file) => fs::rename(&aside, file),
                Step::Remove(file) => fs::remove_file(file),
            };
        }
    }
}
