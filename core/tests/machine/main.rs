//! The coordinator's machine and the agent's attempt, driven from outside through their public doors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod attempts;
mod away;
mod budgets;
mod client_ways;
mod field_bugs;
mod fixture;
mod keys;
mod leases;
mod link;
mod manifest_bounds;
mod manifests;
mod placements;
mod rebuilds;
mod requests;
mod retry_classes;
mod schedule;
mod schedule_gates;
mod sequences;
mod shards;
mod sidecars;
mod simulation;
mod stops;
mod storm;
mod tree;
mod upkeep;
mod waits;
