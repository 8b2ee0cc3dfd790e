//! Arbitrary values of core's types, in the shapes that core promises (pins sorted, tasks in order).

use meridian_core::{
    attestation::{Attestation, Document},
    build::{Artifact, BuildFlags, BuildSpec, GitOrigin, Rebuild, Receipt, Resolution, Source, Toolchain},
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
    },
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, ProjectId, TaskId},
    keyring::{CertifiedKey, Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::{
        cordon::{Cordon, Drain},
        event::{Event, EventKind},
        input::{Failure, FailureKind, Outcome},
        maintenance::Maintenance,
        record::{
            BuildRecord, BuildState, Counters, EgressRecord, ManifestRecord, ProjectRecord, Record,
            RevokedIdentity, TaskKind, TaskRecord, TaskState, TaskStep, TokenGrant, TokenRecord,
        },
    },
    quantity::ByteCount,
    requester::Requester,
    time::Wall,
    trace::Traceparent,
};
use proptest::{collection::vec, option, prelude::*};

#[path = "strategies_schedule.rs"]
mod schedule;

pub(crate) use schedule::sample;
use schedule::{learned, placement, wishes};

const NAME: &str = "[a-z0-9][a-z0-9._-]{0,8}";

fn texts() -> BoxedStrategy<Vec<String>> {
    vec(".{0,12}", 0..3).boxed()
}

pub(crate) fn traceparent() -> BoxedStrategy<Traceparent> {
    (1..=u128::MAX, 1..=u64::MAX, any::<u8>())
        .prop_map(|(trace, parent, flags)| {
            format!("00-{trace:032x}-{parent:016x}-{flags:02x}").parse().unwrap()
        })
        .boxed()
}

pub(crate) fn requester() -> BoxedStrategy<Requester> {
    (NAME, NAME)
        .prop_map(|(team, name)| format!("spiffe://acme/team/{team}/member/{name}").parse().unwrap())
        .boxed()
}

pub(crate) fn digest() -> BoxedStrategy<Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes).boxed()
}

fn digests() -> BoxedStrategy<Vec<Digest>> {
    vec(digest(), 0..3).boxed()
}

fn project() -> BoxedStrategy<ProjectId> {
    (NAME, NAME).prop_map(|(team, project)| format!("{team}/{project}").parse().unwrap()).boxed()
}

fn build() -> BoxedStrategy<BuildId> {
    (project(), 1..=u64::MAX).prop_map(|(project, number)| BuildId { project, number }).boxed()
}

pub(crate) fn task() -> BoxedStrategy<TaskId> {
    (build(), any::<u32>()).prop_map(|(build, ordinal)| TaskId { build, ordinal }).boxed()
}

pub(crate) fn agent() -> BoxedStrategy<AgentId> {
    (NAME, NAME).prop_map(|(region, name)| format!("{region}/{name}").parse().unwrap()).boxed()
}

pub(crate) fn fence() -> BoxedStrategy<Fence> {
    any::<u64>().prop_map(Fence).boxed()
}

pub(crate) fn number() -> BoxedStrategy<PlacementNumber> {
    any::<u64>().prop_map(PlacementNumber).boxed()
}

fn wall() -> BoxedStrategy<Wall> {
    any::<u64>().prop_map(Wall).boxed()
}

fn key() -> BoxedStrategy<IdempotencyKey> {
    "[!-~]{1,64}".prop_map(|key| IdempotencyKey::new(&key).unwrap()).boxed()
}

fn platform() -> BoxedStrategy<Platform> {
    ("[a-z0-9]{1,9}", "[a-z0-9]{1,9}", "[a-z0-9.,]{0,9}")
        .prop_map(|(os, arch, level)| Platform { os, arch, level })
        .boxed()
}

fn receipt() -> BoxedStrategy<Receipt> {
    (".{0,9}", digest(), any::<u64>(), vec(any::<u8>(), 0..40))
        .prop_map(|(holder, digest, size, mac)| Receipt { holder, digest, size: ByteCount(size), mac })
        .boxed()
}

