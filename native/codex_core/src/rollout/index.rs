//! Keeps the sums of files in a file, so that unchanged files are not read again.
//!
//! An entry holds for a path with the same size, time of change and inode. An index that is torn,
//! of another version or of another home has no entries.
//!
//! The file is a head, the home, the entries in the order of their paths, and a check sum.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::{self, Reader, Writer};
use super::file::File;
use super::summary::Summary;
use crate::files;

/// The version of the format is part of it.
const HEAD: &[u8; 8] = b"cxsums 3";

/// A larger index is not read.
const MAX_BYTES: u64 = u32::MAX as u64;

/// The sums that are known.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The paths and the entries behind them as ranges of the bytes, in the order of the paths.
    entries: Vec<[u32; 4]>,
}

/// The sum of a file that was read, for the index.
#[derive(Debug)]
pub struct Fresh {
    file: File,
    sum: Vec<u8>,
}

impl Fresh {
    /// Keeps the sum of a file.
    pub fn new(file: &File, summary: &Summary) -> Fresh {
        let mut sum = Writer::default();
        codec::encode(&mut sum, summary);
        Fresh { file: file.clone(), sum: sum.0 }
    }
}

impl Index {
    /// Reads the index of a home.
    pub fn load(path: &Path, home: &Path) -> Index {
        let bytes = files::read(path, MAX_BYTES).unwrap_or_default();
        let entries = entries(&bytes, home).unwrap_or_default();
        Index { path: path.to_path_buf(), bytes, entries }
    }

    /// The entry of a file that has not changed.
    fn entry(&self, file: &File) -> Option<&[u8]> {
        let path = file.path();
        let path = path.as_os_str().as_encoded_bytes();
        let of =
            |at: usize| &self.bytes[self.entries[at][0] as usize..self.entries[at][1] as usize];
        let at = self
            .entries
            .partition_point(|entry| self.bytes[entry[0] as usize..entry[1] as usize] < *path);
        if at == self.entries.len() || of(at) != path {
            return None;
        }
        let entry = &self.bytes[self.entries[at][2] as usize..self.entries[at][3] as usize];
        let mut from = Reader(entry);
        let same = from.number()? == file.size
            && from.number()? == file.modified as u64
            && from.number()? == file.inode;
        same.then_some(from.0)
    }

    /// Whether the sum of a file is known, and the file has not changed.
    pub fn has(&self, file: &File) -> bool {
        self.entry(file).is_some()
    }

    /// The sum of a file that has not changed.
    pub fn get(&self, file: &File) -> Option<Summary> {
        codec::decode(self.entry(file)?)
    }

    /// Writes the index if files were read, or others are gone. A reader sees the old index or the
    /// new one. Without a place to write, there is none.
    pub fn save(&self, home: &Path, all: &[File], fresh: &[Fresh]) {
        if fresh.is_empty() && self.entries.len() <= all.len() {
            return;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut new = self.path.clone().into_os_string();
        new.push(format!(".{}-{number}.new", std::process::id()));
        let written = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| self.write(Path::new(&new), home, all, fresh));
        if written.and_then(|()| fs::rename(&new, &self.path)).is_err() {
            let _ = fs::remove_file(&new);
        }
    }

    fn write(&self, new: &Path, home: &Path, all: &[File], fresh: &[Fresh]) -> io::Result<()> {
        let mut out = Checked { out: BufWriter::new(fs::File::create_new(new)?), sum: Sum::new() };
        let mut begin = Writer(HEAD.to_vec());
        begin.bytes(home.as_os_str().as_encoded_bytes());
        out.put(&begin.0)?;
        // A file may have moved while it was read.
        let read = fresh.iter().map(|fresh| (bytes_of(&fresh.file), &fresh.file, Some(fresh)));
        let mut files: Vec<_> = read.collect();
        files.extend(all.iter().map(|file| (bytes_of(file), file, None)));
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|later, first| later.0 == first.0);
        for (path, file, read) in files {
            let known = || self.entry(file);
            let Some(sum) = read.map(|fresh| fresh.sum.as_slice()).or_else(known) else {
                continue;
            };
            let (mut entry, mut whole) = (Writer::default(), Writer::default());
            for number in [file.size, file.modified as u64, file.inode] {
                entry.number(number);
            }
            whole.bytes(&path);
            whole.number((entry.0.len() + sum.len()) as u64);
            out.put(&whole.0)?;
            out.put(&entry.0)?;
            out.put(sum)?;
        }
        let sum = out.sum.finish();
        out.put(&sum.to_le_bytes())?;
        out.out.flush()
    }
}

fn bytes_of(file: &File) -> Vec<u8> {
    file.path().into_os_string().into_encoded_bytes()
}

fn entries(bytes: &[u8], home: &Path) -> Option<Vec<[u32; 4]>> {
    let (content, sum) = bytes.split_last_chunk::<8>()?;
    let mut from = Reader(content.strip_prefix(HEAD)?);
    if from.bytes()? != home.as_os_str().as_encoded_bytes() {
        return None;
    }
    let mut check = Sum::new();
    check.add(content);
    if check.finish().to_le_bytes() != *sum {
        return None;
    }
    let mut entries = Vec::new();
    while !from.0.is_empty() {
        let path = from.bytes()?;
        let to_path = content.len() - from.0.len();
        let entry = from.bytes()?;
        let to_entry = content.len() - from.0.len();
        let range = [to_path - path.len(), to_path, to_entry - entry.len(), to_entry];
        entries.push(range.map(|at| at as u32));
    }
    Some(entries)
}

struct Checked<W: Write> {
    out: W,
    sum: Sum,
}

impl<W: Write> Checked<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.add(bytes);
        self.out.write_all(bytes)
    }
}

/// A check sum that finds torn files. It does not protect from somebody who makes one.
struct Sum {
    state: u64,
    /// The bytes of a word that is not whole.
    rest: [u8; 8],
    filled: usize,
    length: u64,
}

impl Sum {
    const fn new() -> Sum {
        Sum { state: 0x9e37_79b9_7f4a_7c15, rest: [0; 8], filled: 0, length: 0 }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.filled > 0 {
            let count = bytes.len().min(8 - self.filled);
            let (now, later) = bytes.split_at(count);
            self.rest[self.filled..self.filled + count].copy_from_slice(now);
            (bytes, self.filled) = (later, self.filled + count);
            if self.filled < 8 {
                return;
            }
            self.word(self.rest);
            self.filled = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(*word));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn word(&mut self, word: [u8; 8]) {
        let mixed = (self.state ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.state = mixed ^ (mixed >> 32);
    }

    fn finish(&mut self) -> u64 {
        let mut last = [0; 8];
        last[..self.filled].copy_from_slice(&self.rest[..self.filled]);
        self.word(last);
        self.word(self.length.to_le_bytes());
        self.state
    }
}
