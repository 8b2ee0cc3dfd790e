//! Group commit: one thread owns the journal, so that the loop that decides never waits for the disk.
//!
//! While one sync is under way, more batches gather in the queue; the next append takes all of them. The
//! busier the loop, the more records share a sync. Indices are given out in the order of
//! [`GroupCommit::submit`], and [`GroupCommit::progress`] tells up to which one everything is durable.
//!
//! A failed append ends the thread: the failure is published with the progress, stays there, and every
//! later call answers with it. Nothing is retried, because what is durable is then unknown.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use meridian_core::id::JournalIndex;
use tokio::sync::{mpsc, oneshot, watch};

use super::contract::{Journal, JournalError};

/// Most payload bytes in one merged append. Keeps one append's latency, and its copy in memory, bounded.
const MERGE_BYTES_MAX: usize = 4 << 20;

/// How far the journal is durable.
#[derive(Debug, Clone, Default)]
pub struct CommitProgress {
    /// Every record up to this one is durable.
    pub durable: JournalIndex,
    /// Why no more will be; set once and for good.
    pub failure: Option<Arc<JournalError>>,
}

/// Why the journal's thread did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The journal failed, now or earlier.
    #[error("journal: {0}")]
    Journal(Arc<JournalError>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

enum Command {
    Append(Vec<Bytes>),
    Read {
        from: JournalIndex,
        max_bytes: usize,
        reply: oneshot::Sender<Result<Vec<(JournalIndex, Bytes)>, JournalError>>,
    },
    Snapshot {
        at: JournalIndex,
        records: Vec<Bytes>,
        keep_from: JournalIndex,
        reply: oneshot::Sender<Result<(), JournalError>>,
    },
    Close,
}

/// The owner's handle: the only one that appends.
#[derive(Debug)]
pub struct GroupCommit {
    reader: JournalReader,
    next: JournalIndex,
    thread: JoinHandle<()>,
}

/// A handle that only reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalReader {
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<CommitProgress>,
}

impl GroupCommit {
    /// Starts the thread. `next` is the journal's next index; `queue` bounds how many batches may wait.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(journal: Box<dyn Journal>, next: JournalIndex, queue: usize) -> Result<Self, JournalError> {
        let (commands, inbox) = mpsc::channel(queue.max(1));
        let durable = JournalIndex(next.0.saturating_sub(1));
        let (publisher, progress) = watch::channel(CommitProgress { durable, failure: None });
        let worker = Worker { journal, next, inbox, publisher };
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || worker.run())
            .map_err(JournalError::io("start", "the journal's thread"))?;
        Ok(Self { reader: JournalReader { commands, progress }, next, thread })
    }

    /// Hands a batch over and returns the index of its last record, which is durable once
    /// [`Self::progress`] has reached it. Waits only while the queue is full. When the future is dropped
    /// before it is done, nothing was handed over.
    ///
    /// # Errors
    /// When the journal failed or is closed.
    pub async fn submit(&mut self, records: Vec<Bytes>) -> Result<JournalIndex, CommitError> {
        let count = records.len() as u64;
        let permit = self.reader.commands.reserve().await.map_err(|_| self.reader.failure())?;
        if count > 0 {
            permit.send(Command::Append(records));
            self.next.0 += count;
        }
        Ok(JournalIndex(self.next.0 - 1))
    }

    /// The index that the next submitted record gets.
    #[must_use]
    pub const fn next(&self) -> JournalIndex {
        self.next
    }

    /// Watches how far the journal is durable.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<CommitProgress> {
        self.reader.progress.clone()
    }

    /// A handle that reads on the journal's thread.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    /// Publishes a snapshot, as [`Journal::save_snapshot`] does, behind everything submitted so far.
    ///
    /// # Errors
    /// The journal's own; a failed snapshot does not stop the journal.
    pub async fn save_snapshot(
        &self,
        at: JournalIndex,
        records: Vec<Bytes>,
        keep_from: JournalIndex,
    ) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        self.reader.ask(Command::Snapshot { at, records, keep_from, reply }, answer).await
    }

    /// Commits what was submitted, closes the journal and waits until its files are let go.
    ///
    /// # Errors
    /// When the journal failed.
    pub async fn close(self) -> Result<JournalIndex, CommitError> {
        let Self { reader, next: _, thread } = self;
        let _ = reader.commands.send(Command::Close).await;
        let JournalReader { commands, progress } = reader;
        drop(commands);
        // Joining is a matter of at most the syncs that are queued; it runs where blocking is allowed.
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            return Err(CommitError::Closed);
        }
        let last = progress.borrow().clone();
        last.failure.map_or(Ok(last.durable), |error| Err(CommitError::Journal(error)))
    }
}

impl JournalReader {
    /// Reads as [`Journal::read`] does. Sees what is durable, and nothing that is not.
    ///
    /// # Errors
    /// The journal's own.
    pub async fn read(
        &self,
        from: JournalIndex,
        max_bytes: usize,
    ) -> Result<Vec<(JournalIndex, Bytes)>, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Read { from, max_bytes, reply }, answer).await
    }

    /// Watches how far the journal is durable.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<CommitProgress> {
        self.progress.clone()
    }

    async fn ask<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, JournalError>>,
    ) -> Result<T, CommitError> {
        self.commands.send(command).await.map_err(|_| self.failure())?;
        match answer.await {
            Ok(result) => result.map_err(|error| CommitError::Journal(Arc::new(error))),
            Err(_) => Err(self.failure()),
        }
    }

    fn failure(&self) -> CommitError {
        self.progress.borrow().failure.clone().map_or(CommitError::Closed, CommitError::Journal)
    }
}

struct Worker {
    journal: Box<dyn Journal>,
    next: JournalIndex,
    inbox: mpsc::Receiver<Command>,
    publisher: watch::Sender<CommitProgress>,
}

impl Worker {
    fn run(mut self) {
        let mut held = None;
        loop {
            let Some(command) = held.take().or_else(|| self.inbox.blocking_recv()) else { return };
            match command {
                Command::Append(records) => {
                    held = match self.append(records) {
                        Ok(next_command) => next_command,
                        Err(error) => {
                            // Told by whoever stops because of it.
                            self.publisher.send_modify(|progress| progress.failure = Some(Arc::new(error)));
                            return;
                        }
                    };
                }
                // A caller that went away needs no answer.
                Command::Read { from, max_bytes, reply } => {
                    let _ = reply.send(self.journal.read(from, max_bytes));
                }
                Command::Snapshot { at, records, keep_from, reply } => {
                    let _ = reply.send(self.journal.save_snapshot(at, &records, keep_from));
                }
                Command::Close => return,
            }
        }
    }

    /// Appends `records` together with every batch that waits behind them, and returns the first command
    /// behind those that is something else.
    fn append(&mut self, mut records: Vec<Bytes>) -> Result<Option<Command>, JournalError> {
        let mut bytes: usize = records.iter().map(Bytes::len).sum();
        let mut other = None;
        while bytes < MERGE_BYTES_MAX {
            match self.inbox.try_recv() {
                Ok(Command::Append(more)) => {
                    bytes += more.iter().map(Bytes::len).sum::<usize>();
                    records.extend(more);
                }
                Ok(command) => {
                    other = Some(command);
                    break;
                }
                Err(_) => break,
            }
        }
        let last = self.journal.append(self.next, &records)?;
        self.next = JournalIndex(last.0 + 1);
        self.publisher.send_modify(|progress| progress.durable = last);
        Ok(other)
    }
}
