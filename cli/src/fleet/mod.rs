//! Which fleet a command speaks to, and how.
//!
//! [`client`] is a connection with an identity; [`select`] decides which fleet is meant; [`saved`] keeps the
//! identities that `meridian join` got, and [`seen_keyring`] the keyrings that were seen of each; [`local`] starts and finds the fleet of this machine, whose running
//! process is described by its [`endpoint`] file.

pub mod client;
pub mod endpoint;
pub mod join;
pub mod local;
pub mod root;
pub mod saved;
pub mod seen_keyring;
pub mod select;
