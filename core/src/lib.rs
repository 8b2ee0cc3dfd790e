//! What Meridian decides: ids, digests, Go's naming rules and every state machine.
//!
//! Everything here is a pure function of its arguments. Nothing in this crate reads a clock, draws a random
//! number, touches a file or a socket, or waits; `now` is always told. That is what lets a test drive ten
//! years of the coordinator in a second, and what makes a replay of the journal give the same bytes.
//!
//! Not here: the wire format (`meridian-proto`), anything that is kept on disk (`meridian-store`), and any
//! word of how a decision is carried out (`meridian-coordinator`, `meridian-agent`).

pub mod attempt;
pub mod attestation;
pub mod build;
pub mod cache;
pub mod digest;
pub mod golang;
pub mod id;
pub mod keyring;
pub mod machine;
pub mod quantity;
pub mod requester;
pub mod sandbox;
pub mod schedule;
pub mod time;
pub mod trace;
