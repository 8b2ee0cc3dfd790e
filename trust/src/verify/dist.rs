//! A `dist/` for tests, with a knob for everything that may be wrong with it.

use meridian_core::{
    digest::Digest,
    id::{FleetName, JournalIndex},
    quantity::ByteCount,
    time::Wall,
};

use super::{Bill, CheckName, Files, Outcome, Policy, Report, Verifier};
use crate::{
    acceptance::Acceptance,
    bundle::{EnvelopeBundle, MessageBundle},
    dsse::Envelope,
    executable::{BuildInfo, Module},
    holder::Holder,
    keyring::{Entry, Grade, KeyUse, Keyring, KeyringFile, Root},
    keys::{Algorithm, Signer as _, SigningKey},
    message::Message,
    sbom::{Sbom, Subject},
    sidecar::signature_text,
    statement::{Provenance, tests::provenance},
};

pub(super) const NAME: &str = "web_1.2.3_linux_amd64";
pub(super) const CONTENT: &[u8] = b"an artifact";
pub(super) const ACCEPTED: Wall = Wall(1_795_342_290_000);
/// When it is verified: long after the keys' time.
pub(super) const NOW: Wall = Wall(ACCEPTED.0 + 86_400_000);

/// Everything that decides what is written; a test changes what it is about.
pub(super) struct Plan {
    /// Signs the artifact and its provenance.
    pub(super) signer: SigningKey,
    /// What the keyring says of that key.
    pub(super) entry: Entry,
    /// Signs the acceptances.
    pub(super) accepter: SigningKey,
    /// What the keyring says of that key.
    pub(super) accepter_entry: Entry,
    /// Signs the keyring.
    pub(super) root: SigningKey,
    /// Which version of the keyring it is.
    pub(super) version: u64,
    /// When the keyring was issued.
    pub(super) issued: Option<Wall>,
    /// The keyring's fleet.
    pub(super) fleet: FleetName,
    /// What the signer says of the artifact.
    pub(super) provenance: Provenance,
    /// Changes the acceptance before it is signed.
    pub(super) accept: fn(&mut Acceptance),
}

/// The files, as a verifier finds them.
pub(super) struct Dist {
    pub(super) content: Vec<u8>,
    pub(super) signature: Option<Vec<u8>>,
    pub(super) public_key: Option<Vec<u8>>,
    pub(super) message_bundle: Option<Vec<u8>>,
    pub(super) provenance: Option<Vec<u8>>,
    pub(super) sbom: Option<Vec<u8>>,
    pub(super) keyring: Option<Vec<u8>>,
    /// What the artifact says of its own build. The content of these tests is no executable.
    build_info: BuildInfo,
}

pub(super) fn key(seed: u8, algorithm: Algorithm) -> SigningKey {
    SigningKey::from_seed(algorithm, &[seed; 32]).unwrap()
}

pub(super) fn entry(key: &SigningKey, key_use: KeyUse, holder: &str) -> Entry {
    Entry {
        key: key.public().clone(),
        key_use,
        holder: Holder::new(holder).unwrap(),
        grade: Grade::Production,
        not_before: Wall(ACCEPTED.0 - 1_000),
        not_after: Wall(ACCEPTED.0 + 1_000),
        revoked: None,
    }
}

/// What an executable would say.
fn build_info() -> BuildInfo {
    let module = |path: &str, version: &str| Module {
        path: path.to_owned(),
        version: version.to_owned(),
        sum: format!("h1:{}=", "A".repeat(43)),
        replace: None,
    };
    BuildInfo {
        go_version: "go1.27.3".to_owned(),
        path: "example.org/web".to_owned(),
        main: Some(Module { sum: String::new(), ..module("example.org/web", "(devel)") }),
        deps: vec![module("example.com/a", "v1.2.3"), module("example.com/b", "v0.1.0")],
        settings: Vec::new(),
    }
}

/// The root that the verifier has pinned.
pub(super) fn pinned() -> Root {
    Root::new(key(1, Algorithm::EcdsaP256).public().clone(), Some(FleetName::new("acme").unwrap())).unwrap()
}

/// The sample statement of a build that a member asked for.
fn requested() -> Provenance {
    let mut provenance = provenance();
    provenance.internal.requester = "spiffe://acme/team/web/member/ci".parse().ok();
    provenance
}

