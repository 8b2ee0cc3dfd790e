//! Go's own cache directory, laid out from what is known and gathered in afterwards.
//!
//! Go before 1.24 has no GOCACHEPROG. For it the directory of a task is filled before the build, in the form of cmd/go's
//! `internal/cache`, and what the build added is taken into the store afterwards: the bodies against their digests, and
//! the order in which entries were used, which is a manifest's. cmd/go notes a use in an entry's modification time when
//! that is more than an hour old, so what is laid out looks old.
//!
//! Not here: which builds need it; every newer Go asks the daemon.

mod entry_file;
mod harvest;
mod lay_out;
mod native_cache;

pub use native_cache::NativeCache;
