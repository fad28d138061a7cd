//! The rules of the CLI's `cli_auth_credentials_store` and `mcp_oauth_credentials_store`: the
//! places from which credentials are read, to which they are written, and what replaces a missing
//! keyring.

use std::path::PathBuf;
use std::time::Duration;

use super::failure::{Failure, Origin};
use super::file::{self, Locks};
use super::keyring::{self, Bus, Fault};
use super::login::Login;
use super::{Slot, mcp};
use crate::files::{self, Late};

/// How often a lock that is held is tried again.
const POLL: Duration = Duration::from_millis(10);

/// The place of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In a file of the home.
    File,
    /// In the keyring, and nowhere else.
    Keyring,
    /// In the keyring if one is available, else in the file.
    Auto,
}

/// The arguments of every operation.
#[derive(Debug, Clone)]
pub struct Request {
    /// The credentials to work on.
    pub slot: Slot,
    /// The place of the credentials.
    pub mode: Mode,
    /// The CLI's home.
    pub home: PathBuf,
    /// The way to the keyring.
    pub bus: Bus,
    /// Whether a locked keyring may ask its user.
    pub prompt: bool,
    /// The time that the keyring may take, and that the lock of a file is waited for.
    pub timeout: Duration,
}

/// Credentials and their place. In mode [`Mode::Auto`], also the reason if the keyring did not give
/// them.
#[derive(Clone)]
pub struct Loaded {
    /// The document: of a login as it stands, of MCP tokens in the form of the file.
    pub text: String,
    /// The place of the document.
    pub origin: Origin,
    /// The reason for not using the keyring.
    pub instead: Option<Fault>,
}

/// The result of saving credentials.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The place of the credentials now.
    pub origin: Origin,
    /// The reason if they are not in the keyring.
    pub instead: Option<Fault>,
}

/// The result of removing credentials.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// An entry of the keyring.
    pub keyring: bool,
    /// The file, or the credentials in it.
    pub file: bool,
    /// The reason if the keyring was not searched. It may hold an entry.
    pub unchecked: Option<Fault>,
}

/// Reads credentials. Returns `Ok(None, why)` if there are none, with the reason if the keyring
/// could not be asked.
pub async fn load(request: Request) -> Result<Result<Loaded, Option<Fault>>, Failure> {
    let instead = match request.mode {
        Mode::File => None,
        mode => match from_keyring(&request).await {
            Ok(Some(loaded)) => return Ok(Ok(loaded)),
            Ok(None) if mode == Mode::Keyring => return Ok(Err(None)),
            Ok(None) => None,
            Err(failure) if mode == Mode::Keyring => return Err(failure),
            // As the CLI does: a keyring that is broken in any way counts as missing.
            Err(failure) => Some(fault(failure)),
        },
    };
    blocking(request.home.clone(), request.timeout, move || {
        let path = request.slot.path(&request.home);
        match request.slot.read_file(&request.home)? {
            None => Ok(Err(instead)),
            Some(text) => match request.slot.check(&text) {
                Ok(()) => Ok(Ok(Loaded { text, origin: Origin::File(path), instead })),
                Err(why) => Err(Failure::Invalid { origin: Origin::File(path), message: why.0 }),
            },
        }
    })
    .await
}

/// Puts credentials in their place, and removes them from the file if the keyring has them now.
/// Works under the CLI's locks: if a lock is held, nothing is changed.
pub async fn save(request: Request, text: String) -> Result<Saved, Failure> {
    let account = request.slot.account(&request.home);
    let origin = || Origin::Keyring(account.clone());
    request
        .slot
        .check(&text)
        .map_err(|why| Failure::Invalid { origin: origin(), message: why.0 })?;
    let _locks = locks(&request).await?;
    let instead = match request.mode {
        Mode::File => None,
        mode => {
            let payload = match &request.slot {
                Slot::Login => Login::parse(text.as_bytes()).map(|login| login.compact()),
                Slot::Mcp { .. } => mcp::to_keyring(&text),
            };
            let payload =
                payload.map_err(|why| Failure::Invalid { origin: origin(), message: why.0 })?;
            let set = keyring::set(
                &request.bus,
                request.slot.service(),
                &account,
                &payload,
                request.prompt,
            );
            match within(request.timeout, set).await {
                Ok(()) => {
                    let (home, timeout) = (request.home.clone(), request.timeout);
                    let rest = move || request.slot.remove_file(&request.home);
                    return blocking(home, timeout, rest)
                        .await
                        .map(|_| Saved { origin: origin(), instead: None });
                }
                // The entry may have been written: a second copy would make it worse.
                Err(fault) if mode == Mode::Keyring || fault == Fault::Timeout => {
                    return Err(Failure::Keyring(fault));
                }
                Err(fault) => Some(fault),
            }
        }
    };
    blocking(request.home.clone(), request.timeout, move || {
        request.slot.write_file(&request.home, &text)?;
        Ok(Saved { origin: Origin::File(request.slot.path(&request.home)), instead })
    })
    .await
}

