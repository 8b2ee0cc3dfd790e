//! One value of each kind that the journal has ever held. A golden file belongs to each, so these values are
//! never changed: a new shape gets a new sample beside them.

use meridian_core::{
    attestation::{Attestation, Document},
    build::{
        Artifact, BuildFlags, BuildSpec, GitOrigin, Rebuild, Receipt, Resolution, Source, Toolchain, Wishes,
    },
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
    },
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, TaskId},
    keyring::{CertifiedKey, Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::{
        cordon::{Cordon, Drain},
        event::{Event, EventKind},
        input::{Failure, FailureKind, Outcome},
        maintenance::Maintenance,
        record::{
            BuildRecord, BuildState, Candidate, Counters, ManifestRecord, Placement, ProjectRecord, Record,
            RevokedIdentity, TaskKind, TaskRecord, TaskState, TaskStep, TokenGrant, TokenRecord, Verdict,
        },
    },
    quantity::ByteCount,
    requester::Requester,
    schedule::sketch::Sample,
    time::Wall,
};

#[path = "samples_scheduled.rs"]
mod scheduled;
#[path = "samples_upkeep.rs"]
mod upkeep;

const REQUESTER: &str = "spiffe://acme/team/acme/member/ci";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const AT: Wall = Wall(1_767_225_600_123);

fn task() -> TaskId {
    "acme/web/17/1".parse().unwrap()
}

fn receipt(content: &[u8]) -> Receipt {
    Receipt {
        holder: "coordinator".to_owned(),
        digest: Digest::of(content),
        size: ByteCount(content.len() as u64),
        mac: (0..32).collect(),
    }
}

fn platform(os: &str, arch: &str, level: &str) -> Platform {
    Platform { os: os.to_owned(), arch: arch.to_owned(), level: level.to_owned() }
}

