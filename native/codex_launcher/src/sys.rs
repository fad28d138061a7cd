//! The few system calls that nix does not wrap the way we need them. All `unsafe` of the launcher
//! outside of fork is here.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub type Pid = libc::pid_t;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Status(u8),
    Signal(u8),
}

/// One look at the children that can be reaped.
pub enum Reaped {
    Child(Pid, Ended),
    /// There are children and none of them has ended.
    NoneYet,
    /// There are no children at all.
    NoChildren,
}

/// Reaps one child, if one has ended. nix's `waitpid` fails on a death by real-time signal after it
/// has reaped it.
pub fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call, which writes one int to it.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            0 => return Reaped::NoneYet,
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Reaped::NoChildren,
            pid if libc::WIFSIGNALED(status) => {
                return Reaped::Child(pid, Ended::Signal(libc::WTERMSIG(status) as u8));
            }
            pid if libc::WIFEXITED(status) => {
                return Reaped::Child(pid, Ended::Status(libc::WEXITSTATUS(status) as u8));
            }
            // Stopped or continued: not asked for.
            _ => {}
        }
    }
}

/// How this child ended, if it has; it is not reaped by that.
#[cfg(not(target_os = "linux"))]
pub fn peek(pid: Pid) -> Option<Ended> {
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` outlives the call, which fills it; the fields read are those that waitid sets.
    unsafe {
        let rc = libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, flags);
        if rc != 0 || info.si_pid() != pid {
            return None;
        }
        let n = info.si_status() as u8;
        Some(if info.si_code == libc::CLD_EXITED { Ended::Status(n) } else { Ended::Signal(n) })
    }
}

/// Whether a process has this number.
#[cfg(not(target_os = "linux"))]
pub fn exists(pid: Pid) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, 0) == 0 }
}

/// Whether a group has a member that could be signalled; one that holds only a zombie has not.
#[cfg(not(target_os = "linux"))]
pub fn group_exists(group: Pid) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(-group, 0) == 0 }
}

/// Sends a signal by number; nix knows no real-time signals. That the process is gone, or is not
/// ours to signal, is no error here: the tree is looked at again anyway.
pub fn kill(pid: Pid, signal: u8) {
    if pid > 1 {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(pid, i32::from(signal)) };
    }
}

/// Sends a signal to a process group. The caller has not reaped its leader, so the number cannot
/// belong to others.
pub fn kill_group(group: Pid, signal: u8) {
    if group > 1 {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(-group, i32::from(signal)) };
    }
}

/// Bytes that wait in a pipe.
pub fn waiting(fd: impl AsFd) -> usize {
    let mut n: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, `n` outlives the call.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &mut n) } {
        0 => usize::try_from(n).unwrap_or(0),
        _ => 0,
    }
}

/// Default dispositions for every signal and an empty mask: what the VM ignores or blocks is no
/// business of the child's. Runs between fork and exec.
pub fn reset_signals() {
    for n in 1..=64 {
        if n != libc::SIGKILL && n != libc::SIGSTOP {
            // SAFETY: installs no handler. Numbers the system does not have, or keeps to itself,
            // fail with EINVAL.
            unsafe { libc::signal(n, libc::SIG_DFL) };
        }
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Marks every descriptor above stderr close-on-exec: what the VM leaked to us stops here.
pub fn seal_descriptors() {
    #[cfg(target_os = "linux")]
    {
        const CLOEXEC: libc::c_uint = 4;
        // SAFETY: sets a flag on descriptors, no memory is involved. By number, because glibc
        // before 2.34 has no wrapper; kernels before 5.11 say ENOSYS or EINVAL, and the listing
        // below does it.
        if unsafe {
            libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOEXEC)
        } == 0
        {
            return;
        }
    }
    let Ok(entries) = std::fs::read_dir("/dev/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in open {
        // SAFETY: the descriptor is only used for this one call; when it is closed already (the
        // listing's own one is), the call fails with EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ =
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    }
}

/// Our own two ends of the port.
pub fn port() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok((
        std::io::stdin().as_fd().try_clone_to_owned()?,
        std::io::stdout().as_fd().try_clone_to_owned()?,
    ))
}

/// Makes reads and writes return instead of waiting.
pub fn nonblocking(fd: impl AsFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
