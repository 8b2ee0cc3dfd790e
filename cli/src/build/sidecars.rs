//! Writes what stands beside each artifact, and verifies all of it as anybody could.
//!
//! The files are those that stock tools take ([`meridian_trust::sidecar`]); the keyring and the acceptances of all builds
//! of the directory come together in one `keyring.json` ([`super::keyring_file`]). **Nothing is called done that `meridian verify` would refuse**: the
//! same verification runs here, over the files that were written, against the root that was pinned on joining.

use std::{fs, io, path::Path};

use meridian_core::{attestation::Attestation, digest::Digest, time::Wall};
use meridian_proto::v1;
use meridian_store::blob::{BlobError, DiskBlobs, hash_file};
use meridian_trust::{
    bundle::MessageBundle,
    executable::read_build_info,
    keyring::{KeyringFile, Root},
    keys::Signature,
    message::{Content, Message},
    sidecar::{KEYRING_FILE, Sidecar, signature_text},
    verify::{Bill, Files, Policy, Report, Verifier},
};

use tonic::Status;

use crate::{
    build::{
        keyring_file::{self, Fresh},
        patience::Patience,
        report,
        watch::{Doing, wait_and_reconnect},
    },
    command::print,
    dist::Dist,
    fleet::{
        client::{ANSWER_DEADLINE, explain_status, is_away},
        select::Fleet,
    },
    given_file::{self, DOCUMENT_LEN_MAX},
    trouble::Trouble,
};

/// An artifact whose documents lie in a store.
#[derive(Debug, Clone)]
pub struct Attested {
    /// Its name.
    pub name: String,
    /// Its content.
    pub digest: Digest,
    /// What its signer said.
    pub attestation: Attestation,
}

impl Attested {
    /// Reads an artifact of a build; `None` when it is not signed.
    ///
    /// # Errors
    /// When the coordinator sent something that is none.
    pub fn read(artifact: &v1::Artifact) -> Result<Option<Self>, Trouble> {
        let malformed = |error: &dyn std::fmt::Display| {
            Trouble::broken(format_args!("the coordinator sent a malformed {}: {error}", artifact.name))
        };
        let Some(attestation) = artifact.attestation.clone() else { return Ok(None) };
        Ok(Some(Self {
            name: artifact.name.clone(),
            digest: Digest::from_slice(&artifact.digest).map_err(|error| malformed(&error))?,
            attestation: attestation.try_into().map_err(|error| malformed(&error))?,
        }))
    }

    /// The blobs that have to be fetched for it.
    pub fn documents(&self) -> impl Iterator<Item = Digest> {
        self.attestation.documents().map(|document| document.digest)
    }
}

/// The keyring file of a command's builds. A coordinator that is away is waited for, as for the artifacts.
///
/// # Errors
/// When the coordinator does not give it.
pub async fn keyring(
    fleet: &mut Fleet,
    builds: &[&str],
    report: &mut report::Report,
) -> Result<KeyringFile, Trouble> {
    let mut whole: Option<KeyringFile> = None;
    for build in builds {
        let mut file = keyring_of(fleet, build, report).await?;
        if let Some(earlier) = whole {
            file.acceptances.splice(0..0, earlier.acceptances);
        }
        whole = Some(file);
    }
    whole.ok_or_else(|| Trouble::broken("there is no build to fetch a keyring for"))
}

