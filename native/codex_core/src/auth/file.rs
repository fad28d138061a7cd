//! Credentials in files of the home. The CLI's own locks are taken, in its order; files are replaced at once and are
//! readable by their owner alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use serde_json::{Map, Value};

use super::login::{Login, LoginError, object};
use super::mcp;
use super::store::{Failure, Origin};

/// Longer files are not read.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Locks that are held while this lives.
#[derive(Debug)]
pub struct Locks {
    _files: Vec<File>,
}

/// `auth.json`; nothing where there is none.
pub(super) fn read_login(home: &Path) -> Result<Option<String>, Failure> {
    read(&home.join("auth.json"))
}

pub(super) fn write_login(home: &Path, text: &str) -> Result<(), Failure> {
    let path = home.join("auth.json");
    let login = Login::parse(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    replace(home, &path, ".auth-", &login.pretty())
}

pub(super) fn remove_login(home: &Path) -> Result<bool, Failure> {
    remove(&home.join("auth.json"))
}

/// One server's tokens out of `.credentials.json`.
pub(super) fn read_mcp(home: &Path, server: &str, url: &str) -> Result<Option<String>, Failure> {
    let path = home.join(".credentials.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    let all = object(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    match all.values().find(|entry| names(entry, server, url)) {
        None => Ok(None),
        Some(Value::Object(members)) => {
            mcp::entry(members).map_err(|why| invalid(&path, why))?;
            Ok(Some(Value::Object(members.clone()).to_string()))
        }
        Some(_) => Ok(None),
    }
}

/// All servers of `.credentials.json`, each with its address.
pub fn mcp_servers(home: &Path) -> Result<Vec<(String, String)>, Failure> {
    let path = home.join(".credentials.json");
    let Some(text) = read(&path)? else { return Ok(Vec::new()) };
    let all = object(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    let mut servers: Vec<_> = all
        .values()
        .filter_map(|entry| Some((entry.get("server_name")?.as_str()?, entry.get("server_url")?.as_str()?)))
        .map(|(server, url)| (server.to_owned(), url.to_owned()))
        .collect();
    servers.sort();
    Ok(servers)
}

pub(super) fn write_mcp(home: &Path, server: &str, url: &str, text: &str) -> Result<(), Failure> {
    let path = home.join(".credentials.json");
    let entry = object(text.as_bytes()).map_err(|why| invalid(&path, why))?;
    change_mcp(home, |all| {
        all.retain(|_, entry| !names(entry, server, url));
        all.insert(mcp::account(server, url), Value::Object(entry));
        true
    })
    .map(drop)
}

pub(super) fn remove_mcp(home: &Path, server: &str, url: &str) -> Result<bool, Failure> {
    if !home.join(".credentials.json").exists() {
        return Ok(false);
    }
    change_mcp(home, |all| {
        let before = all.len();
        all.retain(|_, entry| !names(entry, server, url));
        all.len() < before
    })
}

fn names(entry: &Value, server: &str, url: &str) -> bool {
    let is = |name: &str, wanted: &str| entry.get(name).and_then(Value::as_str) == Some(wanted);
    is("server_name", server) && is("server_url", url)
}

fn change_mcp(home: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, Failure> {
    let path = home.join(".credentials.json");
    let mut all = match read(&path)? {
        Some(text) => object(text.as_bytes()).map_err(|why| invalid(&path, why))?,
        None => Map::new(),
    };
    if !change(&mut all) {
        return Ok(false);
    }
    if all.is_empty() {
        return remove(&path).map(|_| true);
    }
    replace(home, &path, ".credentials-", &Value::Object(all).to_string()).map(|()| true)
}

// --- Locks ----------------------------------------------------------------------------------------------------------

/// Takes the locks around a login if they are free: the one for every change to credentials, and the one for the file.
pub(super) fn lock_login(home: &Path) -> Result<Locks, Failure> {
    let files = vec![lock(&home.join("auth.lock"), 0o666)?, lock(&home.join("auth.json.lock"), 0o600)?];
    Ok(Locks { _files: files })
}

/// Takes the lock around the tokens of all MCP servers, if it is free.
pub(super) fn lock_mcp(home: &Path) -> Result<Locks, Failure> {
    let folder = home.join("mcp-oauth-locks");
    fs::create_dir_all(&folder).map_err(|error| io(&folder, &error))?;
    Ok(Locks { _files: vec![lock(&folder.join("file-store.lock"), 0o600)?] })
}

/// Never waits: whoever waits here would keep a thread from others.
fn lock(path: &Path, mode: u32) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let file = options.open(path).map_err(|error| io(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(io(path, &error)),
    }
}

// --- Files ----------------------------------------------------------------------------------------------------------

fn read(path: &Path) -> Result<Option<String>, Failure> {
    // A pipe would keep the thread for as long as nobody writes into it.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let message = "it is not a regular file".to_owned();
        return Err(Failure::Io { path: path.to_path_buf(), code: None, message });
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(io(path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| io(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid(path, LoginError(format!("it is longer than {MAX_BYTES} bytes"))));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| invalid(path, LoginError("it is not UTF-8".to_owned())))
}

fn replace(home: &Path, path: &Path, prefix: &str, text: &str) -> Result<(), Failure> {
    let fill = || -> std::io::Result<()> {
        // Made with mode 0600, under a name that nobody has.
        let mut new = tempfile::Builder::new().prefix(prefix).tempfile_in(home)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    fill().map_err(|error| io(path, &error))
}

fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(path, &error)),
    }
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Io { path: path.to_path_buf(), code: error.raw_os_error(), message: error.to_string() }
}

fn invalid(path: &Path, why: LoginError) -> Failure {
    Failure::Invalid { origin: Origin::File(path.to_path_buf()), message: why.0 }
}