fn module_spec() -> BuildSpec {
    BuildSpec {
        source: Source::Module {
            package: "golang.org/x/tools/cmd/stringer".to_owned(),
            query: "latest".to_owned(),
        },
        packages: vec![".".to_owned()],
        platforms: vec![platform("linux", "amd64", "v1"), platform("js", "wasm", "")],
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}

fn tree_spec() -> BuildSpec {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    BuildSpec {
        source: Source::Tree {
            root: Digest::of(b"root"),
            work_dir: "services/web".to_owned(),
            workspace: true,
            origin: Some(GitOrigin {
                url: "https://example.com/acme/web".to_owned(),
                commit: "c0ffee00".repeat(5),
            }),
            receipts: vec![receipt(b"root")],
        },
        packages: strings(&[".", "./cmd/admin"]),
        platforms: vec![platform("linux", "arm", "7,softfloat"), platform("windows", "arm64", "v8.0")],
        toolchain: Toolchain::Version {
            version: "1.27.3".to_owned(),
            pins: vec![
                ("darwin/arm64".to_owned(), "h1:yCdfDZ+GhmDNz9efAMlsprJWmFX/baYtnSkwvgeWipA=".to_owned()),
                ("linux/amd64".to_owned(), "h1:r0ub+FnqzZxoWm/dSUOI9DcIqYWn/mNYGFJcv7PyBzs=".to_owned()),
            ],
        },
        flags: BuildFlags {
            cgo: true,
            tags: strings(&["netgo", "osusergo"]),
            ldflags: strings(&["-s", "-w"]),
            stamps: vec![("main.version".to_owned(), "{version}".to_owned())],
        },
        name: Some("web".to_owned()),
        version: "1.4.0".to_owned(),
        wishes: Wishes {
            region: Some("eu-central".parse().unwrap()),
            agent: Some("eu-central/a1".parse().unwrap()),
            ..Wishes::default()
        },
        from_scratch: false,
        rebuild: None,
    }
}

/// A rebuild of a module: nothing is resolved again.
fn rebuild_spec() -> BuildSpec {
    let platforms = module_spec().platforms;
    let agents = ["eu-central/a1", "ap-south/b"].map(|agent| agent.parse().unwrap());
    let rebuild = Rebuild {
        of: "acme/web/16".parse().unwrap(),
        resolution: Some(resolution()),
        builders: platforms.into_iter().zip(agents).collect(),
    };
    BuildSpec { from_scratch: true, rebuild: Some(rebuild), ..module_spec() }
}

fn placement() -> Placement {
    Placement {
        number: PlacementNumber(41),
        agent: "eu-central/a1".parse().unwrap(),
        because: "least expected cost of 2 agents".to_owned(),
        refused: Vec::new(),
        egress: None,
        candidates: vec![
            Candidate {
                agent: "eu-central/a1".parse().unwrap(),
                verdict: Verdict::Eligible {
                    cost_us: 12_345,
                    rtt_us: Some(800),
                    busy: 1,
                    slots: 2,
                    hit_rate_permille: Some(910),
                    terms: None,
                },
            },
            Candidate {
                agent: "ap-south/b".parse().unwrap(),
                verdict: Verdict::Eligible {
                    cost_us: 99_999,
                    rtt_us: None,
                    busy: 0,
                    slots: 1,
                    hit_rate_permille: None,
                    terms: None,
                },
            },
            Candidate {
                agent: "sa-east/c".parse().unwrap(),
                verdict: Verdict::Refused { why: "draining".to_owned() },
            },
        ],
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "./main.go:7:2: undefined: x".to_owned(),
        hint: "the compiler's own words are above".to_owned(),
    }
}

fn resolution() -> Resolution {
    Resolution {
        module: "golang.org/x/tools".to_owned(),
        version: "v0.30.0".to_owned(),
        sum: "h1:r0ub+FnqzZxoWm/dSUOI9DcIqYWn/mNYGFJcv7PyBzs=".to_owned(),
    }
}

fn artifact() -> Artifact {
    Artifact {
        name: "web_1.4.0_linux_arm".to_owned(),
        package: "./cmd/admin".to_owned(),
        digest: Digest::of(b"binary"),
        size: ByteCount(6),
        receipts: vec![receipt(b"binary")],
        attestation: None,
    }
}

fn attested() -> Artifact {
    let document = |content: &[u8]| Document {
        digest: Digest::of(content),
        size: ByteCount(content.len() as u64),
        receipts: vec![receipt(content)],
    };
    let attestation = Attestation {
        key: KeyId::of(b"spki"),
        signature: vec![0x30, 6, 2, 1, 1, 2, 1, 1],
        provenance: document(b"provenance"),
        sbom: document(b"sbom"),
    };
    Artifact { attestation: Some(attestation), ..artifact() }
}

fn admin() -> Requester {
    "spiffe://acme/admin".parse().unwrap()
}

fn agent_a1() -> AgentId {
    "eu-central/a1".parse().unwrap()
}

fn cordon(drain: Option<Drain>) -> Cordon {
    Cordon { agent: agent_a1(), by: admin(), why: "new disks".to_owned(), at: AT, drain }
}

fn maintenance() -> Maintenance {
    let until = Wall(AT.0 + 3_600_000);
    Maintenance { agent: agent_a1(), from: AT, until, by: admin(), why: "new disks".to_owned() }
}

fn log() -> Vec<Digest> {
    vec![Digest::of(b"first"), Digest::of(b"second")]
}

fn lineage() -> Lineage {
    let key = |name: &[u8]| LineageKey(Digest::of(name));
    Lineage { exact: key(b"exact"), any_flags: key(b"any flags"), any_build: key(b"any build") }
}

fn manifest() -> ManifestRef {
    let (digest, size) = (Digest::of(b"manifest"), ByteCount(81_920));
    ManifestRef { digest, size, entries: 593, bytes: ByteCount(104_857_600) }
}

/// Every event sample with the name of its golden file.
pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let build = || "acme/web/17".parse().unwrap();
    let hash = Digest::of(b"secret");
    let member = TokenGrant::Member { team: "acme".parse().unwrap(), name: "ana".parse().unwrap() };
    let agent = TokenGrant::Agent("eu-central/a1".parse().unwrap());
    let built = Outcome::Built {
        artifacts: vec![artifact()],
        go_version: "go1.27.3".to_owned(),
        log: log(),
        hit_permille: None,
    };
    let signed = Outcome::Built {
        artifacts: vec![attested()],
        go_version: "go1.27.3".to_owned(),
        log: log(),
        hit_permille: None,
    };
    let created = |grant| EventKind::TokenCreated { hash, grant, expires: Wall(AT.0 + 3_600_000) };
    let revoked = |identity| EventKind::IdentityRevoked { identity, since: AT };
    let failed = |kind| EventKind::AttemptFailed {
        task: task(),
        fence: Fence(9),
        failure: failure(kind),
        memory: None,
        log: Vec::new(),
    };
    let number = PlacementNumber(41);
    let withdrawn =
        EventKind::PlacementWithdrawn { task: task(), placement: number, why: "not taken up".to_owned() };
    let fence = Fence(9);
    let granted = EventKind::LeaseGranted { task: task(), agent: "eu-central/a1".parse().unwrap(), fence };
    let kinds = vec![
        ("epoch_began", EventKind::EpochBegan { epoch: Epoch(3) }),
        ("task_placed", EventKind::TaskPlaced { task: task(), placement: placement() }),
        ("placement_withdrawn", withdrawn),
        ("lease_granted", granted),
        ("attempt_failed_disk_full", failed(FailureKind::DiskFull)),
        ("attempt_failed_lost", failed(FailureKind::Lost)),
        ("attempt_failed_out_of_memory", failed(FailureKind::OutOfMemory)),
        ("attempt_failed_infrastructure", failed(FailureKind::Infrastructure)),
        ("source_resolved", EventKind::SourceResolved { task: task(), fence, resolution: resolution() }),
        ("task_succeeded", EventKind::TaskSucceeded { task: task(), fence, outcome: Box::new(built) }),
        (
            "task_succeeded_signed",
            EventKind::TaskSucceeded { task: task(), fence, outcome: Box::new(signed) },
        ),
        ("task_failed_compile", task_failed(FailureKind::Compile)),
        ("task_failed_modules", task_failed(FailureKind::Modules)),
        ("task_failed_request", task_failed(FailureKind::Request)),
        ("task_failed_timed_out", task_failed(FailureKind::TimedOut)),
        ("build_cancelled", EventKind::BuildCancelled { build: build(), superseded_by: None, by: None }),
        ("build_forgotten", EventKind::BuildForgotten { build: build() }),
        ("token_created_agent", created(agent.clone())),
        ("token_created_member", created(member.clone())),
        ("token_redeemed", EventKind::TokenRedeemed { hash }),
        ("token_expired", EventKind::TokenExpired { hash }),
        ("key_certified_agent", EventKind::KeyCertified { key: Box::new(key(agent_holder(), None)) }),
        ("key_certified_coordinator", certified_coordinator()),
        ("key_revoked", EventKind::KeyRevoked { key: KeyId::of(b"spki"), since: AT }),
        ("key_forgotten", EventKind::KeyForgotten { key: KeyId::of(b"spki") }),
        ("identity_revoked_agent", revoked(agent.clone())),
        ("identity_revoked_member", revoked(member)),
        ("manifest_made", manifest_made(Sample::default())),
        ("manifest_forgotten", EventKind::ManifestForgotten { lineage: lineage().exact }),
    ];
    let kinds = kinds.into_iter().chain(submissions()).chain(scheduled::events()).chain(upkeep::events());
    kinds.map(|(name, kind)| (name, Event { at: AT, kind })).collect()
}

