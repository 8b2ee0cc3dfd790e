//! One artifact of a result, read and not believed, and the rules that it must keep before its statement counts.
//!
//! What cannot be read at all (no signature, a key that the keyring does not have, a bundle that is none, a statement
//! in another form than its one) never comes this far. **Each rule stands in [`RULES`] by itself**, so that a test can
//! leave one out and see a forgery pass; nothing outside of tests takes less than all of them.
//!
//! Not here: whether the facts are those that were ordered. That is the machine's decision, by rules of its own.

use meridian_core::{
    attestation::{Attestation, OrderedSource, SigningOrder},
    build::{Artifact, Receipt, artifact_name_of, version_named},
    id::ProjectId,
    machine::input::AgentOffer,
    time::Wall,
};
use meridian_trust::{
    agreement::{self, release_and_host},
    bundle::EnvelopeBundle,
    dsse::EnvelopeError,
    executable::BuildInfo,
    keys::{Signature, SignatureError, VerifyingKey},
    message::{Content, Message},
    modfiles::SourceModules,
    order::CLOCK_SKEW_MAX,
    sbom::{Sbom, Subject},
    statement::{PAYLOAD_TYPE, Provenance, ToolchainUsed},
    timestamp::display,
};

/// What the coordinator itself knows of an attempt.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// What was ordered.
    pub(super) order: SigningOrder,
    /// When the lease was granted.
    pub(super) leased: Wall,
    /// What the agent said of itself when it attached.
    pub(super) offer: AgentOffer,
    /// When the report came.
    pub(super) now: Wall,
}

/// Who can tell the coordinator's own receipts from others.
pub(super) type Vouches<'a> = &'a dyn Fn(&ProjectId, &Receipt) -> bool;

/// Everything about one artifact that was read.
pub(super) struct Reported<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) artifact: &'a Artifact,
    pub(super) attestation: &'a Attestation,
    /// The Go that the report names beside the artifacts.
    pub(super) go_version: &'a str,
    /// The key that the attestation names.
    pub(super) key: &'a VerifyingKey,
    pub(super) content: &'a dyn Content,
    pub(super) bundle: &'a EnvelopeBundle,
    /// What the bundle claims.
    pub(super) provenance: &'a Provenance,
    pub(super) info: &'a BuildInfo,
    pub(super) sbom: &'a Sbom,
    /// The source's own word on its modules, where the source is a tree.
    pub(super) source: Option<&'a SourceModules>,
    pub(super) vouches: Vouches<'a>,
}

