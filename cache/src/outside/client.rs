//! Calls of the remote execution API, each within a bound.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::reapi::{
    bytestream::{ReadRequest, WriteRequest, byte_stream_client::ByteStreamClient},
    v2::{
        self, action_cache_client::ActionCacheClient, batch_update_blobs_request,
        content_addressable_storage_client::ContentAddressableStorageClient,
    },
};
use tokio::{sync::Notify, time::timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    names::{ManifestAction, wire},
    reading::Reading,
    room::Room,
};

/// How long a call may take, and a stream between two messages.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How many bytes a second a stream carries at least, beside what a call may take: any link does.
const RATE_MIN: u64 = 256 << 10;
/// How long it is left alone after it has not answered.
const REST: Duration = Duration::from_secs(30);
/// Most bytes of bodies in one message: servers take 4 MiB where nobody told them otherwise.
pub(crate) const BATCH_LEN_MAX: u64 = 3 << 20;
/// Most digests in one question.
const ASKED_MAX: usize = 8_192;
/// The longest message: servers send no longer one where nobody told them otherwise.
pub(crate) const MESSAGE_LEN_MAX: usize = 4 << 20;

/// Why a server outside did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// It is left alone for a while.
    #[error("it did not answer lately")]
    Resting,
    /// It was silent.
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    /// Others waited for its first word.
    #[error("it accepts calls and says nothing")]
    SaysNothing,
    /// It was never silent for long, and yet nothing came of it.
    #[error("it sends less than {} KiB a second", RATE_MIN >> 10)]
    Slow,
    /// It says no.
    #[error("{0}")]
    Refused(#[from] Status),
    /// It says what was not asked for.
    #[error("it says what was not asked for: {0}")]
    Confused(&'static str),
    /// The own disk does.
    #[error("the own disk: {0}")]
    Disk(#[from] std::io::Error),
}

/// A cache that is not the fleet's.
pub struct Outside {
    channel: Channel,
    instance: String,
    authorization: Option<MetadataValue<Ascii>>,
    failed: Mutex<Option<Instant>>,
    /// Word of each failure.
    failing: Notify,
    room: Room,
}

impl Outside {
    /// The one at the other end of `channel`, in an instance that may be empty; shows `authorization` with each call.
    #[must_use]
    pub fn new(channel: Channel, instance: String, authorization: Option<MetadataValue<Ascii>>) -> Self {
        let (failed, failing, room) = (Mutex::new(None), Notify::new(), Room::new());
        Self { channel, instance, authorization, failed, failing, room }
    }

    /// Waits until it failed in a way for which it is left alone, since the last wait.
    pub async fn failing(&self) {
        self.failing.notified().await;
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// The room in memory for what is on its way to or from it.
    pub(crate) const fn room(&self) -> &Room {
        &self.room
    }

    /// Which of these blobs it lacks.
    pub(super) async fn missing(&self, blobs: &HashMap<Digest, u64>) -> Result<Vec<Digest>, OutsideError> {
        let all: Vec<v2::Digest> = blobs.iter().map(|(digest, size)| wire(digest, *size)).collect();
        let mut missing = Vec::new();
        for some in all.chunks(ASKED_MAX) {
            let request = v2::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: some.to_vec(),
                ..v2::FindMissingBlobsRequest::default()
            };
            let mut client = self.content();
            let answer = self.call(client.find_missing_blobs(self.request(request))).await?;
            let named = answer.missing_blob_digests.iter().filter_map(|wire| wire.hash.parse().ok());
            missing.extend(named.filter(|digest| blobs.contains_key(digest)));
        }
        Ok(missing)
    }

    /// Sends small blobs at once: no more than [`BATCH_LEN_MAX`] bytes.
    pub(super) async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), OutsideError> {
        let mut client = self.content();
        let answer = self.call(client.batch_update_blobs(self.request(self.batch(blobs)))).await?;
        taken(answer)
    }

    /// Sends one small blob, also where it is left alone otherwise; whatever comes of it changes nothing of that.
    pub(super) async fn write_small(&self, digest: Digest, blob: &'static [u8]) -> Result<(), OutsideError> {
        let mut client = self.content();
        let batch = self.batch(vec![(digest, Bytes::from_static(blob))]);
        taken(client.batch_update_blobs(self.request(batch)).await?.into_inner())
    }

    /// Whether it can be asked for blobs, also where it is left alone otherwise; changes nothing of that.
    pub(super) async fn answers_readers(&self, digest: Digest, size: u64) -> bool {
        let request = v2::FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            blob_digests: vec![wire(&digest, size)],
            ..v2::FindMissingBlobsRequest::default()
        };
        self.content().find_missing_blobs(self.request(request)).await.is_ok()
    }

    fn batch(&self, blobs: Vec<(Digest, Bytes)>) -> v2::BatchUpdateBlobsRequest {
        let update = |(digest, data): (Digest, Bytes)| batch_update_blobs_request::Request {
            digest: Some(wire(&digest, data.len() as u64)),
            data,
            ..batch_update_blobs_request::Request::default()
        };
        v2::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: blobs.into_iter().map(update).collect(),
            ..v2::BatchUpdateBlobsRequest::default()
        }
    }

    /// Sends a blob of any length, which `pieces` give.
    pub(super) async fn write_stream(
        &self,
        digest: &Digest,
        size: u64,
        pieces: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<(), OutsideError> {
        // Whoever writes the same at the same time has another name for it.
        let mut number = [0; 16];
        getrandom::fill(&mut number).map_err(std::io::Error::other)?;
        let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
        let (a, b, c, d, e) = (&number[..8], &number[8..12], &number[12..16], &number[16..20], &number[20..]);
        let name = self.resource(&format!("uploads/{a}-{b}-{c}-{d}-{e}/blobs/{}/{size}", digest.to_hex()));
        let mut sent = 0;
        let requests = pieces.map(move |data| {
            let from = sent;
            sent += data.len() as u64;
            WriteRequest {
                resource_name: if from == 0 { name.clone() } else { String::new() },
                write_offset: i64::try_from(from).unwrap_or(i64::MAX),
                finish_write: sent == size,
                data,
            }
        });
        let mut client = ByteStreamClient::new(self.channel.clone());
        let stream = self.request(requests);
        let answer = self.within(transfer_within(size), client.write(stream)).await?;
        let whole = i64::try_from(size).unwrap_or(i64::MAX);
        // A blob that is there already may be answered at once.
        match answer.committed_size == whole || answer.committed_size == -1 {
            true => Ok(()),
            false => Err(OutsideError::Confused("a blob was taken in part")),
        }
    }

    /// Brings small blobs at once; what it lacks is left out.
    pub(crate) async fn read_batch(
        &self,
        blobs: &[(Digest, u64)],
    ) -> Result<Vec<(Digest, Bytes)>, OutsideError> {
        let request = v2::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: blobs.iter().map(|(digest, size)| wire(digest, *size)).collect(),
            ..v2::BatchReadBlobsRequest::default()
        };
        let mut client = self.content();
        let answer = self.call(client.batch_read_blobs(self.request(request))).await?;
        let blob = |one: v2::batch_read_blobs_response::Response| {
            let is_good = one.status.is_none_or(|status| status.code == 0);
            Some((one.digest?.hash.parse().ok()?, one.data)).filter(|_| is_good)
        };
        Ok(answer.responses.into_iter().filter_map(blob).collect())
    }

    /// Begins to bring a blob of any length.
    pub(crate) async fn read(&self, digest: &Digest, size: u64) -> Result<Reading<'_>, OutsideError> {
        let request = ReadRequest {
            resource_name: self.resource(&format!("blobs/{}/{size}", digest.to_hex())),
            ..ReadRequest::default()
        };
        let mut client =
            ByteStreamClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let pieces = self.call(client.read(self.request(request))).await?;
        Ok(Reading::new(self, pieces, size, transfer_within(size)))
    }

    /// Makes it keep a manifest with what that names; each with the path under which it stands in the action's result.
    pub(super) async fn keep(
        &self,
        action: &ManifestAction,
        files: Vec<v2::OutputFile>,
    ) -> Result<(), OutsideError> {
        let result = v2::ActionResult { output_files: files, ..v2::ActionResult::default() };
        let request = v2::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.digest()),
            action_result: Some(result),
            ..v2::UpdateActionResultRequest::default()
        };
        let mut client = ActionCacheClient::new(self.channel.clone());
        self.call(client.update_action_result(self.request(request))).await.map(drop)
    }

    /// How long a manifest is that it keeps with the bodies that it was given, when it has all of those still. A look makes
    /// it keep them on.
    pub(crate) async fn kept(&self, manifest: &Digest) -> Result<Option<u64>, OutsideError> {
        let request = v2::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(ManifestAction::of(manifest).digest()),
            ..v2::GetActionResultRequest::default()
        };
        let mut client =
            ActionCacheClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let answer = match self.call(client.get_action_result(self.request(request))).await {
            Err(OutsideError::Refused(status)) if status.code() == Code::NotFound => return Ok(None),
            answer => answer?,
        };
        let hash = manifest.to_hex();
        let mut named = answer.output_files.into_iter().filter_map(|file| file.digest);
        Ok(named.find(|digest| digest.hash == hash).and_then(|digest| u64::try_from(digest.size_bytes).ok()))
    }

    fn content(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    fn resource(&self, rest: &str) -> String {
        if self.instance.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.instance) }
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, OutsideError> {
        self.within(ANSWER_WITHIN, call).await
    }

    async fn within<T>(
        &self,
        bound: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, OutsideError> {
        if self.is_resting() {
            return Err(OutsideError::Resting);
        }
        match timeout(bound, call).await {
            Err(_) => Err(self.silent()),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                // A connection that breaks has any of these names.
                let codes = [
                    Code::Unavailable,
                    Code::Unknown,
                    Code::Internal,
                    Code::DeadlineExceeded,
                    // Nobody here cancels.
                    Code::Cancelled,
                ];
                if codes.contains(&status.code()) {
                    self.rest();
                }
                Err(status.into())
            }
        }
    }

    /// Whether it is left alone now.
    pub(crate) fn is_resting(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| failed.elapsed() < REST)
    }

    pub(super) fn silent(&self) -> OutsideError {
        self.rest();
        OutsideError::Silent
    }

    pub(crate) fn says_nothing(&self) -> OutsideError {
        self.rest();
        OutsideError::SaysNothing
    }

    pub(super) fn slow(&self) -> OutsideError {
        self.rest();
        OutsideError::Slow
    }

    fn rest(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.failing.notify_one();
    }
}

/// Whether all blobs of a batch were taken.
fn taken(answer: v2::BatchUpdateBlobsResponse) -> Result<(), OutsideError> {
    let refused = answer.responses.into_iter().filter_map(|one| one.status).find(|s| s.code != 0);
    refused.map_or(Ok(()), |status| Err(Status::new(Code::from(status.code), status.message).into()))
}

/// How long a stream of so many bytes may take in all.
const fn transfer_within(size: u64) -> Duration {
    ANSWER_WITHIN.saturating_add(Duration::from_secs(size / RATE_MIN))
}
