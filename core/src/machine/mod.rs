//! The coordinator's machine: everything it decides, as one function of state, `now` and an input.
//!
//! `Machine::step(now, input)` decides, applies the events it decided on, and returns them with the effects
//! that may leave the process once those events are durable. `Durable` changes only by `apply(event)`;
//! `Observed` is what agents re-report when they attach, and is never journalled.
//!
//! The deciders stand in files of their own, one for each thing that can happen.

mod apply;
pub mod artifacts;
mod attach;
mod attached;
mod attempt_logs;
mod away;
mod cancel;
mod certify;
pub mod cordon;
mod deadline;
pub mod durable;
pub mod effect;
pub mod event;
pub mod input;
mod learned;
mod lease;
pub mod limits;
mod lineages;
pub mod maintenance;
mod manifests;
mod membership;
mod memory;
mod observed;
mod order;
pub mod placement;
mod poison;
mod protections;
mod reach;
pub mod rebuild;
pub mod record;
mod replay;
mod report;
pub mod request;
mod residency;
mod revoke;
pub mod shunned;
mod sidecars;
mod standing;
mod step;
mod stops;
mod submit;
mod timers;
mod token;
pub mod upkeep;
pub mod views;

pub use apply::{ApplyError, Fault};
pub use attach::PEERS_MAX;
pub use durable::{Durable, SnapshotError};
pub use limits::{CachePolicy, Limits};
pub use lineages::LineageView;
pub use protections::Protection;
pub(crate) use protections::Protections;
pub use residency::RESIDENCY_MAX;
pub use step::{Machine, Step};
