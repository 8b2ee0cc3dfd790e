//! The coordinator as its callers see it: a real one, over TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blobs;
mod builds;
mod cache;
mod caches;
mod fixture;
mod fleet;
mod keys;
mod lost_state;
mod signed;
