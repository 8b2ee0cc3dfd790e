//! A fleet over three regions, each in a network namespace of its own, for tests and benches of what goes wrong there.
//!
//! A [`World`] is the fleet with somebody who builds in each region, a [`Storm`] is many builds at once, and [`Held`] is a
//! world in which builds are under way in one region until the test lets them end. What a test must not leave behind is
//! looked at in one place, [`World::expect_whole`].

mod held;
mod storm;
mod warmth;
mod ways;
mod world;

pub use held::{HOME, Held};
pub use storm::Storm;
pub use ways::Between;
pub use world::{CENTRE, LEASE, Plan, REGIONS, WITHIN, World};