/// Removes credentials wherever the mode may have put them.
pub async fn delete(request: Request) -> Result<Removed, Failure> {
    // Without a home there is nothing in it.
    let home = request.home.clone();
    let there = blocking(home.clone(), request.timeout, move || Ok(home.is_dir())).await?;
    let _locks = if there { Some(locks(&request).await?) } else { None };
    let (keyring, unchecked) = match request.mode {
        Mode::File => (false, None),
        mode => {
            let account = request.slot.account(&request.home);
            let gone =
                keyring::delete(&request.bus, request.slot.service(), &account, request.prompt);
            match within(request.timeout, gone).await {
                Ok(removed) => (removed, None),
                Err(fault) if mode == Mode::Keyring => return Err(Failure::Keyring(fault)),
                Err(fault) => (false, Some(fault)),
            }
        }
    };
    blocking(request.home.clone(), request.timeout, move || {
        let file = request.slot.remove_file(&request.home)?;
        Ok(Removed { keyring, file, unchecked })
    })
    .await
}

/// The servers whose tokens are in the file, each with its address.
pub async fn mcp_servers(
    home: PathBuf,
    timeout: Duration,
) -> Result<Vec<(String, String)>, Failure> {
    blocking(home.clone(), timeout, move || file::mcp_servers(&home)).await
}

/// Waits for the locks without keeping a thread.
async fn locks(request: &Request) -> Result<Locks, Failure> {
    let until = tokio::time::Instant::now() + request.timeout;
    loop {
        let (slot, home) = (request.slot.clone(), request.home.clone());
        match blocking(request.home.clone(), request.timeout, move || slot.lock(&home)).await {
            Err(Failure::Locked { .. }) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(POLL).await
            }
            result => return result,
        }
    }
}

async fn from_keyring(request: &Request) -> Result<Option<Loaded>, Failure> {
    let account = request.slot.account(&request.home);
    let get = keyring::get(&request.bus, request.slot.service(), &account, request.prompt);
    let Some(text) = within(request.timeout, get).await.map_err(Failure::Keyring)? else {
        return Ok(None);
    };
    let text = match &request.slot {
        Slot::Login => request.slot.check(&text).map(|()| text),
        Slot::Mcp { .. } => mcp::from_keyring(&text),
    };
    let origin = Origin::Keyring(account);
    match text {
        Ok(text) => Ok(Some(Loaded { text, origin, instead: None })),
        Err(why) => Err(Failure::Invalid { origin, message: why.0 }),
    }
}

fn fault(failure: Failure) -> Fault {
    match failure {
        Failure::Keyring(fault) => fault,
        Failure::Invalid { message, .. } => Fault::Content(message),
        // from_keyring/1 has no other.
        Failure::Io { message, .. } => Fault::Other(message),
        Failure::Locked { path } => Fault::Other(path.display().to_string()),
    }
}

/// The future is dropped when its time is over, and with it the connection: a prompt that is open
/// then is dismissed.
async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(Fault::Timeout))
}

/// File work on a thread that may wait. A file system that does not answer keeps the thread, not
/// the caller.
async fn blocking<T: Send + 'static>(
    home: PathBuf,
    timeout: Duration,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let io =
        |message: &str| Err(Failure::Io { path: home, code: None, message: message.to_owned() });
    // A lock may take all of the time; a file system gets a second more.
    match files::within(timeout + Duration::from_secs(1), work).await {
        Ok(result) => result,
        Err(Late::Ended) => io("the runtime has ended"),
        Err(Late::Timeout) => io("the file system did not answer in time"),
    }
}