fn manifest_made(sample: Sample) -> EventKind {
    let (task, fence) = (task(), Fence(9));
    EventKind::ManifestMade { task, fence, lineage: lineage(), manifest: manifest(), sample }
}

fn submitted(spec: BuildSpec) -> EventKind {
    EventKind::BuildSubmitted {
        build: "acme/web/17".parse().unwrap(),
        key: IdempotencyKey::new("key-1").unwrap(),
        request_digest: Digest::of(b"request"),
        spec: Box::new(spec),
        traceparent: None,
        requester: None,
    }
}

fn submissions() -> Vec<(&'static str, EventKind)> {
    let mut requested = submitted(tree_spec());
    if let EventKind::BuildSubmitted { requester, .. } = &mut requested {
        *requester = REQUESTER.parse().ok();
    }
    let mut traced = submitted(tree_spec());
    if let EventKind::BuildSubmitted { traceparent, .. } = &mut traced {
        *traceparent = TRACE.parse().ok();
    }
    let local = BuildSpec { toolchain: Toolchain::Local, ..module_spec() };
    let scratch = BuildSpec { from_scratch: true, ..tree_spec() };
    vec![
        ("build_submitted_module", submitted(module_spec())),
        ("build_submitted_tree", submitted(tree_spec())),
        ("build_submitted_local_toolchain", submitted(local)),
        ("build_submitted_traced", traced),
        ("build_submitted_from_scratch", submitted(scratch)),
        ("build_submitted_requested", requested),
        ("build_submitted_rebuild", submitted(rebuild_spec())),
    ]
}

