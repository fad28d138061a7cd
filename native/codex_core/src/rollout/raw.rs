//! The bytes of a rollout as they stand in its plain content.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memrchr;
use zstd::stream::read::Decoder;

use super::lines::BLOCK;
use super::place::{Place, skip};
use super::{ScanError, Source, is_compressed};
use crate::files;

/// Whole lines of a rollout.
#[derive(Debug, PartialEq, Eq)]
pub enum RawLines {
    /// These bytes end with a newline, or there are none.
    Bytes(Vec<u8>),
    /// The next line is longer than the limit.
    TooLong,
}

/// Reads whole lines from a position on, which is the beginning of a line: about `most` bytes, or
/// one line of at most `longest` bytes. Half a line at the end is left out.
/// [`ScanError::Replaced`] if no line begins at the position.
pub fn raw_lines(
    path: &Path,
    position: u64,
    most: usize,
    longest: usize,
    guard: &dyn Fn() -> bool,
) -> Result<RawLines, ScanError> {
    let (mut source, _place) = Place::open(path, position, guard)?;
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let wanted = if before < most { most } else { before + BLOCK };
        let ended = read(&mut source, &mut bytes, wanted, guard)?;
        if let Some(at) = memrchr(b'\n', &bytes[before..]) {
            bytes.truncate(before + at + 1);
            return Ok(RawLines::Bytes(bytes));
        }
        if bytes.len() > longest {
            return Ok(RawLines::TooLong);
        }
        if ended {
            return Ok(RawLines::Bytes(Vec::new()));
        }
    }
}

/// Reads bytes from any position on, at most so many: fewer if the content ends before.
pub fn raw_bytes(
    path: &Path,
    position: u64,
    most: usize,
    guard: &dyn Fn() -> bool,
) -> Result<Vec<u8>, ScanError> {
    let (mut file, _facts) = files::open(path)?;
    let mut bytes = Vec::new();
    let mut source: Source = match is_compressed(path) {
        true => {
            let mut source = Decoder::new(file)?;
            match skip(&mut source, position, guard) {
                Err(ScanError::Replaced) => return Ok(bytes),
                skipped => skipped?,
            }
            Box::new(source)
        }
        false => {
            file.seek(SeekFrom::Start(position))?;
            Box::new(file)
        }
    };
    read(&mut source, &mut bytes, most, guard)?;
    Ok(bytes)
}

/// The size of the plain content.
pub fn plain_size(path: &Path, guard: &dyn Fn() -> bool) -> Result<u64, ScanError> {
    let (file, facts) = files::open(path)?;
    if !is_compressed(path) {
        return Ok(facts.len());
    }
    let (mut source, mut size) = (Decoder::new(file)?, 0);
    let mut buffer = vec![0; BLOCK];
    loop {
        if !guard() {
            return Err(ScanError::Stopped);
        }
        match source.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(read) => size += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads until there are so many bytes; returns whether the source ended before.
fn read(
    source: &mut Source,
    bytes: &mut Vec<u8>,
    wanted: usize,
    guard: &dyn Fn() -> bool,
) -> Result<bool, ScanError> {
    while bytes.len() < wanted {
        if !guard() {
            return Err(ScanError::Stopped);
        }
        let (before, step) = (bytes.len(), BLOCK.min(wanted - bytes.len()));
        let read = source.take(step as u64).read_to_end(bytes)?;
        debug_assert_eq!(bytes.len(), before + read);
        if read < step {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lines(path: &Path, position: u64, most: usize) -> RawLines {
        raw_lines(path, position, most, 4 * BLOCK, &|| true).expect("readable")
    }

    #[test]
    fn whole_lines_come_plain_or_compressed() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = [vec![b'x'; 2 * BLOCK], b"\n".to_vec()].concat();
        let text = [b"one\ntwo\n", &long[..], b"half"].concat();
        let plain = folder.path().join("a.jsonl");
        let packed = folder.path().join("b.jsonl.zst");
        fs::write(&plain, &text).expect("a file");
        fs::write(&packed, zstd::encode_all(&text[..], 3).expect("memory")).expect("a file");
        let end = text.len() as u64 - 4;
        for path in [&plain, &packed] {
            assert_eq!(lines(path, 0, 6), RawLines::Bytes(b"one\n".to_vec()));
            assert_eq!(lines(path, 0, 2), RawLines::Bytes(b"one\ntwo\n".to_vec()));
            assert!(lines(path, 8, 1) == RawLines::Bytes(long.clone()));
            assert!(lines(path, 0, 1 << 22) == RawLines::Bytes(text[..end as usize].to_vec()));
            assert_eq!(lines(path, end, 100), RawLines::Bytes(Vec::new()));
            for position in [1, end + 1, end + 100] {
                let read = raw_lines(path, position, 10, 10, &|| true);
                assert!(matches!(read, Err(ScanError::Replaced)), "{position}");
            }
            let read = raw_lines(path, 8, 10, BLOCK, &|| true).expect("readable");
            assert_eq!(read, RawLines::TooLong);
            assert_eq!(raw_bytes(path, 2, 4, &|| true).expect("readable"), b"e\ntw");
            assert_eq!(raw_bytes(path, end, 9, &|| true).expect("readable"), b"half");
            assert_eq!(raw_bytes(path, end + 9, 9, &|| true).expect("readable"), b"");
            assert_eq!(plain_size(path, &|| true).expect("readable"), text.len() as u64);
            assert!(matches!(plain_size(path, &|| false), Ok(_) | Err(ScanError::Stopped)));
        }
        let missing = folder.path().join("c.jsonl");
        assert!(raw_bytes(&missing, 0, 1, &|| true).is_err());
    }
}
