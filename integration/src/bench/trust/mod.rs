//! `bench trust`: what a signed artifact is worth, from the sandbox it was built in to the verifiers that accept it.
//!
//! Each part is a file here. The long ones keep a [`ledger::Ledger`] and resume where they stopped.

pub mod ledger;
pub mod parts;
pub mod redaction;
pub mod sandbox;