fn source() -> BoxedStrategy<Source> {
    let origin = (".{0,9}", ".{0,9}").prop_map(|(url, commit)| GitOrigin { url, commit });
    let tree = (digest(), ".{0,9}", any::<bool>(), option::of(origin), vec(receipt(), 0..3)).prop_map(
        |(root, work_dir, workspace, origin, receipts)| Source::Tree {
            root,
            work_dir,
            workspace,
            origin,
            receipts,
        },
    );
    let module = (".{0,9}", ".{0,9}").prop_map(|(package, query)| Source::Module { package, query });
    prop_oneof![tree, module].boxed()
}

fn toolchain() -> BoxedStrategy<Toolchain> {
    let pins = proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..4);
    let version = (".{0,9}", pins)
        .prop_map(|(version, pins)| Toolchain::Version { version, pins: pins.into_iter().collect() });
    prop_oneof![Just(Toolchain::Default), Just(Toolchain::Local), version].boxed()
}

fn flags() -> BoxedStrategy<BuildFlags> {
    (any::<bool>(), texts(), texts(), vec((".{0,9}", ".{0,9}"), 0..3))
        .prop_map(|(cgo, tags, ldflags, stamps)| BuildFlags { cgo, tags, ldflags, stamps })
        .boxed()
}

pub(crate) fn spec() -> BoxedStrategy<BuildSpec> {
    let wishes = wishes();
    let what = (source(), texts(), vec(platform(), 0..3), toolchain(), flags());
    let rest = (option::of(".{0,9}"), ".{0,9}", wishes, any::<bool>(), option::of(rebuild()));
    (what, rest)
        .prop_map(
            |(
                (source, packages, platforms, toolchain, flags),
                (name, version, wishes, from_scratch, rebuild),
            )| BuildSpec {
                source,
                packages,
                platforms,
                toolchain,
                flags,
                name,
                version,
                wishes,
                from_scratch,
                rebuild,
            },
        )
        .boxed()
}

fn rebuild() -> BoxedStrategy<Rebuild> {
    (build(), option::of(resolution()), vec((platform(), agent()), 0..3))
        .prop_map(|(of, resolution, builders)| Rebuild { of, resolution, builders })
        .boxed()
}

pub(crate) fn resolution() -> BoxedStrategy<Resolution> {
    (".{0,9}", ".{0,9}", ".{0,9}")
        .prop_map(|(module, version, sum)| Resolution { module, version, sum })
        .boxed()
}

fn document() -> BoxedStrategy<Document> {
    (digest(), any::<u64>(), vec(receipt(), 0..3))
        .prop_map(|(digest, size, receipts)| Document { digest, size: ByteCount(size), receipts })
        .boxed()
}

fn artifact() -> BoxedStrategy<Artifact> {
    let attestation = (digest(), vec(any::<u8>(), 0..80), document(), document()).prop_map(
        |(key, signature, provenance, sbom)| Attestation { key: KeyId(key), signature, provenance, sbom },
    );
    (".{0,9}", ".{0,9}", digest(), any::<u64>(), vec(receipt(), 0..3), option::of(attestation))
        .prop_map(|(name, package, digest, size, receipts, attestation)| Artifact {
            name,
            package,
            digest,
            size: ByteCount(size),
            receipts,
            attestation,
        })
        .boxed()
}

fn failure() -> BoxedStrategy<Failure> {
    let kind = prop_oneof![
        Just(FailureKind::Compile),
        Just(FailureKind::Modules),
        Just(FailureKind::Request),
        Just(FailureKind::DiskFull),
        Just(FailureKind::Lost),
        Just(FailureKind::OutOfMemory),
        Just(FailureKind::Moved),
        Just(FailureKind::TimedOut),
        Just(FailureKind::Infrastructure),
    ];
    (kind, ".{0,9}", ".{0,9}").prop_map(|(kind, message, hint)| Failure { kind, message, hint }).boxed()
}

