//! Files that others may control: those of a repository, of a shared home, of another program.
//!
//! Only regular files are read, and only up to a limit. A named pipe, a device, a socket or a
//! directory is an error and is never opened for reading, so that no read waits for a writer or for
//! an endless device.
//!
//! ```
//! use codex_core::files::{self, FileError, Kind};
//! use std::path::Path;
//!
//! assert!(matches!(files::read(Path::new("/dev/zero"), 10),
//! Err(FileError::NotRegular(Kind::Device)))); assert!(matches!(files::read(Path::new("/etc"), 10),
//! Err(FileError::NotRegular(Kind::Directory))));
//! ```
//!
//! A file system that does not answer (a lost network disk) holds the thread of a call. [`within`]
//! gives such a call a deadline: it runs on a thread of the runtime, and its caller goes on without
//! it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, FileType, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The limit of documents: configuration, credentials, certificates, catalogs.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A longer chain of links is a loop. The kernel has the same limit.
const MAX_LINKS: usize = 40;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A named pipe (FIFO).
    Pipe,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// Anything else.
    Other,
}

impl Kind {
    pub(crate) fn of(file: FileType) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::FileTypeExt;

        match file {
            file if file.is_file() => Kind::Regular,
            file if file.is_dir() => Kind::Directory,
            #[cfg(unix)]
            file if file.is_fifo() => Kind::Pipe,
            #[cfg(unix)]
            file if file.is_socket() => Kind::Socket,
            #[cfg(unix)]
            file if file.is_char_device() || file.is_block_device() => Kind::Device,
            _ => Kind::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Regular => "a regular file",
            Kind::Directory => "a directory",
            Kind::Pipe => "a named pipe",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
            Kind::Other => "of another type",
        })
    }
}

/// Why a file was not read or written.
#[derive(Debug)]
pub enum FileError {
    /// The path leads to a file of another type.
    NotRegular(Kind),
    /// The file has more bytes than this limit.
    TooLarge(u64),
    /// The operating system refused.
    Io(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::NotRegular(kind) => write!(f, "it is not a regular file but {kind}"),
            FileError::TooLarge(limit) => write!(f, "it is larger than the limit of {limit} bytes"),
            FileError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        FileError::Io(error)
    }
}

impl FileError {
    /// The file, or a directory on the way to it, does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, FileError::Io(error) if missing(error))
    }
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

// --- Reading ----------

/// The whole file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open(path)?;
    if metadata.len() > limit {
        return Err(FileError::TooLarge(limit));
    }
    // The size is not the last word: files of /proc have none, and others grow.
    let bytes = take(file, limit.saturating_add(1))?;
    if bytes.len() as u64 > limit { Err(FileError::TooLarge(limit)) } else { Ok(bytes) }
}

/// The last bytes of a file, at most `limit`.
pub fn tail(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (mut file, metadata) = open(path)?;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(limit)))?;
    take(file, limit)
}

fn take(file: File, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looked at before it is opened, for opening a device may do something; and looked at again after,
/// for another file may have taken its place.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata), FileError> {
    regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NONBLOCK | libc::O_NOCTTY,
    );
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

fn regular(metadata: &Metadata) -> Result<(), FileError> {
    match Kind::of(metadata.file_type()) {
        Kind::Regular => Ok(()),
        kind => Err(FileError::NotRegular(kind)),
    }
}

/// Facts about a file; of the target, if it is a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, in seconds since 1970.
    pub modified: i64,
    /// Its number in the file system.
    pub inode: u64,
    /// Its permissions.
    pub mode: u32,
    /// The number of its owner.
    pub owner: u32,
}

/// Facts about a file.
#[cfg(unix)]
pub fn stat(path: &Path) -> Result<Stat, FileError> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path)?;
    Ok(Stat {
        kind: Kind::of(metadata.file_type()),
        size: metadata.len(),
        modified: metadata.mtime(),
        inode: metadata.ino(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
    })
}

