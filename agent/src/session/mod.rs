//! The agent's side of the stream: it attaches, takes tasks up, runs them, and reports.
//!
//! [`AgentLoop`] is one task that owns every attempt's machine and the link to the coordinator; [`Worker`]
//! carries one attempt's steps out. The loop decides nothing that the machine in `meridian-core` does not:
//! it only knows slots, the link and which run belongs to which attempt.

mod agent_loop;
mod announcements;
mod attempt_log;
mod cache_questions;
mod cache_view;
mod drain;
mod link;
mod link_state;
mod masking;
mod open_cache;
mod prefetching;
mod signing;
mod slots;
mod stops;
mod timing;
mod worker;

pub(crate) use agent_loop::{AgentLoop, LoopConfig};
pub(crate) use announcements::MadeManifest;
pub(crate) use link::Introduction;
pub(crate) use signing::Signing;
pub(crate) use worker::{Worker, WorkerParts};
