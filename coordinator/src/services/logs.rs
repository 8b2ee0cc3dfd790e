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
    live_logs::LiveLogs,
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

/// Where a task's log is to be read from.
enum Whereabouts {
    /// The task has not started; nothing to read yet.
    NotStarted,
    /// The attempt under this lease runs.
    Live(Fence),
    /// The task has ended; its record names the segments of its last attempt.
    Ended(Fence, Vec<Digest>),
}

fn whereabouts(record: &BuildRecord, ordinal: u32) -> Option<Whereabouts> {
    let task = record.tasks.iter().find(|task| task.id.ordinal == ordinal)?;
    let last_lease = task.history.iter().rev().find_map(|step| match step {
        TaskStep::Leased { fence, .. } => Some(*fence),
        _ => None,
    });
    let ended = |log: &[Digest]| Whereabouts::Ended(last_lease.unwrap_or_default(), log.to_vec());
    Some(match &task.state {
        TaskState::Queued | TaskState::Placed { .. } => Whereabouts::NotStarted,
        TaskState::Leased { fence, .. } => Whereabouts::Live(*fence),
        TaskState::Succeeded { log, .. } | TaskState::Failed { log, .. } => ended(log),
        TaskState::Cancelled { .. } => ended(&[]),
    })
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
        let (sender, stream) = mpsc::channel(4);
        let service = self.clone();
        service.find(&task).await?;
        tokio::spawn(async move {
            if let Err(status) = service.send_log(&task, cursor, message.follow, &sender).await {
                // The reader resumes from its cursor, if it is still there.
                let _ = sender.send(Err(status)).await;
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
        self.logs.append(task, *fence, segment.number, digest).map_err(invalid)
    }

    async fn find(&self, task: &TaskId) -> Result<Whereabouts, Status> {
        let (build, ordinal) = (task.build.clone(), task.ordinal);
        let live = self
            .handle
            .read(move |machine| machine.build(&build).map(|record| whereabouts(record, ordinal)))
            .await
            .map_err(from_command)?;
        let found = match live {
            Some(found) => found,
            None => {
                let record = self.history.build(&task.build).await;
                record
                    .map_err(|e| internal("history cannot be read", e))?
                    .and_then(|record| whereabouts(&record, ordinal))
            }
        };
        found.ok_or_else(|| Status::not_found(format!("no task {task}")))
    }

    async fn send_log(
        &self,
        task: &TaskId,
        mut cursor: Cursor,
        follow: bool,
        sender: &mpsc::Sender<Result<v1::LogChunk, Status>>,
    ) -> Result<(), Status> {
        let mut build_changed = self.watchers.watch(&task.build);
        loop {
            let place = self.find(task).await?;
            let fence = match &place {
                Whereabouts::NotStarted => cursor.fence,
                Whereabouts::Live(fence) | Whereabouts::Ended(fence, _) => fence.0,
            };
            // Another attempt has a log of its own, which is read from its beginning.
            if cursor.fence != fence {
                cursor = Cursor { fence, segments: 0 };
            }
            let mut more = None;
            let mut ended = false;
            let segments = match place {
                Whereabouts::NotStarted => Vec::new(),
                Whereabouts::Live(fence) => {
                    let (segments, changed) = self.logs.read(task, fence, cursor.segments);
                    more = Some(changed);
                    segments
                }
                Whereabouts::Ended(_, log) => {
                    ended = true;
                    log.get(cursor.segments..).unwrap_or_default().to_vec()
                }
            };
            for digest in segments {
                cursor.segments += 1;
                let text = self
                    .holder
                    .read(digest, SEGMENT_LEN_MAX)
                    .await
                    .map_err(|e| internal("a log segment cannot be read", e))?;
                let chunk = v1::LogChunk { text, cursor: format!("{}.{}", cursor.fence, cursor.segments) };
                if sender.send(Ok(chunk)).await.is_err() {
                    return Ok(());
                }
            }
            if ended || !follow {
                return Ok(());
            }
            tokio::select! {
                () = sender.closed() => return Ok(()),
                changed = build_changed.changed() => if changed.is_err() { return Ok(()) },
                Some(_) = async { match &mut more { Some(more) => more.changed().await.ok(), None => None } } => {}
            }
        }
    }
}
