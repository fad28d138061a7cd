//! The pseudo-terminal of a child, of which the launcher holds the other end.
//!
//! Bytes pass unchanged; the system's line discipline between the two ends does what it does in any
//! terminal, until the child turns it off: it echoes, edits lines and makes signals of Ctrl-C.

use crate::frame::Size;
use crate::sys;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc::winsize;
use nix::pty::openpty;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The character that ends the input of a terminal: Ctrl-D.
pub const END: u8 = 4;

/// Opens a terminal, close-on-exec: our end, and that of the child.
pub fn open(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let pty = openpty(Some(&window(size)), None)?;
    for end in [&pty.master, &pty.slave] {
        // There is one thread, so nothing is executed before this.
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((pty.master, pty.slave))
}

/// Changes the size; the foreground processes get SIGWINCH. A terminal without processes has no
/// use for it.
pub fn resize(terminal: impl AsFd, size: Size) {
    let _ = sys::set_window(terminal, &window(size));
}

fn window(size: Size) -> winsize {
    winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
