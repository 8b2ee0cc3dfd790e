//! Go's own rules for names: platforms, versions, module paths and `h1:` hashes.
//!
//! No crate has them; they are small, and `golang.org/x/mod`'s published test vectors are the oracle.

pub mod h1;
mod level;
pub mod module_path;
pub mod nearness;
pub mod platform;
pub mod semver;
pub mod toolchain_pins;
