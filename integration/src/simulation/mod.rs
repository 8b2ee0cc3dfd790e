//! Coordinator, agents, clients and a disk that forgets, in one thread and one clock of its own.
//!
//! The simulation drives the machines of `core` and the journal of `store` exactly as the processes do, but it
//! owns time, chance and failure: power is cut in the middle of a write, unsynced sectors vanish, streams
//! break with messages in flight, agents come back with nothing. A run is decided by its seed alone.
//!
//! It checks from outside: whatever a client was told stays true, whatever was decided comes back byte for
//! byte, and no task has a second result. Not here: sockets, processes and Go, which the other tests have.

pub mod agent;
pub mod coordinator;
pub mod draws;
pub mod ledger;
mod signer;
pub mod world;
