//! The names of credentials: in a keyring, in the home, and the reader of their documents.

use std::path::Path;

use super::failure::{Failure, LoginError};
use super::login::Login;
use super::mcp::digest;
use super::{file, mcp};

/// One set of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// The CLI's own login.
    Login,
    /// The tokens of an MCP server that speaks HTTP.
    Mcp {
        /// The name of the server in the configuration.
        server: String,
        /// Its address.
        url: String,
    },
}

impl Slot {
    /// The service under which a keyring has it.
    pub fn service(&self) -> &'static str {
        match self {
            Slot::Login => "Codex Auth",
            Slot::Mcp { .. } => "Codex MCP Credentials",
        }
    }

    /// The user name under which a keyring has it: of a login, it tells homes apart.
    ///
    /// ```
    /// use codex_core::auth::Slot;
    /// use std::path::Path;
    ///
    /// assert_eq!(Slot::Login.account(Path::new("/codex_home")), "cli|4a8e463798f3d28e");
    /// ```
    pub fn account(&self, home: &Path) -> String {
        match self {
            Slot::Login => {
                let canonical = home.canonicalize().unwrap_or_else(|_| home.to_path_buf());
                format!("cli|{}", digest(canonical.to_string_lossy().as_bytes()))
            }
            Slot::Mcp { server, url } => mcp::account(server, url),
        }
    }

    /// The file that holds the credentials if no keyring does.
    pub fn path(&self, home: &Path) -> std::path::PathBuf {
        home.join(match self {
            Slot::Login => "auth.json",
            Slot::Mcp { .. } => ".credentials.json",
        })
    }

    pub(super) fn check(&self, text: &str) -> Result<(), LoginError> {
        match self {
            Slot::Login => Login::parse(text.as_bytes()).map(drop),
            Slot::Mcp { .. } => mcp::check(text),
        }
    }

    pub(super) fn read_file(&self, home: &Path) -> Result<Option<String>, Failure> {
        match self {
            Slot::Login => file::read_login(home),
            Slot::Mcp { server, url } => file::read_mcp(home, server, url),
        }
    }

    /// Takes the CLI's locks around a change, if they are free.
    pub(super) fn lock(&self, home: &Path) -> Result<file::Locks, Failure> {
        match self {
            Slot::Login => file::lock_login(home),
            Slot::Mcp { .. } => file::lock_mcp(home),
        }
    }

    pub(super) fn write_file(&self, home: &Path, text: &str) -> Result<(), Failure> {
        match self {
            Slot::Login => file::write_login(home, text),
            Slot::Mcp { server, url } => file::write_mcp(home, server, url, text),
        }
    }

    pub(super) fn remove_file(&self, home: &Path) -> Result<bool, Failure> {
        match self {
            Slot::Login => file::remove_login(home),
            Slot::Mcp { server, url } => file::remove_mcp(home, server, url),
        }
    }
}
