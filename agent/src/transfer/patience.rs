//! What both directions share: on whose behalf, how long to try, and why it can fail.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::{
    digest::Digest,
    id::{Fence, ProjectId, TaskId},
};
use meridian_proto::v1;
use tonic::{Code, Status};

/// On whose behalf blobs are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Whose blobs.
    pub project: ProjectId,
    /// The lease under which an agent asks; a member has none.
    pub lease: Option<(TaskId, Fence)>,
}

/// How long a transfer is tried.
#[derive(Debug, Clone, Copy)]
pub struct TransferConfig {
    /// How long nothing at all may move before a stream counts as broken.
    pub stall_max: Duration,
    /// How long a transfer may go without a single further blob arriving before it is given up.
    pub give_up_after: Duration,
    /// The first pause after a broken stream; it doubles up to [`Self::pause_max`].
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            stall_max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(300),
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
        }
    }
}

/// Why a transfer failed for good.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The coordinator will not have it, now or later.
    #[error("the coordinator refused to {what}: {status}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its own words.
        status: Box<Status>,
    },
    /// Nothing more arrived for too long.
    #[error("gave up to {what} after {waited_s} s without progress: {status}")]
    GaveUp {
        /// What was tried.
        what: &'static str,
        /// How long nothing more arrived, in seconds.
        waited_s: u64,
        /// How the last try ended.
        status: Box<Status>,
    },
    /// What is to be sent could not be read, or changed while it was read.
    #[error("cannot read what is to be sent: {0}")]
    Source(#[source] std::io::Error),
    /// What came could not be kept.
    #[error(transparent)]
    Blob(#[from] meridian_store::blob::BlobError),
    /// What came is not a directory, or breaks a rule of trees.
    #[error(transparent)]
    Tree(#[from] meridian_store::tree::TreeError),
    /// A receipt is not for what was sent.
    #[error("the coordinator gave no receipt for {digest}")]
    NoReceipt {
        /// Which blob.
        digest: Digest,
    },
}

impl Access {
    pub(super) fn project(&self) -> String {
        self.project.to_string()
    }

    pub(super) fn scope(&self) -> Option<v1::Scope> {
        let (task, fence) = self.lease.as_ref()?;
        Some(v1::Scope { task: task.to_string(), fence: fence.0 })
    }
}

pub(super) fn wire(digests: &[Digest]) -> Vec<Bytes> {
    digests.iter().map(|digest| Bytes::copy_from_slice(digest.as_bytes())).collect()
}

/// Awaits a call, but no longer than it may stall.
pub(super) async fn bounded<T>(
    config: &TransferConfig,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let stalled = |_| Status::deadline_exceeded("nothing came from the coordinator");
    tokio::time::timeout(config.stall_max, call).await.map_err(stalled)?
}

/// Counts the tries of one transfer.
pub(super) struct Patience {
    config: TransferConfig,
    what: &'static str,
    since: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(config: TransferConfig, what: &'static str) -> Self {
        Self { config, what, since: Instant::now(), pause: config.pause_min }
    }

    /// Something arrived: begin to count anew.
    pub(super) fn progressed(&mut self) {
        self.since = Instant::now();
        self.pause = self.config.pause_min;
    }

    /// After a try that failed: waits, or says that there is no point in another.
    pub(super) async fn pause_after(&mut self, status: Status) -> Result<(), TransferError> {
        let what = self.what;
        if is_refusal(status.code()) {
            return Err(TransferError::Refused { what, status: Box::new(status) });
        }
        let waited = self.since.elapsed();
        if waited >= self.config.give_up_after {
            return Err(TransferError::GaveUp { what, waited_s: waited.as_secs(), status: Box::new(status) });
        }
        tracing::debug!(what, %status, "a transfer was cut: taking it up again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.config.pause_max);
        Ok(())
    }
}

/// Whether trying again could not help.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}
