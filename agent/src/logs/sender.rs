//! Sends a log's segments, in order, until the coordinator has them all.

use std::{sync::Arc, time::Duration};

use meridian_core::id::{Fence, TaskId};
use meridian_proto::v1::{self, logs_client::LogsClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use super::spool::{LogError, Spool};

/// Segments that may be under way unacknowledged.
const IN_FLIGHT_MAX: usize = 8;

/// How long the coordinator may leave a segment unacknowledged before the stream is opened anew.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a log was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum SendLogError {
    /// The coordinator does not take this log; another attempt may have the task by now.
    #[error("the coordinator refused the log of task {task}: {status}")]
    Refused {
        /// Whose log.
        task: TaskId,
        /// In the coordinator's words.
        status: Box<Status>,
    },
    /// A segment could not be read back.
    #[error(transparent)]
    Spool(#[from] LogError),
}

/// The sending end of one attempt's log.
pub struct LogSender {
    spool: Arc<Spool>,
}

/// How one stream ended.
enum Ended {
    /// Everything is acknowledged, and no more will come.
    Complete,
    Broken(Status),
}

impl LogSender {
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        Self { spool }
    }

    #[cfg(test)]
    pub(super) fn reach(&self) -> tokio::sync::watch::Receiver<super::spool::Reach> {
        self.spool.watch()
    }

    /// Sends until the writer has finished and the coordinator has acknowledged everything. A broken stream is
    /// opened again, for ever: whoever runs this bounds it, by the attempt's own deadline.
    ///
    /// # Errors
    /// When the coordinator refuses this log, or the spool cannot be read.
    pub async fn run(&self, channel: Channel, task: &TaskId, fence: Fence) -> Result<(), SendLogError> {
        let mut pause = PAUSE_MIN;
        loop {
            let before = self.spool.watch().borrow().kept;
            let status = match self.one_stream(channel.clone(), task, fence).await? {
                Ended::Complete => return Ok(()),
                Ended::Broken(status) => status,
            };
            if is_refusal(status.code()) {
                return Err(SendLogError::Refused { task: task.clone(), status: Box::new(status) });
            }
            if self.spool.watch().borrow().kept > before {
                pause = PAUSE_MIN;
            }
            tracing::debug!(%task, %status, "the log's stream broke: opening it again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn one_stream(&self, channel: Channel, task: &TaskId, fence: Fence) -> Result<Ended, SendLogError> {
        let (sender, outgoing) = mpsc::channel(IN_FLIGHT_MAX);
        // The first message carries no text: its answer says where to begin.
        let opening = v1::LogAppend { task: task.to_string(), fence: fence.0, ..Default::default() };
        if sender.send(opening).await.is_err() {
            return Ok(Ended::Broken(Status::unavailable("the stream was not opened")));
        }
        let mut client = LogsClient::new(channel);
        let opened = tokio::time::timeout(ACKNOWLEDGE_WITHIN, client.append(ReceiverStream::new(outgoing)));
        let mut incoming = match opened.await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Ok(Ended::Broken(status)),
            Err(_) => return Ok(Ended::Broken(Status::deadline_exceeded("the log's stream did not open"))),
        };
        let mut reach = self.spool.watch();
        let mut next_to_send = None;
        loop {
            let at = *reach.borrow_and_update();
            if next_to_send.is_some() && at.finished && at.kept == at.cut {
                return Ok(Ended::Complete);
            }
            if let Some(next) = &mut next_to_send {
                while *next < at.cut && *next < at.kept + IN_FLIGHT_MAX {
                    let Some(text) = self.spool.read(*next).await? else { break };
                    let segment = v1::LogAppend { number: *next as u64, text, ..Default::default() };
                    if sender.try_send(segment).is_err() {
                        break;
                    }
                    *next += 1;
                }
            }
            let waits = next_to_send.is_none_or(|next| next > at.kept);
            tokio::select! {
                answer = incoming.message() => {
                    let kept = match answer {
                        Ok(Some(kept)) => usize::try_from(kept.next).unwrap_or(usize::MAX),
                        Ok(None) => return Ok(Ended::Broken(Status::unavailable("the log's stream ended"))),
                        Err(status) => return Ok(Ended::Broken(status)),
                    };
                    self.spool.kept(kept);
                    // Behind what was sent is only a late acknowledgement; the first answer sets the start.
                    next_to_send.get_or_insert(kept.min(at.cut));
                }
                changed = reach.changed() => if changed.is_err() {
                    return Ok(Ended::Broken(Status::cancelled("the log's writer is gone")));
                },
                () = tokio::time::sleep(ACKNOWLEDGE_WITHIN), if waits => {
                    return Ok(Ended::Broken(Status::deadline_exceeded("a segment was not acknowledged")));
                }
            }
        }
    }
}

/// Whether trying again could not help.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied
            | Code::InvalidArgument
            | Code::NotFound
            | Code::Unimplemented
            | Code::FailedPrecondition
    )
}
