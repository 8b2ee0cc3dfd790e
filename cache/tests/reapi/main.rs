//! The remote execution API's cache over real connections, with the clients that are generated from its files.

#![expect(clippy::unwrap_used, reason = "a server or a client that cannot be made is a failed test")]

mod action_cache;
mod cas;
mod faults;
mod killed;
mod listener;
mod reads;
mod served;
mod writes;
