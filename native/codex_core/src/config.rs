//! Configuration files of the Codex CLI: TOML with positions, checked, merged, versioned.
//!
//! ```
//! use codex_core::config::{self, Layered};
//!
//! let user = config::parse(b"model = \"a\"\n[tui]\ntheme = \"x\"\n").unwrap();
//! let flags = config::overrides(&["model=b".to_owned()]).unwrap();
//! let merged = Layered::new(&[&user, &flags]);
//! assert_eq!(merged.origin(&["model".into()]).unwrap().layer, 1);
//! assert_eq!(merged.origin(&["tui".into(), "theme".into()]).unwrap().at.line, 3);
//!
//! let fault = config::parse(b"model = \n").unwrap_err();
//! assert_eq!((fault.at.line, fault.at.column), (1, 9));
//! ```
//!
//! Layers come lowest first; the last one that sets a key wins. No input makes the module panic or
//! recurse without limit: TOML nests 80 levels at most, an override [`MAX_SEGMENTS`].

mod check;
mod edit;
mod lock;
mod merge;
mod overrides;
mod parse;
mod resolve;
mod schema;
mod value;
mod version;
mod words;

pub use check::{Problem, Reason, Weight, check};
pub use edit::{Edit, EditError, Strategy, edit};
pub use lock::Lock;
pub use merge::{Layered, Origin, leaves};
pub use overrides::{MAX_SEGMENTS, OverrideError, override_value, overrides};
pub use parse::{Fault, is_toml, is_within, parse};
pub use resolve::{drop_project_keys, prepare, rename_aliases, resolve};
pub use schema::{ConfigSchema, SchemaFault};
pub use value::{Node, Position, Table, Value, build};
pub use version::{canonical, version};
