//! The build cache: what a fleet remembers of what it compiled, so that nobody compiles it twice.
//!
//! - On one agent: [`disk`] keeps it, [`local`] answers cmd/go from there, through the shim that cmd/go starts, and
//!   [`gocache`] lays out the directory of a Go that knows no such shim.
//! - What travels: [`manifest`] says which mappings a build used, under a signature, and [`frames`] hold the bodies that a
//!   manifest names, compressed.
//! - Between agents: [`prefetch`] brings what a build will ask for, [`shard`] answers those that do, and [`write_back`]
//!   takes what was built to its homes.
//! - [`outside`] is the client of a server that is not the fleet's, which may keep what a region builds.
//! - [`reapi`] is a cache of its own for clients of the remote execution API, such as Bazel.
//!
//! Not here: which task may see what, and where a build runs: the agent and the coordinator decide that. Nor which keys
//! vouch for whom: the agent brings that ([`manifest::Vouching`]), and the connections.

pub mod disk;
pub mod entry;
pub mod frames;
pub mod gocache;
pub mod local;
pub mod manifest;
pub mod outside;
pub mod prefetch;
pub mod reapi;
pub mod shard;
pub mod write_back;
