use std::{collections::BTreeMap, io};

use meridian_core::{
    attestation::{Document, OrderedSource},
    build::{BuildFlags, Toolchain},
    digest::Digest,
    golang::{
        h1::H1,
        platform::Platform,
        toolchain_pins::{DEFAULT_VERSION, default_pin},
    },
    id::{Fence, PlacementNumber},
    keyring::KeyAlgorithm,
    quantity::ByteCount,
};
use meridian_trust::{
    executable::{Module, Setting},
    holder::Holder,
    keys::{Signer as _, SigningKey},
    statement::{
        ExternalParameters, InternalParameters, ModuleContent, ModuleUsed, ModuleVersion, Sandbox, Source,
        Subject as StatementSubject,
    },
};

use super::*;
use crate::receipts::ReceiptKey;

const CONTENT: &[u8] = b"an executable";
const NAME: &str = "web_1.2.3_linux_amd64";

/// Bytes in memory as something that is signed.
struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn open(&self) -> io::Result<Box<dyn io::Read + '_>> {
        Ok(Box::new(self.0.as_slice()))
    }
}

/// Everything the rules look at, free to be forged.
struct Case {
    attempt: Attempt,
    artifact: Artifact,
    go_version: String,
    signer: SigningKey,
    content: Bytes,
    bundle: EnvelopeBundle,
    provenance: Provenance,
    info: BuildInfo,
    sbom: Sbom,
    source: SourceModules,
}

fn receipt_key() -> ReceiptKey {
    ReceiptKey::new("coordinator", [7; 32])
}

fn receipt(digest: Digest) -> Receipt {
    receipt_key().issue(&"acme/web".parse().unwrap(), digest, ByteCount(1))
}

fn document(content: &[u8]) -> Document {
    let digest = Digest::of(content);
    Document { digest, size: ByteCount(1), receipts: vec![receipt(digest)] }
}

fn dependency() -> ModuleUsed {
    let module = ModuleVersion { path: "a.test/dep".to_owned(), version: "v1.0.0".to_owned() };
    ModuleUsed { module, content: ModuleContent::Own(H1::of_go_mod(&[1])) }
}

fn source() -> SourceModules {
    let sums = format!("a.test/dep v1.0.0 {}\n", H1::of_go_mod(&[1]));
    let files = [("go.mod", "module a.test/web\n"), ("go.sum", &sums)];
    let files: BTreeMap<_, _> = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    SourceModules::read(&files, "", false)
}

fn info() -> BuildInfo {
    let settings = [
        ("-trimpath", "true"),
        ("CGO_ENABLED", "0"),
        ("GOARCH", "amd64"),
        ("GOOS", "linux"),
        ("GOAMD64", "v1"),
    ];
    let module = |path: &str, version: &str, sum: String| Module {
        path: path.to_owned(),
        version: version.to_owned(),
        sum,
        replace: None,
    };
    BuildInfo {
        go_version: format!("go{DEFAULT_VERSION}"),
        path: "a.test/web/cmd/web".to_owned(),
        main: Some(module("a.test/web", "(devel)", String::new())),
        deps: vec![module("a.test/dep", "v1.0.0", H1::of_go_mod(&[1]).to_string())],
        settings: settings
            .map(|(key, value)| Setting { key: key.to_owned(), value: value.to_owned() })
            .into(),
    }
}

fn order() -> SigningOrder {
    SigningOrder {
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
        packages: vec!["./cmd/web".to_owned()],
        platform: Platform::parse("linux/amd64").unwrap(),
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: "v1.2.3".to_owned(),
        from_scratch: false,
        requester: "spiffe://acme/team/acme/member/ci".parse().ok(),
    }
}

fn provenance(order: &SigningOrder) -> Provenance {
    Provenance {
        subject: StatementSubject { name: NAME.to_owned(), digest: Digest::of(CONTENT) },
        external: ExternalParameters {
            flags: order.flags.clone(),
            name: None,
            packages: order.packages.clone(),
            platform: order.platform.clone(),
            source: Source::Tree {
                origin: None,
                root: Digest::of(b"tree"),
                work_dir: String::new(),
                workspace: false,
            },
            toolchain: order.toolchain.clone(),
            version: order.version.clone(),
            from_scratch: order.from_scratch,
        },
        internal: InternalParameters {
            fence: order.fence,
            package: "./cmd/web".to_owned(),
            placement: order.placement,
            request_digest: order.request,
            requester: order.requester.clone(),
            sandbox: Sandbox { kind: "none".to_owned(), features: Vec::new() },
            task: order.task.clone(),
        },
        toolchain: ToolchainUsed::Module {
            version: format!("v0.0.1-go{DEFAULT_VERSION}.linux-amd64"),
            h1: default_pin("linux/amd64").unwrap().parse().unwrap(),
            zip: None,
        },
        modules: vec![dependency()],
        builder: Holder::new("spiffe://acme/agent/eu/a").unwrap(),
        builder_version: "0.1.0".to_owned(),
        started: Wall(1_000_000),
        finished: Wall(1_500_000),
    }
}

