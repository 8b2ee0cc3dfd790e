//! What every call of one prefetch has in common.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, fetch_chunk::Chunk, shard_client::ShardClient};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use super::{
    arrivals::Arrivals,
    driver::{Beyond, PrefetchPlan},
    intake::{Intake, IntakeStopped, NotBelieved},
    split::Part,
};
use crate::{
    disk::{CacheStore, Pins},
    frames::layout,
    manifest::{SignedManifest, Vouching},
    shard::{Attempt, Holder},
};

/// How long the only holder may take to connect and say anything, and then between two messages.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The longest message: a manifest.
const MESSAGE_LEN_MAX: usize = 24 << 20;
/// With more bodies than this here, the manifest is asked for first, rather than telling all of them.
const HELD_TOLD_MAX: usize = 16_384;

/// What every call of one prefetch has in common.
pub(super) struct Asking {
    pub(super) store: Arc<CacheStore>,
    pub(super) vouching: Arc<dyn Vouching>,
    pub(super) plan: PrefetchPlan,
    /// Who may have what no holder brings.
    pub(super) beyond: Beyond,
    pub(super) pins: Arc<Pins>,
    pub(super) arrivals: Arc<Arrivals>,
}

/// What a holder sends.
pub(super) struct Answer {
    stream: Streaming<v1::FetchChunk>,
    holder: Holder,
    patience: Duration,
}

impl Answer {
    /// The next message; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, Status> {
        let chunk = timeout(self.patience, self.stream.next()).await.map_err(silent)?;
        let Some(v1::FetchChunk { chunk, epoch }) = chunk.transpose()? else { return Ok(None) };
        self.holder.said(epoch);
        chunk.map(Some).ok_or_else(confused)
    }

    /// The next frame; nothing at the end.
    pub(super) async fn frame(&mut self) -> Result<Option<Bytes>, Status> {
        match self.next().await? {
            Some(Chunk::Frame(frame)) => Ok(Some(frame)),
            None => Ok(None),
            Some(Chunk::Manifest(_)) => Err(confused()),
        }
    }
}

pub(super) fn confused() -> Status {
    Status::data_loss("the holder said what was not asked for")
}

fn silent(_: tokio::time::error::Elapsed) -> Status {
    Status::deadline_exceeded("the holder is silent")
}

/// Why what came is not taken in.
pub(super) fn full(_: IntakeStopped) -> Status {
    Status::resource_exhausted("the own disk takes no more")
}

/// Why no more of it is wanted.
pub(super) fn untrue(_: NotBelieved) -> Status {
    Status::data_loss("what it sends is not what it says")
}

impl Asking {
    /// What every request about the plan's manifest has.
    pub(super) fn request(&self) -> v1::FetchRequest {
        v1::FetchRequest {
            grant: self.vouching.grant_to_read(&self.plan.scope).unwrap_or_default(),
            manifest: Bytes::copy_from_slice(self.plan.manifest.as_bytes()),
            from_entry: self.plan.from,
            ..v1::FetchRequest::default()
        }
    }

    /// Asks for the manifest, and for what is lacking of it, as far as the first `body_bytes_max` bytes; with too much
    /// here to tell, for the manifest alone, which is said.
    pub(super) fn first_request(&self, body_bytes_max: u64) -> (v1::FetchRequest, bool) {
        let request = v1::FetchRequest { send_manifest: true, body_bytes_max, ..self.request() };
        match self.held(None) {
            Some(held) => (v1::FetchRequest { held, ..request }, false),
            // Nothing has this digest.
            None => (v1::FetchRequest { wanted: Bytes::from_static(&[0; 32]), ..request }, true),
        }
    }

