//! Runs exactly one child for a BEAM port and leaves nothing behind. Or, for a whole VM, removes
//! directories when it has ended ([`keep`]). Or it becomes an MCP server ([`mcp`]), or is a bridge
//! from an MCP client to the VM ([`bridge`]), or it holds the terminal of the VM ([`terminal`]).
//!
//! The port speaks length-prefixed frames over our stdin and stdout ([`frame`]). The first one says
//! what to run; after it bytes flow against credit in both directions, until the child has ended,
//! its descendants are gone and all its output was delivered. The loss of the port (the owner died,
//! the VM was killed), a STOP, and SIGTERM, SIGHUP or SIGINT to the launcher all run the same
//! ladder of steps that ends in SIGKILL.
//!
//! Nothing the owner or the child writes can make it panic or grow: a frame that makes no sense is
//! answered with ERROR and the ladder, and every buffer has a limit with a name.
#![deny(unsafe_code)]

mod bridge;
mod child;
mod family;
mod files;
mod frame;
#[cfg(target_os = "linux")]
mod guard;
mod keep;
mod mcp;
mod pty;
mod session;
mod signals;
mod sys;
mod tail;
mod terminal;
mod tree;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let word = args.next();
    if word.as_ref().is_some_and(|word| word == terminal::WORD) {
        sys::seal_descriptors();
        return if terminal::run(args.next()).is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let server = match word {
        Some(word) if word == mcp::WORD => Some(Err(mcp::run(args))),
        Some(word) if word == bridge::WORD => Some(bridge::run(|name| std::env::var_os(name))),
        _ => None,
    };
    match server {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(reason)) => {
            eprintln!("codex_launcher: {reason}");
            mcp::refuse(std::io::stdin(), std::io::stdout(), &reason);
            // The exit code of a shell for a command that it cannot start.
            return ExitCode::from(127);
        }
        None => {}
    }
    sys::seal_descriptors();
    #[cfg(target_os = "linux")]
    match guard::split() {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    match (sys::port(), signals::Signals::install()) {
        (Ok((input, output)), Ok(signals)) => {
            session::run(input, output, signals);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}
