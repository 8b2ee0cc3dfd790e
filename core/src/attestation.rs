//! What a signer says about an artifact, and whether it is what was ordered.
//!
//! Before this comes cryptography: whoever makes an [`Evidence`] has checked that one key signed both the artifact
//! and the statement about it, and has read the statement. Here the facts are compared with what the coordinator
//! ordered. **Each rule stands in [`RULES`] by itself**, so that a test can leave one out and see a forgery pass.
//!
//! Not here: signatures and their encodings (`meridian-trust`).

use crate::{
    build::{Artifact, BuildFlags, GitOrigin, Receipt, Toolchain},
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, Fence, PlacementNumber, TaskId},
    keyring::{CertifiedKey, KeyHolder, KeyId, KeyRefusal, KeyUse},
    quantity::ByteCount,
    requester::Requester,
    sandbox::{Sandbox, SandboxDemand},
    time::Wall,
};

/// Longest signature that is kept, in bytes: DER of two P-256 numbers has at most 72, Ed25519 has 64.
pub const SIGNATURE_LEN_MAX: usize = 80;

/// What an agent's signer may sign: one task under one lease, with everything that decides what comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningOrder {
    /// The task.
    pub task: TaskId,
    /// The lease.
    pub fence: Fence,
    /// Who holds it.
    pub agent: AgentId,
    /// The placement that put the task there.
    pub placement: PlacementNumber,
    /// The digest of the whole request.
    pub request: Digest,
    /// What is built.
    pub source: OrderedSource,
    /// Package paths relative to the source's work directory.
    pub packages: Vec<String>,
    /// For which platform.
    pub platform: Platform,
    /// Which Go was asked for.
    pub toolchain: Toolchain,
    /// The exact flags.
    pub flags: BuildFlags,
    /// The artifact's base name, when the request overrides Go's own choice.
    pub name: Option<String>,
    /// The version in names and stamps; empty for a module source.
    pub version: String,
    /// Whether it is compiled from nothing.
    pub from_scratch: bool,
    /// Who asked for it, where that was kept.
    pub requester: Option<Requester>,
}

/// A source that is resolved: it means one set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderedSource {
    /// A package of a module.
    Module {
        /// The package's import path.
        package: String,
        /// What was asked for: `latest`, a version, a branch.
        query: String,
        /// The module.
        module: String,
        /// Its canonical version.
        version: String,
        /// The `h1:` of its zip.
        sum: String,
    },
    /// A tree of files.
    Tree {
        /// The digest of the root directory.
        root: Digest,
        /// Where the module lies in the tree.
        work_dir: String,
        /// Whether a `go.work` at the tree's root applies.
        workspace: bool,
        /// Where the tree came from, when it is a commit.
        origin: Option<GitOrigin>,
    },
}

/// What a signer said about an artifact: its signature, and where the documents lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The key that signed.
    pub key: KeyId,
    /// The signature over the artifact's bytes: DER for ECDSA, 64 bytes for Ed25519.
    pub signature: Vec<u8>,
    /// The signed statement of how it was built: a DSSE envelope.
    pub provenance: Document,
    /// What it is made of: CycloneDX.
    pub sbom: Document,
}

impl Attestation {
    /// Every document of it.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        [&self.provenance, &self.sbom].into_iter()
    }
}

/// A blob that belongs to an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its content.
    pub digest: Digest,
    /// Its size.
    pub size: ByteCount,
    /// Who holds it.
    pub receipts: Vec<Receipt>,
}

impl Document {
    /// Whether a holder says that it keeps it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        is_held(&self.receipts, self.digest, self.size)
    }
}

fn is_held(receipts: &[Receipt], digest: Digest, size: ByteCount) -> bool {
    receipts.iter().any(|receipt| receipt.digest == digest && receipt.size == size)
}

/// What was read from an artifact's attestation once its signatures were found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The key that signed the artifact and the statement.
    pub key: KeyId,
    /// The artifact's name in the statement.
    pub name: String,
    /// The artifact's digest in the statement.
    pub digest: Digest,
    /// The one of the build's packages that the artifact is.
    pub package: String,
    /// The order under which the statement says it was built.
    pub order: SigningOrder,
    /// What the statement says stood around the compiler.
    pub sandbox: Sandbox,
}

