//! Regions as they are apart in the world: a network namespace for each, and a router between them.
//!
//! A [`Network`] has sites. Each has an address of its own and reaches the others through the router, where what leaves
//! a site or what goes to it can be made to vanish without a word, as a partition does it: no connection is reset and
//! nobody is told. Addresses are the same in every network, since no network knows of another.
//!
//! A process is started in a site by the words of [`Network::starter`]; a test goes there itself with
//! [`Network::enter`]. **Everything is gone when the network is dropped**, with whatever still runs there. Names carry the
//! process that made them, so networks stand side by side, and what a killed run left is removed by the next one.
//!
//! Not here: delay, loss and bandwidth, for which there is the [relay](crate::relay).

mod inside;
mod ip;
mod leftovers;
mod network;

pub use inside::Inside;
pub use network::{Flow, Network};