impl Case {
    fn genuine() -> Self {
        let signer = SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let order = order();
        let (provenance, info) = (provenance(&order), info());
        let digest = Digest::of(CONTENT);
        let attestation = Attestation {
            key: signer.public().id(),
            signature: signer.sign(&Message::of(CONTENT)).unwrap().to_bytes(),
            provenance: document(b"provenance"),
            sbom: document(b"sbom"),
        };
        let artifact = Artifact {
            name: NAME.to_owned(),
            package: "./cmd/web".to_owned(),
            digest,
            size: ByteCount(CONTENT.len() as u64),
            receipts: vec![receipt(digest)],
            attestation: Some(attestation),
        };
        let subject =
            Subject { name: NAME.to_owned(), digest, size: artifact.size, build_info: info.clone() };
        let offer = AgentOffer {
            host: "linux/amd64".to_owned(),
            slots: 1,
            cores: 1,
            version: "0.1.0".to_owned(),
            sandbox: meridian_core::sandbox::Sandbox::default(),
            cache: None,
            labels: std::collections::BTreeSet::new(),
            memory: None,
            heeds_drain: false,
            tells_stops: false,
        };
        Self {
            attempt: Attempt { order, leased: Wall(1_000_000), offer, now: Wall(1_500_000) },
            artifact,
            go_version: format!("go{DEFAULT_VERSION}"),
            content: Bytes(CONTENT.to_vec()),
            bundle: EnvelopeBundle { envelope: provenance.sign(&signer).unwrap() },
            sbom: Sbom::of(&subject).unwrap(),
            source: source(),
            signer,
            provenance,
            info,
        }
    }

    /// The same with a statement that was changed before it was signed.
    fn stating(change: impl FnOnce(&mut Provenance)) -> Self {
        let mut case = Self::genuine();
        change(&mut case.provenance);
        case.bundle = EnvelopeBundle { envelope: case.provenance.sign(&case.signer).unwrap() };
        case
    }

    /// The same with an executable that says something else, and a bill that says the same.
    fn saying(change: impl FnOnce(&mut BuildInfo)) -> Self {
        let mut case = Self::genuine();
        change(&mut case.info);
        let (name, digest, size) = (NAME.to_owned(), case.artifact.digest, case.artifact.size);
        let subject = Subject { name, digest, size, build_info: case.info.clone() };
        case.sbom = Sbom::of(&subject).unwrap();
        case
    }

    fn broken_rules(&self) -> Vec<&'static str> {
        let key = self.signer.public();
        let vouches = |project: &ProjectId, receipt: &Receipt| receipt_key().verify(project, receipt);
        let reported = Reported {
            attempt: &self.attempt,
            artifact: &self.artifact,
            attestation: self.artifact.attestation.as_ref().unwrap(),
            go_version: &self.go_version,
            key,
            content: &self.content,
            bundle: &self.bundle,
            provenance: &self.provenance,
            info: &self.info,
            sbom: &self.sbom,
            source: Some(&self.source),
            vouches: &vouches,
        };
        assert_eq!(check(&reported).is_ok(), RULES.iter().all(|(_, rule)| rule(&reported).is_ok()));
        RULES.iter().filter(|(_, rule)| rule(&reported).is_err()).map(|(name, _)| *name).collect()
    }

    fn attestation(&mut self) -> &mut Attestation {
        self.artifact.attestation.as_mut().unwrap()
    }
}

/// A case in which the source changed, so that what was linked is no longer its own.
fn with_sources(go_mod: &str, go_sum: &str) -> Case {
    let files = [("go.mod", go_mod), ("go.sum", go_sum)];
    let files: BTreeMap<_, _> = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    Case { source: SourceModules::read(&files, "", false), ..Case::genuine() }
}

type Forgery = fn() -> Case;

fn forged(change: fn(&mut Case)) -> Case {
    let mut case = Case::genuine();
    change(&mut case);
    case
}

