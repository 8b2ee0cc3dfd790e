//! Configuration: TOML files, then the environment, then flags, into one typed value.
//!
//! Every mistake is reported at once, each with its place and, for a misspelt word, the word that was probably meant. A
//! type declares a [`schema`](ConfigType::SCHEMA) of its keys beside itself: that is what unknown keys, types, single values
//! and environment variables are judged by, in one walk. Defaults stand in the type, by serde.
//!
//! Not here: any configuration of a role, watching files for changes, and secrets, which are read from files of their own.

mod document;
mod env;
mod errors;
mod forms;
mod loader;
mod meant;
mod nearest;
mod schema;

#[cfg(test)]
mod tests;

pub use errors::{ConfigErrors, Problem};
pub use forms::{HOST, HOST_PORT, IP_PORT, LISTEN};
pub use loader::{ConfigType, Loader};
pub use nearest::nearest;
pub use schema::{Key, Kind};
