//! The `Blobs` service: what is missing, packs in, receipts, packs out.

use std::io::{Read, Write};

use bytes::Bytes;
use meridian_core::{
    digest::Digest,
    id::{Fence, ProjectId, TaskId},
};
use meridian_proto::{
    limits::{CHUNK_LEN_MAX, DIGESTS_MAX},
    v1,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authorization::Caller,
    handle::Handle,
    holder::{Holder, HolderError},
    status::{from_command, internal, invalid},
};

/// Chunks that may wait between the network and the disk, in either direction.
const CHUNKS_QUEUED_MAX: usize = 8;

/// The `Blobs` service.
pub(crate) struct BlobsService {
    pub(crate) handle: Handle,
    pub(crate) holder: Holder,
}

/// What a caller wants to do with a project's blobs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl BlobsService {
    /// Members reach their team's projects. An agent reads what a task placed with it or leased by it needs,
    /// and writes only under a lease.
    async fn admit(
        &self,
        caller: &Caller,
        project: &str,
        scope: Option<&v1::Scope>,
        access: Access,
    ) -> Result<ProjectId, Status> {
        let project: ProjectId = project.parse().map_err(invalid)?;
        let Caller::Agent(agent) = caller else {
            caller.check_project(&project)?;
            return Ok(project);
        };
        let scope =
            scope.ok_or_else(|| Status::permission_denied("an agent must name the task it acts for"))?;
        let task: TaskId = scope.task.parse().map_err(invalid)?;
        let fence = Fence(scope.fence);
        let refused =
            Status::permission_denied(format!("agent {agent} has no lease or placement of task {task}"));
        if task.build.project != project {
            return Err(refused);
        }
        let agent = agent.clone();
        let admitted = self
            .handle
            .read(move |machine| {
                machine.holds_lease(&agent, &task, fence)
                    || (access == Access::Read && machine.is_placed_with(&agent, &task))
            })
            .await
            .map_err(from_command)?;
        if admitted { Ok(project) } else { Err(refused) }
    }
}

fn digests(wire: &[Bytes]) -> Result<Vec<Digest>, Status> {
    if wire.len() > DIGESTS_MAX {
        return Err(invalid(format!("{} digests in one request; the limit is {DIGESTS_MAX}", wire.len())));
    }
    wire.iter().map(|bytes| Digest::from_slice(bytes).map_err(invalid)).collect()
}

fn holder_status(error: HolderError) -> Status {
    match error {
        HolderError::Missing { .. } => Status::not_found(error.to_string()),
        HolderError::Refused(_) => invalid(error),
        HolderError::DiskFull(_) => Status::resource_exhausted(error.to_string()),
        HolderError::Disk(_) => internal("the blob store failed", error),
    }
}

#[tonic::async_trait]
impl v1::blobs_server::Blobs for BlobsService {
    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project = self.admit(&caller, &message.project, message.scope.as_ref(), Access::Read).await?;
        let missing =
            self.holder.missing(&project, digests(&message.digests)?).await.map_err(holder_status)?;
        let missing = missing
            .into_iter()
            .map(|(digest, have)| v1::MissingBlob {
                digest: Bytes::copy_from_slice(digest.as_bytes()),
                have: have.0,
            })
            .collect();
        Ok(Response::new(v1::MissingResponse { missing }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let caller = Caller::of(&request);
        let mut messages = request.into_inner();
        let first = messages.next().await.ok_or_else(|| invalid("the upload is empty"))??;
        let header = first.header.ok_or_else(|| invalid("the first message of an upload has a header"))?;
        let project = self.admit(&caller, &header.project, header.scope.as_ref(), Access::Write).await?;
        let (chunks, reader) = chunk_pipe();
        let holder = self.holder.clone();
        let taking = tokio::task::spawn_blocking(move || holder.take_pack(&project, reader));
        let mut next = Some(Ok(v1::UploadRequest { header: None, chunk: first.chunk }));
        let mut broken = None;
        while let Some(message) = next {
            match message {
                Ok(message) => {
                    // The taker stops reading when the pack is bad; its own error is the one to report.
                    if !message.chunk.is_empty() && chunks.send(Ok(message.chunk)).await.is_err() {
                        break;
                    }
                }
                Err(status) => {
                    let _ = chunks.send(Err(std::io::ErrorKind::ConnectionAborted.into())).await;
                    broken = Some(status);
                    break;
                }
            }
            next = messages.next().await;
        }
        drop(chunks);
        let taken = taking.await.map_err(|e| internal("an upload could not be taken", e))?;
        if let Some(status) = broken {
            return Err(status);
        }
        let receipts = taken.map_err(holder_status)?;
        Ok(Response::new(v1::UploadResponse { receipts: receipts.iter().map(Into::into).collect() }))
    }

    async fn receipts(
        &self,
        request: Request<v1::ReceiptsRequest>,
    ) -> Result<Response<v1::ReceiptsResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project = self.admit(&caller, &message.project, message.scope.as_ref(), Access::Read).await?;
        let asked = digests(&message.digests)?;
        let receipts = self.holder.receipts(&project, asked, message.trees).await.map_err(holder_status)?;
        Ok(Response::new(v1::ReceiptsResponse { receipts: receipts.iter().map(Into::into).collect() }))
    }

    type DownloadStream = ReceiverStream<Result<v1::PackChunk, Status>>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project = self.admit(&caller, &message.project, message.scope.as_ref(), Access::Read).await?;
        let wanted = digests(&message.digests)?;
        let wanted =
            self.holder.select(&project, wanted, message.directories).await.map_err(holder_status)?;
        let (sender, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let holder = self.holder.clone();
        tokio::task::spawn_blocking(move || {
            let mut chunks =
                ChunkWriter { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK_LEN_MAX) };
            let written = holder
                .give_pack(&wanted, &mut chunks)
                .and_then(|()| chunks.flush().map_err(|error| HolderError::Disk(error.to_string())));
            if let Err(error) = written {
                // A reader that has gone is the usual cause; then nobody takes this either.
                let _ = sender.blocking_send(Err(holder_status(error)));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A bounded pipe from the network's task to a blocking reader.
fn chunk_pipe() -> (mpsc::Sender<std::io::Result<Bytes>>, ChunkReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_QUEUED_MAX);
    (sender, ChunkReader { receiver, current: Bytes::new() })
}

struct ChunkReader {
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.current = chunk?,
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Cuts a pack into messages.
struct ChunkWriter {
    sender: mpsc::Sender<Result<v1::PackChunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = CHUNK_LEN_MAX - self.buffer.len();
        let length = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK_LEN_MAX {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_LEN_MAX)).into();
        self.sender
            .blocking_send(Ok(v1::PackChunk { chunk }))
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}