/// For each rule a forgery that this rule alone stops.
const FORGERIES: &[(&str, Forgery)] = &[
    ("the key signed the content", || {
        forged(|c| c.attestation().signature = c.signer.sign(&Message::of(b"other")).unwrap().to_bytes())
    }),
    ("the key signed the statement", || {
        forged(|c| {
            let other = SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
            c.bundle = EnvelopeBundle { envelope: c.provenance.sign(&other).unwrap() };
        })
    }),
    ("the statement agrees with the executable", || {
        Case::stating(|p| p.external.flags.tags.push("evil".into()))
    }),
    ("the report names the Go of the executable", || forged(|c| c.go_version = "go1.26.0".to_owned())),
    ("the modules are those of the source", || {
        with_sources("module a.test/web\n", &format!("a.test/dep v1.0.0 {}\n", H1::of_go_mod(&[2])))
    }),
    ("the executable is the program of its package", || {
        Case::saying(|i| i.path = "a.test/web/cmd/b/web".into())
    }),
    ("the name is the program's, its version's and its platform's", || {
        forged(|c| {
            c.artifact.name = NAME.replace("1.2.3", "1.2.4");
            let (name, digest, size) = (c.artifact.name.clone(), c.artifact.digest, c.artifact.size);
            c.sbom = Sbom::of(&Subject { name, digest, size, build_info: c.info.clone() }).unwrap();
        })
    }),
    ("the SBOM is the executable's", || {
        forged(|c| {
            let (digest, size) = (c.artifact.digest, c.artifact.size);
            let mut build_info = c.info.clone();
            build_info.deps.clear();
            c.sbom = Sbom::of(&Subject { name: NAME.to_owned(), digest, size, build_info }).unwrap();
        })
    }),
    ("the receipts of the artifact are the holder's", || forged(|c| c.artifact.receipts[0].mac[0] ^= 1)),
    ("the receipts of the provenance are the holder's", || {
        forged(|c| c.attestation().provenance.receipts[0].mac[0] ^= 1)
    }),
    ("the receipts of the SBOM are the holder's", || {
        forged(|c| c.attestation().sbom.receipts[0].mac[0] ^= 1)
    }),
    ("the build lies within its lease", || Case::stating(|p| p.started = Wall(1_000_000 - 60_001))),
    ("the builder's version is the agent's", || Case::stating(|p| p.builder_version = "0.2.0".to_owned())),
    ("the toolchain is for the agent's host", || {
        Case::stating(|p| {
            p.toolchain = ToolchainUsed::Module {
                version: format!("v0.0.1-go{DEFAULT_VERSION}.darwin-arm64"),
                h1: default_pin("darwin/arm64").unwrap().parse().unwrap(),
                zip: None,
            };
        })
    }),
    ("no digest is named that nobody can check", || {
        Case::stating(|p| {
            if let ToolchainUsed::Module { zip, .. } = &mut p.toolchain {
                *zip = Some(Digest::of(b"zip"));
            }
        })
    }),
];

#[test]
fn without_any_one_rule_a_forgery_would_pass() {
    let named: Vec<&str> = FORGERIES.iter().map(|(rule, _)| *rule).collect();
    let rules: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, rules, "each rule has its forgery");
    assert_eq!(Case::genuine().broken_rules(), Vec::<&str>::new());
    for (rule, forge) in FORGERIES {
        assert_eq!(forge().broken_rules(), [*rule], "only this rule stands in its way");
    }
}

#[test]
fn a_receipt_counts_for_its_project_alone() {
    let mut case = Case::genuine();
    let digest = case.artifact.digest;
    let other = "rivals/web".parse().unwrap();
    case.artifact.receipts.push(receipt_key().issue(&other, digest, ByteCount(1)));
    assert_eq!(case.broken_rules(), ["the receipts of the artifact are the holder's"]);
}

#[test]
fn a_build_that_ends_in_the_future_or_began_before_its_lease_is_refused_beyond_what_clocks_differ() {
    let times = |started: u64, finished: u64| {
        Case::stating(|p| (p.started, p.finished) = (Wall(started), Wall(finished))).broken_rules()
    };
    assert_eq!(times(940_000, 1_560_000), Vec::<&str>::new());
    assert_eq!(times(939_999, 1_500_000), ["the build lies within its lease"]);
    assert_eq!(times(1_000_000, 1_560_001), ["the build lies within its lease"]);
}
