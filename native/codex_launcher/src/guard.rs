//! Two processes instead of one, so that killing either of them leaves nothing behind and surprises
//! nobody.
//!
//! The launcher proper is a child of the guard. When it dies by SIGKILL, the guard inherits and
//! ends everything it had started. The guard holds the reading end of the port open until the owner
//! has closed it: an owner that writes into a pipe without readers gets an exit signal from the VM,
//! before it could learn that the launcher has died. It does not hold the writing end, whose
//! closing is how the owner learns it. When the guard dies, the launcher gets SIGTERM.
//!
//! Linux only: elsewhere there are no subreapers and no death signals to build this on.

use crate::frame;
use crate::sys::{self, Ended, Pid, Reaped};
use crate::tree;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{self, ForkResult};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_millis(200);
const KILL_FOR: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_millis(10);

/// Splits the process. Returns `true` in the launcher, and `false` in the guard when everything is
/// over.
pub fn split() -> nix::Result<bool> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let guard = unistd::getpid();
    // SAFETY: there is one thread, so the child may do whatever the parent may.
    #[allow(unsafe_code)]
    match unsafe { unistd::fork()? } {
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            // A guard that died before that cannot send it any more; nothing is started yet.
            Ok(unistd::getppid() == guard)
        }
        ForkResult::Parent { child } => {
            watch(child.as_raw())?;
            Ok(false)
        }
    }
}

fn watch(launcher: Pid) -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_set_mask()?;
    close_outputs()?;
    let ended = loop {
        if let Some(ended) = reaped(launcher) {
            break ended;
        }
        match signals.wait()? {
            Signal::SIGCHLD => {}
            signal => sys::kill(launcher, signal as u8),
        }
    };
    if ended != Ended::Status(0) {
        sweep();
        wait_for_owner();
    }
    Ok(())
}

/// A reader of the VM's output to its end must not wait for the guard.
fn close_outputs() -> nix::Result<()> {
    let null = std::fs::File::create("/dev/null")
        .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)
}

fn reaped(launcher: Pid) -> Option<Ended> {
    loop {
        match sys::reap() {
            Reaped::Child(pid, ended) if pid == launcher => return Some(ended),
            Reaped::Child(..) => {}
            // Without children the launcher is gone too.
            Reaped::NoChildren => return Some(Ended::Signal(0)),
            Reaped::NoneYet => return None,
        }
    }
}

/// Ends the processes that the launcher has left: TERM, a grace, then KILL for as long as it may
/// help.
fn sweep() {
    let begin = Instant::now();
    signal_all(nix::libc::SIGTERM as u8);
    while !alone() && begin.elapsed() < GRACE {
        std::thread::sleep(ROUND);
    }
    while !alone() && begin.elapsed() < GRACE + KILL_FOR {
        signal_all(nix::libc::SIGKILL as u8);
        std::thread::sleep(ROUND);
    }
}

fn signal_all(signal: u8) {
    for pid in tree::descendants(unistd::getpid().as_raw()) {
        sys::kill(pid, signal);
    }
}

fn alone() -> bool {
    loop {
        match sys::reap() {
            Reaped::Child(..) => {}
            Reaped::NoChildren => return true,
            Reaped::NoneYet => return false,
        }
    }
}

/// Reads the owner's last bytes, until it has closed the port.
fn wait_for_owner() {
    let mut port = std::io::stdin().lock();
    let mut buf = vec![0; frame::CHUNK];
    loop {
        match port.read(&mut buf) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // The launcher made the descriptor non-blocking, and that belongs to both of us.
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}
