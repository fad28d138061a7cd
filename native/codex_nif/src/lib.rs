//! The glue between `codex_core` and the BEAM: terms in, terms out, no logic.
//!
//! `Codex.Native` has one stub for each function here. Rustler turns a panic into an Elixir
//! exception.

mod about;
mod auth;
mod config;
mod decoder;
mod entry;
mod errors;
mod events;
mod faults;
mod files;
mod http;
mod json;
mod kept_page;
mod lock;
mod overrides;
mod patch;
mod pool;
mod rollout;
mod rollout_reader;
mod rollout_session;
mod rollout_store;
mod search;
mod sink;
mod skills;
mod table;
mod websocket;
