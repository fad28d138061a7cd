//! Starts the one child: a session of its own, clean signals, three pipes, nothing else inherited.
//!
//! `std::process::Command` cannot tell a bad directory from a bad program and runs files without a
//! `#!` line through the shell, so fork and exec are written out.

use crate::frame::Start;
use crate::sys::{self, Pid};
use nix::errno::Errno;
use nix::unistd::{self, ForkResult};
use std::ffi::{CStr, CString, OsStr};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::ffi::OsStrExt;

/// The child and our ends of its pipes.
pub struct Child {
    pub pid: Pid,
    pub stdin: PipeWriter,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Why there is no child: a code out of a closed set, and words.
#[derive(Debug, PartialEq, Eq)]
pub struct SpawnError {
    pub code: &'static str,
    pub text: String,
}

/// Forks and executes; returns when the program runs or has failed to.
pub fn spawn(start: &Start) -> Result<Child, SpawnError> {
    if let Some(cwd) = &start.cwd {
        // Ours to change: a relative program path means the same as after a chdir in the child.
        unistd::chdir(cwd.as_c_str())
            .map_err(|e| SpawnError { code: "bad_cwd", text: describe("working directory", e) })?;
    }
    let paths = candidates(&start.argv[0], &start.env);
    let io = |e: std::io::Error| failed(Errno::from_raw(e.raw_os_error().unwrap_or(0)));
    // Close-on-exec, all of them.
    let (stdin_r, stdin) = pipe().map_err(io)?;
    let (stdout, stdout_w) = pipe().map_err(io)?;
    let (stderr, stderr_w) = pipe().map_err(io)?;
    let (mut report_r, report_w) = pipe().map_err(io)?;
    for fd in [
        std::os::fd::AsFd::as_fd(&stdin),
        std::os::fd::AsFd::as_fd(&stdout),
        std::os::fd::AsFd::as_fd(&stderr),
    ] {
        sys::nonblocking(fd).map_err(failed)?;
    }
    #[cfg(target_os = "linux")]
    let launcher = unistd::getpid();

    // SAFETY: the launcher has one thread, so the child may allocate and take locks between fork
    // and exec.
    #[allow(unsafe_code)]
    let forked = unsafe { unistd::fork() }.map_err(failed)?;
    let pid = match forked {
        ForkResult::Child => {
            let errno = become_child(start, &paths, &stdin_r, &stdout_w, &stderr_w, {
                #[cfg(target_os = "linux")]
                {
                    launcher
                }
                #[cfg(not(target_os = "linux"))]
                unistd::getpid()
            });
            let mut report_w = report_w;
            let _ = report_w.write_all(&(errno as i32).to_ne_bytes());
            leave()
        }
        ForkResult::Parent { child } => child.as_raw(),
    };
    drop((stdin_r, stdout_w, stderr_w, report_w));

    let mut report = [0; 4];
    match report_r.read_exact(&mut report) {
        // End of file: exec closed the other end.
        Err(_) => Ok(Child { pid, stdin, stdout, stderr }),
        Ok(()) => {
            let errno = Errno::from_raw(i32::from_ne_bytes(report));
            // Its zombie is reaped by init when the launcher leaves, right after this.
            Err(exec_failed(errno, &paths))
        }
    }
}

/// Everything between fork and exec. Returns only when something failed.
fn become_child(
    start: &Start,
    paths: &[CString],
    stdin: &PipeReader,
    stdout: &PipeWriter,
    stderr: &PipeWriter,
    launcher: unistd::Pid,
) -> Errno {
    let set_up = || -> nix::Result<()> {
        unistd::setsid()?;
        #[cfg(target_os = "linux")]
        {
            // Nobody could sweep after a killed launcher, so the kernel kills at least the child.
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if unistd::getppid() != launcher {
                leave();
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = launcher;
        unistd::dup2_stdin(stdin)?;
        unistd::dup2_stdout(stdout)?;
        unistd::dup2_stderr(stderr)?;
        sys::reset_signals();
        Ok(())
    };
    if let Err(errno) = set_up() {
        return errno;
    }
    // As execvp does: a directory of PATH without the program is passed over, one where it may not
    // be run is remembered.
    let mut worst = Errno::ENOENT;
    for path in paths {
        match unistd::execve(path, &start.argv, &start.env) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => worst = Errno::EACCES,
            Err(errno) => return errno,
            Ok(never) => match never {},
        }
    }
    worst
}

/// Ends a failed child without running the launcher's own exit handlers.
fn leave() -> ! {
    // SAFETY: `_exit` does not return and touches no memory.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::_exit(127)
    }
}

/// The files that `program` may mean: itself with a slash in it, else one for every entry of the
/// child's own PATH.
fn candidates(program: &CStr, env: &[CString]) -> Vec<CString> {
    let name = program.to_bytes();
    if name.is_empty() || name.contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path =
        env.iter().find_map(|e| e.to_bytes().strip_prefix(b"PATH=")).unwrap_or(b"/usr/bin:/bin");
    path.split(|&b| b == b':')
        .map(|dir| if dir.is_empty() { &b"."[..] } else { dir })
        // Neither part can hold a null byte: both came out of C strings.
        .filter_map(|dir| CString::new([dir, b"/", name].concat()).ok())
        .collect()
}

fn exec_failed(errno: Errno, paths: &[CString]) -> SpawnError {
    let is_dir =
        |p: &CString| std::fs::metadata(OsStr::from_bytes(p.to_bytes())).is_ok_and(|m| m.is_dir());
    // The kernel says EACCES for directories and for files without the x bit.
    if errno == Errno::EACCES && paths.len() == 1 && is_dir(&paths[0]) {
        return failed(Errno::EISDIR);
    }
    failed(errno)
}

fn failed(errno: Errno) -> SpawnError {
    let code = match errno {
        Errno::ENOENT | Errno::ENOTDIR => "enoent",
        Errno::EACCES | Errno::EPERM => "eacces",
        Errno::EISDIR => "eisdir",
        Errno::ENOEXEC => "enoexec",
        Errno::E2BIG => "e2big",
        Errno::ENOMEM => "enomem",
        Errno::EAGAIN => "eagain",
        Errno::EMFILE | Errno::ENFILE => "emfile",
        Errno::ETXTBSY => "etxtbsy",
        _ => "spawn_failed",
    };
    SpawnError { code, text: describe("program", errno) }
}

fn describe(what: &str, errno: Errno) -> String {
    format!("{what}: {} ({errno:?})", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(s: &str) -> CString {
        CString::new(s).unwrap()
    }

    #[test]
    fn a_path_is_not_looked_up() {
        let env = [c("PATH=/a")];
        assert_eq!(candidates(&c("./x"), &env), [c("./x")]);
        assert_eq!(candidates(&c(""), &env), [c("")]);
    }

    #[test]
    fn a_name_is_looked_up_on_the_childs_path() {
        let env = [c("XPATH=/no"), c("PATH=/a::/b/")];
        assert_eq!(candidates(&c("x"), &env), [c("/a/x"), c("./x"), c("/b//x")]);
        assert_eq!(candidates(&c("x"), &[]), [c("/usr/bin/x"), c("/bin/x")]);
    }
}