pub(crate) fn outcome() -> BoxedStrategy<Outcome> {
    prop_oneof![
        resolution().prop_map(Outcome::Resolved),
        (vec(artifact(), 0..3), ".{0,9}", digests(), option::of(any::<u32>())).prop_map(
            |(artifacts, go_version, log, hit_permille)| Outcome::Built {
                artifacts,
                go_version,
                log,
                hit_permille,
            },
        ),
        (failure(), digests()).prop_map(|(failure, log)| Outcome::Failed { failure, log }),
    ]
    .boxed()
}

pub(crate) fn task_kind() -> BoxedStrategy<TaskKind> {
    prop_oneof![Just(TaskKind::Resolve), platform().prop_map(TaskKind::Compile)].boxed()
}

fn grant() -> BoxedStrategy<TokenGrant> {
    let member = (NAME, NAME).prop_map(|(team, name)| TokenGrant::Member {
        team: team.parse().unwrap(),
        name: name.parse().unwrap(),
    });
    prop_oneof![agent().prop_map(TokenGrant::Agent), member].boxed()
}

fn certified_key() -> BoxedStrategy<CertifiedKey> {
    let algorithm = prop_oneof![Just(KeyAlgorithm::EcdsaP256), Just(KeyAlgorithm::Ed25519)];
    let usage = prop_oneof![Just(KeyUse::Artifact), Just(KeyUse::Order), Just(KeyUse::Acceptance)];
    let holder = prop_oneof![Just(KeyHolder::Coordinator), agent().prop_map(KeyHolder::Agent)];
    let grade = prop_oneof![Just(Grade::Dev), Just(Grade::Production)];
    let claim = (algorithm, vec(any::<u8>(), 0..9), usage, holder, grade).prop_map(
        |(algorithm, spki, usage, holder, grade)| KeyClaim { algorithm, spki, usage, holder, grade },
    );
    (claim, wall(), wall(), option::of(wall()))
        .prop_map(|(claim, not_before, not_after, revoked)| CertifiedKey {
            claim,
            not_before,
            not_after,
            revoked,
        })
        .boxed()
}

pub(crate) fn lineage() -> BoxedStrategy<Lineage> {
    let key = || digest().prop_map(LineageKey);
    (key(), key(), key())
        .prop_map(|(exact, any_flags, any_build)| Lineage { exact, any_flags, any_build })
        .boxed()
}

pub(crate) fn manifest() -> BoxedStrategy<ManifestRef> {
    (digest(), any::<[u64; 3]>())
        .prop_map(|(digest, [size, entries, bytes])| ManifestRef {
            digest,
            size: ByteCount(size),
            entries,
            bytes: ByteCount(bytes),
        })
        .boxed()
}

fn manifest_record() -> BoxedStrategy<ManifestRecord> {
    (lineage(), (manifest(), sample()), task(), agent(), any::<u64>(), wall())
        .prop_map(|(lineage, (manifest, sample), task, agent, made, at)| ManifestRecord {
            lineage,
            manifest,
            sample,
            task,
            agent,
            made: JournalIndex(made),
            at,
        })
        .boxed()
}

fn memory() -> BoxedStrategy<Option<ByteCount>> {
    option::of(any::<u64>().prop_map(ByteCount)).boxed()
}

fn cordon() -> BoxedStrategy<Cordon> {
    let drain = option::of(wall()).prop_map(|moves| Drain { moves });
    (agent(), requester(), ".{0,9}", wall(), option::of(drain))
        .prop_map(|(agent, by, why, at, drain)| Cordon { agent, by, why, at, drain })
        .boxed()
}

fn maintenance() -> BoxedStrategy<Maintenance> {
    (agent(), wall(), wall(), requester(), ".{0,9}")
        .prop_map(|(agent, from, until, by, why)| Maintenance { agent, from, until, by, why })
        .boxed()
}

fn attempt_failed() -> BoxedStrategy<EventKind> {
    (task(), fence(), failure(), memory(), digests())
        .prop_map(|(task, fence, failure, memory, log)| EventKind::AttemptFailed {
            task,
            fence,
            failure,
            memory,
            log,
        })
        .boxed()
}

