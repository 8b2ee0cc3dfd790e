//! The build cache: what a fleet remembers of what it compiled, so that nobody compiles it twice.
//!
//! [`local`] is the cache of one agent's disk, with the shim that cmd/go starts. [`reapi`] is a cache for clients of the
//! remote execution API, such as Bazel.
//!
//! Not here: which task may see what, and where a build runs: the agent and the coordinator decide that.

pub mod local;
pub mod reapi;
