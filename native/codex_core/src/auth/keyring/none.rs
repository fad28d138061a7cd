//! Built without a keyring.

use super::{Bus, Fault};

fn none() -> Fault {
    Fault::Unavailable("this library was built without the keyring".to_owned())
}

pub(super) async fn get(_: &Bus, _: &str, _: &str, _: bool) -> Result<Option<String>, Fault> {
    Err(none())
}

pub(super) async fn set(_: &Bus, _: &str, _: &str, _: &str, _: bool) -> Result<(), Fault> {
    Err(none())
}

pub(super) async fn delete(_: &Bus, _: &str, _: &str, _: bool) -> Result<bool, Fault> {
    Err(none())
}

pub(super) async fn probe(_: &Bus) -> Result<(), Fault> {
    Err(none())
}
