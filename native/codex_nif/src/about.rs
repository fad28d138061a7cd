//! Describes this library.

use crate::entry;

/// Its version, and whether it was built with the keyring.
#[rustler::nif]
fn about() -> (&'static str, bool) {
    (env!("CARGO_PKG_VERSION"), cfg!(feature = "keyring"))
}

/// Tells the libraries apart that a VM has loaded one after the other: a reference of another one
/// is a bad argument.
#[rustler::nif]
fn image() -> usize {
    entry::image()
}