/// An artifact with what is known of it, as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Attested<'a> {
    /// What was ordered.
    pub order: &'a SigningOrder,
    /// What came.
    pub artifact: &'a Artifact,
    /// What its signer says.
    pub evidence: &'a Evidence,
    /// What must stand around the compiler.
    pub demand: SandboxDemand,
    /// What the agent said that it has.
    pub offered: &'a Sandbox,
    /// The key in the fleet's keyring, if it is there.
    pub key: Option<&'a CertifiedKey>,
    /// When.
    pub at: Wall,
}

/// Why an artifact is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// Nothing was signed.
    #[error("{0} is not signed")]
    Unsigned(String),
    /// The fleet does not vouch for the key.
    #[error("key {0} is not in the fleet's keyring")]
    UnknownKey(KeyId),
    /// The key does not count.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The attestation was signed by another key than it says.
    #[error("{0} names another key than the one that signed it")]
    OtherKey(String),
    /// No holder keeps a document.
    #[error("no holder has a receipt for the {document} of {artifact}")]
    NotHeld {
        /// Which document.
        document: &'static str,
        /// Of which artifact.
        artifact: String,
    },
    /// It was built bare.
    #[error("{0} was built without a sandbox, and the fleet demands one")]
    Unsandboxed(String),
    /// The statement promises a sandbox that the agent never said it had.
    #[error("{artifact} claims the sandbox {said}, and the agent has {offered}")]
    SandboxClaimed {
        /// Of which artifact.
        artifact: String,
        /// What the statement says.
        said: Sandbox,
        /// What the agent's offer says.
        offered: Sandbox,
    },
    /// The statement differs from what is known.
    #[error("the provenance of {artifact} names another {what}")]
    Differs {
        /// Of which artifact.
        artifact: String,
        /// In what.
        what: &'static str,
    },
}

/// One rule: its name, and what it demands.
pub type Rule = (&'static str, fn(&Attested<'_>) -> Result<(), AttestationError>);

/// Every rule that an attested artifact must keep.
pub const RULES: &[Rule] = &[
    ("the key is in the keyring", |a| known(a).map(|_| ())),
    ("the key is for artifacts", |a| key(a, |refusal| matches!(refusal, KeyRefusal::Use(_)))),
    ("the key is the agent's", |a| key(a, |refusal| matches!(refusal, KeyRefusal::Holder { .. }))),
    ("the key's time has come", |a| key(a, |refusal| matches!(refusal, KeyRefusal::NotYetValid(_)))),
    ("the key's time is not over", |a| key(a, |refusal| matches!(refusal, KeyRefusal::Expired(_)))),
    ("the key is not revoked", |a| key(a, |refusal| matches!(refusal, KeyRefusal::Revoked(_)))),
    ("the attestation names the key that signed", named_key),
    ("the artifact is held", |a| {
        let Artifact { name, digest, size, receipts, .. } = a.artifact;
        let is_held = is_held(receipts, *digest, *size);
        let lacks = || AttestationError::NotHeld { document: "content", artifact: name.clone() };
        is_held.then_some(()).ok_or_else(lacks)
    }),
    ("the provenance is held", |a| held(a, "provenance", |attestation| &attestation.provenance)),
    ("the SBOM is held", |a| held(a, "SBOM", |attestation| &attestation.sbom)),
    ("the statement is about this content", |a| same(a, "digest", a.evidence.digest == a.artifact.digest)),
    ("the statement is about this name", |a| same(a, "name", a.evidence.name == a.artifact.name)),
    ("the statement is about this package", |a| same(a, "package", a.evidence.package == a.artifact.package)),
    ("the package is one of the ordered", |a| {
        let package = &a.artifact.package;
        let is_ordered = match &a.order.source {
            OrderedSource::Module { package: ordered, .. } => package == ordered,
            OrderedSource::Tree { .. } => a.order.packages.contains(package),
        };
        same(a, "package than the ordered", is_ordered)
    }),
    ("the task", |a| same(a, "task", a.evidence.order.task == a.order.task)),
    ("the lease", |a| same(a, "lease", a.evidence.order.fence == a.order.fence)),
    ("the agent", |a| same(a, "agent", a.evidence.order.agent == a.order.agent)),
    ("the placement", |a| same(a, "placement", a.evidence.order.placement == a.order.placement)),
    ("the request", |a| same(a, "request", a.evidence.order.request == a.order.request)),
    ("the source", |a| same(a, "source", a.evidence.order.source == a.order.source)),
    ("the packages", |a| same(a, "list of packages", a.evidence.order.packages == a.order.packages)),
    ("the platform", |a| same(a, "platform", a.evidence.order.platform == a.order.platform)),
    ("the toolchain", |a| same(a, "toolchain", a.evidence.order.toolchain == a.order.toolchain)),
    ("the flags", |a| same(a, "set of flags", a.evidence.order.flags == a.order.flags)),
    ("the base name", |a| same(a, "base name", a.evidence.order.name == a.order.name)),
    ("the version", |a| same(a, "version", a.evidence.order.version == a.order.version)),
    ("from scratch", |a| same(a, "start", a.evidence.order.from_scratch == a.order.from_scratch)),
    ("the requester", |a| same(a, "requester", a.evidence.order.requester == a.order.requester)),
    ("a sandbox where one is demanded", sandboxed),
    ("no more of a sandbox than the agent has", claimed),
];

