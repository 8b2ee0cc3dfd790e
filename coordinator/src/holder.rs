//! The coordinator's own blob store: the one durable holder for now.
//!
//! It keeps who may see what (a blob belongs to the projects that sent its bytes), gives receipts, and pins
//! what has one: for an hour after the receipt, and then for as long as a build that names it is remembered
//! ([`crate::retention`]).
//!
//! Not here: the wire, and any decision about builds.

use std::{
    collections::{BTreeSet, HashMap},
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::{
    build::Receipt,
    digest::Digest,
    id::{ProjectId, TaskId},
    machine::input::Outcome,
    quantity::ByteCount,
};
use meridian_store::{
    IndexError,
    access_index::AccessIndex,
    blob::{BlobConfig, BlobError, DiskBlobs, Durability, PinGuard},
    pack::{PackError, PackLimits, PackReader, PackWriter, PartialBlobs},
    tree::Directory,
};

use crate::{receipts::ReceiptKey, retention::Wanted};

/// How long a receipt keeps its blob before a build must name it.
const RECEIPT_KEEPS: Duration = Duration::from_secs(3600);
/// The largest tree that is walked, in blobs.
const TREE_BLOBS_MAX: usize = 400_000;
/// The largest directory that is read.
const DIRECTORY_LEN_MAX: ByteCount = ByteCount::mib(16);
/// What is taken from one upload.
const UPLOAD_LIMITS: PackLimits =
    PackLimits { blob: ByteCount::gib(4), entries: 1_000_000, total: ByteCount::gib(32) };
/// Under this name stand the pins of what builds name.
const BUILDS_PIN: &str = "builds";

/// Why the holder did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HolderError {
    /// Something is not here, or not this project's.
    #[error("blob {digest} is not held for this project")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// What was sent is not right.
    #[error("{0}")]
    Refused(String),
    /// No space is left.
    #[error("the coordinator has {0}")]
    DiskFull(String),
    /// The disk or an index failed.
    #[error("{0}")]
    Disk(String),
}

impl From<BlobError> for HolderError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Missing { digest } | BlobError::Corrupt { digest } => Self::Missing { digest },
            BlobError::Mismatch { .. } | BlobError::TooLarge { .. } => Self::Refused(error.to_string()),
            BlobError::DiskFull { .. } => Self::DiskFull(error.to_string()),
            BlobError::Locked { .. } | BlobError::Io { .. } => Self::Disk(error.to_string()),
        }
    }
}

impl From<IndexError> for HolderError {
    fn from(error: IndexError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<PackError> for HolderError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Blob(error) => error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// The coordinator's own blob store.
#[derive(Clone)]
pub(crate) struct Holder(Arc<Inner>);

struct Inner {
    blobs: DiskBlobs,
    partials: PartialBlobs,
    access: AccessIndex,
    key: ReceiptKey,
    /// What has a receipt that is not an hour old, and since when.
    receipts: Mutex<HashMap<Digest, (Instant, PinGuard)>>,
}

impl Holder {
    /// Opens the store and the access index under the coordinator's state directory.
    pub(crate) fn open(state: &Path, config: BlobConfig, key: ReceiptKey) -> Result<Self, HolderError> {
        let blobs = DiskBlobs::open(&state.join("blobs"), config)?;
        let partials = PartialBlobs::open(blobs.clone())?;
        let access = AccessIndex::open(&state.join("access"))?;
        // Grants outlive their blobs; whoever sends such a blob again is granted it again.
        access.forget_unless(|digest| blobs.contains(digest))?;
        Ok(Self(Arc::new(Inner { blobs, partials, access, key, receipts: Mutex::default() })))
    }

    /// Looks at blobs where waiting for the disk is allowed.
    pub(crate) async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&DiskBlobs) -> Result<T, HolderError> + Send + 'static,
    ) -> Result<T, HolderError> {
        self.blocking(move |inner| look(&inner.blobs)).await
    }

