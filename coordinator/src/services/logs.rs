//! The `Logs` service: segments in from agents, text out to readers, live.

use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
    machine::record::{BuildRecord, TaskState, TaskStep},
    quantity::ByteCount,
};
use meridian_proto::{limits::LOG_SEGMENT_LEN_MAX, v1};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authorization::Caller,
    handle::Handle,
    holder::Holder,
    journal_history::JournalHistory,
    live_logs::{AppendError, LiveLogs},
    status::{from_command, internal, invalid},
    watchers::Watchers,
};

/// The largest segment that is read back.
const SEGMENT_LEN_MAX: ByteCount = ByteCount(LOG_SEGMENT_LEN_MAX as u64);

/// The `Logs` service.
#[derive(Clone)]
pub(crate) struct LogsService {
    pub(crate) handle: Handle,
    pub(crate) watchers: Watchers,
    pub(crate) holder: Holder,
    pub(crate) logs: LiveLogs,
    pub(crate) history: JournalHistory,
}

/// The logs of a task, attempt by attempt.
struct TaskLogs {
    attempts: Vec<AttemptLog>,
    /// Whether no attempt will follow.
    is_ended: bool,
}

/// The log of one attempt.
struct AttemptLog {
    fence: Fence,
    /// Its segments when it has ended, as far as the record names them; while it runs it grows.
    ended: Option<Vec<Digest>>,
}

impl TaskLogs {
    /// What a task's record says of its logs.
    fn of(record: &BuildRecord, ordinal: u32) -> Option<Self> {
        let task = record.tasks.iter().find(|task| task.id.ordinal == ordinal)?;
        let mut attempts: Vec<AttemptLog> = Vec::new();
        for step in &task.history {
            match step {
                TaskStep::Leased { fence, .. } => attempts.push(AttemptLog { fence: *fence, ended: None }),
                TaskStep::AttemptFailed { log, .. } => {
                    attempts.last_mut().into_iter().for_each(|attempt| attempt.ended = Some(log.clone()));
                }
                TaskStep::Placed { .. } | TaskStep::Withdrawn { .. } => {}
            }
        }
        if let Some(last) = attempts.last_mut() {
            match &task.state {
                TaskState::Succeeded { log, .. } | TaskState::Failed { log, .. } => {
                    // Of one that failed once too often, the attempt itself may have the log.
                    if last.ended.as_ref().is_none_or(Vec::is_empty) {
                        last.ended = Some(log.clone());
                    }
                }
                TaskState::Cancelled { .. } => last.ended = Some(last.ended.take().unwrap_or_default()),
                TaskState::Queued | TaskState::Placed { .. } | TaskState::Leased { .. } => {}
            }
        }
        Some(Self { attempts, is_ended: task.state.is_ended() })
    }

    /// What is left to read of the attempt of this number, or of where the reader is and all that follow.
    fn unread(&self, number: Option<usize>, cursor: Cursor) -> &[AttemptLog] {
        let last = self.attempts.len().saturating_sub(1);
        match number {
            Some(number) => self.attempts.get(number - 1).map_or(&[], std::slice::from_ref),
            None => {
                let reached = self.attempts.iter().position(|attempt| attempt.fence.0 == cursor.fence);
                self.attempts.get(reached.unwrap_or(last)..).unwrap_or_default()
            }
        }
    }
}

/// A reader's place: segments of the attempt under `fence` that it has; fence 0 for none.
#[derive(Clone, Copy, Default)]
struct Cursor {
    fence: u64,
    segments: usize,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Status> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (fence, segments) = text.split_once('.').ok_or_else(|| invalid("the log cursor is not ours"))?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| invalid("the log cursor is not ours"));
        Ok(Self { fence: number(fence)?, segments: usize::try_from(number(segments)?).unwrap_or(usize::MAX) })
    }
}

