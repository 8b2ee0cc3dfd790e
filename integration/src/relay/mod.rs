//! A slow, narrow and faulty network link on loopback, for tests and benches.
//!
//! A [`Relay`] stands between a client and a server and carries the bytes of any number of connections as a link of
//! many thousand kilometres would: with a delay each way, a bandwidth for each direction, stalls where segments are
//! lost, and faults on command. It exists because the kernels that tests run on have no emulated links, and because
//! a delay of one direction and one connection at a time is what both ends can be told about.
//!
//! The delay limits no throughput: what is under way lies in a queue, and a byte leaves one delay after it came in,
//! not one delay after the byte before it. **What the clock decides is decided in `schedule` and `tally`, which are
//! told the time**, so their tests wait for nothing.
//!
//! Not modelled: slow start, reordering, datagrams. A connection is fast from its first byte on, which favours
//! whoever opens many.

mod link;
mod pump;
mod schedule;
mod server;
mod shape;
mod tally;

pub use server::Relay;
pub use shape::{Shape, Way};
pub use tally::Traffic;
