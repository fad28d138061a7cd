//! The few system calls that nix does not wrap the way we need them. All `unsafe` of the launcher
//! outside of fork is here.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
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

/// Makes a terminal the controlling one of the calling process, which leads a session.
pub fn take_terminal(fd: impl AsFd) -> nix::Result<()> {
    // SAFETY: the last argument is a number, so no memory is involved.
    let rc = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Errno::result(rc).map(drop)
}

/// Sets the size of a terminal, of which the system notifies its foreground processes.
pub fn set_window(fd: impl AsFd, size: &libc::winsize) -> nix::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let rc = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, size) };
    Errno::result(rc).map(drop)
}

/// The size of a terminal.
pub fn window(fd: impl AsFd) -> Option<libc::winsize> {
    // SAFETY: all zeroes is a valid winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` outlives the call.
    let rc = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (rc == 0).then_some(size)
}

/// A process in the background that changes a terminal, or writes to it, is not stopped.
pub fn ignore_terminal_stops() {
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
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

/// Why a new process did not become a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecError {
    Directory(Errno),
    Program(Errno),
}

/// Runs `exec` in a new process, with all signals blocked. Returns when the process has executed a
/// program, or with the reason that `exec` returned.
///
/// The process borrows the memory of the launcher until then, as after vfork: there is nothing to
/// copy, and its last words stand where the launcher finds them.
#[cfg(target_os = "linux")]
pub fn spawn(exec: &mut dyn FnMut() -> ExecError) -> Result<Pid, ExecError> {
    struct Call<'a> {
        exec: &'a mut dyn FnMut() -> ExecError,
        failure: Option<ExecError>,
    }
    extern "C" fn enter(call: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it points to `call` below, which is used by nobody else before this process has
        // executed a program or ended.
        let call = unsafe { &mut *call.cast::<Call<'_>>() };
        call.failure = Some((call.exec)());
        127
    }
    let failed = ExecError::Program;
    let mut call = Call { exec, failure: None };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed)?;
    // SAFETY: CLONE_VFORK suspends the launcher, which has one thread, until the new process has
    // executed a program or ended, so the two never run in the same memory at the same time. The
    // stack is aligned, grows down from its end and outlives the call; so does `call`.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity()).cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(enter, top, flags, (&raw mut call).cast())
    };
    let errno = Errno::last();
    let _ = mask.thread_set_mask();
    match call.failure {
        _ if pid < 0 => Err(failed(errno)),
        Some(failure) => Err(failure),
        None => Ok(pid),
    }
}

/// Room for the few calls between the new process and exec.
#[cfg(target_os = "linux")]
const STACK: usize = 64 * 1024;

/// Runs `exec` in a new process, with all signals blocked. Returns when the process has executed a
/// program, or with the reason that `exec` returned: a pipe brings it, and exec closes that pipe.
#[cfg(not(target_os = "linux"))]
pub fn spawn(exec: &mut dyn FnMut() -> ExecError) -> Result<Pid, ExecError> {
    use std::io::{Read, Write};

    let failed = |errno| ExecError::Program(errno);
    let io = |e: std::io::Error| failed(Errno::from_raw(e.raw_os_error().unwrap_or(0)));
    let (mut report_r, mut report_w) = std::io::pipe().map_err(io)?;
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed)?;
    // SAFETY: the launcher has one thread, so the child may allocate and take locks.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let (kind, errno) = match exec() {
                ExecError::Directory(errno) => (0, errno),
                ExecError::Program(errno) => (1, errno),
            };
            let [a, b, c, d] = (errno as i32).to_ne_bytes();
            let _ = report_w.write_all(&[kind, a, b, c, d]);
            // SAFETY: `_exit` does not return and touches no memory.
            unsafe { libc::_exit(127) }
        }
        pid => pid,
    };
    let errno = Errno::last();
    let _ = mask.thread_set_mask();
    drop(report_w);
    let mut report = [0; 5];
    match report_r.read_exact(&mut report) {
        _ if pid < 0 => Err(failed(errno)),
        // End of file: exec closed the other end.
        Err(_) => Ok(pid),
        Ok(()) => {
            let [kind, errno @ ..] = report;
            let errno = Errno::from_raw(i32::from_ne_bytes(errno));
            Err(if kind == 0 { ExecError::Directory(errno) } else { ExecError::Program(errno) })
        }
    }
}

/// Default dispositions for every signal but SIGPIPE, which the launcher ignores: what the VM
/// ignores or blocks is not for the child.
pub fn reset_signals() {
    for n in (1..=64).filter(|n| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE].contains(n)) {
        // SAFETY: installs no handler. Numbers that the system does not have, or keeps to itself,
        // fail with EINVAL.
        unsafe { libc::signal(n, libc::SIG_DFL) };
    }
}

/// Default dispositions for the signals that the launcher handles or ignores, then an empty mask.
/// Runs in the new process, before exec.
pub fn release_signals() {
    for n in [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
        // SAFETY: installs no handler.
        unsafe { libc::signal(n, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Marks every descriptor above stderr close-on-exec: descriptors that the VM leaked stop here.
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
    set_flags(fd, |flags| flags | OFlag::O_NONBLOCK)
}

/// Makes reads and writes wait.
pub fn blocking(fd: impl AsFd) -> nix::Result<()> {
    set_flags(fd, |flags| flags - OFlag::O_NONBLOCK)
}

fn set_flags(fd: impl AsFd, change: impl Fn(OFlag) -> OFlag) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(change(flags))).map(drop)
}
