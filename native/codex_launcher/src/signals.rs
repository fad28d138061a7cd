//! Signals to the launcher itself, turned into something poll(2) can wait for.

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Readable after every signal we care about.
pub struct Signals {
    wake: UnixStream,
    ending: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> io::Result<Self> {
        crate::sys::reset_signals();
        let (wake, ring) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            // Before the pipe: a reader that wakes up finds the flag.
            flag::register(signal, Arc::clone(&ending))?;
            pipe::register(signal, ring.try_clone()?)?;
        }
        pipe::register(SIGCHLD, ring)?;
        // A mask that we inherited would keep them from us.
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        Ok(Signals { wake, ending })
    }

    /// Whether there was a signal since the last call.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        let mut buf = [0; 64];
        while let Ok(1..) = self.wake.read(&mut buf) {
            any = true;
        }
        any
    }

    /// Returns whether a signal asked us to end.
    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
