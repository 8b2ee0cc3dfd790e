//! ByteStream: blobs of any size, in pieces, with offsets, and compressed where the client wants it.

use std::{pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use meridian_proto::reapi::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, WriteRequest, WriteResponse,
    byte_stream_server::ByteStream,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_stream::Stream as _;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    content::Intake,
    error::ReapiError,
    name::{Form, Instance, Resource},
    reading::{Pieces, Reading, Wanted},
    server::Reapi,
    uploads::Active,
};

/// How long a client may send nothing.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How many bytes are written at one go, when so many are there already.
const GO_LEN: usize = 1 << 20;

/// An empty blob in zstd.
const EMPTY_ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00];

#[async_trait]
impl ByteStream for Reapi {
    type ReadStream = Pieces;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Pieces>, Status> {
        let ReadRequest { resource_name, read_offset, read_limit } = request.get_ref();
        let resource = Resource::to_read(resource_name)?;
        let scope = self.admit(&request, &resource.instance)?.scope;
        let wanted = wanted(&resource, *read_offset, *read_limit)?;
        let (blob, form) = (resource.blob, resource.form);
        if blob.is_empty() {
            let piece = if form == Form::Zstd { Bytes::from_static(EMPTY_ZSTD) } else { Bytes::new() };
            return Ok(Response::new(Pieces::one(piece)));
        }
        if wanted.offset == blob.size {
            // There must be such a blob all the same.
            let content = Arc::clone(&self.content);
            self.disk.run(move || content.source(&scope, &blob, form).map(drop)).await?;
            let piece = if form == Form::Zstd { Bytes::from_static(EMPTY_ZSTD) } else { Bytes::new() };
            return Ok(Response::new(Pieces::one(piece)));
        }
        let content = Arc::clone(&self.content);
        let pieces =
            Pieces::start(&self.disk, &self.reads, move || Reading::open(content, &scope, wanted)).await?;
        Ok(Response::new(pieces))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (metadata, extensions, mut stream) = request.into_parts();
        let first = match timeout(IDLE_MAX, stream.message()).await {
            Ok(first) => first?.ok_or_else(|| ReapiError::Invalid("an upload without a message".into()))?,
            Err(_) => return Err(ReapiError::Stalled(IDLE_MAX.as_secs()).into()),
        };
        let resource = Resource::to_write(&first.resource_name)?;
        let caller = Request::from_parts(metadata, extensions, ());
        let scope = self.admit_writer(&caller, &resource.instance)?;
        let receiving = Receiving { reapi: self.clone(), scope, resource, name: first.resource_name.clone() };
        // A task of its own, so that what came is parked and not lost when the connection breaks.
        let received = tokio::spawn(receiving.receive(first, stream)).await;
        let committed_size = received.map_err(|error| ReapiError::Unavailable(error.to_string()))??;
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let name = &request.get_ref().resource_name;
        let resource = Resource::to_write(name)?;
        let scope = self.admit_writer(&request, &resource.instance)?;
        let response = match self.content.touch(&scope, &resource.blob) {
            true => QueryWriteStatusResponse { committed_size: whole(&resource)?, complete: true },
            // Not NOT_FOUND, which the API would allow: stock clients give up a build on that.
            false => {
                let committed_size = length(self.uploads.committed(&scope, name))?;
                QueryWriteStatusResponse { committed_size, complete: false }
            }
        };
        Ok(Response::new(response))
    }
}

fn wanted(resource: &Resource, offset: i64, limit: i64) -> Result<Wanted, ReapiError> {
    let blob = resource.blob;
    let offset = u64::try_from(offset).ok().filter(|offset| *offset <= blob.size);
    let offset =
        offset.ok_or_else(|| ReapiError::OutOfRange(format!("this offset is not in blob {blob}")))?;
    let limit = u64::try_from(limit).map_err(|_| ReapiError::Invalid("a limit below 0".into()))?;
    if resource.form == Form::Zstd && limit > 0 {
        return Err(ReapiError::Invalid("compressed blobs are read without a limit".into()));
    }
    Ok(Wanted { blob, form: resource.form, offset, limit })
}

/// What a finished write is said to have committed.
fn whole(resource: &Resource) -> Result<i64, ReapiError> {
    match resource.form {
        Form::Plain => length(resource.blob.size),
        Form::Zstd => Ok(-1),
    }
}

fn length(bytes: u64) -> Result<i64, ReapiError> {
    i64::try_from(bytes).map_err(|_| ReapiError::Invalid(format!("{bytes} bytes in one blob")))
}

/// One stream of an upload.
struct Receiving {
    reapi: Reapi,
    scope: Instance,
    resource: Resource,
    /// The resource name, as the client spells it.
    name: String,
}

/// Where a stream is: the offset that the next message must have, and how much of what comes is there already.
struct Position {
    next: u64,
    skip: u64,
}

/// Messages that were there at once.
#[derive(Default)]
struct Go {
    pieces: Vec<Bytes>,
    length: usize,
    end: Option<End>,
}

/// How a stream ended.
enum End {
    /// The client said that this was all.
    Finished,
    /// It just ended, or broke.
    Broken(Option<Status>),
    /// Another stream goes on with this upload.
    TakenOver,
    /// A message that makes no sense.
    Refused(ReapiError),
}

