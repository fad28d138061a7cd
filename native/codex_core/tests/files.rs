//! Files that others control, with real pipes, devices, sockets and links.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_core::files::{self, FileError, Kind, Late, within};

/// The object in the place of a file, by its type.
fn others(folder: &Path) -> Vec<(PathBuf, Kind)> {
    let path = |name: &str| folder.join(name);
    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    symlink("/dev/zero", path("zero")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    drop(UnixListener::bind(path("socket")).unwrap());
    symlink("pipe", path("link")).unwrap();
    vec![
        (path("pipe"), Kind::Pipe),
        (path("zero"), Kind::Device),
        (path("folder"), Kind::Directory),
        (path("socket"), Kind::Socket),
        (path("link"), Kind::Pipe),
    ]
}

#[test]
fn only_regular_files_are_read_and_locked() {
    let folder = tempfile::tempdir().unwrap();
    for (path, kind) in others(folder.path()) {
        let refused =
            |error: FileError| matches!(error, FileError::NotRegular(other) if other == kind);
        assert!(refused(files::read(&path, 10).unwrap_err()), "{path:?}");
        assert!(refused(files::tail(&path, 10).unwrap_err()), "{path:?}");
        assert!(files::lock(&path, 0o600).is_err(), "{path:?}");
        assert_eq!(files::stat(&path).unwrap().kind, kind);
    }
}

#[test]
fn a_file_over_the_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "0123456789").unwrap();
    assert_eq!(files::read(&path, 10).unwrap(), b"0123456789");
    assert!(matches!(files::read(&path, 9), Err(FileError::TooLarge(9))));
    assert_eq!(files::tail(&path, 3).unwrap(), b"789");
    assert_eq!(files::tail(&path, 30).unwrap(), b"0123456789");
    // One without a size, and one that takes no room.
    assert!(matches!(
        files::read(Path::new("/proc/self/stat"), 3),
        Err(FileError::TooLarge(3)) | Err(FileError::Io(_))
    ));
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(files::read(&path, files::MAX_BYTES), Err(FileError::TooLarge(_))));
    assert_eq!(files::tail(&path, 5).unwrap(), [0; 5]);
    assert!(files::read(&folder.path().join("none"), 1).unwrap_err().is_missing());
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink("chain", path("link")).unwrap();
    symlink("elsewhere/none/file", path("chain")).unwrap();
    files::replace(&path("link"), ".new-", b"one").unwrap();
    assert!(path("link").is_symlink() && path("chain").is_symlink());
    assert_eq!(fs::metadata(path("link")).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(path("link"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(!files::swap(&path("link"), ".new-", b"other", b"two").unwrap());
    assert!(files::swap(&path("link"), ".new-", b"one", b"two").unwrap());
    assert_eq!(fs::read(path("elsewhere/none/file")).unwrap(), b"two");
    assert_eq!(fs::metadata(path("link")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(files::list(&path("elsewhere/none"), 9).unwrap(), ["file"]);
    symlink("loop", path("loop")).unwrap();
    assert!(files::replace(&path("loop"), ".new-", b"").is_err());
}

#[test]
fn what_is_handed_over_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = files::hand_over(folder.path(), "schema.json", b"{}").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    let home = folder.path().join("a/home");
    files::make_private(&home).unwrap();
    assert_eq!(fs::metadata(&home).unwrap().mode() & 0o777, 0o700);
    assert!(files::make_private(&home).is_err());
    assert!(!fs::symlink_metadata(&home).unwrap().file_type().is_fifo());
}

#[test]
fn work_that_hangs_has_a_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (end, hung) = std::sync::mpsc::channel::<()>();
    let late = runtime.block_on(within(Duration::from_millis(20), move || hung.recv().is_ok()));
    assert_eq!(late, Err(Late::Timeout));
    end.send(()).unwrap();
    assert_eq!(runtime.block_on(within(Duration::from_secs(60), || 1)), Ok(1));
}
