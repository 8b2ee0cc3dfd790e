//! Fetches a build's artifacts into the output directory.
//!
//! What lies there already with the right digest is not fetched again: the second build of the same thing
//! moves no bytes at all. The rest comes from the agents that made it, where they are nearer, and else from the
//! coordinator.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use meridian_agent::transfer::{Access, Downloader, TransferConfig, TransferError};
use meridian_core::{digest::Digest, id::ProjectId, quantity::ByteCount};
use meridian_proto::v1;
use meridian_store::{
    blob::{BlobConfig, DiskBlobs},
    pack::PartialBlobs,
};
use meridian_trust::keyring::KeyringFile;
use tonic::Status;

use crate::{
    build::{
        nearest,
        patience::Patience,
        report::Report,
        sidecars::{self, Attested},
        watch::{Doing, wait_and_reconnect},
        ways::{self, Carried},
    },
    dist::{Dist, DistError},
    fleet::{client::explain_status, root::pinned_root, select::Fleet},
    trouble::Trouble,
};

/// Puts the artifacts of one build into `dist`, each checked against its digest.
///
/// # Errors
/// When one cannot be fetched or kept.
pub async fn artifacts(
    fleet: &mut Fleet,
    (build, project): (&str, &ProjectId),
    artifacts: Vec<&v1::Artifact>,
    dist: &mut Dist,
    keyring: &KeyringFile,
    report: &mut Report,
    config: TransferConfig,
) -> Result<(), Trouble> {
    let mut wanted = Vec::new();
    let mut made = BTreeMap::new();
    let mut attested = Vec::new();
    for artifact in artifacts {
        attested.extend(Attested::read(artifact)?);
        let digest = Digest::from_slice(&artifact.digest).map_err(|_| {
            Trouble::broken(format_args!("the coordinator sent no digest for {}", artifact.name))
        })?;
        if !dist.adopt(&artifact.name, digest).map_err(dist_trouble)? {
            wanted.push((artifact.name.as_str(), digest));
            made.insert(digest, artifact.size);
        }
    }
    if wanted.is_empty() && attested.is_empty() {
        return Ok(());
    }
    // Documents are small and always fetched: what lies in the directory may be of another build of the same bytes.
    let documents = attested.iter().flat_map(Attested::documents);
    let digests: Vec<Digest> = wanted.iter().map(|(_, digest)| *digest).chain(documents).collect();
    // Beside the artifacts, so that giving one its name is a rename; gone afterwards, whatever happens.
    let scratch = dist.scratch().map_err(dist_trouble)?;
    // The user's own disk: what fits there is theirs to have, and no setting of this command keeps some of it free.
    let whole_disk = BlobConfig { free_min: ByteCount(0), ..BlobConfig::default() };
    let blobs = DiskBlobs::open(scratch.path(), whole_disk).map_err(Trouble::broken)?;
    let partials = PartialBlobs::open(blobs.clone()).map_err(Trouble::broken)?;
    let _pinned = blobs.pin(digests.iter().copied());
    let access = Access { project: project.clone(), lease: None };
    let mut carried = Vec::new();
    if !made.is_empty() {
        carried = nearest::fetch(&fleet.client, build, &access, &made, &partials).await;
    }
    let lacking = made.iter().filter(|(digest, _)| !blobs.contains(digest)).map(|(_, size)| size).sum();
    let took = from_coordinator(fleet, &digests, (&access, &partials), config, report).await?;
    // Whatever an agent sent in part need not come from here, and how much that is nobody counts.
    if let Some(took) = took.filter(|_| carried.is_empty()) {
        carried.push(Carried { region: None, bytes: lacking, took });
    }
    ways::learn(fleet, &carried);
    for (name, digest) in wanted {
        let handle = blobs.get(&digest).ok_or_else(|| {
            explain_status("fetch the artifacts", &Status::data_loss(format!("{name} did not arrive")))
        })?;
        dist.take(name, digest, &handle.path).map_err(dist_trouble)?;
    }
    sidecars::write(dist, &blobs, &attested, keyring, &pinned_root(&fleet.client)?)
}

/// Fetches from the coordinator whatever is not here yet; how long it took, when it went without a break.
async fn from_coordinator(
    fleet: &mut Fleet,
    digests: &[Digest],
    (access, partials): (&Access, &PartialBlobs),
    config: TransferConfig,
    report: &mut Report,
) -> Result<Option<Duration>, Trouble> {
    let began = Instant::now();
    let mut has_waited = false;
    let mut patience = Patience::default();
    loop {
        let downloader = Downloader::new(fleet.client.bulk()?, access.clone(), config, partials.clone());
        match downloader.fetch(digests.iter().copied()).await {
            Ok(()) => return Ok((!has_waited).then(|| began.elapsed())),
            Err(TransferError::GaveUp { status, .. }) => {
                has_waited = true;
                wait_and_reconnect(fleet, Doing::Fetching, report, &mut patience, &status).await?;
            }
            Err(TransferError::Refused { status, .. }) => {
                return Err(explain_status("fetch the artifacts", &status));
            }
            Err(other) => return Err(Trouble::broken(format_args!("cannot fetch the artifacts: {other}"))),
        }
    }
}

fn dist_trouble(error: DistError) -> Trouble {
    match error {
        DistError::Twice(_) => Trouble::usage(error),
        _ => Trouble::broken(error),
    }
}
