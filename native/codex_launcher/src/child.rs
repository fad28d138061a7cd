//! Starts the one child: a session of its own, clean signals, three pipes or a terminal, nothing
//! else inherited.
//!
//! `std::process::Command` cannot tell an invalid directory from an invalid program and runs files
//! without a `#!` line through the shell, so the steps up to exec are written out.

use crate::frame::{Size, Start};
use crate::pty;
use crate::sys::{self, ExecError, Pid};
use nix::errno::Errno;
use nix::unistd;
use std::ffi::{CStr, CString, OsStr};
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The ends of the three streams of a child, close-on-exec. Those of the launcher do not block.
pub struct Streams {
    child: [OwnedFd; 3],
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Streams {
    /// Three pipes. An idle launcher has them ready.
    pub fn pipes() -> Result<Self, SpawnError> {
        let open = || -> std::io::Result<Self> {
            let (stdin_r, stdin) = pipe()?;
            let (stdout, stdout_w) = pipe()?;
            let (stderr, stderr_w) = pipe()?;
            for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
                sys::nonblocking(fd)?;
            }
            Ok(Streams {
                child: [stdin_r.into(), stdout_w.into(), stderr_w.into()],
                stdin: stdin.into(),
                stdout: stdout.into(),
                stderr: Some(stderr.into()),
                terminal: None,
            })
        };
        open().map_err(not_opened)
    }

    /// A terminal, which is all three.
    fn terminal(size: Size) -> Result<Self, SpawnError> {
        let open = || -> std::io::Result<Self> {
            let (ours, child) = pty::open(size)?;
            sys::nonblocking(&ours)?;
            Ok(Streams {
                child: [child.try_clone()?, child.try_clone()?, child],
                stdin: ours.try_clone()?,
                stdout: ours.try_clone()?,
                stderr: None,
                terminal: Some(ours),
            })
        };
        open().map_err(not_opened)
    }
}

fn not_opened(error: std::io::Error) -> SpawnError {
    failed(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// The child and our ends of its streams. A terminal has no stderr of its own.
pub struct Child {
    pub pid: Pid,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
}

/// The reason for a missing child: a code out of a closed set, and words.
#[derive(Debug, PartialEq, Eq)]
pub struct SpawnError {
    pub code: &'static str,
    pub text: String,
}

/// Starts the program; returns when it runs or has failed to.
///
/// A child that wants a terminal does not get the pipes.
pub fn spawn(start: &Start, pipes: Streams) -> Result<Child, SpawnError> {
    let paths = candidates(&start.argv[0], &start.env);
    let launcher = unistd::getpid();
    let streams = match start.terminal {
        Some(size) => Streams::terminal(size)?,
        None => pipes,
    };
    let Streams { child, stdin, stdout, stderr, terminal } = streams;
    let pid =
        sys::spawn(&mut || become_child(start, &paths, &child, launcher)).map_err(|failure| {
            match failure {
                ExecError::Directory(errno) => {
                    SpawnError { code: "bad_cwd", text: describe("working directory", errno) }
                }
                // The zombie is reaped by init when the launcher ends, right after this.
                ExecError::Program(errno) => exec_failed(start, errno, &paths),
            }
        })?;
    Ok(Child { pid, stdin, stdout, stderr, terminal })
}

/// Everything between the new process and exec. Returns only when something failed.
fn become_child(
    start: &Start,
    paths: &[CString],
    [stdin, stdout, stderr]: &[OwnedFd; 3],
    launcher: unistd::Pid,
) -> ExecError {
    let set_up = || -> nix::Result<()> {
        unistd::setsid()?;
        #[cfg(target_os = "linux")]
        {
            // If the launcher and its guard are both killed, the kernel still kills the child.
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if unistd::getppid() != launcher {
                return Err(Errno::ESRCH);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = launcher;
        unistd::dup2_stdin(stdin)?;
        unistd::dup2_stdout(stdout)?;
        unistd::dup2_stderr(stderr)?;
        if start.terminal.is_some() {
            sys::take_terminal(stdin)?;
        }
        sys::release_signals();
        Ok(())
    };
    // A relative path of a program counts from the child's directory.
    if let Some(Err(errno)) = start.cwd.as_ref().map(|cwd| unistd::chdir(cwd.as_c_str())) {
        return ExecError::Directory(errno);
    }
    if let Err(errno) = set_up() {
        return ExecError::Program(errno);
    }
    // As execvp does: a directory of PATH without the program is passed over, one where it may not
    // be run is remembered.
    let mut worst = Errno::ENOENT;
    for path in paths {
        match unistd::execve(path, &start.argv, &start.env) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => worst = Errno::EACCES,
            Err(errno) => return ExecError::Program(errno),
            Ok(never) => match never {},
        }
    }
    ExecError::Program(worst)
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

fn exec_failed(start: &Start, errno: Errno, paths: &[CString]) -> SpawnError {
    let path = |s: &CString| Path::new(OsStr::from_bytes(s.to_bytes())).to_path_buf();
    let cwd = start.cwd.as_ref().map(path).unwrap_or_default();
    // The kernel says EACCES for directories and for files without the x bit.
    if errno == Errno::EACCES && paths.len() == 1 && cwd.join(path(&paths[0])).is_dir() {
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
