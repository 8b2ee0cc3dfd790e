//! The process kit: what every long-running role needs and that knows nothing of builds.
//!
//! - [`identity`] and [`tls`]: who a process is, and connections on which both ends know it;
//! - [`config`]: TOML, environment and flags into one typed value, with every mistake reported at once;
//! - [`telemetry`]: logs, traces and the context that travels between processes;
//! - [`secret_file`]: private keys on disk;
//! - [`clock`], [`shutdown`], [`state_dir`]: time, orderly ends, and a directory that one process owns.
//!
//! Not here: any word of the domain. Ids are SPIFFE ids or plain text, and nothing of `meridian-core`,
//! `meridian-proto` or `meridian-store` is imported.

pub mod identity;

pub mod clock;
pub mod config;
pub mod secret_file;
pub mod shutdown;
pub mod state_dir;
pub mod telemetry;
pub mod tls;
