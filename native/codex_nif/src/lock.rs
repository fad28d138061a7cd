//! State of one owner behind a resource.

use std::sync::{Mutex, MutexGuard, TryLockError};

use rustler::{Error, NifResult};

/// Never waits: another process may hold it for as long as a huge line takes.
pub fn lock<T>(mutex: &Mutex<T>) -> NifResult<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Error::RaiseAtom("in_use")),
    }
}
