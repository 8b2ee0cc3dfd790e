//! Wire messages to core's types and back.
//!
//! To the wire nothing can fail: `v1::X::from(&x)`. From the wire everything is checked for its shape, with
//! the path of the field that is wrong: `X::try_from(message)?`. Whether a well-shaped request is *allowed*
//! (a platform that Go has, a flag that may be given) is core's question, not asked here: a journal must stay
//! readable when those rules change.

pub mod agent;
pub mod attestation;
pub mod build;
pub mod cache;
pub mod client_ways;
pub mod coordinator;
pub mod field;
pub mod journal;
pub mod keyring;
pub mod placement;
pub mod record;
pub mod sidecar;
mod upkeep;
