//! An attempt's log against a coordinator that keeps breaking the stream.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/served.rs"]
mod served;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use meridian_agent::{
    logs::{LogConfig, LogWriter, SendLogError},
    redaction::Redaction,
};
use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use meridian_proto::v1::{
    self,
    logs_server::{Logs, LogsServer},
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use served::Served;

/// Keeps segments in memory and hangs up after every few; strict about order.
#[derive(Clone, Default)]
struct Coordinator {
    segments: Arc<Mutex<Vec<Vec<u8>>>>,
    streams: Arc<AtomicUsize>,
    hang_up_after: Option<usize>,
    refuses: bool,
}

#[tonic::async_trait]
impl Logs for Coordinator {
    type AppendStream = ReceiverStream<Result<v1::LogKept, Status>>;
    type ReadStream = ReceiverStream<Result<v1::LogChunk, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<v1::LogAppend>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        if self.refuses {
            return Err(Status::permission_denied("no lease 7"));
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        let mut incoming = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move {
            let mut taken = 0;
            while let Some(Ok(message)) = incoming.next().await {
                let next = {
                    let mut segments = this.segments.lock().unwrap();
                    if !message.text.is_empty() {
                        assert!(message.number <= segments.len() as u64, "a gap before {}", message.number);
                        if message.number == segments.len() as u64 {
                            segments.push(message.text.to_vec());
                        }
                        taken += 1;
                    }
                    segments.len() as u64
                };
                // Hangs up without acknowledging what it has just kept.
                if this.hang_up_after.is_some_and(|after| taken >= after)
                    || answers.send(Ok(v1::LogKept { next })).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn read(&self, _: Request<v1::ReadLogRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

async fn serve(coordinator: Coordinator) -> Served {
    Served::start(Server::builder().add_service(LogsServer::new(coordinator))).await
}

fn task() -> TaskId {
    TaskId { build: "acme/web/1".parse().unwrap(), ordinal: 0 }
}

#[tokio::test]
async fn a_log_arrives_whole_and_in_order_through_streams_that_break() {
    let coordinator = Coordinator { hang_up_after: Some(3), ..Coordinator::default() };
    let served = serve(coordinator.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { segment_len_max: 100, cut_every: Duration::from_millis(5), ..LogConfig::default() };
    let (writer, sender) = LogWriter::begin(dir.path(), config, &Redaction::default());
    let channel = served.channel.clone();
    let sending = tokio::spawn(async move { sender.run(channel, &task(), Fence(7)).await });
    let mut written = String::new();
    for number in 0..40 {
        let line = format!("line {number} of what the build printed\n");
        writer.write(line.as_bytes()).await.unwrap();
        written.push_str(&line);
    }
    let segments = writer.finish().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), sending).await.unwrap().unwrap().unwrap();
    let kept = coordinator.segments.lock().unwrap();
    assert_eq!(String::from_utf8(kept.concat()).unwrap(), written);
    let digests: Vec<Digest> = kept.iter().map(|text| Digest::of(text)).collect();
    assert_eq!(digests, segments.iter().map(|segment| segment.digest).collect::<Vec<_>>());
    assert!(coordinator.streams.load(Ordering::Relaxed) > 3);
}

#[tokio::test]
async fn a_log_that_the_coordinator_refuses_is_not_sent_for_ever() {
    let served = serve(Coordinator { refuses: true, ..Coordinator::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let (_writer, sender) = LogWriter::begin(dir.path(), LogConfig::default(), &Redaction::default());
    let task = task();
    let sent =
        tokio::time::timeout(Duration::from_secs(60), sender.run(served.channel.clone(), &task, Fence(7)));
    let error = sent.await.unwrap().unwrap_err();
    assert!(matches!(error, SendLogError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("no lease 7"), "{error}");
}

#[tokio::test]
async fn an_empty_log_ends_at_once() {
    let served = serve(Coordinator::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let (writer, sender) = LogWriter::begin(dir.path(), LogConfig::default(), &Redaction::default());
    assert_eq!(writer.finish().await.unwrap(), []);
    let task = task();
    let sent =
        tokio::time::timeout(Duration::from_secs(60), sender.run(served.channel.clone(), &task, Fence(7)));
    sent.await.unwrap().unwrap();
}
