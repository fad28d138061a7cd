//! Failures of reading and writing credentials, and the places where credentials are kept.

use std::path::PathBuf;

use super::keyring::Fault;

/// The place where credentials were found or stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An entry of the keyring, by its user name.
    Keyring(String),
}

/// The reason of a failure. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The keyring failed.
    Keyring(Fault),
    /// The stored document is invalid.
    Invalid {
        /// The place of the document.
        origin: Origin,
        /// The reason, without a value of the document.
        message: String,
    },
    /// A file could not be read, written or locked.
    Io {
        /// The file.
        path: PathBuf,
        /// The error number of the operating system.
        code: Option<i32>,
        /// The message of the operating system.
        message: String,
    },
    /// Another process holds a lock.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

/// The reason for refusing a text. It names members and places, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginError(pub String);

impl std::fmt::Display for LoginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