impl Receiving {
    async fn receive(
        self,
        first: WriteRequest,
        mut stream: Streaming<WriteRequest>,
    ) -> Result<i64, ReapiError> {
        if self.is_there() {
            return whole(&self.resource);
        }
        let (active, parked) = self.reapi.uploads.begin(&self.scope, &self.name).await?;
        let offset =
            u64::try_from(first.write_offset).map_err(|_| ReapiError::Invalid("an offset below 0".into()))?;
        let (intake, skip) = match parked {
            Some(parked) if offset > 0 && offset <= parked.resumable_at() => {
                let skip = parked.resumable_at() - offset;
                (parked, skip)
            }
            _ if offset > 0 => {
                return Err(ReapiError::Aborted(format!(
                    "the upload of {} is not at {offset}",
                    self.resource.blob
                )));
            }
            _ => {
                let content = Arc::clone(&self.reapi.content);
                let (blob, form) = (self.resource.blob, self.resource.form);
                (self.reapi.disk.run(move || content.intake(blob, form)).await?, 0)
            }
        };
        let mut position = Position { next: offset, skip };
        let mut go = Go::default();
        go.add(&self.name, &mut position, first);
        self.receive_into(intake, active, position, go, &mut stream).await
    }

    /// Writes what comes, one go while the next one gathers.
    async fn receive_into(
        self,
        intake: Intake,
        active: Active,
        mut position: Position,
        mut go: Go,
        stream: &mut Streaming<WriteRequest>,
    ) -> Result<i64, ReapiError> {
        let mut writing = self.write(&active, intake, std::mem::take(&mut go.pieces));
        loop {
            if go.end.is_none() {
                go = Go::default();
                go.gather(&self.name, &mut position, stream, &active).await;
            }
            let intake = writing.await.map_err(|error| ReapiError::Unavailable(error.to_string()))??;
            if self.is_there() {
                // Another client was quicker.
                return whole(&self.resource);
            }
            writing = match (go.end.take(), std::mem::take(&mut go.pieces)) {
                (None, pieces) => self.write(&active, intake, pieces),
                (Some(end), pieces) if !pieces.is_empty() => {
                    go.end = Some(end);
                    self.write(&active, intake, pieces)
                }
                (Some(End::Finished), _) => {
                    let (content, scope) = (Arc::clone(&self.reapi.content), self.scope.clone());
                    self.reapi.disk.run(move || content.publish(&scope, intake)).await?;
                    return whole(&self.resource);
                }
                (Some(End::Refused(error)), _) => return Err(error),
                (Some(end), _) => {
                    let committed = length(intake.resumable_at());
                    active.park(intake);
                    return match end {
                        End::Broken(None) => committed,
                        End::Broken(Some(status)) => Err(ReapiError::Aborted(status.message().to_owned())),
                        _ => Err(ReapiError::Aborted("another stream goes on with this upload".into())),
                    };
                }
            };
        }
    }

    fn is_there(&self) -> bool {
        self.reapi.content.touch(&self.scope, &self.resource.blob)
    }

    fn write(
        &self,
        active: &Active,
        mut intake: Intake,
        pieces: Vec<Bytes>,
    ) -> JoinHandle<Result<Intake, ReapiError>> {
        let (disk, progress) = (self.reapi.disk.clone(), active.progress());
        tokio::spawn(async move {
            let write = move || {
                pieces.iter().try_for_each(|piece| intake.take(piece))?;
                progress.note(&intake);
                Ok(intake)
            };
            disk.run(write).await
        })
    }
}

impl Go {
    /// Waits for a message, and takes what else is there.
    async fn gather(
        &mut self,
        name: &str,
        position: &mut Position,
        stream: &mut Streaming<WriteRequest>,
        active: &Active,
    ) {
        let message = tokio::select! {
            message = timeout(IDLE_MAX, stream.message()) => message,
            () = active.stopped() => {
                self.end = Some(End::TakenOver);
                return;
            }
        };
        let stalled = || Err(ReapiError::Stalled(IDLE_MAX.as_secs()).into());
        self.take(name, position, message.unwrap_or_else(|_| stalled()));
        while self.end.is_none() && self.length < GO_LEN {
            let next = std::future::poll_fn(|context| {
                Poll::Ready(match Pin::new(&mut *stream).poll_next(context) {
                    Poll::Ready(next) => Some(next),
                    Poll::Pending => None,
                })
            });
            match next.await {
                Some(message) => self.take(name, position, message.transpose()),
                None => return,
            }
        }
    }

    fn take(&mut self, name: &str, position: &mut Position, message: Result<Option<WriteRequest>, Status>) {
        match message {
            Ok(Some(message)) => self.add(name, position, message),
            Ok(None) => self.end = Some(End::Broken(None)),
            Err(status) => self.end = Some(End::Broken(Some(status))),
        }
    }

    fn add(&mut self, name: &str, position: &mut Position, message: WriteRequest) {
        let WriteRequest { resource_name, write_offset, finish_write, mut data } = message;
        if !resource_name.is_empty() && resource_name != name {
            self.end = Some(End::Refused(ReapiError::Invalid("one upload with two resource names".into())));
        } else if u64::try_from(write_offset) != Ok(position.next) {
            let (came, next) = (write_offset, position.next);
            let error = ReapiError::Invalid(format!("the offset {came} where {next} is next"));
            self.end = Some(End::Refused(error));
        } else {
            position.next += data.len() as u64;
            let skipped = usize::try_from(position.skip).unwrap_or(usize::MAX).min(data.len());
            position.skip -= skipped as u64;
            let data = data.split_off(skipped);
            self.length += data.len();
            if !data.is_empty() {
                self.pieces.push(data);
            }
            if finish_write {
                self.end = Some(End::Finished);
            }
        }
    }
}
