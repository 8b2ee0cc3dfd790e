//! What agents are told of the cache that they share, and what the coordinator signs for them.

use std::time::Duration;

use meridian_core::{
    cache::{
        hints::CacheHints,
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
        scope::TrustedMembers,
        shards::ShardEpoch,
    },
    digest::Digest,
    id::{AgentId, Epoch, Fence},
    machine::{
        CachePolicy, Limits,
        effect::{Order, Work},
        input::{Observation, ShardFigures},
    },
    quantity::{ByteCount, Millis},
    schedule::sketch::Sample,
    time::Wall,
};
use meridian_proto::{
    convert::agent::AgentSaid,
    v1::{self, agents_client::AgentsClient, builds_client::BuildsClient, keys_client::KeysClient},
};
use meridian_runtime::clock::Clock;
use meridian_trust::{
    cache_grant::{CacheGrant, CacheGrantError},
    dsse::Envelope,
    keyring::Keyring,
};

use crate::{
    fixture::{FakeAgent, Fixture, built, module_build},
    keys::root,
};

fn offer(name: &str) -> CacheOffer {
    CacheOffer {
        address: Some(format!("{name}.example:7444").parse().unwrap()),
        key: CacheKey::new(*Digest::of(name.as_bytes()).as_bytes()),
        weight: 20,
    }
}

fn limits(trusted: TrustedMembers) -> Limits {
    let cache = CachePolicy { trusted, shards_settle: Millis(50), ..CachePolicy::default() };
    Limits { cache, ..Limits::default() }
}

/// Submits a build as a member, for one agent, and takes its compile task up there.
async fn compile(fleet: &Fixture, agent: &mut FakeAgent, member: &str, key: &str) -> (Work, Fence) {
    let mut request = module_build("web/shop", key, &["linux/amd64"]);
    let wishes = v1::Wishes { agent: Some(agent.signer.agent.to_string()), ..Default::default() };
    request.spec.as_mut().unwrap().wishes = Some(wishes);
    let channel = fleet.channel(&format!("team/web/member/{member}"));
    BuildsClient::new(channel).submit(request).await.unwrap();
    agent.work_off(1).await;
    assert_eq!(agent.hints, None, "a resolve task has nothing to look up");
    agent.take().await
}

/// The attached agents, by their ids.
async fn agents(fleet: &Fixture) -> Vec<v1::AgentStatus> {
    let mut agents = AgentsClient::new(fleet.channel("team/web/member/ann"));
    agents.list(v1::ListAgentsRequest {}).await.unwrap().into_inner().agents
}

async fn keyring(fleet: &Fixture) -> Keyring {
    let mut keys = KeysClient::new(fleet.channel("agent/eu/a1"));
    let answer = keys.keyring(v1::KeyringRequest {}).await.unwrap().into_inner();
    Keyring::open(&Envelope::parse(&answer.keyring).unwrap(), &root(fleet)).unwrap()
}

