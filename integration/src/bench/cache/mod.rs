//! `bench cache`: what a build cache is worth to an agent that has none, over a link that is long, narrow or lossy.
//!
//! Everything runs on this machine: what a peer keeps at home lies behind a [`Relay`](crate::relay::Relay), and an
//! agent is a set of directories that were empty before the clock started. The clock runs from the start of the build
//! to its artifact. **Toolchain, modules and sources are in place on every side, and an artifact that is not byte for
//! byte the one of a native build fails its run.** What was measured lies in a [`Ledger`](super::ledger::Ledger), so
//! a run that was stopped goes on where it stopped.
//!
//! A way to bring a cache to an agent is a [`side::Side`]; each is a file here.

pub mod agents;
pub mod bed;
pub mod commit_versions;
pub mod commits;
pub mod commits_incumbent;
pub mod commits_meridian;
pub mod driver;
pub mod far;
pub mod far_variants;
pub mod go_cacher;
pub mod gocacheprog;
pub mod installed;
pub mod local;
pub mod local_daemon;
pub mod meridian;
pub mod native;
pub mod native_cache;
pub mod parts;
pub mod plot;
pub mod report;
pub mod shard;
pub mod side;
pub mod tampering;
pub mod tarball;
pub mod uploads;
