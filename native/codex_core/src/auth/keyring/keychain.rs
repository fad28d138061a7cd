//! The login keychain of macOS. Its calls block, and may ask the user, so each has a thread while
//! it lasts.

use keyring::{Entry, Error};

use super::{Bus, Fault, Turn};

pub(super) async fn get(
    turn: Turn,
    _: &Bus,
    service: &str,
    account: &str,
    _: bool,
) -> Result<Option<String>, Fault> {
    with(turn, service, account, |entry| match entry.get_password() {
        Ok(secret) => Ok(Some(secret)),
        Err(Error::NoEntry) => Ok(None),
        Err(error) => Err(fault(error)),
    })
    .await
}

pub(super) async fn set(
    turn: Turn,
    _: &Bus,
    service: &str,
    account: &str,
    secret: &str,
    _: bool,
) -> Result<(), Fault> {
    let secret = secret.to_owned();
    with(turn, service, account, move |entry| entry.set_password(&secret).map_err(fault)).await
}

pub(super) async fn delete(
    turn: Turn,
    _: &Bus,
    service: &str,
    account: &str,
    _: bool,
) -> Result<bool, Fault> {
    with(turn, service, account, |entry| match entry.delete_credential() {
        Ok(()) => Ok(true),
        Err(Error::NoEntry) => Ok(false),
        Err(error) => Err(fault(error)),
    })
    .await
}

pub(super) async fn probe(_: Turn, _: &Bus) -> Result<(), Fault> {
    Ok(())
}

async fn with<T: Send + 'static>(
    turn: Turn,
    service: &str,
    account: &str,
    work: impl FnOnce(Entry) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (service, account) = (service.to_owned(), account.to_owned());
    let task = tokio::task::spawn_blocking(move || {
        // A call that asks its user lasts until that is answered.
        let _turn = turn;
        work(Entry::new(&service, &account).map_err(fault)?)
    });
    task.await.unwrap_or_else(|_| Err(Fault::Other("the call did not return".to_owned())))
}

fn fault(error: Error) -> Fault {
    match error {
        Error::NoStorageAccess(_) => Fault::Locked,
        Error::Ambiguous(_) => Fault::Ambiguous,
        Error::BadEncoding(_) => Fault::Content("it is not UTF-8".to_owned()),
        // The others are about the platform and hold no secret.
        other => Fault::Other(other.to_string()),
    }
}
