//! The keyring of the operating system: the Secret Service on Linux, the Keychain on macOS. Entries
//! are those of the CLI's own library (keyring 3.6.3): each side reads the entries of the other.

use tokio::sync::{Semaphore, SemaphorePermit};

#[cfg(all(feature = "keyring", unix, not(target_os = "macos")))]
#[path = "keyring/secret_service.rs"]
mod backend;

#[cfg(all(feature = "keyring", target_os = "macos"))]
#[path = "keyring/keychain.rs"]
mod backend;

#[cfg(not(all(feature = "keyring", unix)))]
#[path = "keyring/none.rs"]
mod backend;

/// The way to a keyring: the variables about the user's bus. Looked up for each call, so that a bus
/// that comes up later is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bus {
    /// `DBUS_SESSION_BUS_ADDRESS`.
    pub address: Option<String>,
    /// `XDG_RUNTIME_DIR`, in which the socket `bus` is used if the address is missing.
    pub runtime_dir: Option<String>,
}

/// The reason for a keyring's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The keyring is missing: no bus, no service on it, or this library was built without.
    Unavailable(String),
    /// The keyring is locked, and was not unlocked.
    Locked,
    /// It did not answer in time.
    Timeout,
    /// Several entries have the names of the one that was asked for.
    Ambiguous,
    /// The entry holds no credentials.
    Content(String),
    /// Anything else, in its own words.
    Other(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Unavailable(why) => write!(f, "no keyring can be reached: {why}"),
            Fault::Locked => f.write_str("the keyring is locked, and nobody unlocked it"),
            Fault::Timeout => f.write_str("the keyring did not answer in time"),
            Fault::Ambiguous => f.write_str("the keyring has several entries of the same name"),
            Fault::Content(why) => write!(f, "what the keyring holds is not usable: {why}"),
            Fault::Other(why) => write!(f, "the keyring failed: {why}"),
        }
    }
}

/// Calls that are with the keyring at once; others wait their turn, on their own time. Each is a
/// connection.
static TURNS: Semaphore = Semaphore::const_new(MAX_CALLS);

/// See [`TURNS`].
pub(crate) const MAX_CALLS: usize = 8;

/// Kept for as long as the keyring may be busy with a call, also after the caller gave up.
type Turn = SemaphorePermit<'static>;

async fn turn() -> Result<Turn, Fault> {
    // It is never closed.
    TURNS.acquire().await.map_err(|_| Fault::Other("the runtime has ended".to_owned()))
}

/// The secret of an entry.
pub async fn get(
    bus: &Bus,
    service: &str,
    account: &str,
    prompt: bool,
) -> Result<Option<String>, Fault> {
    backend::get(turn().await?, bus, service, account, prompt).await
}

/// Makes or changes an entry.
pub async fn set(
    bus: &Bus,
    service: &str,
    account: &str,
    secret: &str,
    prompt: bool,
) -> Result<(), Fault> {
    backend::set(turn().await?, bus, service, account, secret, prompt).await
}

/// Removes an entry; whether there was one.
pub async fn delete(bus: &Bus, service: &str, account: &str, prompt: bool) -> Result<bool, Fault> {
    backend::delete(turn().await?, bus, service, account, prompt).await
}

/// Whether there is a keyring and whether it is open, without touching an entry.
pub async fn probe(bus: &Bus) -> Result<(), Fault> {
    backend::probe(turn().await?, bus).await
}
