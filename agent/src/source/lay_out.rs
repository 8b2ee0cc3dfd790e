//! Lays a tree out from blobs that are on this agent's disk.

use std::{io, path::PathBuf};

use meridian_core::digest::Digest;
use meridian_store::{
    blob::DiskBlobs,
    tree::{TreeError, TreeLimits, materialise},
};

/// Lays the tree `root` out at `dest`, where nothing may lie yet: what [`super::Sources::ensure`] wants done,
/// for callers whose blobs are all here.
///
/// # Errors
/// When a blob is missing or damaged, the tree breaks a rule, or the disk fails.
pub async fn lay_out(blobs: DiskBlobs, root: Digest, dest: PathBuf) -> Result<(), TreeError> {
    let place = dest.clone();
    let work = move || materialise(&blobs, &root, &dest, &TreeLimits::default()).map(|_| ());
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TreeError::Io { what: "lay out", path: place, source: io::Error::other(error) })?
}
