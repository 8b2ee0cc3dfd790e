//! Runs a child process so that none of its tree outlives the task.
//!
//! A build step starts compilers, and those start others. When a task is cancelled or loses its lease, all
//! of them must be gone before the next attempt starts, wherever they fled: another process group, another
//! session, another parent. Each run therefore carries a mark in its environment, and [`run()`] ends whatever
//! bears it.
//!
//! Not here: a sandbox. A process that clears its environment and leaves its session could still escape.

mod run;
mod tree;

pub use run::{Exit, Invocation, Output, ProcessError, run};
#[cfg(target_os = "linux")]
pub(crate) use run::{follow, spawn, tie_to_agent};
pub use tree::{UNENDED, end_leftovers};
