//! The log of one attempt, from what the tools say to segments that the coordinator keeps.
//!
//! The tools' output comes from a callback that must not wait, the log's spool may have to: a bounded queue
//! stands between, and when it is full the log says how much was left out rather than slowing the build down.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tonic::transport::Channel;

use crate::logs::{LogConfig, LogWriter, SendLogError};

/// Pieces of output that may wait for the spool.
const PIECES_QUEUED_MAX: usize = 1024;
/// How long the last segments may take to reach the coordinator once the attempt has ended. While it is away the
/// report waits as well, so this costs nothing then.
const SEND_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The log of one attempt.
pub(crate) struct AttemptLog {
    _dir: tempfile::TempDir,
    pieces: mpsc::Sender<Bytes>,
    dropped: Arc<AtomicU64>,
    writing: JoinHandle<LogWriter>,
    sending: JoinHandle<Result<(), SendLogError>>,
    task: TaskId,
}

impl AttemptLog {
    /// Begins a log, spooled below `spool` and sent as it grows.
    pub(crate) fn begin(spool: &Path, channel: Channel, task: &TaskId, fence: Fence) -> io::Result<Self> {
        std::fs::create_dir_all(spool)?;
        let dir = tempfile::Builder::new().prefix("log").tempdir_in(spool)?;
        // What to mask is decided with the secrets, which builds do not have yet.
        let (writer, sender) = LogWriter::begin(dir.path(), LogConfig::default(), Arc::new(|_| {}));
        let (pieces, mut queue) = mpsc::channel::<Bytes>(PIECES_QUEUED_MAX);
        let writing = tokio::spawn(async move {
            while let Some(piece) = queue.recv().await {
                if let Err(error) = writer.write(&piece).await {
                    tracing::warn!(%error, "a piece of a build's log is lost");
                }
            }
            writer
        });
        let sent_task = task.clone();
        let sending = tokio::spawn(async move { sender.run(channel, &sent_task, fence).await });
        Ok(Self { _dir: dir, pieces, dropped: Arc::default(), writing, sending, task: task.clone() })
    }

    /// Where the tools' output goes.
    pub(crate) fn sink(&self) -> impl Fn(&[u8]) + Send + Sync + use<> {
        let (pieces, dropped) = (self.pieces.clone(), self.dropped.clone());
        move |output: &[u8]| {
            if pieces.try_send(Bytes::copy_from_slice(output)).is_err() {
                dropped.fetch_add(output.len() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Ends the log and gives its segments; none when the coordinator could not be given them.
    pub(crate) async fn finish(self) -> Vec<Digest> {
        drop(self.pieces);
        let Ok(writer) = self.writing.await else { return Vec::new() };
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let line = format!("[{dropped} bytes of output were left out: the log could not keep up]\n");
            // A log that lacks this line too has been reported as lost already.
            let _ = writer.write(line.as_bytes()).await;
        }
        let segments = match writer.finish().await {
            Ok(segments) => segments,
            Err(error) => {
                tracing::warn!(task = %self.task, %error, "the end of a build's log is lost");
                return Vec::new();
            }
        };
        let abort = self.sending.abort_handle();
        match timeout(SEND_WITHIN, self.sending).await {
            Ok(Ok(Ok(()))) => segments.into_iter().map(|segment| segment.digest).collect(),
            Ok(Ok(Err(error))) => {
                tracing::warn!(task = %self.task, %error, "a build's log could not be sent");
                Vec::new()
            }
            Ok(Err(_)) | Err(_) => {
                abort.abort();
                tracing::warn!(task = %self.task, "a build's log was not taken in time");
                Vec::new()
            }
        }
    }
}
