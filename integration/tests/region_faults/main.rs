//! Faults of a fleet over three regions, with real processes, each region in a network namespace of its own: whatever goes
//! wrong in the midst of a storm of builds, each ends exactly once, the others go on, and no capacity is lost.
//!
//! Where the system makes no namespaces, each test says so and passes, unless `MERIDIAN_REQUIRE_NAMESPACES` is set.

mod clocks;
mod disks;
mod freezes;
mod kills;
mod links;
mod partitions;
mod restarts;