#[tonic::async_trait]
impl v1::logs_server::Logs for LogsService {
    type AppendStream = ReceiverStream<Result<v1::LogKept, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<v1::LogAppend>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let Caller::Agent(agent) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents write logs"));
        };
        let mut segments = request.into_inner();
        let (sender, stream) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            let mut attempt = None;
            while let Some(segment) = segments.next().await {
                let kept = match segment {
                    Ok(segment) => service.keep(&agent, &mut attempt, segment).await,
                    Err(_) => return,
                };
                let failed = kept.is_err();
                if sender.send(kept.map(|next| v1::LogKept { next })).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ReadStream = ReceiverStream<Result<v1::LogChunk, Status>>;

    async fn read(&self, request: Request<v1::ReadLogRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let build: meridian_core::id::BuildId = message.build.parse().map_err(invalid)?;
        caller.check_project(&build.project)?;
        let task = TaskId { build, ordinal: message.ordinal };
        let cursor = Cursor::parse(&message.cursor)?;
        let attempt = usize::try_from(message.attempt).ok().filter(|attempt| *attempt > 0);
        let (chunks, stream) = mpsc::channel(4);
        let service = self.clone();
        let attempts = service.find(&task).await?.attempts.len();
        if attempt.is_some_and(|attempt| attempt > attempts) {
            return Err(Status::not_found(format!("task {task} has had {attempts} attempts")));
        }
        let reader = Reader { task, attempt, cursor, follow: message.follow, chunks: chunks.clone() };
        tokio::spawn(async move {
            if let Err(status) = service.send_log(reader).await {
                // The reader resumes from its cursor, if it is still there.
                let _ = chunks.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl LogsService {
    async fn keep(
        &self,
        agent: &meridian_core::id::AgentId,
        attempt: &mut Option<(TaskId, Fence)>,
        segment: v1::LogAppend,
    ) -> Result<u64, Status> {
        if attempt.is_none() {
            let task: TaskId = segment.task.parse().map_err(invalid)?;
            let fence = Fence(segment.fence);
            let (asked, holder) = (task.clone(), agent.clone());
            let holds = self.handle.read(move |machine| machine.holds_lease(&holder, &asked, fence)).await;
            if !holds.map_err(from_command)? {
                return Err(Status::permission_denied(format!(
                    "agent {agent} holds no lease {fence} of task {task}"
                )));
            }
            let next = self.logs.open(&task, fence);
            *attempt = Some((task, fence));
            if segment.text.is_empty() {
                return Ok(next);
            }
        }
        let Some((task, fence)) = attempt else { return Err(Status::internal("no attempt")) };
        if segment.text.len() > LOG_SEGMENT_LEN_MAX {
            return Err(invalid(format!("a log segment has at most {LOG_SEGMENT_LEN_MAX} bytes")));
        }
        let digest = self
            .holder
            .put(&task.build.project, segment.text)
            .await
            .map_err(|e| internal("a log segment cannot be kept", e))?;
        self.logs.append(task, *fence, segment.number, digest).map_err(|error| match error {
            // Its begin was let go here. A stream that is opened anew is told to send it again.
            AppendError::Gap { .. } => Status::aborted(error.to_string()),
            AppendError::TooLong => invalid(error),
        })
    }

    async fn find(&self, task: &TaskId) -> Result<TaskLogs, Status> {
        let (build, ordinal) = (task.build.clone(), task.ordinal);
        let live = self
            .handle
            .read(move |machine| machine.build(&build).map(|record| TaskLogs::of(record, ordinal)))
            .await
            .map_err(from_command)?;
        let found = match live {
            Some(found) => found,
            None => {
                let record = self.history.build(&task.build).await;
                record
                    .map_err(|e| internal("history cannot be read", e))?
                    .and_then(|record| TaskLogs::of(&record, ordinal))
            }
        };
        found.ok_or_else(|| Status::not_found(format!("no task {task}")))
    }

    async fn send_log(&self, mut reader: Reader) -> Result<(), Status> {
        let mut build_changed = self.watchers.watch(&reader.task.build);
        loop {
            let logs = self.find(&reader.task).await?;
            let mut more = None;
            let unread = logs.unread(reader.attempt, reader.cursor);
            let is_all = match reader.attempt {
                Some(_) => unread.iter().any(|attempt| attempt.ended.is_some()),
                None => logs.is_ended,
            };
            for attempt in unread {
                // Another attempt has a log of its own, which is read from its beginning.
                if reader.cursor.fence != attempt.fence.0 {
                    reader.cursor = Cursor { fence: attempt.fence.0, segments: 0 };
                }
                let from = reader.cursor.segments;
                let segments = match &attempt.ended {
                    None => {
                        let (segments, changed) = self.logs.read(&reader.task, attempt.fence, from);
                        more = Some(changed);
                        segments
                    }
                    // It was given up, and what had arrived of it is not written down yet.
                    Some(log) if log.is_empty() => {
                        let arrived = self.logs.arrived(&reader.task, attempt.fence);
                        arrived.get(from..).unwrap_or_default().to_vec()
                    }
                    Some(log) => log.get(from..).unwrap_or_default().to_vec(),
                };
                if !self.send_segments(segments, &mut reader).await? {
                    return Ok(());
                }
            }
            if is_all || !reader.follow {
                return Ok(());
            }
            tokio::select! {
                () = reader.chunks.closed() => return Ok(()),
                changed = build_changed.changed() => if changed.is_err() { return Ok(()) },
                Some(_) = async { match &mut more { Some(more) => more.changed().await.ok(), None => None } } => {}
            }
        }
    }

    /// Sends the next segments; whether the reader is still there.
    async fn send_segments(&self, segments: Vec<Digest>, reader: &mut Reader) -> Result<bool, Status> {
        for digest in segments {
            let text = self
                .holder
                .read(digest, SEGMENT_LEN_MAX)
                .await
                .map_err(|e| internal("a log segment cannot be read", e))?;
            reader.cursor.segments += 1;
            let cursor = format!("{}.{}", reader.cursor.fence, reader.cursor.segments);
            if reader.chunks.send(Ok(v1::LogChunk { text, cursor })).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Somebody who reads a task's log.
struct Reader {
    task: TaskId,
    /// The number of the one attempt that is read, from 1; of none, the last one and all that follow.
    attempt: Option<usize>,
    cursor: Cursor,
    follow: bool,
    chunks: mpsc::Sender<Result<v1::LogChunk, Status>>,
}
