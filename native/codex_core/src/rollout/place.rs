//! The place of a rollout that may be written to, moved or compressed while it is read.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zstd::stream::read::Decoder;

use super::lines::BLOCK;
use super::{ScanError, Source, is_compressed};
use crate::files;

/// A file that is open: its path and its identity. No other file gets its inode as long as it is
/// open.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    file: (u64, u64),
    compressed: bool,
}

impl Place {
    /// Opens a rollout at a position of its plain content, which is the beginning of a line.
    /// [`ScanError::Replaced`] if no line begins there. The guard is asked now and then.
    pub fn open(
        path: &Path,
        position: u64,
        guard: &dyn Fn() -> bool,
    ) -> Result<(Source, Place), ScanError> {
        let (mut file, facts) = files::open(path)?;
        let compressed = is_compressed(path);
        let place = Place { path: path.to_path_buf(), file: identity(&facts), compressed };
        let mut source: Source = if compressed {
            let mut source = Decoder::new(file)?;
            skip(&mut source, position.saturating_sub(1), guard)?;
            Box::new(source)
        } else {
            file.seek(SeekFrom::Start(position.saturating_sub(1)))?;
            Box::new(file)
        };
        let mut byte = [0];
        match position {
            0 => {}
            _ if source.read(&mut byte)? == 1 && byte == *b"\n" => {}
            _ => return Err(ScanError::Replaced),
        }
        Ok((source, place))
    }

    /// Whether the content can grow at this place.
    pub fn is_plain(&self) -> bool {
        !self.compressed
    }

    /// Whether the file is still at its path. [`ScanError::Replaced`] if it has become shorter than
    /// what was read of it.
    pub fn is_current(&self, read_to: u64) -> Result<bool, ScanError> {
        match fs::metadata(&self.path) {
            Ok(now) if identity(&now) != self.file => Ok(false),
            Ok(now) if self.is_plain() && now.len() < read_to => Err(ScanError::Replaced),
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(false),
                _ => Err(error.into()),
            },
        }
    }
}

fn identity(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// Reads over so many bytes. [`ScanError::Replaced`] if there are fewer.
pub(super) fn skip(
    source: &mut impl Read,
    bytes: u64,
    guard: &dyn Fn() -> bool,
) -> Result<(), ScanError> {
    let mut buffer = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        if !guard() {
            return Err(ScanError::Stopped);
        }
        let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        match source.read(&mut buffer[..most])? {
            0 => return Err(ScanError::Replaced),
            read => left -= read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(path: &Path, position: u64) -> Result<String, ScanError> {
        let (mut source, _) = Place::open(path, position, &|| true)?;
        let mut text = String::new();
        source.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn plain_and_compressed_files_open_at_the_beginning_of_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let plain = folder.path().join("a.jsonl");
        let packed = folder.path().join("a.jsonl.zst");
        fs::write(&plain, "one\ntwo\n").expect("a file");
        let bytes = zstd::encode_all(&b"one\ntwo\n"[..], 3).expect("memory");
        fs::write(&packed, bytes).expect("a file");
        for path in [&plain, &packed] {
            assert_eq!(rest(path, 0).expect("whole"), "one\ntwo\n");
            assert_eq!(rest(path, 4).expect("the second line"), "two\n");
            assert_eq!(rest(path, 8).expect("the end"), "");
            for position in [3, 9, 100] {
                assert!(matches!(rest(path, position), Err(ScanError::Replaced)), "{position}");
            }
        }
    }

    #[test]
    fn a_file_that_moved_or_shrank_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "one\n").expect("a file");
        let (_source, place) = Place::open(&path, 0, &|| true).expect("open");
        assert!(place.is_current(4).expect("there"));
        assert!(matches!(place.is_current(5), Err(ScanError::Replaced)));
        fs::rename(&path, folder.path().join("b.jsonl")).expect("a move");
        assert!(!place.is_current(4).expect("missing"));
        fs::write(&path, "another\n").expect("a file");
        assert!(!place.is_current(4).expect("another"));
    }
}
