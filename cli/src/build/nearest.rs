//! Fetches artifacts from the agents that made them, where those are nearer than the coordinator.
//!
//! Everything here may come to nothing: what does not arrive is fetched from the coordinator as if nobody had been asked,
//! and what arrives is checked against its digest like everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meridian_agent::transfer::{Access, Downloader, TransferConfig};
use meridian_core::{
    cache::peer_address::PeerAddress, digest::Digest, id::AgentId, schedule::delivery::is_taken,
};
use meridian_proto::v1;
use meridian_store::pack::PartialBlobs;
use tokio::time::{Instant, timeout};

use crate::{build::ways::Carried, fleet::client::Client};

/// How long the question who has them may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long an agent may send nothing before it is given up.
const STALL_MAX: Duration = Duration::from_secs(5);
/// How long all of it may take from one agent. What came whole by then stays.
const FETCHED_WITHIN: Duration = Duration::from_secs(120);

/// An agent that is near, and what it has.
struct Holder {
    agent: AgentId,
    address: PeerAddress,
    artifacts: BTreeSet<Digest>,
}

/// Brings those of `wanted` that near agents have into the store of `partials`; what came and how long it took. `wanted` says
/// how large each is.
pub async fn fetch(
    client: &Client,
    build: &str,
    access: &Access,
    wanted: &BTreeMap<Digest, u64>,
    partials: &PartialBlobs,
) -> Vec<Carried> {
    let mut carried = Vec::new();
    let asked = Instant::now();
    let question = v1::ArtifactHoldersRequest { build: build.to_owned() };
    let mut builds = client.builds();
    let Ok(Ok(answer)) = timeout(ANSWER_WITHIN, builds.holders(question)).await else {
        // An older coordinator, or one that is about to go.
        return carried;
    };
    let to_coordinator = asked.elapsed();
    // A region next door would not be asked either.
    if !is_taken(0, micros(to_coordinator)) {
        return carried;
    }
    let answer = answer.into_inner();
    let holders = answer.holders.iter().filter_map(|holder| readable(holder, wanted));
    let mut measuring = tokio::task::JoinSet::new();
    for holder in holders {
        let Ok(round_trip) = client.round_trip_to(&holder.agent, holder.address.clone()) else { continue };
        measuring.spawn(async move {
            // A connection is two round trips, and each may be half as long.
            let measured = timeout(to_coordinator, round_trip).await.ok()?.ok()?;
            is_taken(micros(measured), micros(to_coordinator)).then_some(holder)
        });
    }
    while let Some(measured) = measuring.join_next().await {
        if let Ok(Some(holder)) = measured {
            let is_here = |digest: &&Digest| partials.blobs().contains(digest);
            let lacking: Vec<&Digest> = holder.artifacts.iter().filter(|digest| !is_here(digest)).collect();
            let began = Instant::now();
            fetch_from(client, &holder, &answer.grant, access, partials).await;
            let took = began.elapsed();
            let came = lacking.iter().filter(|digest| is_here(digest) || took >= STALL_MAX);
            // What has not come in a long time would have come later: the way carries no more than if it had come now.
            let bytes = came.filter_map(|digest| wanted.get(digest)).sum();
            carried.push(Carried { region: Some(holder.agent.region), bytes, took });
        }
    }
    carried
}

/// What an agent has of what is wanted; nothing when that is nothing, or nonsense.
fn readable(holder: &v1::ArtifactHolder, wanted: &BTreeMap<Digest, u64>) -> Option<Holder> {
    let digests = holder.digests.iter().filter_map(|bytes| Digest::from_slice(bytes).ok());
    let artifacts: BTreeSet<Digest> = digests.filter(|digest| wanted.contains_key(digest)).collect();
    if artifacts.is_empty() {
        return None;
    }
    Some(Holder { agent: holder.agent.parse().ok()?, address: holder.address.parse().ok()?, artifacts })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

async fn fetch_from(
    client: &Client,
    holder: &Holder,
    grant: &Bytes,
    access: &Access,
    partials: &PartialBlobs,
) {
    let channel = match client.agent(&holder.agent, &holder.address) {
        Ok(channel) => channel,
        Err(trouble) => return tracing::debug!(%trouble, "an agent that has artifacts cannot be asked"),
    };
    // Once: whoever has to be asked again is asked for less than it is worth.
    let config =
        TransferConfig { stall_max: STALL_MAX, give_up_after: Duration::ZERO, ..TransferConfig::default() };
    let downloader =
        Downloader::new(channel, access.clone(), config, partials.clone()).showing(grant.clone());
    let fetching = downloader.fetch(holder.artifacts.iter().copied());
    let Ok(fetched) = timeout(FETCHED_WITHIN, fetching).await else {
        return tracing::debug!(agent = %holder.agent, "it takes too long: the coordinator is asked instead");
    };
    match fetched {
        Ok(()) => tracing::debug!(agent = %holder.agent, "artifacts came from the agent that made them"),
        Err(error) => tracing::debug!(agent = %holder.agent, %error, "the coordinator is asked instead"),
    }
}
