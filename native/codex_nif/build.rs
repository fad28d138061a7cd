//! Keeps the library mapped once it is loaded: threads of the credential pool end behind the VM's
//! back, and resources of a module that was replaced are dropped later. macOS keeps libraries with
//! thread-local storage by itself.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
