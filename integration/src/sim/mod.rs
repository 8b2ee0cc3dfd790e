//! `sim`: coordinators, agents, clients and a journal on a disk that forgets, in one thread and a time of its own.
//!
//! The simulator drives the machine of `core`, the attempts of its agents and the journal of `store` exactly as the
//! processes do, but it owns time, chance and failure. A [`happening::Happening`] is the least thing that can happen: a
//! message arrives, a batch is appended, a process dies between two steps, the power fails in the middle of a write. The
//! [`world::World`] carries happenings out and draws nothing; [`schedule::Schedule`] draws what happens when, by a seed;
//! so a list of happenings replays a story exactly, whatever the schedule of a later release would make of the seed.
//!
//! After **every** happening the invariants are checked from outside: [`shadow`] follows what a coordinator decides,
//! [`ledger`] what was durable and what anybody outside was told. Both keep their own books.
//!
//! The transport is what the real one is: one stream an agent, in order and without repeats, which breaks and loses the
//! end of what was under way in either direction; what is left of an old stream may arrive after the next has begun.
//! Requests of clients are repeated under their key.
//!
//! Not here: sockets, processes, signatures and Go, which the other tests have.

pub mod agent;
pub mod audit;
mod bounds;
pub mod cause;
mod clients;
pub mod closed;
pub mod command;
mod ending;
pub mod event_file;
pub mod faults;
pub mod happening;
pub mod host;
mod leaders;
pub mod ledger;
pub mod link;
pub mod mutation;
pub mod network;
pub mod reasons;
mod runs;
pub mod schedule;
pub mod seed;
pub mod seen;
pub mod setup;
pub mod shadow;
mod signer;
pub mod store;
mod streams;
mod weather;
pub mod wish;
pub mod world;
