//! Built without a keyring.

use super::{Bus, Fault, Turn};

fn none() -> Fault {
    Fault::Unavailable("this library was built without the keyring".to_owned())
}

pub(super) async fn get(
    _: Turn,
    _: &Bus,
    _: &str,
    _: &str,
    _: bool,
) -> Result<Option<String>, Fault> {
    Err(none())
}

pub(super) async fn set(_: Turn, _: &Bus, _: &str, _: &str, _: &str, _: bool) -> Result<(), Fault> {
    Err(none())
}

pub(super) async fn delete(_: Turn, _: &Bus, _: &str, _: &str, _: bool) -> Result<bool, Fault> {
    Err(none())
}

pub(super) async fn probe(_: Turn, _: &Bus) -> Result<(), Fault> {
    Err(none())
}
