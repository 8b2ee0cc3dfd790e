//! Keeps every blob that a remembered build names.
//!
//! Level-triggered: once a minute the wanted set is read from the machine and the holder's pins are made to
//! match. Between a receipt and the next round the receipt's own hour keeps the blob, so nothing hangs on a
//! message that could be missed, and a restart needs no list of pins.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meridian_core::{
    build::{Artifact, Source},
    digest::Digest,
    id::ProjectId,
    machine::{
        Machine,
        record::{BuildState, TaskState, TaskStep},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{handle::Handle, holder::Holder};

/// How often the pins are made to match.
const EVERY: Duration = Duration::from_secs(60);

/// What must not be evicted, by project.
pub(crate) type Wanted = BTreeMap<ProjectId, Named>;

/// What a project's builds name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Root directories; everything below them counts.
    pub(crate) trees: BTreeSet<Digest>,
    /// Single blobs.
    pub(crate) blobs: BTreeSet<Digest>,
}

/// What the machine's builds name: sources while they may still be built, artifacts and logs while the build
/// is remembered.
fn wanted(machine: &Machine) -> Wanted {
    let mut all = Wanted::default();
    for build in machine.builds() {
        let wanted = all.entry(build.id.project.clone()).or_default();
        if let (BuildState::Running, Source::Tree { root, .. }) = (build.state, &build.spec.source) {
            wanted.trees.insert(*root);
        }
        for task in &build.tasks {
            for step in &task.history {
                if let TaskStep::AttemptFailed { log, .. } = step {
                    wanted.blobs.extend(log);
                }
            }
            match &task.state {
                TaskState::Succeeded { artifacts, log, .. } => {
                    wanted.blobs.extend(artifacts.iter().flat_map(Artifact::blobs));
                    wanted.blobs.extend(log);
                }
                TaskState::Failed { log, .. } => wanted.blobs.extend(log),
                TaskState::Queued
                | TaskState::Placed { .. }
                | TaskState::Leased { .. }
                | TaskState::Cancelled { .. } => {}
            }
        }
    }
    all
}

/// Makes the pins match once. Done before the ports open, so that nothing is evicted that a build names.
pub(crate) async fn apply(handle: &Handle, holder: &Holder) {
    match handle.read(wanted).await {
        Ok(wanted) => holder.retain(wanted).await,
        Err(error) => tracing::warn!(%error, "what builds name could not be read; the pins stay as they are"),
    }
}

/// Keeps the pins matching until told to stop.
pub(crate) async fn run(handle: Handle, holder: Holder, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => apply(&handle, &holder).await,
        }
    }
}
