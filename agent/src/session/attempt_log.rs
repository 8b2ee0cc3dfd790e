//! The log of one attempt, from what the tools say to segments that the coordinator keeps.
//!
//! The tools' output comes from a callback that must not wait, the log's spool may have to: a bounded queue
//! stands between, and when it is full the log says how much was left out rather than slowing the build down.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
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

use crate::{
    logs::{LogConfig, LogWriter, SendLogError},
    redaction::Redaction,
};

/// Pieces of output that may wait for the spool.
const PIECES_QUEUED_MAX: usize = 1024;
/// How long the last segments may take to reach the coordinator once the attempt has ended: as long as an agent goes on
/// without one, so that no log is lost where the result is not. While it is away the report waits as well, so this costs
/// nothing then.
const SEND_WITHIN: Duration = Duration::from_secs(10 * 60);

/// What waits for the spool.
enum Piece {
    Output(Bytes),
    /// Output was left out here.
    Gap,
}

/// Output that was left out because the queue was full.
#[derive(Default)]
struct Gap {
    /// The queue has not been told of it yet.
    untold: bool,
    /// It ends within a line. The rest of that line may be half of a secret and is left out as well.
    within_line: bool,
}

/// The log of one attempt.
pub(crate) struct AttemptLog {
    _dir: tempfile::TempDir,
    pieces: mpsc::Sender<Piece>,
    dropped: Arc<AtomicU64>,
    writing: JoinHandle<LogWriter>,
    sending: JoinHandle<Result<(), SendLogError>>,
    task: TaskId,
}

impl AttemptLog {
    /// Begins a log, spooled below `spool` and sent as it grows, without what `redaction` finds.
    pub(crate) fn begin(
        spool: &Path,
        redaction: &Redaction,
        channel: Channel,
        task: &TaskId,
        fence: Fence,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(spool)?;
        let dir = tempfile::Builder::new().prefix("log").tempdir_in(spool)?;
        let (writer, sender) = LogWriter::begin(dir.path(), LogConfig::default(), redaction);
        let (pieces, mut queue) = mpsc::channel::<Piece>(PIECES_QUEUED_MAX);
        let writing = tokio::spawn(async move {
            while let Some(piece) = queue.recv().await {
                let Piece::Output(output) = piece else {
                    writer.skip().await;
                    continue;
                };
                if let Err(error) = writer.write(&output).await {
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
        let gap = Mutex::<Gap>::default();
        move |output: &[u8]| {
            let mut gap = gap.lock().unwrap_or_else(PoisonError::into_inner);
            if !gap.takes(output, &pieces) {
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

impl Gap {
    /// Queues `output`, behind the gap if there is one. Returns whether there was room for it.
    fn takes(&mut self, output: &[u8], pieces: &mpsc::Sender<Piece>) -> bool {
        let send = |piece| !self.within_line && pieces.try_send(piece).is_ok();
        if self.untold && send(Piece::Gap) {
            self.untold = false;
        }
        if !self.untold && send(Piece::Output(Bytes::copy_from_slice(output))) {
            return true;
        }
        (self.untold, self.within_line) = (true, !output.ends_with(b"\n"));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_lost_a_part_is_left_out_to_its_end_and_the_gap_is_told() {
        let (pieces, mut queue) = mpsc::channel(3);
        let mut gap = Gap::default();
        let taken: Vec<bool> = ["one ", "line\n", "two ", "lost ", "half\n", "three\n"]
            .into_iter()
            .map(|output| {
                // The queue has no room for the fourth piece, and room again after it.
                let taken = gap.takes(output.as_bytes(), &pieces);
                if output == "lost " {
                    queue.try_recv().unwrap();
                    queue.try_recv().unwrap();
                }
                taken
            })
            .collect();
        assert_eq!(taken, [true, true, true, false, false, true]);
        let mut left = Vec::new();
        while let Ok(piece) = queue.try_recv() {
            left.push(match piece {
                Piece::Output(output) => String::from_utf8(output.to_vec()).unwrap(),
                Piece::Gap => "(gap)".to_owned(),
            });
        }
        assert_eq!(left, ["two ", "(gap)", "three\n"]);
    }
}
