//! Removes directories when the owner is gone, however it went: the other thing that a launcher can
//! do for a VM.
//!
//! Each KEEP frame names all of them. The end of the port without a BYE means that the VM has
//! ended, or the process in it that wanted them. Children of that VM end at the same time, and may
//! write there until they are gone, so the directories are looked at for a while. Signals do not
//! count here: the end of the VM is what is waited for.

use crate::frame::{Command, Decoder, Malformed, parse};
use nix::errno::Errno;
use nix::unistd::{self, read};
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long nothing may come back before the directories are taken for gone, and how long they are
/// looked at in all.
const QUIET: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(15);
const ROUND: Duration = Duration::from_millis(50);

/// Waits for the end of the owner, then removes the directories of the last KEEP frame.
pub fn run(input: &OwnedFd, decoder: &mut Decoder, first: Vec<CString>) {
    // Whoever reads the VM's output to its end must not wait for this; nor must the directory stay
    // busy.
    if let Ok(null) = fs::File::options().write(true).open("/dev/null") {
        let _ = (unistd::dup2_stdout(&null), unistd::dup2_stderr(&null));
    }
    let _ = unistd::chdir("/");
    // A signal to the whole group of the VM is not for this process.
    let _ = unistd::setsid();
    if let Some(paths) = await_end(input, decoder, first) {
        remove_all(&paths);
    }
}

/// The directories at the end of the owner; `None` if it said BYE.
fn await_end(input: &OwnedFd, decoder: &mut Decoder, first: Vec<CString>) -> Option<Vec<CString>> {
    let mut paths = first;
    let mut buf = vec![0; 65_536];
    loop {
        match next(decoder) {
            Ok(Some(Some(named))) => {
                paths = named;
                continue;
            }
            Ok(Some(None)) => return None,
            Ok(None) => {}
            // Nobody else speaks here; the last list that made sense counts.
            Err(Malformed(_)) => return Some(paths),
        }
        match read(input, &mut buf) {
            Ok(0) => return Some(paths),
            Ok(n) => decoder.push(&buf[..n]),
            Err(Errno::EINTR) => {}
            Err(_) => return Some(paths),
        }
    }
}

/// The next frame, if there is one: a list, or nothing for BYE.
fn next(decoder: &mut Decoder) -> Result<Option<Option<Vec<CString>>>, Malformed> {
    let Some(frame) = decoder.next()? else { return Ok(None) };
    match parse(frame)? {
        Command::Keep(paths) => Ok(Some(Some(paths))),
        Command::Bye => Ok(Some(None)),
        _ => Err(Malformed("expected KEEP or BYE")),
    }
}

fn remove_all(paths: &[CString]) {
    let paths: Vec<&Path> =
        paths.iter().map(|path| Path::new(OsStr::from_bytes(path.to_bytes()))).collect();
    let begin = Instant::now();
    let mut last_seen = begin;
    while last_seen.elapsed() < QUIET && begin.elapsed() < PATIENCE && !paths.is_empty() {
        for path in &paths {
            // A link is removed, not followed; one that stands there is nobody's directory.
            if fs::symlink_metadata(path).is_ok() {
                last_seen = Instant::now();
                let _ = fs::remove_dir_all(path);
            }
        }
        std::thread::sleep(ROUND);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frames(frames: &[&[u8]]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), *frame].concat())
            .collect()
    }

    fn end(bytes: &[u8]) -> Option<Vec<CString>> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, bytes).unwrap();
        drop(writer);
        await_end(&reader.into(), &mut Decoder::default(), vec![c"/first".to_owned()])
    }

    #[test]
    fn the_last_list_counts_and_bye_forgets_it() {
        let keep = b"\x09\0\0\0\x01\0\0\0\x02/a";
        assert_eq!(end(b""), Some(vec![c"/first".to_owned()]));
        assert_eq!(end(&frames(&[keep])), Some(vec![c"/a".to_owned()]));
        assert_eq!(end(&frames(&[keep, b"\x09\0\0\0\0"])), Some(Vec::new()));
        assert_eq!(end(&frames(&[keep, b"\x07"])), None);
        // Half a frame, and frames that mean nothing here.
        assert_eq!(end(&frames(&[keep])[..8]), Some(vec![c"/first".to_owned()]));
        assert_eq!(end(&frames(&[keep, b"\x06", b"\x07"])), Some(vec![c"/a".to_owned()]));
    }
}