async fn keyring_of(
    fleet: &mut Fleet,
    build: &str,
    report: &mut report::Report,
) -> Result<KeyringFile, Trouble> {
    let mut patience = Patience::default();
    loop {
        let request = v1::BuildKeyringRequest { build: build.to_owned() };
        let mut client = fleet.client.builds();
        let status = match tokio::time::timeout(ANSWER_DEADLINE, client.keyring(request)).await {
            Ok(Ok(answer)) => {
                return KeyringFile::parse(&answer.into_inner().file).map_err(Trouble::broken);
            }
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        if !is_away(&status) {
            return Err(explain_status("fetch the keyring", &status));
        }
        wait_and_reconnect(fleet, Doing::Fetching, report, &mut patience, &status).await?;
    }
}

/// Writes the files beside each artifact and `keyring.json`.
///
/// # Errors
/// When a document is not here or is malformed, or a file cannot be written.
pub fn write(
    dist: &Dist,
    blobs: &DiskBlobs,
    attested: &[Attested],
    keyring: &KeyringFile,
    root: &Root,
) -> Result<(), Trouble> {
    let fresh = Fresh::open(keyring, root).map_err(|error| {
        Trouble::broken(format_args!("the coordinator's keyring cannot be used: {error}"))
            .hint("join the fleet again")
    })?;
    for artifact in attested {
        let Attested { name, digest, attestation } = artifact;
        let wrong = |error: &dyn std::fmt::Display| {
            Trouble::broken(format_args!("the attestation of {name} cannot be used: {error}"))
        };
        let entry = fresh.keyring.entry(attestation.key).map_err(|error| wrong(&error))?;
        let signature = Signature::parse(entry.key.algorithm(), &attestation.signature);
        let signature = signature.map_err(|error| wrong(&error))?;
        let document = |digest: &Digest| -> Result<Vec<u8>, BlobError> {
            blobs.read(digest, DOCUMENT_LEN_MAX).map(|bytes| bytes.to_vec())
        };
        for sidecar in Sidecar::ALL {
            let content = match sidecar {
                Sidecar::Signature => signature_text(&signature).into_bytes(),
                Sidecar::PublicKey => entry.key.to_pem().into_bytes(),
                Sidecar::MessageBundle => MessageBundle::new(&entry.key, *digest, &signature).to_json(),
                Sidecar::Provenance => {
                    document(&attestation.provenance.digest).map_err(|error| wrong(&error))?
                }
                Sidecar::Sbom => document(&attestation.sbom.digest).map_err(|error| wrong(&error))?,
            };
            dist.place(&sidecar.file_name(name), &content).map_err(Trouble::broken)?;
        }
    }
    // Another build may write here at the same time; each takes over what the other has left.
    let _alone = dist.alone().map_err(Trouble::broken)?;
    let gathered = keyring_file::gather(dist.directory(), &fresh, root).map_err(Trouble::broken)?;
    if let Some(told) = gathered.replaced {
        print::aside(&told);
    }
    dist.place(KEYRING_FILE, &gathered.file.to_json()).map_err(Trouble::broken)
}

/// Verifies an artifact of a directory with what stands beside it there.
///
/// # Errors
/// When the artifact itself cannot be read.
pub fn verify(verifier: &Verifier, artifact: &Path) -> io::Result<Report> {
    let name = artifact.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |sidecar: Sidecar| given_file::read(&artifact.with_file_name(sidecar.file_name(&name)));
    let (digest, size) = hash_file(artifact)?;
    let content = OnDisk(artifact);
    let (signature, public_key) = (beside(Sidecar::Signature)?, beside(Sidecar::PublicKey)?);
    let (message_bundle, provenance) = (beside(Sidecar::MessageBundle)?, beside(Sidecar::Provenance)?);
    let sbom = beside(Sidecar::Sbom)?;
    let build_info = read_build_info(fs::File::open(artifact)?);
    let files = Files {
        signature: signature.as_deref(),
        public_key: public_key.as_deref(),
        message_bundle: message_bundle.as_deref(),
        provenance: provenance.as_deref(),
        sbom: sbom.as_deref().map(|json| Bill { json, size, build_info: build_info.as_ref() }),
    };
    Ok(verifier.verify(&name, &Message::told(digest, &content), &files))
}

/// Verifies every artifact that was just written.
///
/// # Errors
/// When one is not to be trusted, with the first reason.
pub fn verify_all(directory: &Path, attested: &[Attested], root: Root, now: Wall) -> Result<(), Trouble> {
    if attested.is_empty() {
        return Ok(());
    }
    let keyring = fs::read(directory.join(KEYRING_FILE)).map_err(Trouble::broken)?;
    let verifier = Verifier::new(root, Some(&keyring), Policy::default(), now);
    for artifact in attested {
        let report = verify(&verifier, &directory.join(&artifact.name)).map_err(Trouble::broken)?;
        if let Some(check) = report.unmet().next() {
            return Err(Trouble::broken(format_args!(
                "{} does not verify: {}: {}",
                artifact.name,
                check.name,
                check.outcome.sentence()
            )));
        }
    }
    Ok(())
}

/// A file as something that was signed.
struct OnDisk<'a>(&'a Path);

impl Content for OnDisk<'_> {
    fn open(&self) -> io::Result<Box<dyn io::Read + '_>> {
        Ok(Box::new(fs::File::open(self.0)?))
    }
}