fn agent_holder() -> KeyHolder {
    KeyHolder::Agent("eu-central/a1".parse().unwrap())
}

fn key(holder: KeyHolder, revoked: Option<Wall>) -> CertifiedKey {
    let claim = KeyClaim {
        algorithm: KeyAlgorithm::EcdsaP256,
        spki: b"spki".to_vec(),
        usage: KeyUse::Artifact,
        holder,
        grade: Grade::Production,
    };
    CertifiedKey { claim, not_before: AT, not_after: Wall(AT.0 + 7_776_000_000), revoked }
}

fn certified_coordinator() -> EventKind {
    let mut key = key(KeyHolder::Coordinator, None);
    key.claim.algorithm = KeyAlgorithm::Ed25519;
    key.claim.usage = KeyUse::Order;
    key.claim.grade = Grade::Dev;
    EventKind::KeyCertified { key: Box::new(key) }
}

/// A build that runs, with something more.
fn changed(change: impl FnOnce(&mut BuildRecord)) -> Record {
    let mut record = build_record(tree_spec(), BuildState::Running, vec![TaskState::Queued]);
    if let Record::Build(build) = &mut record {
        change(build);
    }
    record
}

fn task_failed(kind: FailureKind) -> EventKind {
    EventKind::TaskFailed { task: task(), failure: failure(kind), log: log() }
}

fn build_record(spec: BuildSpec, state: BuildState, states: Vec<TaskState>) -> Record {
    let id: meridian_core::id::BuildId = "acme/web/17".parse().unwrap();
    let tasks = states.into_iter().zip(0u32..).map(|(state, ordinal)| TaskRecord {
        id: TaskId { build: id.clone(), ordinal },
        kind: match ordinal {
            0 => TaskKind::Resolve,
            _ => TaskKind::Compile(platform("linux", "amd64", "v1")),
        },
        state,
        history: if ordinal == 0 { history() } else { Vec::new() },
    });
    let is_ended = state != BuildState::Running;
    Record::Build(Box::new(BuildRecord {
        tasks: tasks.collect(),
        id,
        key: IdempotencyKey::new("key-1").unwrap(),
        request_digest: Digest::of(b"request"),
        spec,
        submission: JournalIndex(100),
        submitted: AT,
        finished: is_ended.then_some(Wall(AT.0 + 60_000)),
        resolution: is_ended.then(resolution),
        state,
        revision: JournalIndex(123),
        traceparent: None,
        requester: None,
        superseded_by: None,
        cancelled_by: None,
    }))
}

