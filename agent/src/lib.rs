//! What an agent does: it fetches toolchains and sources, builds, caches and reports.

pub mod cache;
pub mod gobuild;
pub mod goproxy;
mod keep;
pub mod logs;
pub mod process;
pub mod source;
pub mod toolchain;
pub mod transfer;
