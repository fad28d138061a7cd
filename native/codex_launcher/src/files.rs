//! Files of one run: what a program takes by the name of a file. They exist from START on, so a VM
//! that dies before leaves none, and are gone before the end is told.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::frame::Content;

/// Removes its files when it is dropped.
#[derive(Default)]
pub struct Files {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Files {
    /// Makes the files, with mode 0600, and each missing folder, with mode 0700: from their first
    /// moment. The text of an error names the file.
    pub fn create(contents: &[Content]) -> Result<Self, String> {
        let mut made = Files::default();
        for Content { path, bytes } in contents {
            let path = Path::new(OsStr::from_bytes(path.to_bytes()));
            made.add(path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(made)
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => self.folders.push(folder.to_path_buf()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.files.push(path.to_path_buf());
        file.write_all(bytes)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::PermissionsExt;

    fn content(path: &Path, text: &str) -> Content {
        Content {
            path: CString::new(path.as_os_str().as_bytes()).unwrap(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_private_and_go_with_their_owner() {
        let folder = std::env::temp_dir().join(format!("launcher_files_{}", std::process::id()));
        let (one, two) = (folder.join("1"), folder.join("2"));
        let made = Files::create(&[content(&one, "first"), content(&two, "")]).unwrap();
        assert_eq!((mode(&folder), mode(&one), mode(&two)), (0o700, 0o600, 0o600));
        assert_eq!(fs::read(&one).unwrap(), b"first");
        // A file that is there is not touched, and nothing stays of the others.
        let other = folder.join("3");
        let error = Files::create(&[content(&other, ""), content(&one, "x")]).err().unwrap();
        assert!(error.contains(one.to_str().unwrap()) && !other.exists());
        assert_eq!(fs::read(&one).unwrap(), b"first");
        drop(made);
        assert!(!folder.exists());
    }
}
