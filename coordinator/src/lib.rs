//! The coordinator: admits builds, places their tasks, leases them to agents and accepts one result each.
//!
//! One task owns the machine ([`step_loop`]); the services around it check their caller, ask the loop and
//! shape the answer. Data passes one way: request → input → decision → journal → effect.
//!
//! Not here: any decision (those are `meridian-core`'s), building (that is `meridian-agent`'s).

mod activity;
mod app;
mod authorization;
mod cache_desk;
mod cache_metrics;
mod config;
mod handle;
mod holder;
mod http;
mod journal_history;
mod live_logs;
mod metrics;
mod own_identity;
mod probe;
mod processes;
mod receipts;
mod recovery;
mod retention;
mod revocations;
mod services;
mod signing;
mod status;
mod step_loop;
mod wait_log;
mod watchers;

pub use app::{App, AppError, Running};
pub use authorization::{Caller, Role, TABLE, authorize};
pub use config::CoordinatorConfig;
pub use step_loop::StepLoopError;
