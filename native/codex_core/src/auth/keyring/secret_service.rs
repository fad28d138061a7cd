//! The Secret Service over D-Bus, in Rust alone. A call is a connection of its own to the bus that
//! the caller names.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::time::Duration;

use secret_service::{EncryptionType, Error, Item, SecretService};
use tokio::net::UnixStream;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;

use super::{Bus, Fault, Turn};

// Attributes that the CLI's library writes.
const APPLICATION: &str = "rust-keyring";
const TARGET: &str = "default";
const LABEL_SUFFIX: &str = ":default (keyring v3.6.3)";
// Errors of a bus on which the called name is missing.
const NOBODY: [&str; 2] =
    ["org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"];
const CONTENT_TYPE: &str = "text/plain";

const RETRY: Duration = Duration::from_millis(10);

pub(super) async fn get(
    _turn: Turn,
    bus: &Bus,
    service: &str,
    account: &str,
    prompt: bool,
) -> Result<Option<String>, Fault> {
    let keyring = connect(bus).await?;
    let Some(item) = find(&keyring, service, account).await? else { return Ok(None) };
    open(&item, prompt).await?;
    let secret = item.get_secret().await.map_err(fault)?;
    String::from_utf8(secret).map(Some).map_err(|_| Fault::Content("it is not UTF-8".to_owned()))
}

pub(super) async fn set(
    _turn: Turn,
    bus: &Bus,
    service: &str,
    account: &str,
    secret: &str,
    prompt: bool,
) -> Result<(), Fault> {
    let keyring = connect(bus).await?;
    if let Some(item) = find(&keyring, service, account).await? {
        open(&item, prompt).await?;
        return item.set_secret(secret.as_bytes(), CONTENT_TYPE).await.map_err(fault);
    }
    let collection = keyring.get_default_collection().await.map_err(fault)?;
    if collection.is_locked().await.map_err(fault)? {
        if !prompt {
            return Err(Fault::Locked);
        }
        collection.unlock().await.map_err(fault)?;
    }
    let attributes = HashMap::from([
        ("application", APPLICATION),
        ("target", TARGET),
        ("service", service),
        ("username", account),
    ]);
    let label = format!("{account}@{service}{LABEL_SUFFIX}");
    let made =
        collection.create_item(&label, attributes, secret.as_bytes(), true, CONTENT_TYPE).await;
    made.map(drop).map_err(fault)
}

pub(super) async fn delete(
    _turn: Turn,
    bus: &Bus,
    service: &str,
    account: &str,
    prompt: bool,
) -> Result<bool, Fault> {
    let keyring = connect(bus).await?;
    let Some(item) = find(&keyring, service, account).await? else { return Ok(false) };
    open(&item, prompt).await?;
    item.delete().await.map_err(fault).map(|()| true)
}

pub(super) async fn probe(_turn: Turn, bus: &Bus) -> Result<(), Fault> {
    let keyring = connect(bus).await?;
    let collection = keyring.get_default_collection().await.map_err(fault)?;
    if collection.is_locked().await.map_err(fault)? { Err(Fault::Locked) } else { Ok(()) }
}

async fn connect(bus: &Bus) -> Result<SecretService<'static>, Fault> {
    let address = address(bus).ok_or_else(|| {
        Fault::Unavailable("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set".to_owned())
    })?;
    let no_bus =
        |why: String| Fault::Unavailable(format!("the bus at {address} does not answer: {why}"));
    let stream = dial(&address).await.map_err(no_bus)?;
    let connection = zbus::connection::Builder::unix_stream(stream).build().await;
    let connection = connection.map_err(|error| no_bus(error.to_string()))?;
    SecretService::connect_with_existing(EncryptionType::Dh, connection).await.map_err(|error| {
        match error {
            Error::Unavailable => no_service(),
            error => fault(error),
        }
    })
}

/// zbus would connect on a thread, which a bus that takes no one keeps for ever.
async fn dial(address: &str) -> Result<UnixStream, String> {
    let path = address
        .split(';')
        .find_map(|one| match one.parse::<zbus::Address>().ok()?.transport() {
            Transport::Unix(unix) => match unix.path() {
                UnixSocket::File(path) => Some(path.as_os_str().to_owned()),
                UnixSocket::Abstract(name) => {
                    Some([OsStr::new("\0"), name].into_iter().collect::<OsString>())
                }
                _ => None,
            },
            _ => None,
        })
        .ok_or("it is no Unix socket")?;
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok(stream),
            // Others are being let in. Our own time ends this.
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn no_service() -> Fault {
    Fault::Unavailable("nothing on the bus offers org.freedesktop.secrets".to_owned())
}

/// As every D-Bus library finds the bus of a session.
fn address(bus: &Bus) -> Option<String> {
    let set = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    set(&bus.address).or_else(|| set(&bus.runtime_dir).map(|dir| format!("unix:path={dir}/bus")))
}

/// By all three names, else by two in the default collection, as entries of other programs have
/// them.
async fn find<'k>(
    keyring: &'k SecretService<'_>,
    service: &str,
    account: &str,
) -> Result<Option<Item<'k>>, Fault> {
    let mut names =
        HashMap::from([("target", TARGET), ("service", service), ("username", account)]);
    let found = keyring.search_items(names.clone()).await.map_err(fault)?;
    let mut items: Vec<_> = found.unlocked.into_iter().chain(found.locked).collect();
    if items.len() > 1 {
        return Err(Fault::Ambiguous);
    }
    if let Some(item) = items.pop() {
        return Ok(Some(item));
    }
    names.remove("target");
    // A collection takes its items with it; the search over all of them does not say whose an item
    // is.
    let path = match keyring.get_default_collection().await {
        Ok(collection) => collection.collection_path.to_string(),
        Err(Error::NoResult) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let found = keyring.search_items(names).await.map_err(fault)?;
    let mut items = Vec::new();
    for item in found.unlocked.into_iter().chain(found.locked) {
        let inside =
            item.item_path.as_str().strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
        if inside && !item.get_attributes().await.map_err(fault)?.contains_key("target") {
            items.push(item);
        }
    }
    if items.len() > 1 { Err(Fault::Ambiguous) } else { Ok(items.pop()) }
}

async fn open(item: &Item<'_>, prompt: bool) -> Result<(), Fault> {
    if !item.is_locked().await.map_err(fault)? {
        return Ok(());
    }
    if !prompt {
        return Err(Fault::Locked);
    }
    item.unlock().await.map_err(fault)
}

fn fault(error: Error) -> Fault {
    match error {
        Error::Locked | Error::Prompt => Fault::Locked,
        Error::Unavailable => no_service(),
        Error::NoResult => Fault::Other("it has no default collection".to_owned()),
        Error::Zbus(zbus::Error::MethodError(name, _, _)) if NOBODY.contains(&name.as_str()) => {
            no_service()
        }
        other => Fault::Other(other.to_string()),
    }
}
