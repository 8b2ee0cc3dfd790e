//! The Go toolchains of an agent: fetched once, checked by their hash before they are used, shared by every
//! task, and never removed while one uses them.
//!
//! One version is pinned in the source, so that a first build needs no checksum database. Any other version
//! needs its hash in the request, or the checksum database's word, which that pinned Go insists on.
//!
//! Not here: cmd/go's own switching of toolchains, which is off everywhere (`GOTOOLCHAIN=local`).

mod error;
mod host;
mod toolchain_ref;
mod toolchains;
mod unpack;

pub use error::ToolchainError;
pub use host::host_platform;
pub use toolchain_ref::{Origin, ToolchainRef};
pub use toolchains::Toolchains;
pub use unpack::UnpackError;