impl Plan {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let (signer, accepter) = (key(2, algorithm), key(3, Algorithm::EcdsaP256));
        Self {
            entry: entry(&signer, KeyUse::Artifact, "spiffe://acme/agent/eu-central/a1"),
            accepter_entry: entry(&accepter, KeyUse::Acceptance, "spiffe://acme/coordinator"),
            signer,
            accepter,
            root: key(1, Algorithm::EcdsaP256),
            version: 42,
            issued: Some(ACCEPTED),
            fleet: FleetName::new("acme").unwrap(),
            provenance: requested(),
            accept: |_| {},
        }
    }

    pub(super) fn make(&self) -> Dist {
        let envelope = self.provenance.sign(&self.signer).unwrap();
        let provenance = EnvelopeBundle { envelope }.to_json();
        let mut acceptance = Acceptance {
            accepted: ACCEPTED,
            artifact: Digest::of(CONTENT),
            fence: self.provenance.internal.fence,
            fleet: FleetName::new("acme").unwrap(),
            provenance: Digest::of(&provenance),
            task: self.provenance.internal.task.clone(),
        };
        (self.accept)(&mut acceptance);
        let file = KeyringFile::new(self.keyring(), vec![acceptance.sign(&self.accepter).unwrap()]);
        let message = Message::of(CONTENT);
        let signature = self.signer.sign(&message).unwrap();
        let bundle = MessageBundle::new(self.signer.public(), message.digest(), &signature);
        let subject = Subject {
            name: NAME.to_owned(),
            digest: message.digest(),
            size: ByteCount(CONTENT.len() as u64),
            build_info: build_info(),
        };
        Dist {
            content: CONTENT.to_vec(),
            signature: Some(signature_text(&signature).into_bytes()),
            public_key: Some(self.signer.public().to_pem().into_bytes()),
            message_bundle: Some(bundle.to_json()),
            provenance: Some(provenance),
            sbom: Some(Sbom::of(&subject).unwrap().to_json().unwrap().into_bytes()),
            keyring: Some(file.to_json()),
            build_info: subject.build_info,
        }
    }

    /// The keyring alone, as the root signed it.
    pub(super) fn keyring(&self) -> Envelope {
        let entries = [self.entry.clone(), self.accepter_entry.clone()];
        let keyring = Keyring::new(self.fleet.clone(), JournalIndex(self.version), entries).unwrap();
        let keyring = self.issued.map_or(keyring.clone(), |issued| keyring.issued_at(issued));
        keyring.sign(&self.root).unwrap()
    }
}

impl Dist {
    pub(super) fn files(&self) -> Files<'_> {
        Files {
            signature: self.signature.as_deref(),
            public_key: self.public_key.as_deref(),
            message_bundle: self.message_bundle.as_deref(),
            provenance: self.provenance.as_deref(),
            sbom: self.sbom.as_deref().map(|json| Bill {
                json,
                size: ByteCount(self.content.len() as u64),
                build_info: Ok(&self.build_info),
            }),
        }
    }

    pub(super) fn verifier(&self, policy: Policy) -> Verifier {
        Verifier::new(pinned(), self.keyring.as_deref(), policy, NOW)
    }

    pub(super) fn verify(&self, policy: &str) -> Report {
        let verifier = self.verifier(Policy::parse(policy).unwrap());
        verifier.verify(NAME, &Message::of(&self.content), &self.files())
    }
}

/// The checks that failed, as a test names them.
pub(super) fn failed(report: &Report) -> Vec<CheckName> {
    let failed = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed(_)));
    failed.map(|check| check.name).collect()
}

/// A plan with nothing wrong, by a key of the default kind.
pub(super) fn plan() -> Plan {
    Plan::new(Algorithm::EcdsaP256)
}

/// That exactly these checks failed, and that one of them says `part`.
#[track_caller]
pub(super) fn check(report: &Report, expected: &[CheckName], part: &str) {
    assert_eq!(failed(report), expected, "{report:#?}");
    assert!(!report.is_trusted());
    let sentences: Vec<_> = report.unmet().map(|check| check.outcome.sentence()).collect();
    assert!(sentences.iter().any(|sentence| sentence.contains(part)), "{part}: {sentences:#?}");
}
