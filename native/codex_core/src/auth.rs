//! Credentials of the Codex CLI: where they are kept, what they say, and how they are read and
//! replaced.
//!
//! A [`Slot`] is one set of credentials: the CLI's own login, or the tokens of an MCP server. It
//! lives in a file of the home, in the keyring of the operating system, or in whichever can be had
//! ([`Mode`]). [`store`] holds the rules for that, [`login`] what a login says, [`jwt`] what a
//! token claims.
//!
//! Nothing here waits on the caller's thread for a keyring: those functions are `async`, and
//! [`Pool`](crate::Pool) runs them.

pub mod file;
pub mod jwt;
pub mod keyring;
pub mod login;
pub mod mcp;
pub mod store;

mod failure;
mod members;
mod slot;

pub use failure::{Failure, LoginError, Origin};
pub use slot::Slot;
pub use store::{Loaded, Mode, Removed, Request, Saved};
