//! Signing keys, orders, and results that lie.

use meridian_core::{
    build::Artifact,
    digest::Digest,
    id::Fence,
    machine::{Limits, effect::Work},
    quantity::Millis,
};
use meridian_proto::v1::{
    self, agents_client::AgentsClient, builds_client::BuildsClient, keys_client::KeysClient,
};
use meridian_trust::{
    acceptance::Acceptance,
    dsse::Envelope,
    keyring::{Keyring, KeyringFile, Root},
    keys::VerifyingKey,
    order::Order,
    statement::Provenance,
};
use tonic::{Code, transport::Channel};

use crate::{
    fixture::{FakeAgent, Fixture, built, module_build},
    signed::Signer,
};

const ANN: &str = "team/web/member/ann";

pub(crate) fn root(fleet: &Fixture) -> Root {
    let spki =
        meridian_runtime::identity::public_key_spki(fleet.running.authority.certificate_der()).unwrap();
    Root::new(VerifyingKey::from_spki(&spki).unwrap(), None).unwrap()
}

/// A coordinator with a build, and an agent that has taken up its one compile task.
async fn with_a_task() -> (Fixture, FakeAgent, Work, Fence) {
    let (retry_first, retry_longest) = (Millis(10), Millis(50));
    let limits = Limits { attempts_max: 100, retry_first, retry_longest, ..Limits::default() };
    let fleet = Fixture::start_with(limits).await;
    let mut agent = fleet.agent("a1").await;
    let request = module_build("web/shop", "k", &["linux/amd64"]);
    BuildsClient::new(fleet.channel(ANN)).submit(request).await.unwrap();
    agent.work_off(1).await;
    let (work, fence) = agent.take().await;
    (fleet, agent, work, fence)
}

