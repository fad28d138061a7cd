//! What this library is.

/// Its version, and whether it was built with the keyring.
#[rustler::nif]
fn about() -> (&'static str, bool) {
    (env!("CARGO_PKG_VERSION"), cfg!(feature = "keyring"))
}
