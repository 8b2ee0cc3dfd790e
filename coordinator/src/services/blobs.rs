//! The `Blobs` service: what is missing, packs in, receipts, packs out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meridian_core::{
    digest::Digest,
    id::{Fence, ProjectId, TaskId},
};
use meridian_proto::{
    limits::{CHUNK_LEN_MAX, DIGESTS_MAX},
    v1,
};
use meridian_store::pack::{CHUNKS_WAITING_MAX, ChunkReader, ChunkWriter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authorization::Caller,
    handle::Handle,
    holder::Holder,
    status::{from_command, from_holder, internal, invalid},
};

/// Uploads and downloads at once. Each takes a thread and a frame's memory; more wait their turn.
const TRANSFERS_MAX: usize = 32;
/// How long a transfer waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// How long the other end of a transfer may send or take nothing.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The `Blobs` service.
pub(crate) struct BlobsService {
    handle: Handle,
    holder: Holder,
    turns: Arc<Semaphore>,
}

/// What a caller wants to do with a project's blobs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl BlobsService {
    pub(crate) fn new(handle: Handle, holder: Holder) -> Self {
        Self { handle, holder, turns: Arc::new(Semaphore::new(TRANSFERS_MAX)) }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        match timeout(TURN_WITHIN, self.turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Status::unavailable(format!(
                "{TRANSFERS_MAX} transfers are under way and none ended within 30 s; try again"
            ))),
        }
    }

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

#[tonic::async_trait]
impl v1::blobs_server::Blobs for BlobsService {
    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project = self.admit(&caller, &message.project, message.scope.as_ref(), Access::Read).await?;
        let missing = self.holder.missing(&project, digests(&message.digests)?).await.map_err(from_holder)?;
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
        let turn = self.turn().await?;
        let (chunks, reader) = mpsc::channel(CHUNKS_WAITING_MAX);
        let holder = self.holder.clone();
        let taking = tokio::task::spawn_blocking(move || {
            let taken = holder.take_pack(&project, ChunkReader::new(reader));
            drop(turn);
            taken
        });
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
            next = match timeout(STALL_MAX, messages.next()).await {
                Ok(next) => next,
                Err(_) => Some(Err(Status::deadline_exceeded("nothing came for 60 s"))),
            };
        }
        drop(chunks);
        let taken = taking.await.map_err(|e| internal("an upload could not be taken", e))?;
        if let Some(status) = broken {
            return Err(status);
        }
        let receipts = taken.map_err(from_holder)?;
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
        let receipts = self.holder.receipts(&project, asked, message.trees).await.map_err(from_holder)?;
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
        let wanted = self.holder.select(&project, wanted, message.directories).await.map_err(from_holder)?;
        let turn = self.turn().await?;
        let (sender, stream) = mpsc::channel(CHUNKS_WAITING_MAX);
        let holder = self.holder.clone();
        let (chunks, mut packed) = mpsc::channel(CHUNKS_WAITING_MAX);
        let packing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            holder.give_pack(&wanted, &mut ChunkWriter::new(chunks, CHUNK_LEN_MAX))
        });
        tokio::spawn(async move {
            while let Some(chunk) = packed.recv().await {
                // A reader that has gone, or that takes nothing for so long, ends the download: dropping the
                // channel stops the packer.
                match timeout(STALL_MAX, sender.send(Ok(v1::PackChunk { chunk }))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            if let Ok(Err(error)) = packing.await {
                // When the reader has gone, nobody takes this either.
                let _ = sender.try_send(Err(from_holder(error)));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
