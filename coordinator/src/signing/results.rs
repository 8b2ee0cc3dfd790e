//! Reads what the signers of a result say, and checks that it is said with good signatures and is no lie.
//!
//! Everything that needs bytes is done here: signatures, the executable's own build info, its bill of materials, the
//! source's `go.sum`. Whether the facts are those that were ordered is the machine's decision.

use std::{collections::HashMap, fs::File, io, path::PathBuf};

use meridian_core::{
    attestation::{Attestation, Evidence, OrderedSource},
    build::Artifact,
    digest::Digest,
    id::{ProjectId, TaskId},
    keyring::{CertifiedKey, KeyId},
    machine::{Machine, input::Outcome},
    quantity::ByteCount,
};
use meridian_store::{
    blob::DiskBlobs,
    tree::{self, TreeLimits},
};
use meridian_trust::{
    agreement::{self, GO_SUM_LEN_MAX, GoSums},
    bundle::EnvelopeBundle,
    dsse::ENVELOPE_LEN_MAX,
    executable::read_build_info,
    keys::{Signature, VerifyingKey},
    message::{Content, Message},
    sbom::{Sbom, Subject},
    statement::Provenance,
};

use crate::{handle::Handle, holder::Holder};

/// The largest bill of materials that is read.
const SBOM_LEN_MAX: ByteCount = ByteCount::mib(16);

/// Examines results. Clones share everything.
#[derive(Clone)]
pub(crate) struct Results {
    pub(crate) handle: Handle,
    pub(crate) holder: Holder,
}

impl Results {
    /// What the signers of a result's artifacts say, in the order of the artifacts; empty for a result without any.
    ///
    /// # Errors
    /// Why something that was said does not hold, for the task's history.
    pub(crate) async fn evidence(&self, task: &TaskId, outcome: &Outcome) -> Result<Vec<Evidence>, String> {
        let Outcome::Built { artifacts, .. } = outcome else { return Ok(Vec::new()) };
        let named: Vec<KeyId> =
            artifacts.iter().filter_map(|a| a.attestation.as_ref()).map(|a| a.key).collect();
        let read = move |machine: &Machine| -> HashMap<KeyId, CertifiedKey> {
            let known = named.iter().filter_map(|id| machine.durable().key(id));
            known.map(|key| (key.id(), key.clone())).collect()
        };
        let keys = self.handle.read(read).await.map_err(|error| error.to_string())?;
        let (artifacts, project) = (artifacts.clone(), task.build.project.clone());
        let examined = self.holder.inspect(move |blobs| Ok(examine_all(blobs, &project, &artifacts, &keys)));
        examined.await.map_err(|error| error.to_string())?
    }
}

fn examine_all(
    blobs: &DiskBlobs,
    project: &ProjectId,
    artifacts: &[Artifact],
    keys: &HashMap<KeyId, CertifiedKey>,
) -> Result<Vec<Evidence>, String> {
    let mut sums = HashMap::new();
    let examine = |artifact| examine(blobs, project, artifact, keys, &mut sums);
    artifacts.iter().map(examine).collect()
}

fn examine(
    blobs: &DiskBlobs,
    project: &ProjectId,
    artifact: &Artifact,
    keys: &HashMap<KeyId, CertifiedKey>,
    sums: &mut HashMap<Digest, GoSums>,
) -> Result<Evidence, String> {
    let name = &artifact.name;
    let wrong = |what: &str, error: &dyn std::fmt::Display| format!("{what} of {name}: {error}");
    let attestation = artifact.attestation.as_ref().ok_or_else(|| format!("{name} is not signed"))?;
    let certified = keys.get(&attestation.key).ok_or_else(|| {
        format!("{name} is signed by key {}, which is not in the fleet's keyring", attestation.key)
    })?;
    let key = VerifyingKey::from_spki(&certified.claim.spki).map_err(|e| wrong("the key", &e))?;
    let held = blobs.get(&artifact.digest).ok_or_else(|| format!("{name} is not held"))?;
    let content = Blob { path: held.path.clone() };
    check_signature(&key, artifact.digest, attestation, &content).map_err(|e| wrong("the signature", &e))?;
    let provenance = provenance(blobs, &key, attestation).map_err(|e| wrong("the provenance", &e))?;
    let file = File::open(&content.path).map_err(|e| wrong("the content", &e))?;
    let info = read_build_info(file).map_err(|e| wrong("the build info", &e))?;
    agreement::check(&provenance, &info).map_err(|e| wrong("the provenance", &e))?;
    let evidence = provenance.evidence(attestation.key).map_err(|e| wrong("the provenance", &e))?;
    if let OrderedSource::Tree { root, work_dir, workspace, .. } = &evidence.order.source {
        let sums = match sums.entry(*root) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let read = go_sums(blobs, root, work_dir, *workspace);
                new.insert(read.map_err(|e| wrong("the go.sum", &e))?)
            }
        };
        sums.check(&provenance.modules).map_err(|e| wrong("a module", &e))?;
    }
    let bill = blobs.read(&attestation.sbom.digest, SBOM_LEN_MAX).map_err(|e| wrong("the SBOM", &e))?;
    let bill = Sbom::parse(&bill).map_err(|e| wrong("the SBOM", &e))?;
    let (digest, size) = (artifact.digest, artifact.size);
    let subject = Subject { name: name.clone(), digest, size, build_info: info };
    bill.matches_subject(&subject).map_err(|e| wrong("the SBOM", &e))?;
    tracing::debug!(%project, name, key = %attestation.key, "a signed artifact was examined");
    Ok(evidence)
}

fn check_signature(
    key: &VerifyingKey,
    digest: Digest,
    attestation: &Attestation,
    content: &Blob,
) -> Result<(), Box<dyn std::error::Error>> {
    let signature = Signature::parse(key.algorithm(), &attestation.signature)?;
    // Its digest was checked when it came in; an Ed25519 signature is over the bytes, which are read again.
    Ok(key.verify(&Message::told(digest, content), &signature)?)
}

fn provenance(
    blobs: &DiskBlobs,
    key: &VerifyingKey,
    attestation: &Attestation,
) -> Result<Provenance, Box<dyn std::error::Error>> {
    let limit = ByteCount(ENVELOPE_LEN_MAX as u64);
    let bundle = EnvelopeBundle::parse(&blobs.read(&attestation.provenance.digest, limit)?)?;
    Ok(Provenance::open(&bundle.envelope, key)?)
}

/// The hashes that the source demands: of the module that is built, or of all that a workspace holds.
fn go_sums(
    blobs: &DiskBlobs,
    root: &Digest,
    work_dir: &str,
    workspace: bool,
) -> Result<GoSums, Box<dyn std::error::Error>> {
    let tree = tree::load(blobs, root, &TreeLimits::default())?;
    let mut sums = GoSums::default();
    for (path, file) in &tree.files {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let counts = match name {
            "go.sum" => workspace || is_at_or_above(directory, work_dir),
            "go.work.sum" => workspace && directory.is_empty(),
            _ => false,
        };
        if counts {
            let bytes = blobs.read(&file.digest, ByteCount(GO_SUM_LEN_MAX as u64))?;
            sums.add(&String::from_utf8_lossy(&bytes));
        }
    }
    Ok(sums)
}

/// Whether a directory holds `below`, or is it.
fn is_at_or_above(directory: &str, below: &str) -> bool {
    directory.is_empty()
        || below.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
