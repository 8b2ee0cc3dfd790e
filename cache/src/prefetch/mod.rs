//! Brings what a build will ask for before it asks.
//!
//! A prefetch begins when a task is placed. It learns the manifest, takes what is lacking from the nearest agent that
//! has it, frame by frame in the order in which the build will ask, and tells the task's daemon what has come
//! ([`Arrivals`]). A question waits for its own body only, and no longer than the prefetch's patience: one that falls
//! behind, stalls or dies makes the build slower and nothing else.

mod arrivals;
mod asking;
mod checking;
mod driver;
mod from_homes;
mod from_outside;
mod intake;
mod lanes;
mod opening;
mod outside_lane;
mod search;
mod split;
mod supply;
mod writer;

pub use crate::shard::Holder;
pub use arrivals::{Arrivals, Hope, PrefetchFigures};
pub use driver::{Beyond, Prefetch, PrefetchPlan};
pub use from_homes::{HomeRegion, HomeRegions};
pub use from_outside::FromOutside;
pub(crate) use intake::Intake;
pub use search::Seeking;
pub use supply::Supply;
