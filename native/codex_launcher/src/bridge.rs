//! `codex_launcher bridge`: copies bytes between its stdin and stdout and a Unix socket of the VM.
//!
//! The CLI starts it as an MCP server. Path and token come from the environment, because every
//! user of the machine can read arguments. The token is the first line on the socket.
//!
//! The end of stdin is the end of the CLI: the last line on the socket says so, because the VM must
//! tell it from a bridge that was killed. A VM that is gone is no end: the CLI would take it for a
//! hook without an opinion, and go on. Its calls wait until it is ended itself.

use nix::sys::signal::{SigSet, Signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::thread;

/// The first argument that asks for this.
pub const WORD: &str = "bridge";

/// The variables with the path of the socket and with the token.
const SOCKET: &str = "CODEX_SDK_BRIDGE_SOCKET";
const TOKEN: &str = "CODEX_SDK_BRIDGE_TOKEN";

/// The bytes that are read at once, in each direction.
const BUFFER: usize = 64 * 1024;

/// The last line on the socket. An incomplete line may stand before it.
const END: &[u8] = b"\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/bridge/end\"}\n";

/// Copies until stdin ends. An error has no value in it.
pub fn run(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    stay().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let (Some(path), Some(token)) = (variable(SOCKET), variable(TOKEN)) else {
        return Err(format!("expected the variables {SOCKET} and {TOKEN}"));
    };
    let socket = UnixStream::connect(path)
        .and_then(|mut socket| greet(&mut socket, token).map(|()| socket))
        .map_err(|error| format!("the application cannot be reached: {error}"))?;
    ends()
        .and_then(|(input, output)| both(input, output, socket))
        .map_err(|error| format!("bytes cannot be copied: {error}"))
}

/// The CLI sends SIGTERM before it closes stdin, and anybody else may: only the end of stdin
/// counts.
fn stay() -> nix::Result<()> {
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    ends.into_iter().collect::<SigSet>().thread_block()
}

fn greet(socket: &mut impl Write, token: OsString) -> io::Result<()> {
    let mut line = token.into_vec();
    line.push(b'\n');
    socket.write_all(&line)
}

/// Stdin and stdout without the buffers of the standard library, which wait for the end of a line.
fn ends() -> io::Result<(File, File)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((File::from(input), File::from(output)))
}

fn both(
    input: impl Read,
    output: impl Write + Send + 'static,
    mut socket: UnixStream,
) -> io::Result<()> {
    let answers = socket.try_clone()?;
    // A failure is an end of one side. The end of the process ends this thread.
    let answering = move || copy(answers, output).unwrap_or_default();
    thread::Builder::new().spawn(answering)?;
    let mut input = input;
    if copy(&mut input, &mut socket).is_err() {
        return copy(input, io::sink());
    }
    // The VM may be gone.
    let _ = socket.write_all(END);
    Ok(())
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn both_directions_are_copied_until_stdin_ends() {
        let (mut vm, socket) = UnixStream::pair().unwrap();
        let (mut cli, theirs) = UnixStream::pair().unwrap();
        let input = theirs.try_clone().unwrap();
        let bridge = thread::spawn(move || both(input, theirs, socket));
        let long = vec![b'x'; 3 * BUFFER + 1];

        let mut seen = vec![0; long.len()];
        thread::scope(|scope| {
            scope.spawn(|| vm.write_all(&long).unwrap());
            cli.read_exact(&mut seen).unwrap();
        });
        assert!(seen == long);
        cli.write_all(b"answer").unwrap();
        cli.shutdown(Shutdown::Write).unwrap();
        let mut seen = vec![0; 6 + END.len()];
        bridge.join().unwrap().unwrap();
        vm.read_exact(&mut seen).unwrap();
        assert_eq!(seen, [b"answer", END].concat());
    }

    #[test]
    fn without_the_vm_the_cli_waits_until_its_own_end() {
        let (vm, socket) = UnixStream::pair().unwrap();
        let (mut cli, theirs) = UnixStream::pair().unwrap();
        let input = theirs.try_clone().unwrap();
        let bridge = thread::spawn(move || both(input, theirs, socket));
        drop(vm);
        // The second write finds the socket closed, the others are read all the same.
        for _ in 0..64 {
            cli.write_all(&[b'x'; BUFFER]).unwrap();
        }
        assert!(!bridge.is_finished());
        cli.shutdown(Shutdown::Write).unwrap();
        bridge.join().unwrap().unwrap();
    }

    #[test]
    fn the_token_is_the_first_line() {
        let mut sent = Vec::new();
        greet(&mut sent, OsString::from("abc")).unwrap();
        assert_eq!(sent, b"abc\n");
    }

    #[test]
    fn a_missing_variable_or_application_is_an_error_without_values() {
        let error = run(|_| None).unwrap_err();
        assert!(error.starts_with("expected the variables"), "{error}");
        let error = run(|name| Some(OsString::from(format!("/no/such/{name}")))).unwrap_err();
        assert!(error.starts_with("the application cannot be reached"), "{error}");
        assert!(!error.contains("/no/such"), "{error}");
    }
}