fn attempt_log_kept() -> BoxedStrategy<EventKind> {
    (task(), fence(), digests())
        .prop_map(|(task, fence, log)| EventKind::AttemptLogKept { task, fence, log })
        .boxed()
}

pub(crate) fn event() -> BoxedStrategy<Event> {
    let kind = prop_oneof![
        any::<u64>().prop_map(|epoch| EventKind::EpochBegan { epoch: Epoch(epoch) }),
        (build(), key(), digest(), spec(), option::of(traceparent()), option::of(requester())).prop_map(
            |(build, key, request_digest, spec, traceparent, requester)| EventKind::BuildSubmitted {
                build,
                key,
                request_digest,
                spec: Box::new(spec),
                traceparent,
                requester,
            }
        ),
        (task(), placement()).prop_map(|(task, placement)| EventKind::TaskPlaced { task, placement }),
        (task(), number(), ".{0,9}").prop_map(|(task, placement, why)| EventKind::PlacementWithdrawn {
            task,
            placement,
            why
        }),
        (task(), agent(), fence()).prop_map(|(task, agent, fence)| EventKind::LeaseGranted {
            task,
            agent,
            fence
        }),
        attempt_failed(),
        attempt_log_kept(),
        (task(), fence(), resolution()).prop_map(|(task, fence, resolution)| EventKind::SourceResolved {
            task,
            fence,
            resolution
        }),
        (task(), fence(), outcome().prop_map(Box::new))
            .prop_map(|(task, fence, outcome)| EventKind::TaskSucceeded { task, fence, outcome }),
        (task(), failure(), digests()).prop_map(|(task, failure, log)| EventKind::TaskFailed {
            task,
            failure,
            log
        }),
        (build(), option::of(build()), option::of(requester())).prop_map(|(build, superseded_by, by)| {
            EventKind::BuildCancelled { build, superseded_by, by }
        }),
        build().prop_map(|build| EventKind::BuildForgotten { build }),
        (digest(), grant(), wall()).prop_map(|(hash, grant, expires)| EventKind::TokenCreated {
            hash,
            grant,
            expires
        }),
        digest().prop_map(|hash| EventKind::TokenRedeemed { hash }),
        digest().prop_map(|hash| EventKind::TokenExpired { hash }),
        certified_key().prop_map(|key| EventKind::KeyCertified { key: Box::new(key) }),
        (digest(), wall()).prop_map(|(key, since)| EventKind::KeyRevoked { key: KeyId(key), since }),
        digest().prop_map(|key| EventKind::KeyForgotten { key: KeyId(key) }),
        (grant(), wall()).prop_map(|(identity, since)| EventKind::IdentityRevoked { identity, since }),
        (task(), fence(), lineage(), manifest(), sample()).prop_map(
            |(task, fence, lineage, manifest, sample)| {
                EventKind::ManifestMade { task, fence, lineage, manifest, sample }
            }
        ),
        digest().prop_map(|key| EventKind::ManifestForgotten { lineage: LineageKey(key) }),
        cordon().prop_map(|cordon| EventKind::AgentCordoned { cordon: Box::new(cordon) }),
        (agent(), requester()).prop_map(|(agent, by)| EventKind::AgentUncordoned { agent, by }),
        maintenance().prop_map(|window| EventKind::MaintenancePlanned { window: Box::new(window) }),
        (agent(), wall(), option::of(requester()))
            .prop_map(|(agent, from, by)| EventKind::MaintenanceEnded { agent, from, by }),
    ];
    (wall(), kind).prop_map(|(at, kind)| Event { at, kind }).boxed()
}

