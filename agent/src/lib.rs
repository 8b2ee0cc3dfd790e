//! The agent: it attaches to the coordinator, fetches toolchains and sources, builds, caches and reports.
//!
//! [`session`] drives the attempts' machines; the other rooms each carry one kind of step out and know nothing
//! of leases.
//!
//! Not here: any decision about placement or acceptance, and the coordinator's code: the two share the wire.

mod app;
mod check;
mod config;
mod directories;
mod fabric;
pub mod gobuild;
pub mod goproxy;
mod keep;
pub mod logs;
mod preparation;
pub mod process;
pub mod redaction;
mod removal;
pub mod sandbox;
pub mod secrets;
mod session;
mod sidecar;
pub mod signer;
pub mod source;
mod spans;
pub mod toolchain;
pub mod transfer;

pub use app::{App, AppError, Unsettled};
pub use check::{Checked, Mistake, Mistakes, check};
pub use config::{
    AgentConfig, OutsideCredentials, OutsideSettings, ShardSettings, SidecarSettings, StockSettings,
};
pub use directories::DirectoryError;
pub use fabric::{OutsideMistake, look_outside};
pub use preparation::Prepared;
pub use removal::OwnDir;
pub use sidecar::SidecarError;
