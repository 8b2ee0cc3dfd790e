//! Real processes: a fleet of three regions that are as far apart as real ones, and the same builds of real programs by two
//! policies.
//!
//! The coordinator is in Frankfurt with one of the regions, the others are in Washington and Tokyo; round trips and
//! bandwidths are the laboratory's. Each region has one agent of two slots. Each agent has built the first version of every
//! program when the clock starts, so that what is compared is a fleet at work and not its first hour. All of it shares the
//! cores of one machine, so builds are slower than an agent's own would be, under both policies alike.

mod commits;
mod fleet;
pub(super) mod part;
