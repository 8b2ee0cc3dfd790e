//! Source trees on the agent's disk: each once, read-only, shared by every task that builds from it.

mod lay_out;
mod sources;

pub use lay_out::lay_out;
pub use sources::{SourceError, SourceTree, Sources};
