//! What is fetched for a placed task before its run asks for it, and the end of that.
//!
//! It runs Go to fetch modules. So who says of a task that nothing of it is alive has waited for this too.
//!
//! Not here: what is fetched, which is the worker's.

use std::{sync::Arc, time::Duration};

use meridian_core::{cache::hints::CacheHints, machine::effect::Work};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::worker::Worker;
use crate::spans::prefetch_span;

/// How long it may take to end when it is told to. It ends its processes in four seconds or says in the agent's log which it
/// could not end; what it may still do then is to unpack a toolchain, which others can use.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The prefetch of one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefetching {
    cancel: CancellationToken,
    begun: TaskTracker,
}

impl Prefetching {
    /// Begins to fetch. Whatever it could not fetch, the run fetches, and says why it cannot.
    pub(super) fn begin(&self, worker: Arc<Worker>, work: Work, hints: Option<Arc<CacheHints>>) {
        let cancel = self.cancel.clone();
        self.begun.spawn(async move {
            let span = prefetch_span(&work);
            let stopped = async {
                cancel.cancelled().await;
                sleep(ENDS_WITHIN).await;
            };
            tokio::select! {
                () = Box::pin(worker.prefetch(&work, hints, &cancel)).instrument(span) => {}
                () = stopped => {}
            }
        });
    }

    /// Stops it.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }

    /// Whether it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Stops it, and returns when none of its processes is alive.
    pub(super) async fn ended(self) {
        self.stop();
        self.begun.close();
        self.begun.wait().await;
    }
}
