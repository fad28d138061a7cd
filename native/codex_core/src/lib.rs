//! The Rust part of `codex_sdk`, independent of any VM.
//!
//! The crate reads the JSON lines that the Codex CLI writes. [`Decoder`] takes the bytes of a pipe,
//! cut anywhere, and drives a [`Sink`] that builds whatever the caller wants: BEAM terms in
//! `codex_nif`, nothing at all in a benchmark, `serde_json` values in the tests. A [`Schema`] says
//! which objects are typed; it comes from the caller, so that the table of events exists once.
//!
//! ```
//! use codex_core::{Decoder, NullSink, Progress, Schema};
//!
//! let schema = Schema::default();
//! let mut decoder = Decoder::new(1024, 1000);
//! let mut lines = Vec::new();
//! let input = b"{\"type\":\"turn.started\"}\n{\"type\":";
//! let progress = decoder.feed(&schema, &mut NullSink, input, 0, false, &mut lines);
//! assert_eq!(progress, Progress::Done);
//! assert_eq!(lines.len(), 1);
//! ```
//!
//! No input makes this crate panic or recurse without limit: a line that is not JSON, nests too
//! deep or is too long becomes a [`Sink::rejected`] or [`Sink::oversized`] entry, one of too many
//! values [`Sink::overfull`], and decoding goes on with the next line.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod auth;
pub mod config;
mod convert;
pub mod dialect;
pub mod errors;
pub mod files;
pub mod http_headers;
mod json;
mod keys;
mod lines;
pub mod overrides;
pub mod patch;
mod pool;
mod read;
pub mod rollout;
mod scan;
mod schema;
pub mod search;
mod sink;
pub mod skills;
pub mod sse;
pub mod websocket;

pub use json::{Fault, MAX_DEPTH, MAX_DIGITS, parse_document};
pub use keys::Ends;
pub use lines::{BUDGET, Decoder, LONG_LINE, Progress, WORK};
pub use pool::{Pool, PoolError};
pub use schema::{Field, Kind, Record, Schema, SchemaError, Union, Variant};
pub use sink::{NullSink, Sink, Tree};
