//! Gives a tree to the fleet: only what it lacks, and nothing at all when it has everything.

use meridian_agent::transfer::{Access, BlobContent, BlobUpload, TransferConfig, TransferError, Uploader};
use meridian_core::{build::Receipt, id::ProjectId, quantity::ByteCount};
use meridian_store::tree::Tree;
use tonic::{Code, Status};

use crate::{
    fleet::client::{Client, explain_status, is_away},
    trouble::Trouble,
};

/// Why the fleet does not hold the tree.
#[derive(Debug)]
pub enum UploadError {
    /// The coordinator is away: worth another try with a fresh connection.
    Away(Box<Status>),
    /// It will not work.
    Trouble(Trouble),
}

/// Makes sure that a durable holder has the whole tree, and gives its receipt for the root. `progress` is
/// told how many bytes were sent, if any have to be.
///
/// # Errors
/// When the coordinator is away or refuses, or a file changed since it was digested.
pub async fn ensure_held(
    client: &Client,
    project: &ProjectId,
    tree: &Tree,
    config: TransferConfig,
    progress: impl Fn(ByteCount) + Send + Sync,
) -> Result<Vec<Receipt>, UploadError> {
    let access = || Access { project: project.clone(), lease: None };
    // What was built before is held still: one question on the channel that is open anyway.
    let asking = Uploader::new(client.control(), access(), config);
    match asking.receipts(&[tree.root], true).await {
        Ok(receipts) => return Ok(receipts),
        Err(TransferError::Refused { status, .. }) if status.code() == Code::NotFound => {}
        Err(error) => return Err(classify(error)),
    }
    let bulk = client.bulk().map_err(UploadError::Trouble)?;
    Uploader::new(bulk, access(), config).put(&blobs(tree), progress).await.map_err(classify)?;
    asking.receipts(&[tree.root], true).await.map_err(classify)
}

fn blobs(tree: &Tree) -> Vec<BlobUpload> {
    let directories = tree.directories.iter().map(|(digest, bytes)| BlobUpload {
        digest: *digest,
        size: ByteCount(bytes.len() as u64),
        content: BlobContent::Bytes(bytes.clone()),
    });
    let files = tree.files.iter().map(|(digest, file)| BlobUpload {
        digest: *digest,
        size: file.size,
        content: BlobContent::File(file.path.clone()),
    });
    directories.chain(files).collect()
}

fn classify(error: TransferError) -> UploadError {
    match error {
        TransferError::Refused { status, .. } => {
            UploadError::Trouble(explain_status("upload the source", &status))
        }
        TransferError::GaveUp { status, .. } if is_away(&status) => UploadError::Away(status),
        // It is there and answers, such as that its disk is full: waiting for it to come back helps nobody.
        TransferError::GaveUp { status, .. } => {
            UploadError::Trouble(explain_status("upload the source", &status))
        }
        TransferError::Source(error) => UploadError::Trouble(
            Trouble::usage(format_args!("cannot send the source: {error}"))
                .hint("a file may have changed while it was read; run the command again"),
        ),
        other => UploadError::Trouble(Trouble::broken(format_args!("cannot send the source: {other}"))),
    }
}