/// Whether an attested artifact keeps every rule.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(attested: &Attested<'_>) -> Result<(), AttestationError> {
    RULES.iter().try_for_each(|(_, rule)| rule(attested))
}

fn known<'a>(attested: &Attested<'a>) -> Result<&'a CertifiedKey, AttestationError> {
    attested.key.ok_or(AttestationError::UnknownKey(attested.evidence.key))
}

/// One of the reasons for which a key may not count; the others have rules of their own.
fn key(attested: &Attested<'_>, is_mine: fn(&KeyRefusal) -> bool) -> Result<(), AttestationError> {
    let Some(key) = attested.key else { return Ok(()) };
    let holder = KeyHolder::Agent(attested.order.agent.clone());
    for refusal in key.refusals(KeyUse::Artifact, &holder, attested.at) {
        if is_mine(&refusal) {
            return Err(refusal.into());
        }
    }
    Ok(())
}

fn named_key(attested: &Attested<'_>) -> Result<(), AttestationError> {
    let name = &attested.artifact.name;
    match &attested.artifact.attestation {
        None => Err(AttestationError::Unsigned(name.clone())),
        Some(attestation) if attestation.key == attested.evidence.key => Ok(()),
        Some(_) => Err(AttestationError::OtherKey(name.clone())),
    }
}

fn held(
    attested: &Attested<'_>,
    document: &'static str,
    of: fn(&Attestation) -> &Document,
) -> Result<(), AttestationError> {
    let artifact = &attested.artifact.name;
    match &attested.artifact.attestation {
        Some(attestation) if !of(attestation).is_held() => {
            Err(AttestationError::NotHeld { document, artifact: artifact.clone() })
        }
        _ => Ok(()),
    }
}

fn sandboxed(attested: &Attested<'_>) -> Result<(), AttestationError> {
    if attested.evidence.sandbox.meets(attested.demand) {
        return Ok(());
    }
    Err(AttestationError::Unsandboxed(attested.artifact.name.clone()))
}

fn claimed(attested: &Attested<'_>) -> Result<(), AttestationError> {
    let (said, offered) = (&attested.evidence.sandbox, attested.offered);
    if said.is_within(offered) {
        return Ok(());
    }
    let artifact = attested.artifact.name.clone();
    Err(AttestationError::SandboxClaimed { artifact, said: said.clone(), offered: offered.clone() })
}

fn same(attested: &Attested<'_>, what: &'static str, is_same: bool) -> Result<(), AttestationError> {
    if is_same {
        return Ok(());
    }
    Err(AttestationError::Differs { artifact: attested.artifact.name.clone(), what })
}

#[cfg(test)]
#[path = "attestation_tests.rs"]
mod tests;
