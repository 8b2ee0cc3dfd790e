//! The long-running roles, each composed from its crate: a coordinator, an agent, or both in one process.

pub mod agent;
pub mod coordinator;
mod enrolment;
pub mod local;
#[cfg(test)]
mod readme_tests;
mod remote_cache_table;
mod schedule_table;
mod set;
mod sidecar_table;
mod signer_table;