async fn state(channel: Channel) -> v1::Build {
    let request = v1::GetBuildRequest { build: "web/shop/1".into() };
    BuildsClient::new(channel).get(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_certified_only_for_who_holds_it_and_shows_in_the_signed_keyring() {
    let fleet = Fixture::start().await;
    let (a1, a2) = (fleet.channel("agent/eu/a1"), fleet.channel("agent/eu/a2"));
    let signer = Signer::new("eu/a1".parse().unwrap());
    let answer = signer.certify(&a1).await.unwrap();
    let keyring = Keyring::open(&Envelope::parse(&answer.keyring).unwrap(), &root(&fleet)).unwrap();
    let holders: Vec<String> = keyring.entries().map(|entry| entry.holder.to_string()).collect();
    assert_eq!(holders.iter().filter(|holder| *holder == "spiffe://acme/agent/eu/a1").count(), 1);
    assert_eq!(holders.len(), 3, "and the coordinator's own two: {holders:?}");
    // The proof says whose key it is to be.
    assert_eq!(signer.certify(&a2).await.unwrap_err().code(), Code::InvalidArgument);
    // A member's is issued at another time, and says the same.
    let member = KeysClient::new(fleet.channel(ANN)).keyring(v1::KeyringRequest {}).await.unwrap();
    let member = Envelope::parse(&member.into_inner().keyring).unwrap();
    let member = Keyring::open(&member, &root(&fleet)).unwrap();
    assert_eq!(member.version(), keyring.version());
    assert!(member.entries().eq(keyring.entries()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_given_to_the_holder_of_the_lease_alone() {
    let (fleet, agent, work, fence) = with_a_task().await;
    let ask = |channel: Channel, fence: Fence| {
        let lease = v1::Lease { task: work.task.to_string(), fence: fence.0 };
        async move { AgentsClient::new(channel).order(v1::OrderRequest { lease: Some(lease) }).await }
    };
    let answer = ask(agent.channel.clone(), fence).await.unwrap().into_inner();
    let keyring = Keyring::open(&Envelope::parse(&answer.keyring).unwrap(), &root(&fleet)).unwrap();
    let envelope = Envelope::parse(&answer.order).unwrap();
    let now = meridian_core::time::Wall(meridian_runtime::clock::Clock::system().now().wall_ms);
    let order = Order::open(&envelope, &keyring, &agent.signer.agent, now).unwrap();
    assert_eq!((order.task, order.fence), (work.task.clone(), fence));
    let other = fleet.channel("agent/eu/a2");
    assert_eq!(ask(other, fence).await.unwrap_err().code(), Code::FailedPrecondition);
    let stale = ask(agent.channel.clone(), Fence(fence.0 + 1)).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_result_comes_with_its_time_countersigned() {
    let (fleet, mut agent, work, fence) = with_a_task().await;
    let artifact = agent.artifact(&work, fence).await;
    assert!(agent.report(&work, fence, built(artifact.clone())).await);
    let request = v1::BuildKeyringRequest { build: "web/shop/1".into() };
    let answer = BuildsClient::new(fleet.channel(ANN)).keyring(request).await.unwrap().into_inner();
    let file = KeyringFile::parse(&answer.file).unwrap();
    let keyring = Keyring::open(&file.keyring, &root(&fleet)).unwrap();
    let accepted: Vec<Acceptance> =
        file.acceptances.iter().map(|envelope| Acceptance::open(envelope, &keyring).unwrap()).collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!((accepted[0].artifact, &accepted[0].task), (artifact.digest, &work.task));
    let eve = BuildsClient::new(fleet.channel("team/other/member/eve"))
        .keyring(v1::BuildKeyringRequest { build: "web/shop/1".into() })
        .await;
    assert_eq!(eve.unwrap_err().code(), Code::PermissionDenied);
}

type Lie = fn(&mut Provenance);
type Forgery = fn(&mut Artifact);

/// Statements that were changed before they were signed, each with a word of the refusal.
const LIES: &[(&str, Lie)] = &[
    ("another task", |p| p.internal.task = "web/shop/1/7".parse().unwrap()),
    ("another lease", |p| p.internal.fence = Fence(p.internal.fence.0 + 1)),
    ("another placement", |p| p.internal.placement.0 += 1),
    ("another request", |p| p.internal.request_digest = Digest::of(b"other")),
    ("another agent", |p| {
        p.builder = meridian_trust::holder::Holder::new("spiffe://acme/agent/eu/b").unwrap()
    }),
    ("another digest", |p| p.subject.digest = Digest::of(b"other")),
    ("another set of flags", |p| p.external.flags.ldflags.push("-s".into())),
    ("another version", |p| p.external.version = "v9".into()),
    ("another base name", |p| p.external.name = Some("x".into())),
    ("-tags", |p| p.external.flags.tags.push("evil".into())),
    ("CGO_ENABLED", |p| p.external.flags.cgo = true),
    ("GOAMD64", |p| p.external.platform.level = "v3".into()),
    ("claims the sandbox", |p| p.internal.sandbox.kind = "namespaces".into()),
    ("Go version", |p| {
        p.toolchain = meridian_trust::statement::ToolchainUsed::Module {
            version: "v0.0.1-go1.26.9.linux-amd64".into(),
            h1: crate::signed::SUM.parse().unwrap(),
            zip: None,
        };
    }),
    ("different modules", |p| {
        p.modules.push(meridian_trust::statement::ModuleUsed {
            module: meridian_trust::statement::ModuleVersion {
                path: "a.test/x".into(),
                version: "v1.0.0".into(),
            },
            content: meridian_trust::statement::ModuleContent::Own(crate::signed::SUM.parse().unwrap()),
        });
    }),
];

/// Results that were changed after they were signed, each with a word of the refusal.
const FORGERIES: &[(&str, Forgery)] = &[
    ("is not signed", |a| a.attestation = None),
    ("signature", |a| a.attestation.as_mut().unwrap().signature[10] ^= 1),
    ("keyring", |a| a.attestation.as_mut().unwrap().key = meridian_core::keyring::KeyId::of(b"other")),
    ("it is called", |a| a.name = "tool_1.0.1_linux_amd64".into()),
    ("another package", |a| a.package = "example.com/other".into()),
    ("receipt for the provenance", |a| a.attestation.as_mut().unwrap().provenance.receipts.clear()),
    ("receipt for the SBOM", |a| a.attestation.as_mut().unwrap().sbom.receipts.clear()),
    ("provenance", |a| {
        let attestation = a.attestation.as_mut().unwrap();
        attestation.provenance = attestation.sbom.clone();
    }),
    ("SBOM", |a| {
        let attestation = a.attestation.as_mut().unwrap();
        attestation.sbom = attestation.provenance.clone();
    }),
];

/// Reports a result that must not be accepted, and sees that the task goes on and says why.
async fn expect_refused(
    fleet: &Fixture,
    agent: &mut FakeAgent,
    work: &Work,
    fence: Fence,
    artifact: Artifact,
    word: &str,
) {
    assert!(!agent.report(work, fence, built(artifact)).await, "{word}: accepted");
    let build = state(fleet.channel(ANN)).await;
    assert_eq!(build.state(), v1::BuildState::Running, "{word}");
    // The task may be placed again already.
    let mut steps = build.tasks[1].history.iter().rev().map(|step| format!("{step:?}"));
    let told = steps.find(|step| step.contains("report was refused")).unwrap_or_default();
    assert!(told.contains("report was refused") && told.contains(word), "{word}: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_one_field_changed_never_becomes_a_result() {
    let (fleet, mut agent, mut work, mut fence) = with_a_task().await;
    for (word, lie) in LIES {
        let artifact = agent.lying_artifact(&work, fence, lie).await;
        expect_refused(&fleet, &mut agent, &work, fence, artifact, word).await;
        (work, fence) = agent.take().await;
    }
    let artifact = agent.artifact(&work, fence).await;
    assert!(agent.report(&work, fence, built(artifact)).await, "the honest one is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_changed_after_it_was_signed_never_counts() {
    let (fleet, mut agent, mut work, mut fence) = with_a_task().await;
    for (word, forge) in FORGERIES {
        let mut artifact = agent.artifact(&work, fence).await;
        forge(&mut artifact);
        expect_refused(&fleet, &mut agent, &work, fence, artifact, word).await;
        (work, fence) = agent.take().await;
    }
    let artifact = agent.artifact(&work, fence).await;
    assert!(agent.report(&work, fence, built(artifact)).await, "the honest one is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_agent_or_one_that_was_revoked_signs_nothing() {
    let (fleet, mut agent, work, fence) = with_a_task().await;
    let stranger = Signer::new("eu/a2".parse().unwrap());
    stranger.certify(&fleet.channel("agent/eu/a2")).await.unwrap();
    let placement = agent.placement(fence);
    let signed = stranger.sign(&work, fence, placement, |p| {
        p.builder = meridian_trust::holder::Holder::new("spiffe://acme/agent/eu/a1").unwrap();
    });
    let artifact = agent.keep(&work, fence, signed).await;
    expect_refused(&fleet, &mut agent, &work, fence, artifact, "belongs to agent eu/a2").await;

    let (work, fence) = agent.take().await;
    let artifact = agent.artifact(&work, fence).await;
    let key = artifact.attestation.as_ref().unwrap().key.to_string();
    let request = v1::RevokeKeyRequest { key: key.clone(), since_ms: None };
    let mut member = KeysClient::new(fleet.channel(ANN));
    assert_eq!(member.revoke(request.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(KeysClient::new(fleet.channel("admin")).revoke(request).await.unwrap().into_inner().changed);
    expect_refused(&fleet, &mut agent, &work, fence, artifact, "was revoked").await;
}
