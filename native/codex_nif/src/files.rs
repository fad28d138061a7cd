//! Files that others may control. All work runs in a pool, and its caller may give up waiting.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use codex_core::config::Lock;
use codex_core::files::{self, CopyError, FileError, Kind, Stat};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Resource, ResourceArc, Term};

use crate::config::LockResource;
use crate::pool::{CallResource, PoolResource, answer_blocking, answer_guarded, path};

mod atoms {
    rustler::atoms! {
        ok, error, moved, held, write,
        not_regular, too_large,
        regular, directory, pipe, socket, device, other,
        eacces, eagain, eexist, einval, eio, eisdir, eloop, emfile, enametoolong, enfile, enoent, enospc, enotdir,
        enxio, eperm, erofs, estale, unknown
    }
}

type Pool = ResourceArc<PoolResource>;
type Call = ResourceArc<CallResource>;

/// The current directory of this process. The system knows it without a look at any file system.
#[rustler::nif]
fn file_cwd(env: Env<'_>) -> Term<'_> {
    tagged(
        env,
        std::env::current_dir()
            .map(|dir| binary(env, dir.as_os_str().as_bytes()))
            .map_err(FileError::from),
    )
}

/// Facts about files, as `{Kind, Size, Modified, Inode, Mode, Owner}`, and the contents of others:
/// two lists with a result for each path.
#[rustler::nif]
fn file_look(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    stats: Vec<Binary>,
    texts: Vec<Binary>,
    limit: u64,
) -> Call {
    let stats: Vec<_> = stats.iter().map(path).collect();
    let texts: Vec<_> = texts.iter().map(path).collect();
    let work = move || {
        let stats: Vec<_> = stats.iter().map(|path| files::stat(path)).collect();
        let texts: Vec<_> = texts.iter().map(|path| files::read(path, limit)).collect();
        (stats, texts)
    };
    answer_blocking(env, &pool, reference, work, |env, (stats, texts)| {
        let stats =
            stats.into_iter().map(|stat| tagged(env, stat.map(|stat| stat_term(env, &stat))));
        let texts = texts.into_iter().map(|text| tagged(env, text.map(|text| binary(env, &text))));
        (stats.collect::<Vec<_>>(), texts.collect::<Vec<_>>()).encode(env)
    })
}

/// The last bytes of a file.
#[rustler::nif]
fn file_tail(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary, limit: u64) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || files::tail(&file, limit),
        |env, result| tagged(env, result.map(|bytes| binary(env, &bytes))),
    )
}

/// The names in a directory.
#[rustler::nif]
fn file_list(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary, most: usize) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || files::list(&file, most),
        |env, result| {
            tagged(
                env,
                result.map(|names| {
                    names
                        .iter()
                        .map(|name| binary(env, name.as_bytes()))
                        .collect::<Vec<_>>()
                        .encode(env)
                }),
            )
        },
    )
}

/// The file that a path leads to.
#[rustler::nif]
fn file_target(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || files::target(&file),
        |env, result| {
            tagged(
                env,
                result
                    .map(|target| binary(env, target.as_os_str().as_bytes()))
                    .map_err(FileError::from),
            )
        },
    )
}

/// A path without links; everything on the way exists.
#[rustler::nif]
fn file_real(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || std::fs::canonicalize(&file),
        |env, result| {
            tagged(
                env,
                result
                    .map(|real| binary(env, real.as_os_str().as_bytes()))
                    .map_err(FileError::from),
            )
        },
    )
}

/// Puts a text in the place of a file that still holds `before`.
#[rustler::nif]
fn file_swap<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    file: Binary<'a>,
    before: Binary<'a>,
    text: Binary<'a>,
) -> Call {
    let (file, before, text) = (path(&file), before.to_vec(), text.to_vec());
    let name = file.file_name().unwrap_or(OsStr::new("file")).to_string_lossy().into_owned();
    let work = move || files::swap(&file, &format!(".{name}."), &before, &text);
    answer_blocking(env, &pool, reference, work, |env, result| match result {
        Ok(true) => atoms::ok().encode(env),
        Ok(false) => atoms::moved().encode(env),
        Err(why) => tagged(env, Err(why)),
    })
}

/// Makes a private file in a private directory of its own below `parent`.
#[rustler::nif]
fn file_hand_over<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    parent: Binary<'a>,
    name: Binary<'a>,
    text: Binary<'a>,
) -> Call {
    let (parent, name, text) = (path(&parent), path(&name), text.to_vec());
    let work = move || files::hand_over(&parent, &name.to_string_lossy(), &text);
    answer_blocking(env, &pool, reference, work, |env, result| {
        tagged(env, result.map(|made| binary(env, made.as_os_str().as_bytes())))
    })
}

/// Makes a private directory.
#[rustler::nif]
fn file_make_private(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || files::make_private(&file),
        |env, result| tagged(env, result.map(|()| atoms::ok().encode(env))),
    )
}

