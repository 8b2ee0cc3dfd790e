//! `bench scheduler`: what the choice of an agent is worth, what it costs, and what it survives.
//!
//! The laboratory's figures are of one seed and the worst of all scenarios; they are the same in every run but for what
//! choosing costs. Seeds of the simulator are run by the thousand here, in a release build; protections can be taken away in
//! a debug build alone, which is made and run for that.

mod crowd;
mod decisions;
pub mod parts;
mod real;
