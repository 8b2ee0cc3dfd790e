//! Faults of the cache that a fleet shares, with real processes: whatever goes wrong, a build is at most slower, and what
//! comes out of it is the same.

mod clocks;
mod damage;
mod early;
mod homes;
mod liar;
mod pressure;
mod restarts;
mod strangers;
mod ways;
mod world;
