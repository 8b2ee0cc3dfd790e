//! What Meridian keeps on disk.
//!
//! - [`journal`]: the record of every decision, with group commit and snapshots. What it has acknowledged survives.
//! - [`blob`]: content by digest: streamed in, verified, published atomically, evicted when space runs out.
//! - [`tree`]: directories of files as Merkle trees of blobs: read from disk, and laid out again.
//! - [`pack`]: the one bulk format: many blobs in independent zstd frames.
//! - [`file_lock`]: what keeps a second process out of a directory.
//! - [`history`] and [`access_index`]: what can be rebuilt from the journal, kept in sled for quick questions.
//!
//! Nothing here knows what the journal's records or the blobs mean, and nothing speaks to a network.

pub mod access_index;
pub mod blob;
pub mod file_lock;
pub mod history;
mod index_db;
pub mod journal;
pub mod pack;
pub mod tree;

pub use index_db::IndexError;
