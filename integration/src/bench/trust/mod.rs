//! `bench trust`: what a signed artifact is worth, from the sandbox it was built in to the verifiers that accept it.
//!
//! Each part is a file here. The long ones keep a [`Ledger`](super::ledger::Ledger) and resume where they stopped.

pub mod asset_names;
pub mod forgeries;
pub mod parts;
pub mod redaction;
pub mod repro_modules;
pub mod reproducible;
pub mod sandbox;
pub mod signing;
pub mod verifiers;
