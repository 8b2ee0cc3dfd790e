//! The benches: what they measure, against what, and how the figures are printed.
//!
//! A bench builds what it measures. Every figure is the median of its rounds, and every ratio compares two
//! runs of the same round, taken in turns, so that a busy machine slows both sides.

pub mod cache;
pub mod figures;
pub mod journal;
pub mod ledger;
pub mod lossy;
pub mod main_job;
pub mod matrix;
pub mod memory;
pub mod peers;
pub mod plan;
pub mod region_loss;
pub mod scheduler;
pub mod speed;
pub mod storm;
pub mod timing;
pub mod trust;
pub mod world;
