//! Where modules come from: Go's own settings, found the way Go finds them, and a client for the protocol.
//!
//! No address is compiled in. What the environment says holds first, then the user's `go/env` file, then the
//! `go.env` of an installed Go, which builds nothing and is only read.
//!
//! The client fetches what the agent needs before it has a Go that could: a toolchain. Every other download
//! is made by that toolchain itself, which knows all the rules.

mod client;
mod environment;
mod list;

pub use client::{ProxyClient, ProxyError};
pub use environment::{DiscoverError, GoEnvironment, Setting, Variables, process_environment};
pub use list::{ParseProxyError, ProxyEntry, ProxyList, ProxyRound};
