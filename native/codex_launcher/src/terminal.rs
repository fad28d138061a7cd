//! `codex_launcher terminal PATH`: holds the terminal of the VM while a program in a
//! pseudo-terminal is shown on it. It is named by its path, because a program of a port may have a
//! session of its own, without the terminal; without a path, it is that of stderr.
//!
//! It turns the terminal raw, writes the program's output to it, and notifies the VM of its size.
//! The VM itself reads the keys: its runtime reads stdin in any case, and two readers would each
//! get some of them. However the VM ends, the terminal gets its former settings back: the end of
//! the port is the end of the VM.
//!
//! Frames have four bytes of length, as those of [`crate::frame`], and one byte of tag. From the
//! VM: [`OUTPUT`] and [`LEAVE`]. To the VM: [`SIZE`] and [`REFUSED`].

use crate::frame::{Decoder, Out};
use crate::signals::Signals;
use crate::sys;
use nix::errno::Errno;
use nix::libc::winsize;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The first argument that asks for this.
pub const WORD: &str = "terminal";

/// Bytes for the terminal.
const OUTPUT: u8 = 1;
/// The program has ended by itself and left the screen in order.
const LEAVE: u8 = 2;
/// The size: rows (u16), cols (u16). At the start, and after each change.
const SIZE: u8 = 1;
/// There is no terminal, because of this text. The last frame.
const REFUSED: u8 = 2;

/// How often the size is looked at: only the foreground processes get SIGWINCH.
const LOOK_MS: u16 = 200;

/// Undoes the modes that a program of the whole screen sets: other screen, hidden cursor, pasting,
/// focus, mouse, keyboard protocol, styles.
const RESET: &[u8] = b"\x1b[<u\x1b[?2004l\x1b[?1004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\
\x1b[?2026l\x1b[?1049l\x1b[?25h\x1b[0m\r\n";

/// Serves until the VM leaves or ends.
pub fn run(path: Option<OsString>) -> std::io::Result<()> {
    let (input, output) = sys::port()?;
    let mut signals = Signals::install()?;
    // In the session of the terminal, this is a process group in the background.
    sys::ignore_terminal_stops();
    let mut port = Port { output, sent: None };
    let tty = match open(path) {
        Ok(tty) => tty,
        Err(e) => return port.refuse(&e.to_string()),
    };
    let held = match Held::take(tty) {
        Ok(held) => held,
        Err(e) => return port.refuse(e.desc()),
    };
    let mut decoder = Decoder::default();
    let mut buf = vec![0; 65_536];
    loop {
        port.size(sys::window(&held.tty))?;
        while let Ok(Some(frame)) = decoder.next() {
            match frame.split_first() {
                Some((&OUTPUT, bytes)) => (&held.tty).write_all(bytes)?,
                Some((&LEAVE, _)) => return held.give_back(),
                _ => return Ok(()),
            }
        }
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::from(LOOK_MS));
        let heard = fds[1].any() == Some(true);
        if signals.drain() && signals.ending() {
            return Ok(());
        }
        if heard {
            match read(&input, &mut buf) {
                Ok(0) => return Ok(()),
                Ok(n) => decoder.push(&buf[..n]),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn open(path: Option<OsString>) -> std::io::Result<File> {
    let path = match path {
        Some(path) => PathBuf::from(path),
        None => ttyname(std::io::stderr())?,
    };
    let mut options = File::options();
    // It must not become the terminal of this session, which would get its signals.
    options.read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(path)
}

/// The end of the port that the VM reads.
struct Port<T> {
    output: T,
    sent: Option<(u16, u16)>,
}

impl<T: AsFd> Port<T> {
    /// Sends the size if it has changed.
    fn size(&mut self, now: Option<winsize>) -> std::io::Result<()> {
        let Some(size) = now.map(|w| (w.ws_row, w.ws_col)).filter(|&size| Some(size) != self.sent)
        else {
            return Ok(());
        };
        self.sent = Some(size);
        self.send(SIZE, &[&size.0.to_be_bytes(), &size.1.to_be_bytes()])
    }

    fn refuse(&mut self, text: &str) -> std::io::Result<()> {
        self.send(REFUSED, &[text.as_bytes()])
    }

    fn send(&mut self, tag: u8, parts: &[&[u8]]) -> std::io::Result<()> {
        let mut out = Out::default();
        out.frame(tag, parts);
        while out.len() > 0 {
            match write(&self.output, out.pending()) {
                Ok(n) => out.consume(n),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// A terminal in raw mode. Dropped, it is reset.
struct Held {
    tty: File,
    before: Termios,
    clean: bool,
}

impl Held {
    fn take(tty: File) -> nix::Result<Self> {
        let before = tcgetattr(&tty)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // Processes in the background may write.
        raw.local_flags.remove(LocalFlags::TOSTOP);
        tcsetattr(&tty, SetArg::TCSADRAIN, &raw)?;
        Ok(Held { tty, before, clean: false })
    }

    fn give_back(mut self) -> std::io::Result<()> {
        self.clean = true;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.clean {
            let _ = (&self.tty).write_all(RESET);
            // A VM that is killed leaves its stdin non-blocking, and a shell would read nothing.
            // It has stderr in common with us, mostly of the same terminal.
            let _ = sys::blocking(std::io::stderr());
        }
        let _ = tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.before);
    }
}
