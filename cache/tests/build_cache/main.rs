//! The build cache through its own shim, as cmd/go uses it: the protocol first, then real builds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;
mod go;
mod protocol;
