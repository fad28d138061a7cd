//! One writer at a time, across processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Held while this lives. The file that it locks stays: removing it would let two writers lock two files.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another writer holds it.
    Held,
    /// The file cannot be made or locked.
    Io(std::io::Error),
}

impl Lock {
    /// Takes the lock if it is free. Never waits.
    pub fn try_take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}