fn task_state() -> BoxedStrategy<TaskState> {
    prop_oneof![
        Just(TaskState::Queued),
        (agent(), number()).prop_map(|(agent, placement)| TaskState::Placed { agent, placement }),
        (agent(), fence()).prop_map(|(agent, fence)| TaskState::Leased { agent, fence }),
        (fence(), wall(), vec(artifact(), 0..3), ".{0,9}", digests()).prop_map(
            |(fence, at, artifacts, go_version, log)| TaskState::Succeeded {
                fence,
                at,
                artifacts,
                go_version,
                log,
            }
        ),
        (wall(), failure(), digests()).prop_map(|(at, failure, log)| TaskState::Failed { at, failure, log }),
        wall().prop_map(|at| TaskState::Cancelled { at }),
    ]
    .boxed()
}

fn task_step() -> BoxedStrategy<TaskStep> {
    prop_oneof![
        (wall(), placement()).prop_map(|(at, placement)| TaskStep::Placed { at, placement }),
        (wall(), number(), ".{0,9}").prop_map(|(at, placement, why)| TaskStep::Withdrawn {
            at,
            placement,
            why
        }),
        (wall(), agent(), fence()).prop_map(|(at, agent, fence)| TaskStep::Leased { at, agent, fence }),
        (wall(), fence(), failure(), memory(), digests()).prop_map(|(at, fence, failure, memory, log)| {
            TaskStep::AttemptFailed { at, fence, failure, memory, log }
        }),
    ]
    .boxed()
}

fn build_record() -> BoxedStrategy<BuildRecord> {
    let state = prop_oneof![
        Just(BuildState::Running),
        Just(BuildState::Succeeded),
        Just(BuildState::Failed),
        Just(BuildState::Cancelled),
    ];
    let whose = (option::of(requester()), option::of(build()), option::of(requester()));
    let tasks = vec((task_kind(), task_state(), vec(task_step(), 0..3)), 0..3);
    let ends = (wall(), option::of(wall()), option::of(resolution()), state, option::of(traceparent()));
    (build(), key(), digest(), spec(), ends, any::<[u64; 2]>(), tasks, whose)
        .prop_map(|(id, key, request_digest, spec, ends, [submission, revision], tasks, whose)| {
            let (submitted, finished, resolution, state, traceparent) = ends;
            let (requester, superseded_by, cancelled_by) = whose;
            let task = |((kind, state, history), ordinal)| TaskRecord {
                id: TaskId { build: id.clone(), ordinal },
                kind,
                state,
                history,
            };
            BuildRecord {
                tasks: tasks.into_iter().zip(0u32..).map(task).collect(),
                id,
                key,
                request_digest,
                spec,
                submission: JournalIndex(submission),
                submitted,
                finished,
                resolution,
                state,
                revision: JournalIndex(revision),
                traceparent,
                requester,
                superseded_by,
                cancelled_by,
            }
        })
        .boxed()
}

pub(crate) fn record() -> BoxedStrategy<Record> {
    prop_oneof![
        any::<[u64; 4]>().prop_map(|[epoch, index, fence, placement]| Record::Counters(Counters {
            epoch: Epoch(epoch),
            index: JournalIndex(index),
            fence: Fence(fence),
            placement: PlacementNumber(placement),
        })),
        (project(), any::<u64>())
            .prop_map(|(id, last_build)| Record::Project(ProjectRecord { id, last_build })),
        build_record().prop_map(|build| Record::Build(Box::new(build))),
        (digest(), grant(), wall()).prop_map(|(hash, grant, expires)| Record::Token(TokenRecord {
            hash,
            grant,
            expires
        })),
        certified_key().prop_map(Record::Key),
        (grant(), wall()).prop_map(|(identity, since)| Record::Revoked(RevokedIdentity { identity, since })),
        learned().prop_map(Record::Learned),
        (NAME, any::<u64>(), any::<u64>()).prop_map(|(region, day, bytes)| {
            Record::Egress(EgressRecord { region: region.parse().unwrap(), day, bytes: ByteCount(bytes) })
        }),
        manifest_record().prop_map(Record::Manifest),
        cordon().prop_map(Record::Cordon),
        maintenance().prop_map(Record::Maintenance),
    ]
    .boxed()
}
