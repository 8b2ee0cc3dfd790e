//! One signature in the log.

use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use serde::{Deserialize, Serialize};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Signed {
    /// When, in milliseconds since the Unix epoch.
    pub(in super::super) at_ms: u64,
    /// The task.
    pub(in super::super) task: String,
    /// The lease.
    pub(in super::super) fence: u64,
    /// The package within the task.
    pub(in super::super) package: String,
    /// What was signed: SHA-256, hexadecimal.
    pub(in super::super) digest: String,
    /// With which key.
    pub(in super::super) key: String,
}

/// What may have one content only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) task: TaskId,
    pub(super) fence: Fence,
    pub(super) package: String,
}

impl Signed {
    /// What was signed, and its content; `None` when that is not what they say.
    pub(super) fn parsed(&self) -> Option<(Subject, Digest)> {
        let digest = self.digest.parse().ok()?;
        let task = self.task.parse().ok()?;
        Some((Subject { task, fence: Fence(self.fence), package: self.package.clone() }, digest))
    }
}
