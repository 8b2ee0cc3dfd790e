//! The coordinator's machine and the agent's attempt, driven from outside through their public doors.

mod fixture;
mod leases;
mod placements;
mod requests;
mod sequences;
mod tree;
