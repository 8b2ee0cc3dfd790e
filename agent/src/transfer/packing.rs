//! Writing and reading packs at the two ends of a stream; blocking, on threads that may wait.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_store::{
    blob::BlobError,
    pack::{PackError, PackLimits, PackReader, PackWriter, PartialBlobs},
};

use super::uploader::{BlobContent, BlobUpload};

/// A blob, and how much of it the receiver has.
pub(super) type Planned = (BlobUpload, ByteCount);

/// Writes `blobs` as one pack. Fails with [`io::ErrorKind::BrokenPipe`] when nobody takes it any more.
pub(super) fn write(blobs: &[Planned], out: impl Write) -> io::Result<()> {
    let mut pack = PackWriter::new(out).map_err(into_io)?;
    for (blob, have) in blobs {
        // What is wholly there needs one more byte of a blob that has any, to be finished with.
        let from = ByteCount(have.0.min(blob.size.0.saturating_sub(1)));
        let mut content = open(&blob.content, from).map_err(|error| about(blob, &error))?;
        pack.add(&blob.digest, blob.size, from, &mut content).map_err(into_io)?;
    }
    pack.finish().map(drop).map_err(into_io)
}

fn open(content: &BlobContent, from: ByteCount) -> io::Result<Box<dyn Read + '_>> {
    match content {
        BlobContent::Bytes(bytes) => {
            let from = usize::try_from(from.0).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Box::new(&bytes[from..]))
        }
        BlobContent::File(path) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from.0))?;
            Ok(Box::new(file))
        }
    }
}

fn about(blob: &BlobUpload, error: &io::Error) -> io::Error {
    match &blob.content {
        BlobContent::File(path) => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        BlobContent::Bytes(_) => io::Error::new(error.kind(), error.to_string()),
    }
}

fn into_io(error: PackError) -> io::Error {
    match error {
        PackError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// Why a pack could not be taken in.
pub(super) enum Trouble {
    /// It is not what a pack is, or was cut; what came before is kept.
    Pack(PackError),
    /// This machine could not keep it.
    Disk(BlobError),
}

/// Takes a pack in, blob by blob; only what is `wanted`, where that is known.
pub(super) fn read(
    pack: impl Read,
    partials: &PartialBlobs,
    wanted: Option<BTreeSet<Digest>>,
) -> Result<(), Trouble> {
    let pack = PackReader::new(pack, partials.clone(), PackLimits::default());
    let mut pack = match wanted {
        Some(wanted) => pack.only(wanted),
        None => pack,
    };
    loop {
        match pack.next_blob() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            // Bytes that are not their digest are the sender's trouble, and may be right the next time.
            Err(PackError::Blob(error @ BlobError::Mismatch { .. })) => {
                return Err(Trouble::Pack(PackError::Blob(error)));
            }
            Err(PackError::Blob(error)) => return Err(Trouble::Disk(error)),
            Err(error) => return Err(Trouble::Pack(error)),
        }
    }
}
