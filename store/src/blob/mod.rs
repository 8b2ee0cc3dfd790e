//! Content by its digest, on disk.
//!
//! [`DiskBlobs`] takes bytes in as a stream, hashes while it writes, and publishes a file under its digest
//! only when it is whole. It forgets what was not used for longest when space runs out, but never what is
//! pinned. Its calls are synchronous, quick, and may come from any thread.
//!
//! [`BlobStore`] is the seam for stores that are elsewhere (shards, mirrors, object stores);
//! [`VerifyingStore`] is for those that are not trusted.
//!
//! A digest grants nothing here: who may read what is decided above.

mod blob_error;
mod blob_index;
mod blob_store;
mod blob_writer;
mod disk_blobs;
mod hash_file;
mod verified_reader;
mod verifying_store;

pub use blob_error::{BlobError, Lack};
pub use blob_store::{BlobSource, BlobStore};
pub use blob_writer::{BlobWriter, Durability};
pub use disk_blobs::{BlobConfig, BlobHandle, BlobUsage, DiskBlobs, PinGuard};
pub use hash_file::hash_file;
pub use verified_reader::VerifiedReader;
pub use verifying_store::VerifyingStore;
