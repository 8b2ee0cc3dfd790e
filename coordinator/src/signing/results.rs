//! Reads what the signers of a result say, and has it examined before the machine hears of it.
//!
//! Everything that needs bytes is done here: signatures, the executable's own build info, its bill of materials, the
//! source's `go.sum`. Whether the facts are those that were ordered is the machine's decision.

use std::{collections::HashMap, fs::File, io, path::PathBuf};

use meridian_core::{
    attestation::{Attestation, Evidence},
    build::Artifact,
    id::{Fence, TaskId},
    keyring::{CertifiedKey, KeyId},
    machine::{Machine, input::Outcome},
    quantity::ByteCount,
    time::Wall,
};
use meridian_runtime::clock::Clock;
use meridian_store::blob::DiskBlobs;
use meridian_trust::{
    bundle::EnvelopeBundle, dsse::ENVELOPE_LEN_MAX, executable::read_build_info, keys::VerifyingKey,
    message::Content, modfiles::SourceModules, sbom::Sbom, statement::Provenance,
};

use super::{
    examination::{self, Attempt, Reported, Vouches},
    source::source_modules,
};
use crate::{handle::Handle, holder::Holder};

/// The largest bill of materials that is read.
const SBOM_LEN_MAX: ByteCount = ByteCount::mib(16);

/// Examines results. Clones share everything.
#[derive(Clone)]
pub(crate) struct Results {
    pub(crate) handle: Handle,
    pub(crate) holder: Holder,
    pub(crate) clock: Clock,
}

/// The parts of a result that its artifacts share.
struct Common<'a> {
    attempt: &'a Attempt,
    keys: &'a HashMap<KeyId, CertifiedKey>,
    go_version: &'a str,
    source: Option<&'a SourceModules>,
    vouches: Vouches<'a>,
}

impl Results {
    /// What the signers of a result's artifacts say, in the order of the artifacts; empty for a result without any.
    ///
    /// # Errors
    /// Why something that was said does not hold, for the task's history.
    pub(crate) async fn evidence(
        &self,
        task: &TaskId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<Vec<Evidence>, String> {
        let Outcome::Built { artifacts, go_version, .. } = outcome else { return Ok(Vec::new()) };
        let named: Vec<KeyId> =
            artifacts.iter().filter_map(|a| a.attestation.as_ref()).map(|a| a.key).collect();
        let (task, now) = (task.clone(), Wall(self.clock.now().wall_ms));
        let read = move |machine: &Machine| {
            let known = named.iter().filter_map(|id| machine.durable().key(id));
            let keys: HashMap<_, _> = known.map(|key| (key.id(), key.clone())).collect();
            (attempt(machine, &task, fence, now), keys)
        };
        let (attempt, keys) = self.handle.read(read).await.map_err(|error| error.to_string())?;
        let attempt = attempt.ok_or("the lease is not current")?;
        let (artifacts, go_version, holder) = (artifacts.clone(), go_version.clone(), self.holder.clone());
        let examined = self.holder.inspect(move |blobs| {
            Ok(examine_all(blobs, &attempt, &keys, &artifacts, &go_version, &|project, receipt| {
                holder.vouches(project, receipt)
            }))
        });
        examined.await.map_err(|error| error.to_string())?
    }
}

/// What the machine knows of an attempt; `None` when its lease is over, or its agent away.
fn attempt(machine: &Machine, task: &TaskId, fence: Fence, now: Wall) -> Option<Attempt> {
    let order = machine.durable().signing_order(task, fence)?;
    let leased = machine.durable().leased_at(task, fence)?;
    let offer = machine.agents().find(|status| *status.agent == order.agent)?.offer.clone();
    Some(Attempt { order, leased, offer, now })
}

fn examine_all(
    blobs: &DiskBlobs,
    attempt: &Attempt,
    keys: &HashMap<KeyId, CertifiedKey>,
    artifacts: &[Artifact],
    go_version: &str,
    vouches: Vouches<'_>,
) -> Result<Vec<Evidence>, String> {
    let source = source_modules(blobs, &attempt.order.source);
    let source = source.map_err(|error| format!("the source's own files: {error}"))?;
    let common = Common { attempt, keys, go_version, source: source.as_ref(), vouches };
    artifacts.iter().map(|artifact| examine(blobs, &common, artifact)).collect()
}

fn examine(blobs: &DiskBlobs, common: &Common<'_>, artifact: &Artifact) -> Result<Evidence, String> {
    let name = &artifact.name;
    let wrong = |what: &str, error: &dyn std::fmt::Display| format!("{what} of {name}: {error}");
    let attestation = artifact.attestation.as_ref().ok_or_else(|| format!("{name} is not signed"))?;
    let certified = common.keys.get(&attestation.key).ok_or_else(|| {
        format!("{name} is signed by key {}, which is not in the fleet's keyring", attestation.key)
    })?;
    let key = VerifyingKey::from_spki(&certified.claim.spki).map_err(|e| wrong("the key", &e))?;
    let held = blobs.get(&artifact.digest).ok_or_else(|| format!("{name} is not held"))?;
    let content = Blob { path: held.path.clone() };
    let (bundle, provenance) = claim(blobs, attestation).map_err(|e| wrong("the provenance", &e))?;
    let file = File::open(&content.path).map_err(|e| wrong("the content", &e))?;
    let info = read_build_info(file).map_err(|e| wrong("the build info", &e))?;
    let sbom = blobs.read(&attestation.sbom.digest, SBOM_LEN_MAX).map_err(|e| wrong("the SBOM", &e))?;
    let sbom = Sbom::parse(&sbom).map_err(|e| wrong("the SBOM", &e))?;
    let reported = Reported {
        attempt: common.attempt,
        artifact,
        attestation,
        go_version: common.go_version,
        key: &key,
        content: &content,
        bundle: &bundle,
        provenance: &provenance,
        info: &info,
        sbom: &sbom,
        source: common.source,
        vouches: common.vouches,
    };
    examination::check(&reported).map_err(|doubt| format!("{name}: {doubt}"))?;
    tracing::debug!(name, key = %attestation.key, "a signed artifact was examined");
    provenance.evidence(attestation.key).map_err(|e| wrong("the provenance", &e))
}

/// The bundle, and what it claims.
fn claim(
    blobs: &DiskBlobs,
    attestation: &Attestation,
) -> Result<(EnvelopeBundle, Provenance), Box<dyn std::error::Error>> {
    let limit = ByteCount(ENVELOPE_LEN_MAX as u64);
    let bundle = EnvelopeBundle::parse(&blobs.read(&attestation.provenance.digest, limit)?)?;
    let provenance = Provenance::from_statement(bundle.envelope.claim())?;
    Ok((bundle, provenance))
}

/// A stored blob as something that is signed.
struct Blob {
    path: PathBuf,
}

impl Content for Blob {
    fn open(&self) -> io::Result<Box<dyn io::Read + '_>> {
        Ok(Box::new(File::open(&self.path)?))
    }
}
