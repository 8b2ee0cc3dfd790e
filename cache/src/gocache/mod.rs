//! Go's own cache directory, laid out from what is known and gathered in afterwards.
//!
//! Go before 1.24 has no GOCACHEPROG. For it a directory is filled before the build ([`lay_out`]), in the form of
//! cmd/go's `internal/cache`, and what the build added is taken into the store afterwards ([`harvest`]): the bodies
//! against their digests, and the order in which entries were used, which is a manifest's. cmd/go notes a use in an
//! entry's modification time when that is more than an hour old, so what is laid out looks old.
//!
//! Not here: when this is done; every newer Go asks the daemon.

mod entry_file;
mod harvest;
mod lay_out;

pub use harvest::{Harvest, harvest};
pub use lay_out::lay_out;