/// Takes a lock that `config_unlock` gives back, if it is free.
#[rustler::nif]
fn file_lock(env: Env<'_>, pool: Pool, reference: Term<'_>, file: Binary) -> Call {
    let file = path(&file);
    answer_blocking(
        env,
        &pool,
        reference,
        move || Lock::try_take(&file),
        |env, result| match result {
            Ok(Some(lock)) => {
                tagged(env, Ok(ResourceArc::new(LockResource::new(lock)).encode(env)))
            }
            Ok(None) => (atoms::error(), atoms::held()).encode(env),
            Err(why) => tagged(env, Err(why)),
        },
    )
}

/// A copy that is removed with this resource, unless it has got its name.
pub struct CopyResource(Mutex<Option<files::Copy>>);

impl Resource for CopyResource {}

/// Copies a file into a folder: `{ok, {Copy, Checksum, Size}}`.
#[rustler::nif]
fn file_stage<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    file: Binary<'a>,
    folder: Binary<'a>,
    limit: u64,
) -> Call {
    let (file, folder) = (path(&file), path(&folder));
    let work = move |wanted: &dyn Fn() -> bool| files::copy(&file, &folder, limit, wanted);
    answer_guarded(env, &pool, reference, work, |env, result| match result {
        Ok(copied) => {
            let copy = ResourceArc::new(CopyResource(Mutex::new(Some(copied.file))));
            (atoms::ok(), (copy, copied.checksum, copied.size)).encode(env)
        }
        Err(CopyError::Read(why)) => tagged(env, Err(why)),
        Err(CopyError::Write(why)) => match tagged(env, Err(why)).decode::<(Atom, Term)>() {
            Ok((error, why)) => (error, (atoms::write(), why)).encode(env),
            Err(_) => (atoms::error(), (atoms::write(), atoms::unknown())).encode(env),
        },
    })
}

/// Gives a copy its name.
#[rustler::nif]
fn file_keep<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    copy: ResourceArc<CopyResource>,
    file: Binary<'a>,
) -> Call {
    let file = path(&file);
    let work = move || match copy.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(copy) => files::keep(copy, &file),
        None => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
    };
    answer_blocking(env, &pool, reference, work, |env, result| {
        tagged(env, result.map(|()| atoms::ok().encode(env)))
    })
}

/// Removes a copy that has no name yet, before its resource is collected.
#[rustler::nif]
fn file_drop(copy: ResourceArc<CopyResource>) -> Atom {
    drop(copy.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    atoms::ok()
}

// --- Terms ----------

pub fn tagged<'e>(env: Env<'e>, result: Result<Term<'e>, FileError>) -> Term<'e> {
    match result {
        Ok(term) => (atoms::ok(), term).encode(env),
        Err(error) => (atoms::error(), file_reason(env, &error)).encode(env),
    }
}

pub fn file_reason<'e>(env: Env<'e>, error: &FileError) -> Term<'e> {
    match error {
        FileError::NotRegular(kind) => (atoms::not_regular(), kind_atom(*kind)).encode(env),
        FileError::TooLarge(limit) => (atoms::too_large(), *limit).encode(env),
        FileError::Io(error) => posix(error).encode(env),
    }
}

pub fn binary<'e>(env: Env<'e>, bytes: &[u8]) -> Term<'e> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}

fn stat_term<'e>(env: Env<'e>, stat: &Stat) -> Term<'e> {
    (kind_atom(stat.kind), stat.size, stat.modified, stat.inode, stat.mode, stat.owner).encode(env)
}

pub fn kind_atom(kind: Kind) -> Atom {
    match kind {
        Kind::Regular => atoms::regular(),
        Kind::Directory => atoms::directory(),
        Kind::Pipe => atoms::pipe(),
        Kind::Socket => atoms::socket(),
        Kind::Device => atoms::device(),
        Kind::Other => atoms::other(),
    }
}

/// The number of an error, also if a library wrapped the error to add a path.
fn os_error(error: &std::io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let inner = error.get_ref()?.source()?.downcast_ref::<std::io::Error>()?;
        inner.raw_os_error()
    })
}

/// The names that `:file.format_error/1` has words for.
pub fn posix(error: &std::io::Error) -> Atom {
    let Some(number) = os_error(error) else {
        // A null byte in a path.
        let invalid = error.kind() == std::io::ErrorKind::InvalidInput;
        return if invalid { atoms::einval() } else { atoms::unknown() };
    };
    match number {
        libc::EACCES => atoms::eacces(),
        libc::EAGAIN => atoms::eagain(),
        libc::EEXIST => atoms::eexist(),
        libc::EINVAL => atoms::einval(),
        libc::EIO => atoms::eio(),
        libc::EISDIR => atoms::eisdir(),
        libc::ELOOP => atoms::eloop(),
        libc::EMFILE => atoms::emfile(),
        libc::ENAMETOOLONG => atoms::enametoolong(),
        libc::ENFILE => atoms::enfile(),
        libc::ENOENT => atoms::enoent(),
        libc::ENOSPC => atoms::enospc(),
        libc::ENOTDIR => atoms::enotdir(),
        libc::ENXIO => atoms::enxio(),
        libc::EPERM => atoms::eperm(),
        libc::EROFS => atoms::erofs(),
        libc::ESTALE => atoms::estale(),
        _ => atoms::unknown(),
    }
}
