//! The successive versions of the program of middle size.
//!
//! A server of about three hundred packages, most of whose own code is in one of them. All of these build with one
//! Go. The versions are in order, and each is one that the module proxies serve.

/// The module, whose root is the command.
pub const MODULE: &str = "github.com/nats-io/nats-server/v2";
/// What was there before the first: its build fills caches, and counts for nothing.
pub const BEFORE: &str = "v2.10.12";
/// Fifty versions.
pub const VERSIONS: [&str; 50] = [
    "v2.10.14", "v2.10.16", "v2.10.17", "v2.10.18", "v2.10.19", "v2.10.20", "v2.10.21", "v2.10.22",
    "v2.10.23", "v2.10.24", "v2.10.25", "v2.10.26", "v2.10.27", "v2.11.0", "v2.11.1", "v2.11.2", "v2.11.3",
    "v2.11.4", "v2.11.5", "v2.11.6", "v2.11.7", "v2.11.8", "v2.11.15", "v2.11.17", "v2.12.0", "v2.12.1",
    "v2.12.2", "v2.12.3", "v2.12.4", "v2.12.7", "v2.12.8", "v2.12.9", "v2.12.10", "v2.12.11", "v2.12.12",
    "v2.12.14", "v2.12.15", "v2.14.0", "v2.14.1", "v2.14.2", "v2.14.3", "v2.14.4", "v2.14.5", "v2.14.6",
    "v2.14.7", "v2.14.8", "v2.14.9", "v2.15.0", "v2.15.1", "v2.15.2",
];
