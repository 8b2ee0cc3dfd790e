//! `meridian cache`: looks into the build caches of agents, and looks after them.
//!
//! The command knows the coordinator alone, which asks the agents and hands on what they say.

mod evict;
mod lineages;
mod reports;
mod run;
mod stats;
mod verify;
mod warm;

pub use run::run;