    /// Puts a request to a holder, which may be silent for as long as `patience`.
    pub(super) async fn call(
        &self,
        holder: &Holder,
        request: v1::FetchRequest,
        patience: Duration,
    ) -> Result<Answer, Status> {
        let mut client = ShardClient::new(holder.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let request = v1::FetchRequest { epoch: holder.told(), ..request };
        let stream = timeout(patience, client.fetch(request)).await.map_err(silent)??.into_inner();
        Ok(Answer { stream, holder: holder.clone(), patience })
    }

    /// Reads the manifest that a holder sent.
    pub(super) fn open(&self, bytes: Bytes) -> Result<Arc<SignedManifest>, Status> {
        let signed = SignedManifest::open(bytes, &self.plan.manifest, &*self.vouching);
        signed.map(Arc::new).map_err(|error| Status::data_loss(error.to_string()))
    }

    /// Begins to take in what the manifest names.
    pub(super) fn intake(&self, signed: &Arc<SignedManifest>) -> Intake {
        self.arrivals.listed(signed, usize::try_from(self.plan.from).unwrap_or(0));
        Intake::begin(&self.store, &self.pins, &self.arrivals, Arc::clone(signed))
    }

    /// Takes in more of it beside that.
    pub(super) fn beside(&self, signed: &Arc<SignedManifest>) -> Intake {
        Intake::beside(&self.store, &self.pins, &self.arrivals, Arc::clone(signed))
    }

    /// Fetches bodies that a question waits for, beside the stream that will reach them later.
    pub(super) async fn jump(
        self: Arc<Self>,
        holder: Holder,
        signed: Arc<SignedManifest>,
        urgent: Vec<Digest>,
    ) {
        let Some(mut attempt) = holder.attempt() else { return };
        let jumped = self.bring_named(&holder, &signed, &urgent, SILENCE_MAX, &mut attempt).await;
        attempt.settle(&jumped);
        if let Err(status) = jumped {
            tracing::debug!(holder = holder.name, %status, "what a question waits for did not come by itself");
        }
    }

    /// Brings what a holder has of these bodies, beside whatever else comes.
    pub(super) async fn bring_named(
        &self,
        holder: &Holder,
        signed: &Arc<SignedManifest>,
        bodies: &[Digest],
        patience: Duration,
        attempt: &mut Attempt,
    ) -> Result<(), Status> {
        let request = v1::FetchRequest { wanted: names(bodies), ..self.request() };
        let mut answer = self.call(holder, request, patience).await?;
        let intake = self.beside(signed);
        while let Some(frame) = answer.frame().await? {
            attempt.heard();
            intake.take(frame).await.map_err(full)?;
            intake.believe().map_err(untrue)?;
        }
        match intake.finish().await {
            _ if self.arrivals.is_full() => Err(full(IntakeStopped)),
            0 => Ok(()),
            _ => Err(untrue(NotBelieved)),
        }
    }

    /// What is lacking here, in the order in which a holder sends it and as it is framed there.
    pub(super) fn lacking(&self, signed: &SignedManifest) -> Vec<Part> {
        let mut plans = layout(&signed.manifest.entries);
        let begin = plans.partition_point(|plan| plan.first < self.plan.from);
        plans.rotate_left(begin);
        let (bodies, mut parts) = (self.store.bodies(), Vec::<Part>::new());
        for plan in plans {
            let lacking: Vec<_> = plan.pieces.iter().filter(|piece| !bodies.has(&piece.output)).collect();
            if lacking.is_empty() {
                continue;
            }
            // The rest of a body stays with its beginning.
            if parts.is_empty() || plan.begins_a_body() {
                parts.push(Part::default());
            }
            let Some(part) = parts.last_mut() else { continue };
            part.bytes += lacking.iter().map(|piece| piece.len).sum::<u64>();
            let begun = lacking.iter().filter(|piece| piece.offset == 0);
            part.bodies.extend(begun.map(|piece| piece.output));
        }
        parts
    }

    /// Whether nobody need be asked for more: all is here, or the disk takes no more.
    pub(super) fn is_over(&self) -> bool {
        self.arrivals.is_full() || self.arrivals.is_whole()
    }

    /// Those of these bodies that are not here.
    pub(super) fn absent(&self, bodies: &[Digest]) -> Vec<Digest> {
        let store = self.store.bodies();
        bodies.iter().filter(|body| !store.has(body)).copied().collect()
    }

    /// The beginnings of the digests of what is here; nothing when they are too many to tell.
    pub(super) fn held(&self, known: Option<&SignedManifest>) -> Option<Bytes> {
        let bodies = self.store.bodies();
        let digests: Vec<Digest> = match known {
            Some(signed) => {
                let outputs = signed.manifest.entries.iter().map(|listed| listed.entry.output);
                outputs.filter(|output| bodies.has(output)).collect()
            }
            None => bodies.names(HELD_TOLD_MAX)?,
        };
        let mut prefixes: Vec<[u8; 8]> =
            digests.iter().filter_map(|digest| digest.as_bytes().first_chunk::<8>().copied()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Some(prefixes.concat().into())
    }
}

/// These digests, one behind the other.
pub(super) fn names(bodies: &[Digest]) -> Bytes {
    bodies.iter().flat_map(|body| *body.as_bytes()).collect::<Vec<u8>>().into()
}
