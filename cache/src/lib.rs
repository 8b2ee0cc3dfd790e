//! The build cache: what a fleet remembers of what it compiled, so that nobody compiles it twice.
//!
//! [`disk`] keeps it on one agent; [`local`] answers cmd/go from there, through the shim that cmd/go starts.
//! [`reapi`] is a cache of its own for clients of the remote execution API, such as Bazel.
//!
//! Not here: which task may see what, and where a build runs: the agent and the coordinator decide that.

pub mod disk;
pub mod entry;
pub mod frames;
pub mod gocache;
pub mod local;
pub mod manifest;
pub mod prefetch;
pub mod reapi;
pub mod shard;
pub mod write_back;
