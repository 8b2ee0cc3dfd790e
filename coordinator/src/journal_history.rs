//! History: the journal read once more, into an index that answers for builds the machine has forgotten.
//!
//! A reader with a cursor of its own follows the durable index. The index (sled) holds nothing that cannot be
//! made again from the journal's segments; when it is lost it is. It never slows a decision down: the loop
//! does not wait for it.

use std::{path::Path, sync::Arc, time::Duration};

use meridian_core::{
    id::{BuildId, JournalIndex},
    machine::{Durable, record::BuildRecord},
};
use meridian_proto::convert::journal::decode_event;
use meridian_store::{
    history::{History, HistoryEvent},
    journal::JournalReader,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// Bytes of events taken from the journal in one go.
const READ_BYTES_MAX: usize = 1 << 20;
/// How long the journal must be quiet before the index is synced.
const PERSIST_AFTER: Duration = Duration::from_secs(2);
/// How long a question waits for an index that is behind.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);
/// After trouble, how long to wait before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why history does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// The index does not open.
    #[error(transparent)]
    Open(#[from] meridian_store::history::HistoryError),
    /// The index failed.
    #[error("the history index: {0}")]
    Index(String),
    /// The journal could not be read.
    #[error("the journal: {0}")]
    Journal(String),
    /// The index is still being read from the journal.
    #[error("history is being read again from the journal: {reached} of {end} events; try again")]
    Behind {
        /// How far it is.
        reached: JournalIndex,
        /// How far it has to come.
        end: JournalIndex,
    },
    /// An event in the index does not decode or does not fit.
    #[error("build {build}: {what}")]
    Event {
        /// Which build.
        build: BuildId,
        /// What is wrong.
        what: String,
    },
}

/// Answers for builds of the past.
#[derive(Clone)]
pub(crate) struct JournalHistory {
    index: Arc<History>,
    journal: JournalReader,
    /// How far the index has come, for whoever waits for it.
    reached: Arc<watch::Sender<JournalIndex>>,
}

impl JournalHistory {
    /// Opens the index in `history`, or an empty one when it does not open, over the journal in `journal` that
    /// `reader` reads. Refuses when the journal has lost what the index knows.
    pub(crate) fn open(history: &Path, journal: &Path, reader: JournalReader) -> Result<Self, HistoryError> {
        let end = reader.progress().borrow().durable;
        let index = History::open(history, journal, end)?;
        let reached = Arc::new(watch::Sender::new(index.cursor()));
        Ok(Self { index: Arc::new(index), journal: reader, reached })
    }

    /// The last event that would survive in the index. The journal is never compacted past it.
    pub(crate) fn persisted(&self) -> JournalIndex {
        self.index.persisted()
    }

    /// A build as its events make it; `None` when the journal no longer reaches back to it. Waits until the
    /// index has taken in all that is durable now: right after a start, or when it was lost, it is behind.
    pub(crate) async fn build(&self, build: &BuildId) -> Result<Option<BuildRecord>, HistoryError> {
        let end = self.journal.progress().borrow().durable;
        let mut reached = self.reached.subscribe();
        let caught_up = async { reached.wait_for(|reached| *reached >= end).await.is_ok() };
        if !timeout(CATCH_UP_WITHIN, caught_up).await.unwrap_or(false) {
            return Err(HistoryError::Behind { reached: self.index.cursor(), end });
        }
        let (index, build) = (self.index.clone(), build.clone());
        let task = tokio::task::spawn_blocking(move || {
            let events =
                index.events_of(&build.to_string()).map_err(|e| HistoryError::Index(e.to_string()))?;
            let event = |what: String| HistoryError::Event { build: build.clone(), what };
            let events = events
                .iter()
                .map(|(at, bytes)| Ok((*at, decode_event(bytes).map_err(|e| event(e.to_string()))?)))
                .collect::<Result<Vec<_>, HistoryError>>()?;
            Durable::replay_build(&events).map_err(|e| event(e.to_string()))
        });
        task.await.map_err(|e| HistoryError::Index(e.to_string()))?
    }

    /// Follows the journal until told to stop.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut progress = self.journal.progress();
        loop {
            let end = progress.borrow_and_update().durable;
            if let Err(error) = self.catch_up(end).await {
                tracing::warn!(%error, "history falls behind; trying again in 5 s");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY_AFTER) => continue,
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PERSIST_AFTER), if self.index.persisted() < end => self.persist().await,
                changed = progress.changed() => if changed.is_err() { break },
            }
        }
        self.persist().await;
    }

    /// Not after each event: that would make the journal's own sync wait, and what is lost is read again.
    async fn persist(&self) {
        let index = self.index.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || index.persist()).await {
            tracing::warn!(%error, "history could not be synced");
        }
    }

    async fn catch_up(&self, end: JournalIndex) -> Result<(), HistoryError> {
        while self.index.cursor() < end {
            let from = JournalIndex(self.index.cursor().0 + 1);
            let records = self
                .journal
                .read(from, READ_BYTES_MAX)
                .await
                .map_err(|e| HistoryError::Journal(e.to_string()))?;
            if records.is_empty() {
                return Ok(());
            }
            let index = self.index.clone();
            tokio::task::spawn_blocking(move || {
                let events: Vec<HistoryEvent> = records
                    .into_iter()
                    .filter(|(at, _)| *at <= end)
                    .map(|(at, bytes)| {
                        let event = decode_event(&bytes).ok();
                        HistoryEvent {
                            at,
                            build: event.and_then(|e| e.kind.build().map(ToString::to_string)),
                            bytes,
                        }
                    })
                    .collect();
                index.append(&events).map_err(|e| HistoryError::Index(e.to_string()))
            })
            .await
            .map_err(|e| HistoryError::Index(e.to_string()))??;
            self.reached.send_replace(self.index.cursor());
        }
        Ok(())
    }
}