/// Why an artifact is not believed; the text is for the task's history.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the signature: {0}")]
    Signature(#[from] SignatureError),
    #[error("the provenance: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the provenance: {0}")]
    Agreement(agreement::Disagreement),
    #[error("a module: {0}")]
    Module(agreement::Disagreement),
    #[error("the program: {0}")]
    Program(agreement::Disagreement),
    #[error("it is called {found:?}, and what was ordered makes {wanted:?}")]
    Name { found: String, wanted: String },
    #[error("the SBOM: {0}")]
    Sbom(#[from] meridian_trust::sbom::SbomMismatch),
    #[error("the report: it names {found:?}, and the executable {wanted:?}")]
    GoVersion { found: String, wanted: String },
    #[error("a receipt of {0} was not given by its holder for this project")]
    Receipt(&'static str),
    #[error("the provenance: it was built from {} to {}, and the lease is from {}", display(*from), display(*to), display(*leased))]
    Times { from: Wall, to: Wall, leased: Wall },
    #[error("the provenance: the builder's {what} is {found:?}, and the agent attached with {wanted:?}")]
    Builder { what: &'static str, found: String, wanted: String },
    #[error("the provenance: it names the toolchain's zip, whose digest nobody can check")]
    Zip,
}

/// One rule: its name, and what it demands.
pub(super) type Rule = (&'static str, fn(&Reported<'_>) -> Result<(), Doubt>);

/// Every rule that an artifact must keep.
pub(super) const RULES: &[Rule] = &[
    ("the key signed the content", content_signed),
    ("the key signed the statement", |r| {
        r.bundle.envelope.open(r.key, PAYLOAD_TYPE)?;
        Ok(())
    }),
    ("the statement agrees with the executable", |r| {
        agreement::check(r.provenance, r.info).map_err(Doubt::Agreement)
    }),
    ("the report names the Go of the executable", go_version),
    ("the modules are those of the source", |r| {
        r.source.map_or(Ok(()), |source| source.check(&r.provenance.modules)).map_err(Doubt::Module)
    }),
    ("the executable is the program of its package", |r| {
        let package = &r.artifact.package;
        r.source.map_or(Ok(()), |source| source.check_main(package, r.info)).map_err(Doubt::Program)
    }),
    ("the name is the program's, its version's and its platform's", name),
    ("the SBOM is the executable's", sbom),
    ("the receipts of the artifact are the holder's", |r| receipts(r, "the artifact", &r.artifact.receipts)),
    ("the receipts of the provenance are the holder's", |r| {
        receipts(r, "the provenance", &r.attestation.provenance.receipts)
    }),
    ("the receipts of the SBOM are the holder's", |r| receipts(r, "the SBOM", &r.attestation.sbom.receipts)),
    ("the build lies within its lease", times),
    ("the builder's version is the agent's", |r| {
        builder("version", &r.provenance.builder_version, &r.attempt.offer.version)
    }),
    ("the toolchain is for the agent's host", toolchain_host),
    ("no digest is named that nobody can check", |r| match r.provenance.toolchain {
        ToolchainUsed::Module { zip: Some(_), .. } => Err(Doubt::Zip),
        _ => Ok(()),
    }),
];

/// Whether an artifact keeps every rule.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check(reported: &Reported<'_>) -> Result<(), Doubt> {
    RULES.iter().try_for_each(|(_, rule)| rule(reported))
}

fn content_signed(reported: &Reported<'_>) -> Result<(), Doubt> {
    let Reported { key, artifact, attestation, content, .. } = reported;
    let signature = Signature::parse(key.algorithm(), &attestation.signature)?;
    // Its digest was checked when it came in; an Ed25519 signature is over the bytes, which are read again.
    Ok(key.verify(&Message::told(artifact.digest, *content), &signature)?)
}

/// The signer makes the name of the same facts; whoever has its key could have it sign another.
fn name(reported: &Reported<'_>) -> Result<(), Doubt> {
    let order = &reported.attempt.order;
    let resolved = match &order.source {
        OrderedSource::Module { version, .. } => Some(version.as_str()),
        OrderedSource::Tree { .. } => None,
    };
    let version = version_named(&order.version, resolved);
    let found = reported.artifact.name.clone();
    let wanted = artifact_name_of(order.name.as_deref(), &reported.info.path, version, &order.platform);
    if found == wanted { Ok(()) } else { Err(Doubt::Name { found, wanted }) }
}

fn go_version(reported: &Reported<'_>) -> Result<(), Doubt> {
    // Experiments follow the version after a blank.
    let release = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let (found, wanted) = (release(reported.go_version), release(&reported.info.go_version));
    if found == wanted { Ok(()) } else { Err(Doubt::GoVersion { found, wanted }) }
}

fn sbom(reported: &Reported<'_>) -> Result<(), Doubt> {
    let Artifact { name, digest, size, .. } = reported.artifact;
    let subject =
        Subject { name: name.clone(), digest: *digest, size: *size, build_info: reported.info.clone() };
    Ok(reported.sbom.matches_subject(&subject)?)
}

fn receipts(reported: &Reported<'_>, of: &'static str, receipts: &[Receipt]) -> Result<(), Doubt> {
    let project = &reported.attempt.order.task.build.project;
    let is_good = receipts.iter().all(|receipt| (reported.vouches)(project, receipt));
    if is_good { Ok(()) } else { Err(Doubt::Receipt(of)) }
}

/// Clocks may differ by [`CLOCK_SKEW_MAX`]; an agent whose clock is off by far less gets no work already.
fn times(reported: &Reported<'_>) -> Result<(), Doubt> {
    let (Attempt { leased, now, .. }, provenance) = (reported.attempt, reported.provenance);
    let (from, to) = (provenance.started, provenance.finished);
    if from.after(CLOCK_SKEW_MAX) < *leased || to > now.after(CLOCK_SKEW_MAX) {
        return Err(Doubt::Times { from, to, leased: *leased });
    }
    Ok(())
}

fn toolchain_host(reported: &Reported<'_>) -> Result<(), Doubt> {
    let ToolchainUsed::Module { version, .. } = &reported.provenance.toolchain else { return Ok(()) };
    let host = reported.attempt.offer.host.replacen('/', "-", 1);
    builder("host", release_and_host(version).1, &host)
}

fn builder(what: &'static str, found: &str, wanted: &str) -> Result<(), Doubt> {
    if found == wanted {
        return Ok(());
    }
    Err(Doubt::Builder { what, found: found.to_owned(), wanted: wanted.to_owned() })
}

#[cfg(test)]
#[path = "examination_tests.rs"]
mod tests;
