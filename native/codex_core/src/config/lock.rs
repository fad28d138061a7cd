//! One writer at a time, across processes.

use std::fs::File;
use std::path::Path;

use crate::files::{self, FileError};

/// Held while this lives. The file that it locks stays: removing it would let two writers lock two
/// files.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock if it is free. Never waits. `Ok(None)` if another writer holds it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, FileError> {
        Ok(files::lock(path, 0o600)?.map(|file| Lock { _file: file }))
    }
}
