//! The placement laboratory: what a choice of agent is worth.
//!
//! It replays days of builds against policies, in virtual time and from a seed. **All policies share the queue, the leases
//! and the caches; only the choice differs.** Arrivals are made so many that least loaded is as busy as the scenario says,
//! and all others get the same arrivals. A policy sees what the coordinator would see in production and never what is true.
//!
//! Not here: faults of the protocol (`sim`), and how quickly a placement is found among a thousand agents (`bench`).

pub mod chart;
pub mod document;
pub mod engine;
pub mod figures;
pub mod knowledge;
pub mod options;
pub mod oracle;
pub mod outcome;
mod placing;
pub mod policy;
pub mod random;
pub mod record;
pub mod recording;
pub mod regions;
pub mod scenario;
pub mod trial;
pub mod workload;
pub mod world;

pub use options::{Options, run};
