//! The agent's part in the cache that a fleet shares.
//!
//! `peers` dials other agents, `membership` notices when they know more of who shares the cache, [`Fabric`] brings what a
//! placed task will ask for and tells what this agent made, `vouching` signs and checks in the fleet's name, `caretaker`
//! looks after what lies here, `told` says what the scheduler hears of it, `usage` counts what it was good for, `listener` answers other agents, and `artifacts`
//! members. The cache itself, and what travels, is `meridian-cache`'s.
//!
//! A fabric that is slow, wrong or gone makes builds slower and nothing else: every failure here ends in a log line.

mod artifacts;
mod assembly;
mod caretaker;
mod grants;
mod homes;
mod listener;
mod membership;
mod outside;
mod outside_watch;
mod peers;
mod placed;
mod stock;
mod told;
mod usage;
mod vouching;
#[cfg(test)]
mod vouching_tests;

pub(crate) use assembly::{Assembly, Membership};
pub(crate) use caretaker::eviction;
pub use outside::OutsideMistake;
pub(crate) use outside::{authorization, open_outside};
pub use outside_watch::look_outside;
pub(crate) use placed::{Fabric, Placed};
pub(crate) use stock::{StockPort, open_reapi};
pub(crate) use usage::Counted;
pub(crate) use vouching::wall_now;
