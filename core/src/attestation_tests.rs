use super::*;
use crate::keyring::{Grade, KeyAlgorithm, KeyClaim};

fn receipt(digest: Digest) -> Receipt {
    Receipt { holder: "coordinator".to_owned(), digest, size: ByteCount(1), mac: Vec::new() }
}

fn document(content: &[u8]) -> Document {
    let digest = Digest::of(content);
    Document { digest, size: ByteCount(1), receipts: vec![receipt(digest)] }
}

/// Everything the rules look at, free to be forged.
#[derive(Clone)]
struct Case {
    order: SigningOrder,
    artifact: Artifact,
    evidence: Evidence,
    demand: SandboxDemand,
    offered: Sandbox,
    key: Option<CertifiedKey>,
    at: Wall,
}

impl Case {
    fn genuine() -> Self {
        let order = SigningOrder {
            task: "acme/web/17/1".parse().unwrap(),
            fence: Fence(9),
            agent: "eu/a".parse().unwrap(),
            placement: PlacementNumber(42),
            request: Digest::of(b"request"),
            source: OrderedSource::Tree {
                root: Digest::of(b"tree"),
                work_dir: String::new(),
                workspace: false,
                origin: None,
            },
            packages: vec![".".to_owned()],
            platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned(), level: "v1".to_owned() },
            toolchain: Toolchain::Default,
            flags: BuildFlags::default(),
            name: None,
            version: "v1.2.3".to_owned(),
            from_scratch: false,
            requester: "spiffe://acme/team/acme/member/ci".parse().ok(),
        };
        let claim = KeyClaim {
            algorithm: KeyAlgorithm::EcdsaP256,
            spki: vec![1],
            usage: KeyUse::Artifact,
            holder: KeyHolder::Agent("eu/a".parse().unwrap()),
            grade: Grade::Production,
        };
        let key = CertifiedKey { claim, not_before: Wall(100), not_after: Wall(200), revoked: None };
        let digest = Digest::of(b"binary");
        let attestation = Attestation {
            key: key.id(),
            signature: vec![1],
            provenance: document(b"provenance"),
            sbom: document(b"sbom"),
        };
        let artifact = Artifact {
            name: "web_v1.2.3_linux_amd64".to_owned(),
            package: ".".to_owned(),
            digest,
            size: ByteCount(1),
            receipts: vec![receipt(digest)],
            attestation: Some(attestation),
        };
        let evidence = Evidence {
            key: key.id(),
            name: artifact.name.clone(),
            digest,
            package: ".".to_owned(),
            order: order.clone(),
            sandbox: Sandbox::new("namespaces", vec!["network".to_owned()]),
        };
        let (demand, offered) = (SandboxDemand::Required, evidence.sandbox.clone());
        Self { order, artifact, evidence, demand, offered, key: Some(key), at: Wall(150) }
    }

    fn broken_rules(&self) -> Vec<&'static str> {
        let attested = Attested {
            order: &self.order,
            artifact: &self.artifact,
            evidence: &self.evidence,
            demand: self.demand,
            offered: &self.offered,
            key: self.key.as_ref(),
            at: self.at,
        };
        assert_eq!(check(&attested).is_ok(), RULES.iter().all(|(_, rule)| rule(&attested).is_ok()));
        RULES.iter().filter(|(_, rule)| rule(&attested).is_err()).map(|(name, _)| *name).collect()
    }

    fn key(&mut self) -> &mut CertifiedKey {
        self.key.as_mut().unwrap()
    }

    fn attestation(&mut self) -> &mut Attestation {
        self.artifact.attestation.as_mut().unwrap()
    }
}

type Forgery = fn(&mut Case);

/// For each rule a forgery that this rule alone stops.
const FORGERIES: &[(&str, Forgery)] = &[
    ("the key is in the keyring", |c| c.key = None),
    ("the key is for artifacts", |c| c.key().claim.usage = KeyUse::Order),
    ("the key is the agent's", |c| c.key().claim.holder = KeyHolder::Coordinator),
    ("the key's time has come", |c| c.key().not_before = Wall(151)),
    ("the key's time is not over", |c| c.key().not_after = Wall(150)),
    ("the key is not revoked", |c| c.key().revoked = Some(Wall(150))),
    ("the attestation names the key that signed", |c| c.attestation().key = KeyId::of(b"other")),
    ("the artifact is held", |c| c.artifact.receipts[0].size = ByteCount(2)),
    ("the provenance is held", |c| c.attestation().provenance.receipts.clear()),
    ("the SBOM is held", |c| c.attestation().sbom.size = ByteCount(2)),
    ("the statement is about this content", |c| c.evidence.digest = Digest::of(b"other")),
    ("the statement is about this name", |c| c.evidence.name.push('x')),
    ("the statement is about this package", |c| c.evidence.package = "./cmd".to_owned()),
    ("the package is one of the ordered", |c| {
        c.artifact.package = "./other".to_owned();
        c.evidence.package = "./other".to_owned();
    }),
    ("the task", |c| c.evidence.order.task = "acme/web/17/2".parse().unwrap()),
    ("the lease", |c| c.evidence.order.fence = Fence(8)),
    ("the agent", |c| c.evidence.order.agent = "eu/b".parse().unwrap()),
    ("the placement", |c| c.evidence.order.placement = PlacementNumber(41)),
    ("the request", |c| c.evidence.order.request = Digest::of(b"other")),
    ("the source", |c| {
        if let OrderedSource::Tree { root, .. } = &mut c.evidence.order.source {
            *root = Digest::of(b"other");
        }
    }),
    ("the packages", |c| c.evidence.order.packages.push("./cmd".to_owned())),
    ("the platform", |c| c.evidence.order.platform.level = "v3".to_owned()),
    ("the toolchain", |c| c.evidence.order.toolchain = Toolchain::Local),
    ("the flags", |c| c.evidence.order.flags.cgo = true),
    ("the base name", |c| c.evidence.order.name = Some("x".to_owned())),
    ("the version", |c| c.evidence.order.version = "v9".to_owned()),
    ("from scratch", |c| c.evidence.order.from_scratch = true),
    ("the requester", |c| {
        c.evidence.order.requester = "spiffe://acme/team/acme/member/ann".parse().ok();
    }),
    ("a sandbox where one is demanded", |c| c.evidence.sandbox = Sandbox::default()),
    ("no more of a sandbox than the agent has", |c| c.evidence.sandbox.features.push("vm".to_owned())),
];

#[test]
fn a_genuine_attestation_keeps_every_rule() {
    assert_eq!(Case::genuine().broken_rules(), Vec::<&str>::new());
}

#[test]
fn without_any_one_rule_a_forgery_would_pass() {
    let named: Vec<&str> = FORGERIES.iter().map(|(rule, _)| *rule).collect();
    let rules: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, rules, "each rule has its forgery");
    for (rule, forge) in FORGERIES {
        let mut case = Case::genuine();
        forge(&mut case);
        assert_eq!(case.broken_rules(), [*rule], "only this rule stands in its way");
    }
}

#[test]
fn an_artifact_without_a_signature_is_refused() {
    let mut case = Case::genuine();
    case.artifact.attestation = None;
    assert_eq!(case.broken_rules(), ["the attestation names the key that signed"]);
}
