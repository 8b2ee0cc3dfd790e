//! Runs Go so that the same request gives the same bytes on every agent.
//!
//! A build has two phases. The first may use the network: it names and downloads every module that the build
//! needs. The second compiles with no network at all, from what the first one verified, and in a sandbox where
//! the agent has one. Environment and flags are written in one place, [`lineage`]; nothing of the agent's own environment reaches a compile.
//!
//! Not here: the build cache (its socket or its directory is handed in), the artifacts' way to their holders, and the lease.

mod builder;
mod classify;
mod command;
mod compile;
mod damage;
pub(crate) mod lineage;
mod modules;
mod notes;
mod outputs;
mod request;
mod resolve;
mod sandboxed;
mod seen;

pub use builder::{BuilderConfig, GoBuilder};
pub use request::{
    BuildCache, BuildRequest, BuiltFile, BuiltTask, CacheAccess, LogSink, Previous, ProgressSink, Run,
    SourceRef,
};
pub use sandboxed::Sandboxing;
