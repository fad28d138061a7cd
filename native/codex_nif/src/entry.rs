//! How a VM loads the library, and loads it again: `nif_init` and its two callbacks, instead of
//! `rustler::init!`, which has no `upgrade`.
//!
//! The VM loads the library anew whenever it loads the module `Codex.Native` anew: `recompile` in
//! IEx, a code reloader, a hot upgrade. If the file is the same, the linker hands out the same
//! image, and the resources of the old module are those of the new module. A changed file is
//! another image with types of its own: code of one image must not read what another one laid out.
//! References of the old image are a bad argument then. Images are never unmapped (see `build.rs`),
//! because threads and destructors of an old image may still run.
//!
//! All blocks are sound for the same reason: the VM calls the callbacks with an environment and
//! terms that are valid until they return, one call at a time.

use std::alloc::Layout;
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustler::codegen_runtime::{
    self, ErlNifEntry, ErlNifEnv, ErlNifTerm, ResourceRegistration, c_int, c_void,
};
use rustler::sys::{self, ErlNifResourceDtor, ErlNifResourceFlags, ErlNifResourceTypeInit};
use rustler::{Env, Nif, Resource, Term};

use crate::{config, decoder, files, http, pool, rollout_reader, rollout_store, table, websocket};

#[unsafe(no_mangle)]
extern "C" fn nif_init() -> *const ErlNifEntry {
    // SAFETY: see the head of the file; the call looks up the functions of the VM that is loading
    // this library.
    unsafe { codegen_runtime::internal_write_symbols() };
    // The VM keeps pointers into both: they live as long as the image.
    let functions: &'static [_] =
        codegen_runtime::inventory::iter::<Nif>().map(Nif::get_def).collect::<Vec<_>>().leak();
    let mut entry = ErlNifEntry::new(c"Elixir.Codex.Native", functions, load);
    entry.upgrade = Some(upgrade);
    Box::leak(Box::new(entry))
}

unsafe extern "C" fn load(env: *mut ErlNifEnv, _data: *mut *mut c_void, info: ErlNifTerm) -> c_int {
    // SAFETY: see the head of the file.
    let (env, info) = unsafe {
        let env = Env::new_init_env(&env, env);
        (env, Term::new(env, info))
    };
    let loaded = catch_unwind(AssertUnwindSafe(|| open_all(env) && table::load(info).is_ok()));
    if loaded.unwrap_or(false) { 0 } else { 1 }
}

unsafe extern "C" fn upgrade(
    env: *mut ErlNifEnv,
    data: *mut *mut c_void,
    _old_data: *mut *mut c_void,
    info: ErlNifTerm,
) -> c_int {
    // SAFETY: the arguments are passed on.
    unsafe { load(env, data, info) }
}

fn open_all(env: Env) -> bool {
    open::<config::LockResource>(env)
        && open::<config::SchemaResource>(env)
        && open::<config::TreeResource>(env)
        && open::<decoder::DecoderResource>(env)
        && open::<http::SseResource>(env)
        && open::<pool::CallResource>(env)
        && open::<pool::PoolResource>(env)
        && open::<files::CopyResource>(env)
        && open::<rollout_reader::ReaderResource>(env)
        && open::<rollout_store::StoreResource>(env)
        && open::<websocket::SocketResource>(env)
}

/// Makes the type of a resource, or takes it over from the module that was loaded before from the
/// same image.
fn open<T: Resource>(env: Env) -> bool {
    const { assert!(!T::IMPLEMENTS_DESTRUCTOR && !T::IMPLEMENTS_DOWN, "drop_resource runs neither") };
    let Ok(name) = CString::new(format!("{}@{:x}", std::any::type_name::<T>(), image())) else {
        return false;
    };
    let name: &'static CStr = Box::leak(name.into_boxed_c_str());
    let Ok(text) = name.to_str() else { return false };
    ResourceRegistration::new::<T>().with_name(text).register(env).is_ok()
        || take_over::<T>(env, name)
}

/// A number that no other image in this VM has: an address inside of it.
pub fn image() -> usize {
    static HERE: u8 = 0;
    (&raw const HERE).addr()
}

/// `rustler` only makes types. The type stays the same, so `rustler` knows it already; it gets an
/// owner that lives.
fn take_over<T: Resource>(env: Env, name: &CStr) -> bool {
    let init = ErlNifResourceTypeInit {
        dtor: drop_resource::<T> as *const ErlNifResourceDtor,
        stop: ptr::null(),
        down: ptr::null(),
    };
    let (flags, mut tried) =
        (ErlNifResourceFlags::ERL_NIF_RT_TAKEOVER, ErlNifResourceFlags::ERL_NIF_RT_CREATE);
    // SAFETY: see the head of the file; the name ends with a NUL byte, and the VM copies it and
    // `init`.
    let taken = unsafe {
        sys::enif_open_resource_type_x(env.as_c_arg(), name.as_ptr(), &init, flags, &mut tried)
    };
    !taken.is_null()
}

/// Drops the value of a resource as `rustler` does; its own function is private. The value stands
/// at the first aligned place behind the first byte (`align_alloced_mem_for_struct`; `Cargo.toml`
/// pins the version).
unsafe extern "C" fn drop_resource<T: Resource>(_env: *mut ErlNifEnv, room: *mut c_void) {
    let align = Layout::new::<T>().align();
    let offset = align - room as usize % align;
    // SAFETY: the VM calls this once for a resource that `rustler` made, when no reference is left.
    let dropped = catch_unwind(|| unsafe { ptr::drop_in_place(room.byte_add(offset).cast::<T>()) });
    // A panic has no observer here.
    drop(dropped);
}
