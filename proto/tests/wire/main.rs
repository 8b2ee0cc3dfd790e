//! The wire and the journal: what was written once is read for ever, and what comes from outside never panics.

#![expect(clippy::unwrap_used, reason = "a sample or a strategy that cannot be made is a failed test")]

mod golden;
mod identity;
mod reapi;
mod refusal;
mod samples;
mod strategies;