/// What the grant that came with an offer says, to a reader that knows the fleet's root alone.
async fn granted(fleet: &Fixture, hints: &CacheHints, agent: &str) -> Result<CacheGrant, CacheGrantError> {
    let agent: AgentId = agent.parse().unwrap();
    let now = Wall(Clock::system().now().wall_ms);
    let envelope = Envelope::parse(&hints.grant).unwrap();
    CacheGrant::open(&envelope, &keyring(fleet).await, &agent, now)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_carries_a_grant_for_the_scopes_of_its_requester_and_the_agents_own_key() {
    let trusted = TrustedMembers::Listed(vec!["web/ci".parse().unwrap()]);
    let fleet = Fixture::start_with(limits(trusted)).await;
    let mut agent = fleet.agent_with("a1", Some(offer("a1"))).await;
    for (member, writes, reads) in
        [("ci", "web/trusted", 1), ("ann", "web/member/ann", 2), ("bob", "web/member/bob", 2)]
    {
        let (work, fence) = compile(&fleet, &mut agent, member, member).await;
        let hints = agent.hints.take().unwrap();
        let grant = granted(&fleet, &hints, "eu/a1").await.unwrap();
        assert_eq!(grant.writes.to_string(), writes);
        assert_eq!(grant.reads.len(), reads);
        assert!(hints.scopes.reads.iter().all(|scope| grant.may_read(scope)));
        assert!(grant.may_read(&"web/trusted".parse().unwrap()), "everybody reads what the trusted wrote");
        assert_eq!(grant.cache_key, offer("a1").key);
        assert_eq!(grant.expires.0 - grant.issued.0, 86_400_000);
        let stolen = granted(&fleet, &hints, "eu/a2").await;
        assert!(matches!(stolen, Err(CacheGrantError::Agent { .. })), "{stolen:?}");
        let outcome = built(agent.artifact(&work, fence).await);
        assert!(agent.report(&work, fence, outcome).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_serves_every_task_with_the_same_scopes() {
    let fleet = Fixture::start_with(limits(TrustedMembers::Everybody)).await;
    let mut agent = fleet.agent_with("a1", Some(offer("a1"))).await;
    let mut grants = Vec::new();
    for (member, key) in [("ann", "1"), ("bob", "2")] {
        let (work, fence) = compile(&fleet, &mut agent, member, key).await;
        grants.push(agent.hints.take().unwrap().grant);
        let outcome = built(agent.artifact(&work, fence).await);
        assert!(agent.report(&work, fence, outcome).await);
    }
    assert_eq!(grants[0], grants[1]);
    // Another stream may be of another process, with another key.
    let mut agent = fleet.agent_with("a1", Some(offer("a1-anew"))).await;
    compile(&fleet, &mut agent, "ann", "3").await;
    let grant = granted(&fleet, &agent.hints.take().unwrap(), "eu/a1").await.unwrap();
    assert_eq!(grant.cache_key, offer("a1-anew").key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_reaches_the_next_agent_with_its_holder() {
    let fleet = Fixture::start_with(limits(TrustedMembers::Everybody)).await;
    let mut first = fleet.agent_with("a1", Some(offer("a1"))).await;
    let (work, fence) = compile(&fleet, &mut first, "ann", "1").await;
    assert_eq!(first.hints.as_ref().unwrap().manifest, None);
    let outcome = built(first.artifact(&work, fence).await);
    assert!(first.report(&work, fence, outcome).await);
    let (digest, size) = (Digest::of(b"manifest"), ByteCount(900));
    let manifest = ManifestRef { digest, size, entries: 6, bytes: ByteCount::mib(3) };
    first
        .say(AgentSaid::ManifestMade { task: work.task.clone(), fence, manifest, sample: Sample::default() })
        .await;
    let shard = Some(ShardFigures { held: ByteCount::mib(40), capacity: ByteCount::gib(20) });
    let figures = Observation { residency: vec![digest], shard, ..Observation::default() };
    first.say(AgentSaid::Observed(figures)).await;
    // What came before it on the stream was heard before it.
    let heard = async {
        while agents(&fleet).await[0].residency == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("the residency is heard of");

    let mut second = fleet.agent_with("a2", Some(offer("a2"))).await;
    let (work, _) = compile(&fleet, &mut second, "bob", "2").await;
    let hint = second.hints.take().unwrap().manifest.unwrap();
    assert_eq!((hint.manifest, hint.distance), (manifest, 0), "{}", work.task);
    let holders: Vec<_> = hint.holders.iter().map(|holder| (holder.agent.to_string(), holder.key)).collect();
    assert_eq!(holders, [("eu/a1".to_owned(), offer("a1").key)]);
    let listed = agents(&fleet).await;
    let cache = listed[0].offer.as_ref().unwrap().cache.as_ref().unwrap();
    assert_eq!((listed[0].residency, cache.address.as_str()), (1, "a1.example:7444"));
    assert_eq!(listed[0].shard.unwrap().held, ByteCount::mib(40).0);
    assert_eq!((listed[1].residency, listed[1].shard), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_with_a_cache_are_told_of_one_another_and_earlier_ones_of_nothing() {
    let fleet = Fixture::start_with(limits(TrustedMembers::Everybody)).await;
    let mut old = fleet.agent("old").await;
    let mut first = fleet.agent_with("a1", Some(offer("a1"))).await;
    let told = async |agent: &mut FakeAgent, members: usize| {
        agent
            .order(|order| match order {
                Order::Shards { shards } if shards.regions()[0].members().len() == members => {
                    Some((shards.epoch, shards.regions()[0].members()[members - 1].clone()))
                }
                _ => None,
            })
            .await
    };
    let (epoch, member) = told(&mut first, 1).await;
    assert_eq!(epoch, ShardEpoch { leader: Epoch(1), change: 1 });
    assert_eq!((member.agent.to_string().as_str(), member.weight), ("eu/a1", 20));
    let mut second = fleet.agent_with("a2", Some(offer("a2"))).await;
    let (epoch, member) = told(&mut second, 2).await;
    assert_eq!((epoch.change, member.address.as_str()), (2, "a2.example:7444"));
    assert_eq!(told(&mut first, 2).await.0, epoch);
    compile(&fleet, &mut old, "ann", "1").await;
    assert_eq!(old.hints, None);
    assert!(!old.waiting.iter().any(|order| matches!(order, Order::Shards { .. })));
}