    /// Runs what touches the disk where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, HolderError> + Send + 'static,
    ) -> Result<T, HolderError> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| HolderError::Disk(e.to_string()))?
    }

    /// Whether a receipt is this holder's own, for this project.
    pub(crate) fn vouches(&self, project: &ProjectId, receipt: &Receipt) -> bool {
        self.0.key.verify(project, receipt)
    }

    /// Takes away from a result every log segment that the project did not send: what a result names, its project may
    /// read from then on. Its receipts are looked at by [`crate::signing`].
    pub(crate) async fn check_outcome(
        &self,
        task: &TaskId,
        mut outcome: Box<Outcome>,
    ) -> Result<Box<Outcome>, HolderError> {
        let project = task.build.project.clone();
        self.blocking(move |inner| {
            if let Outcome::Built { log, .. } | Outcome::Failed { log, .. } = &mut *outcome {
                let mut held = Vec::with_capacity(log.len());
                for segment in log.drain(..) {
                    if inner.holds(&project, &segment)? {
                        held.push(segment);
                    }
                }
                *log = held;
            }
            Ok(outcome)
        })
        .await
    }

    /// Which of these the project lacks, and how much of each an earlier upload left.
    pub(crate) async fn missing(
        &self,
        project: &ProjectId,
        digests: Vec<Digest>,
    ) -> Result<Vec<(Digest, ByteCount)>, HolderError> {
        let project = project.clone();
        self.blocking(move |inner| {
            let partials = inner.partials.of_owner(&project.to_string());
            let mut missing = Vec::new();
            for digest in digests {
                if !inner.holds(&project, &digest)? {
                    missing.push((digest, partials.partial_len(&digest)));
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Takes a pack in. Blocks; what arrived whole is kept even when the rest is bad or missing.
    pub(crate) fn take_pack(
        &self,
        project: &ProjectId,
        pack: impl Read,
    ) -> Result<Vec<Receipt>, HolderError> {
        let inner = &*self.0;
        let mut reader = PackReader::new(pack, inner.partials.of_owner(&project.to_string()), UPLOAD_LIMITS);
        let mut taken = Vec::new();
        let ended = loop {
            match reader.next_blob() {
                Ok(Some(blob)) => {
                    // Pinned at once: a long upload must not be evicted by its own end.
                    inner.keep(&[blob.digest]);
                    taken.push(blob);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let digests: Vec<Digest> = taken.iter().map(|blob| blob.digest).collect();
        inner.blobs.make_durable(&digests)?;
        inner.access.grant(project, &digests)?;
        ended?;
        Ok(taken.into_iter().map(|blob| inner.key.issue(project, blob.digest, blob.size)).collect())
    }

    /// Writes the blobs as a pack. Blocks.
    pub(crate) fn give_pack(&self, digests: &[Digest], writer: &mut impl Write) -> Result<(), HolderError> {
        let mut pack = PackWriter::new(writer)?;
        for digest in digests {
            let mut content = self.0.blobs.open_verified(digest)?;
            let size = content.size();
            pack.add(digest, size, ByteCount(0), &mut content)?;
        }
        pack.finish()?;
        Ok(())
    }

    /// Receipts for what the project has already. For trees everything below each root is checked and kept.
    pub(crate) async fn receipts(
        &self,
        project: &ProjectId,
        digests: Vec<Digest>,
        trees: bool,
    ) -> Result<Vec<Receipt>, HolderError> {
        let project = project.clone();
        self.blocking(move |inner| {
            let mut receipts = Vec::with_capacity(digests.len());
            for digest in digests {
                let below =
                    if trees { inner.walk_of(&project, &digest, Below::Everything)? } else { vec![digest] };
                inner.keep_held(&project, &below)?;
                let held = inner.blobs.get(&digest).ok_or(HolderError::Missing { digest })?;
                receipts.push(inner.key.issue(&project, digest, held.size));
            }
            Ok(receipts)
        })
        .await
    }

    /// The blobs to send for a download: those asked for, or all directories below them.
    pub(crate) async fn select(
        &self,
        project: &ProjectId,
        digests: Vec<Digest>,
        directories: bool,
    ) -> Result<Vec<Digest>, HolderError> {
        let project = project.clone();
        self.blocking(move |inner| {
            let mut selected = Vec::new();
            for digest in digests {
                if !inner.holds(&project, &digest)? {
                    return Err(HolderError::Missing { digest });
                }
                if directories {
                    selected.extend(inner.walk_of(&project, &digest, Below::Directories)?);
                } else {
                    selected.push(digest);
                }
            }
            Ok(selected)
        })
        .await
    }

    /// Keeps a tree for an hour, so that the build just submitted finds it until [`Self::retain`] knows of it.
    /// A receipt speaks for the root alone, so all that lies below is looked at here: a directory that names
    /// another project's blobs must not open them.
    pub(crate) async fn keep_tree(&self, project: &ProjectId, root: Digest) -> Result<(), HolderError> {
        let project = project.clone();
        self.blocking(move |inner| {
            let below = inner.walk_of(&project, &root, Below::Everything)?;
            inner.keep_held(&project, &below)
        })
        .await
    }

    /// Keeps blobs of a project for an hour.
    pub(crate) async fn keep_blobs(
        &self,
        project: &ProjectId,
        digests: Vec<Digest>,
    ) -> Result<(), HolderError> {
        let project = project.clone();
        self.blocking(move |inner| inner.keep_held(&project, &digests)).await
    }

    /// Keeps a small blob for a project.
    pub(crate) async fn put(&self, project: &ProjectId, bytes: Bytes) -> Result<Digest, HolderError> {
        let project = project.clone();
        self.blocking(move |inner| {
            let digest = inner.blobs.put(&bytes, Durability::Durable)?;
            inner.keep(&[digest]);
            inner.access.grant(&project, &[digest])?;
            Ok(digest)
        })
        .await
    }

    /// Reads a small blob.
    pub(crate) async fn read(&self, digest: Digest, limit: ByteCount) -> Result<Bytes, HolderError> {
        self.blocking(move |inner| Ok(inner.blobs.read(&digest, limit)?)).await
    }

    /// Makes the pins match what builds name, and heals grants that were lost with their index.
    pub(crate) async fn retain(&self, wanted: Wanted) {
        let retained = self.blocking(move |inner| inner.retain(&wanted)).await;
        if let Err(error) = retained {
            tracing::warn!(%error, "what builds name could not be pinned");
        }
    }
}

/// What is taken of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Everything,
    Directories,
}

impl Inner {
    fn holds(&self, project: &ProjectId, digest: &Digest) -> Result<bool, HolderError> {
        Ok(self.blobs.contains(digest) && self.access.allows(project, digest)?)
    }

    /// Pins for as long as a receipt promises. One pin a blob, however many receipts it has.
    fn keep(&self, digests: &[Digest]) {
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for digest in digests {
            receipts
                .entry(*digest)
                .and_modify(|(since, _)| *since = now)
                .or_insert_with(|| (now, self.blobs.pin([*digest])));
        }
    }

    /// Lets go of what no receipt keeps any more.
    fn forget_old_receipts(&self) {
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.retain(|_, (since, _)| since.elapsed() < RECEIPT_KEEPS);
    }

    /// Keeps what the project holds. Pinned first, checked second: so nothing is evicted between.
    fn keep_held(&self, project: &ProjectId, digests: &[Digest]) -> Result<(), HolderError> {
        self.keep(digests);
        for digest in digests {
            if !self.holds(project, digest)? {
                return Err(HolderError::Missing { digest: *digest });
            }
        }
        Ok(())
    }

    /// As [`Self::walk`], through the project's own directories only.
    fn walk_of(&self, project: &ProjectId, root: &Digest, below: Below) -> Result<Vec<Digest>, HolderError> {
        self.walk_where(root, below, |directory| self.holds(project, directory))
    }

    /// The root and what is below it, each once.
    fn walk(&self, root: &Digest, below: Below) -> Result<Vec<Digest>, HolderError> {
        self.walk_where(root, below, |_| Ok(true))
    }

    fn walk_where(
        &self,
        root: &Digest,
        below: Below,
        may_read: impl Fn(&Digest) -> Result<bool, HolderError>,
    ) -> Result<Vec<Digest>, HolderError> {
        let mut seen = BTreeSet::from([*root]);
        let mut found = vec![*root];
        let mut directories = vec![*root];
        while let Some(digest) = directories.pop() {
            if !may_read(&digest)? {
                return Err(HolderError::Missing { digest });
            }
            let bytes = self.blobs.read(&digest, DIRECTORY_LEN_MAX)?;
            let directory = Directory::decode(&bytes)
                .map_err(|e| HolderError::Refused(format!("blob {digest} is not a directory: {e}")))?;
            for entry in &directory.directories {
                if seen.insert(entry.digest) {
                    found.push(entry.digest);
                    directories.push(entry.digest);
                }
            }
            if below == Below::Everything {
                found.extend(
                    directory.files.iter().map(|entry| entry.digest).filter(|digest| seen.insert(*digest)),
                );
            }
            if found.len() > TREE_BLOBS_MAX {
                return Err(HolderError::Refused(format!(
                    "tree {root} has more than {TREE_BLOBS_MAX} blobs"
                )));
            }
        }
        Ok(found)
    }

    fn retain(&self, wanted: &Wanted) -> Result<(), HolderError> {
        let mut pins: BTreeSet<Digest> = BTreeSet::new();
        for (project, named) in wanted {
            let mut digests: Vec<Digest> = named.blobs.iter().copied().collect();
            for root in &named.trees {
                match self.walk(root, Below::Everything) {
                    Ok(below) => digests.extend(below),
                    // The build's agent will say what it could not fetch; the others' pins must stand.
                    Err(error) => tracing::warn!(%root, %error, "a source tree is not whole"),
                }
            }
            digests.retain(|digest| self.blobs.contains(digest));
            self.access.grant(project, &digests)?;
            pins.extend(digests);
        }
        self.blobs.pin_named(BUILDS_PIN, pins);
        self.forget_old_receipts();
        Ok(())
    }
}