fn history() -> Vec<TaskStep> {
    let agent = || "eu-central/a1".parse().unwrap();
    vec![
        TaskStep::Placed { at: AT, placement: placement() },
        TaskStep::Withdrawn { at: AT, placement: PlacementNumber(41), why: "not taken up".to_owned() },
        TaskStep::Leased { at: AT, agent: agent(), fence: Fence(9) },
        TaskStep::AttemptFailed {
            at: AT,
            fence: Fence(9),
            failure: failure(FailureKind::Lost),
            memory: None,
            log: Vec::new(),
        },
    ]
}

fn counters() -> Counters {
    Counters { epoch: Epoch(3), index: JournalIndex(1_000), fence: Fence(10), placement: PlacementNumber(42) }
}

/// Every record sample with the name of its golden file.
pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let agent = || "eu-central/a1".parse().unwrap();
    let running = vec![
        TaskState::Queued,
        TaskState::Placed { agent: agent(), placement: PlacementNumber(42) },
        TaskState::Leased { agent: agent(), fence: Fence(10) },
    ];
    let succeeded_with = |artifact: Artifact| TaskState::Succeeded {
        fence: Fence(9),
        at: AT,
        artifacts: vec![artifact],
        go_version: "go1.27.3".to_owned(),
        log: log(),
    };
    let (succeeded, signed) = (succeeded_with(artifact()), succeeded_with(attested()));
    let traced = changed(|build| build.traceparent = TRACE.parse().ok());
    let superseded = changed(|build| build.superseded_by = "acme/web/18".parse().ok());
    let cancelled = changed(|build| build.cancelled_by = REQUESTER.parse().ok());
    let requested = changed(|build| build.requester = REQUESTER.parse().ok());
    let failed = TaskState::Failed { at: AT, failure: failure(FailureKind::Compile), log: log() };
    let member = TokenGrant::Member { team: "acme".parse().unwrap(), name: "ana".parse().unwrap() };
    let token = |grant| Record::Token(TokenRecord { hash: Digest::of(b"secret"), grant, expires: AT });
    let revoked = |identity| Record::Revoked(RevokedIdentity { identity, since: AT });
    let made = ManifestRecord {
        lineage: lineage(),
        manifest: manifest(),
        sample: Sample::default(),
        task: task(),
        agent: agent(),
        made: JournalIndex(124),
        at: AT,
    };
    let records = vec![
        ("counters", Record::Counters(counters())),
        ("project", Record::Project(ProjectRecord { id: "acme/web".parse().unwrap(), last_build: 17 })),
        ("build_requested", requested),
        ("build_running", build_record(module_spec(), BuildState::Running, running)),
        ("build_succeeded", build_record(tree_spec(), BuildState::Succeeded, vec![succeeded.clone()])),
        ("build_failed", build_record(tree_spec(), BuildState::Failed, vec![succeeded, failed])),
        (
            "build_cancelled",
            build_record(module_spec(), BuildState::Cancelled, vec![TaskState::Cancelled { at: AT }]),
        ),
        ("build_superseded", superseded),
        ("build_cancelled_by_somebody", cancelled),
        ("build_traced", traced),
        ("build_rebuild", build_record(rebuild_spec(), BuildState::Running, vec![TaskState::Queued])),
        ("token_agent", token(TokenGrant::Agent(agent()))),
        ("token_member", token(member.clone())),
        ("build_signed", build_record(tree_spec(), BuildState::Succeeded, vec![signed])),
        ("key_agent", Record::Key(key(agent_holder(), None))),
        ("key_revoked", Record::Key(key(KeyHolder::Coordinator, Some(AT)))),
        ("revoked_agent", revoked(TokenGrant::Agent(agent()))),
        ("revoked_member", revoked(member)),
        ("manifest", Record::Manifest(made.clone())),
        ("cordon", Record::Cordon(cordon(None))),
        ("cordon_drained", Record::Cordon(cordon(Some(Drain { moves: Some(AT) })))),
        ("maintenance", Record::Maintenance(maintenance())),
    ];
    records.into_iter().chain(scheduled::records(made)).collect()
}
