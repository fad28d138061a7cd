//! Credentials in files of the home. The CLI's own locks are taken, in its order; files are
//! replaced at once and are readable by their owner alone. A link stays a link, also one to a file
//! that does not exist yet: the file that it leads to is written, and locked beside itself.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use super::failure::{Failure, LoginError, Origin};
use super::login::Login;
use super::mcp;
use super::members::Members;
use crate::files::{self, FileError};

/// Locks that are held while this lives.
#[derive(Debug)]
pub struct Locks {
    _files: Vec<File>,
}

/// `auth.json`; `None` if it is missing.
pub(super) fn read_login(home: &Path) -> Result<Option<String>, Failure> {
    read(&home.join("auth.json"))
}

pub(super) fn write_login(home: &Path, text: &str) -> Result<(), Failure> {
    let path = home.join("auth.json");
    let login = Login::parse(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    replace(&path, ".auth-", &login.pretty())
}

pub(super) fn remove_login(home: &Path) -> Result<bool, Failure> {
    remove(&home.join("auth.json"))
}

/// One server's tokens out of `.credentials.json`.
pub(super) fn read_mcp(home: &Path, server: &str, url: &str) -> Result<Option<String>, Failure> {
    let path = home.join(".credentials.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    let all = Members::parse(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    match all.iter().find(|(_, entry)| mcp::names(entry, server, url)) {
        None => Ok(None),
        Some((_, entry)) => {
            let members = mcp::entry(entry.get()).map_err(|why| invalid(&path, why))?;
            Ok(Some(members.compact(&[])))
        }
    }
}

/// All servers of `.credentials.json`, each with its address.
pub fn mcp_servers(home: &Path) -> Result<Vec<(String, String)>, Failure> {
    let path = home.join(".credentials.json");
    let Some(text) = read(&path)? else { return Ok(Vec::new()) };
    let all = Members::parse(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    let mut servers: Vec<_> = all.iter().filter_map(|(_, entry)| mcp::identity(entry)).collect();
    servers.sort();
    Ok(servers)
}

pub(super) fn write_mcp(home: &Path, server: &str, url: &str, text: &str) -> Result<(), Failure> {
    let path = home.join(".credentials.json");
    mcp::check(text).map_err(|why| invalid(&path, why))?;
    change_mcp(home, |all| {
        let old =
            all.iter().find(|(_, entry)| mcp::names(entry, server, url)).map(|(_, entry)| entry);
        let entry = mcp::renew(old, text)?.to_raw()?;
        all.retain(|_, entry| !mcp::names(entry, server, url));
        all.push(&mcp::account(server, url), entry);
        Ok(true)
    })
    .map(drop)
}

pub(super) fn remove_mcp(home: &Path, server: &str, url: &str) -> Result<bool, Failure> {
    change_mcp(home, |all| {
        let found = all.iter().any(|(_, entry)| mcp::names(entry, server, url));
        all.retain(|_, entry| !mcp::names(entry, server, url));
        Ok(found)
    })
}

fn change_mcp(
    home: &Path,
    change: impl FnOnce(&mut Members) -> Result<bool, LoginError>,
) -> Result<bool, Failure> {
    let path = home.join(".credentials.json");
    let mut all = match read(&path)? {
        Some(text) => Members::parse(text.as_bytes()).map_err(|why| invalid(&path, why))?,
        None => Members::default(),
    };
    if !change(&mut all).map_err(|why| invalid(&path, why))? {
        return Ok(false);
    }
    if all.is_empty() {
        return remove(&path).map(|_| true);
    }
    replace(&path, ".credentials-", &all.compact(&[])).map(|()| true)
}

// --- Locks ----------

/// Takes the locks around a login if they are free: the one for every change to credentials, and
/// the one for the file.
pub(super) fn lock_login(home: &Path) -> Result<Locks, Failure> {
    let path = home.join("auth.json");
    let files = vec![lock(&home.join("auth.lock"), 0o666)?, lock_target(&path)?];
    Ok(Locks { _files: files })
}

/// Takes the locks around the tokens of all MCP servers, if they are free. The one beside the file
/// is not the CLI's: it keeps homes apart that share the file by a link.
pub(super) fn lock_mcp(home: &Path) -> Result<Locks, Failure> {
    let folder = home.join("mcp-oauth-locks");
    fs::create_dir_all(&folder).map_err(|error| io(&folder, error.into()))?;
    let mut files = vec![lock(&folder.join("file-store.lock"), 0o600)?];
    let path = home.join(".credentials.json");
    if path.is_symlink() {
        files.push(lock_target(&path)?);
    }
    Ok(Locks { _files: files })
}

fn lock_target(path: &Path) -> Result<File, Failure> {
    let mut target = files::target(path).map_err(|error| io(path, error.into()))?.into_os_string();
    target.push(".lock");
    lock(Path::new(&target), 0o600)
}

/// Never waits: a waiting call would keep a thread from others.
fn lock(path: &Path, mode: u32) -> Result<File, Failure> {
    match files::lock(path, mode).map_err(|error| io(path, error))? {
        Some(file) => Ok(file),
        None => Err(Failure::Locked { path: path.to_path_buf() }),
    }
}

// --- Files ----------

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match files::read(path, files::MAX_BYTES) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| invalid(path, LoginError("it is not UTF-8".to_owned()))),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(io(path, error)),
    }
}

fn replace(path: &Path, prefix: &str, text: &str) -> Result<(), Failure> {
    files::replace(path, prefix, text.as_bytes()).map_err(|error| io(path, error))
}

/// Of a link, the link is removed and not what it leads to, as `codex logout` does: other homes may
/// use that.
fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(path, error.into())),
    }
}

fn io(path: &Path, error: FileError) -> Failure {
    let code = match &error {
        FileError::Io(error) => error.raw_os_error(),
        _ => None,
    };
    Failure::Io { path: path.to_path_buf(), code, message: error.to_string() }
}

fn invalid(path: &Path, why: LoginError) -> Failure {
    Failure::Invalid { origin: Origin::File(path.to_path_buf()), message: why.0 }
}
