//! Source trees on the agent's disk: each once, read-only, shared by every task that builds from it.

mod sources;

pub use sources::{SourceError, SourceTree, Sources};
