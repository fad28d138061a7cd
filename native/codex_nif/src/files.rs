//! Files that others may control. All work runs in a pool, with a deadline in milliseconds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use codex_core::config::Lock;
use codex_core::files::{self, FileError, Kind, Late, Stat};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, ResourceArc, Term};

use crate::config::LockResource;
use crate::pool::{PoolResource, answer, path};

mod atoms {
    rustler::atoms! {
        ok, error, moved, held, timeout,
        not_regular, too_large,
        regular, directory, pipe, socket, device, other,
        eacces, eagain, eexist, einval, eio, eisdir, eloop, emfile, enametoolong, enfile, enoent, enospc, enotdir,
        enxio, eperm, erofs, estale, unknown
    }
}

type Pool = ResourceArc<PoolResource>;

/// The contents of files, one result for each path.
#[rustler::nif]
fn file_read(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    paths: Vec<Binary>,
    limit: u64,
    timeout: u64,
) -> NifResult<Atom> {
    let paths: Vec<_> = paths.iter().map(path).collect();
    let work = move || paths.iter().map(|path| files::read(path, limit)).collect::<Vec<_>>();
    run(env, &pool, reference, timeout, work, |env, results| {
        results
            .into_iter()
            .map(|result| tagged(env, result.map(|bytes| binary(env, &bytes))))
            .collect::<Vec<_>>()
            .encode(env)
    })
}

/// The last bytes of a file.
#[rustler::nif]
fn file_tail(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    file: Binary,
    limit: u64,
    timeout: u64,
) -> NifResult<Atom> {
    let file = path(&file);
    run(
        env,
        &pool,
        reference,
        timeout,
        move || files::tail(&file, limit),
        |env, result| tagged(env, result.map(|bytes| binary(env, &bytes))),
    )
}

/// `{Kind, Size, Modified, Inode, Mode, Owner}` of files, one result for each path.
#[rustler::nif]
fn file_stat(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    paths: Vec<Binary>,
    timeout: u64,
) -> NifResult<Atom> {
    let paths: Vec<_> = paths.iter().map(path).collect();
    let work = move || paths.iter().map(|path| files::stat(path)).collect::<Vec<_>>();
    run(env, &pool, reference, timeout, work, |env, results| {
        results
            .into_iter()
            .map(|result| tagged(env, result.map(|stat| stat_term(env, &stat))))
            .collect::<Vec<_>>()
            .encode(env)
    })
}

/// The names in a directory.
#[rustler::nif]
fn file_list(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    file: Binary,
    most: usize,
    timeout: u64,
) -> NifResult<Atom> {
    let file = path(&file);
    run(
        env,
        &pool,
        reference,
        timeout,
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
fn file_target(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    file: Binary,
    timeout: u64,
) -> NifResult<Atom> {
    let file = path(&file);
    run(
        env,
        &pool,
        reference,
        timeout,
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

/// Puts a text in the place of a file that still holds `before`.
#[rustler::nif]
fn file_swap<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    file: Binary<'a>,
    before: Binary<'a>,
    text: Binary<'a>,
    timeout: u64,
) -> NifResult<Atom> {
    let (file, before, text) = (path(&file), before.to_vec(), text.to_vec());
    let name = file.file_name().unwrap_or(OsStr::new("file")).to_string_lossy().into_owned();
    let work = move || files::swap(&file, &format!(".{name}."), &before, &text);
    run(env, &pool, reference, timeout, work, |env, result| match result {
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
    timeout: u64,
) -> NifResult<Atom> {
    let (parent, name, text) = (path(&parent), path(&name), text.to_vec());
    let work = move || files::hand_over(&parent, &name.to_string_lossy(), &text);
    run(env, &pool, reference, timeout, work, |env, result| {
        tagged(env, result.map(|made| binary(env, made.as_os_str().as_bytes())))
    })
}

/// Makes a private directory.
#[rustler::nif]
fn file_make_private(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    file: Binary,
    timeout: u64,
) -> NifResult<Atom> {
    let file = path(&file);
    run(
        env,
        &pool,
        reference,
        timeout,
        move || files::make_private(&file),
        |env, result| tagged(env, result.map(|()| atoms::ok().encode(env))),
    )
}

/// Takes a lock that `config_unlock` gives back, if it is free.
#[rustler::nif]
fn file_lock(
    env: Env<'_>,
    pool: Pool,
    reference: Term<'_>,
    file: Binary,
    timeout: u64,
) -> NifResult<Atom> {
    let file = path(&file);
    run(
        env,
        &pool,
        reference,
        timeout,
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

fn run<T: Send + 'static>(
    env: Env<'_>,
    pool: &Pool,
    reference: Term<'_>,
    timeout: u64,
    work: impl FnOnce() -> T + Send + 'static,
    encode: impl for<'e> FnOnce(Env<'e>, T) -> Term<'e> + Send + 'static,
) -> NifResult<Atom> {
    let work = files::within(Duration::from_millis(timeout), work);
    answer(env, pool, reference, work, |env, result| match result {
        Ok(result) => encode(env, result),
        Err(Late::Timeout | Late::Ended) => (atoms::error(), atoms::timeout()).encode(env),
    })
}

// --- Terms ----------

fn tagged<'e>(env: Env<'e>, result: Result<Term<'e>, FileError>) -> Term<'e> {
    match result {
        Ok(term) => (atoms::ok(), term).encode(env),
        Err(FileError::NotRegular(kind)) => {
            (atoms::error(), (atoms::not_regular(), kind_atom(kind))).encode(env)
        }
        Err(FileError::TooLarge(limit)) => {
            (atoms::error(), (atoms::too_large(), limit)).encode(env)
        }
        Err(FileError::Io(error)) => (atoms::error(), posix(&error)).encode(env),
    }
}

fn binary<'e>(env: Env<'e>, bytes: &[u8]) -> Term<'e> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}

fn stat_term<'e>(env: Env<'e>, stat: &Stat) -> Term<'e> {
    (kind_atom(stat.kind), stat.size, stat.modified, stat.inode, stat.mode, stat.owner).encode(env)
}

fn kind_atom(kind: Kind) -> Atom {
    match kind {
        Kind::Regular => atoms::regular(),
        Kind::Directory => atoms::directory(),
        Kind::Pipe => atoms::pipe(),
        Kind::Socket => atoms::socket(),
        Kind::Device => atoms::device(),
        Kind::Other => atoms::other(),
    }
}

/// The names that `:file.format_error/1` has words for.
fn posix(error: &std::io::Error) -> Atom {
    let Some(number) = error.raw_os_error() else {
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