/// The names in a directory, sorted; at most `limit` of them.
pub fn list(path: &Path, limit: usize) -> Result<Vec<OsString>, FileError> {
    let names = fs::read_dir(path)?.take(limit).map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

// --- Writing ----------

/// The file that a path leads to; it need not exist. Where it does not, the directory of a link's
/// target is made, as the CLI does.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    let mut linked = false;
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(link) => {
                linked = true;
                path = path.parent().unwrap_or(Path::new("/")).join(link);
            }
            // Not a link, or nothing at all.
            Err(_) => {
                if let (true, Some(folder)) = (linked, path.parent()) {
                    fs::create_dir_all(folder)?;
                }
                return Ok(path);
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Takes the lock of a file if it is free, making the file if it is missing. Never waits.
/// `Ok(None)` if another holds it. The file stays: removing it would let two writers lock two
/// files.
pub fn lock(path: &Path, mode: u32) -> Result<Option<File>, FileError> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(mode).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Puts a text in the place of a file, at once: a reader sees the old or the new one. The new file
/// has mode 0600 from its first moment. A link stays a link; the file that it leads to is replaced.
/// What is not a regular file, as a device or a pipe, is never replaced.
pub fn replace(path: &Path, prefix: &str, text: &[u8]) -> Result<(), FileError> {
    let path = target(path)?;
    match fs::metadata(&path) {
        Ok(metadata) => regular(&metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    persist(prepared(&path, prefix, text, 0o600)?, &path)
}

/// As [`replace`], if the file still holds `before`; `Ok(false)` if it does not. A missing file
/// holds nothing. The mode of the file stays.
pub fn swap(path: &Path, prefix: &str, before: &[u8], text: &[u8]) -> Result<bool, FileError> {
    let path = target(path)?;
    let mode = stat(&path).map_or(0o600, |stat| stat.mode);
    let new = prepared(&path, prefix, text, mode)?;
    let now = match read(&path, MAX_BYTES) {
        Err(error) if error.is_missing() => Vec::new(),
        now => now?,
    };
    if now != before {
        return Ok(false);
    }
    persist(new, &path).map(|()| true)
}

fn prepared(
    path: &Path,
    prefix: &str,
    text: &[u8],
    mode: u32,
) -> Result<tempfile::NamedTempFile, FileError> {
    // Made with mode 0600, under a name that nobody has.
    let mut new = tempfile::Builder::new().prefix(prefix).tempfile_in(folder(path))?;
    new.write_all(text)?;
    #[cfg(unix)]
    if mode != 0o600 {
        new.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    new.as_file().sync_all()?;
    Ok(new)
}

fn persist(new: tempfile::NamedTempFile, path: &Path) -> Result<(), FileError> {
    new.persist(path).map_err(|error| error.error)?;
    // Not every system syncs a directory; the file itself is safe by then.
    let _ = File::open(folder(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Makes a file for a program that takes its input by name: in a new directory of mode 0700, with
/// mode 0600, both from their first moment. `name` is that of the file.
pub fn hand_over(parent: &Path, name: &str, text: &[u8]) -> Result<PathBuf, FileError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("codex_sdk_");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = builder.tempdir_in(parent)?;
    let path = folder.path().join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path)?.write_all(text)?;
    // It stays from here on.
    let _ = folder.keep();
    Ok(path)
}

/// Why a file was not copied.
#[derive(Debug)]
pub enum CopyError {
    /// The original.
    Read(FileError),
    /// The copy.
    Write(FileError),
}

/// A file without its final name. It is removed when it is dropped.
#[derive(Debug)]
pub struct Copy(tempfile::TempPath);

/// A copy of a file.
#[derive(Debug)]
pub struct Copied {
    /// The copy, with mode 0600.
    pub file: Copy,
    /// The SHA-256 sum of the content, in hexadecimal digits.
    pub checksum: String,
    /// The size of the content in bytes.
    pub size: u64,
}

/// Copies a file of at most `limit` bytes into a folder, block by block, while `wanted` says so.
pub fn copy(
    path: &Path,
    folder: &Path,
    limit: u64,
    wanted: &dyn Fn() -> bool,
) -> Result<Copied, CopyError> {
    use sha2::{Digest, Sha256};

    let (mut file, metadata) = open(path).map_err(CopyError::Read)?;
    let too_large = || CopyError::Read(FileError::TooLarge(limit));
    if metadata.len() > limit {
        return Err(too_large());
    }
    let write = |error: io::Error| CopyError::Write(error.into());
    let mut copy =
        tempfile::Builder::new().prefix(".staged.").tempfile_in(folder).map_err(write)?;
    let (mut sum, mut size, mut block) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        let read = match file.read(&mut block) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error.into())),
        };
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > limit {
            return Err(too_large());
        }
        if !wanted() {
            return Err(CopyError::Read(io::Error::from_raw_os_error(libc::EINTR).into()));
        }
        sum.update(&block[..read]);
        copy.write_all(&block[..read]).map_err(write)?;
    }
    copy.as_file().sync_all().map_err(write)?;
    let checksum = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Copied { file: Copy(copy.into_temp_path()), checksum, size })
}

/// Gives a copy its final name, in a directory that is made with mode 0700 if it is missing.
pub fn keep(copy: Copy, path: &Path) -> Result<(), FileError> {
    match make_private(folder(path)) {
        Err(FileError::Io(error)) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error.into());
        }
        _made => {}
    }
    copy.0.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes a directory of mode 0700, and those above it that are missing. One that is there is an
/// error.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    Ok(builder.create(path)?)
}

// --- The deadline ----------

/// Why [`within`] has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The time is over. The work goes on, or never begins.
    Timeout,
    /// The runtime has ended.
    Ended,
}

/// Runs work that may wait on a thread of the runtime. A panic in it goes on here.
pub async fn within<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    if timeout.is_zero() {
        return Err(Late::Timeout);
    }
    match tokio::time::timeout(timeout, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(Late::Ended),
        },
        Err(_elapsed) => Err(Late::Timeout),
    }
}
