//! What people are told of agents' caches, and what they may have done with them.

use meridian_core::{
    cache::{
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
    },
    digest::Digest,
    machine::input::Observation,
    quantity::ByteCount,
    schedule::sketch::Sample,
};
use meridian_proto::{
    convert::agent::AgentSaid,
    v1::{
        self, builds_client::BuildsClient, cache_answer::Answer, cache_question::Question,
        cache_report::Report, caches_client::CachesClient,
    },
};
use tonic::{Code, Status, Streaming};

use crate::fixture::{FakeAgent, Fixture, module_build};

fn offer(name: &str) -> CacheOffer {
    CacheOffer {
        address: Some(format!("{name}.example:7444").parse().unwrap()),
        key: CacheKey::new(*Digest::of(name.as_bytes()).as_bytes()),
        weight: 20,
    }
}

async fn agent(fleet: &Fixture, name: &str) -> FakeAgent {
    fleet.agent_with(name, Some(offer(name))).await
}

async fn stats(
    fleet: &Fixture,
    caller: &str,
    agents: v1::CacheAgents,
) -> Result<Streaming<v1::CacheReport>, Status> {
    let mut caches = CachesClient::new(fleet.channel(caller));
    Ok(caches.stats(v1::CacheStatsRequest { agents: Some(agents) }).await?.into_inner())
}

/// All reports, by agent.
async fn all(mut reports: Streaming<v1::CacheReport>) -> Vec<(String, Report)> {
    let mut found = Vec::new();
    while let Some(report) = reports.message().await.unwrap() {
        found.push((report.agent, report.report.unwrap()));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

async fn answer(agent: &FakeAgent, number: u64, answer: Answer) {
    let answer = v1::CacheAnswer { number, answer: Some(answer) };
    agent.say(AgentSaid::CacheAnswer(Box::new(answer))).await;
}

fn used(project: &str) -> v1::LineageUse {
    let name = v1::LineageName { project: project.to_owned(), ..v1::LineageName::default() };
    v1::LineageUse { name: Some(name), ..v1::LineageUse::default() }
}

/// Builds as the member `ann` of the team `web`, and leaves a manifest.
async fn build(fleet: &Fixture, agent: &mut FakeAgent) -> Digest {
    let request = module_build("web/shop", "k", &["linux/amd64"]);
    BuildsClient::new(fleet.channel("team/web/member/ann")).submit(request).await.unwrap();
    agent.work_off(1).await;
    let (work, fence) = agent.take().await;
    let artifact = agent.artifact(&work, fence).await;
    assert!(agent.report(&work, fence, crate::fixture::built(artifact)).await);
    let digest = Digest::of(b"manifest");
    let manifest = ManifestRef { digest, size: ByteCount(900), entries: 6, bytes: ByteCount::mib(3) };
    agent.say(AgentSaid::ManifestMade { task: work.task, fence, manifest, sample: Sample::default() }).await;
    let figures = Observation { residency: vec![digest], ..Observation::default() };
    agent.say(AgentSaid::Observed(figures)).await;
    digest
}

/// Waits until the coordinator has heard of a manifest and of who holds it.
async fn wait_for_lineage(fleet: &Fixture, agents: v1::CacheAgents, holders: &[&str]) -> v1::KnownLineage {
    for _ in 0..400 {
        let reports = stats(fleet, "admin", agents.clone()).await.unwrap();
        for (_, report) in all(reports).await {
            if let Report::Lineages(known) = report
                && let Some(lineage) = known.lineages.into_iter().find(|one| one.holders == holders)
            {
                return lineage;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no lineage is held by {holders:?}");
}

fn away() -> v1::CacheAgents {
    v1::CacheAgents { agent: "eu/away".to_owned(), region: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_agent_is_asked_beside_the_others_and_one_that_cannot_answer_is_told_by_name() {
    let fleet = Fixture::start().await;
    let (mut a, mut b) = (agent(&fleet, "a1").await, agent(&fleet, "b1").await);
    let _none = fleet.agent("c1").await;
    let reports = stats(&fleet, "admin", v1::CacheAgents::default()).await.unwrap();
    let (first, second) = (a.question().await, b.question().await);
    assert!(matches!(first.question, Some(Question::Stats(_))));
    // The last one first, and with a word on the way.
    answer(&b, second.number, Answer::Working(v1::CacheWorking { bytes: 7 })).await;
    answer(&b, second.number, Answer::Failed("its disk is away".to_owned())).await;
    answer(&a, first.number, Answer::Stats(v1::CacheStats { bytes: 9, ..v1::CacheStats::default() })).await;
    let found = all(reports).await;
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(matches!(&found[0], (agent, Report::Lineages(_)) if agent.is_empty()));
    assert!(matches!(&found[1], (agent, Report::Stats(stats)) if agent == "eu/a1" && stats.bytes == 9));
    assert!(matches!(&found[2], (agent, Report::Working(_)) if agent == "eu/b1"));
    assert!(matches!(&found[3], (agent, Report::Failed(why)) if agent == "eu/b1" && why.contains("disk")));

    let found = all(stats(&fleet, "admin", away()).await.unwrap()).await;
    assert!(
        matches!(&found[1], (agent, Report::Failed(why)) if agent == "eu/away" && why.contains("not attached"))
    );
    let region = v1::CacheAgents { agent: String::new(), region: "us".to_owned() };
    assert_eq!(stats(&fleet, "admin", region).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_leaves_nobody_waiting() {
    let fleet = Fixture::start().await;
    let mut agent = agent(&fleet, "a1").await;
    let reports = stats(&fleet, "admin", v1::CacheAgents::default()).await.unwrap();
    agent.question().await;
    drop(agent);
    let found = all(reports).await;
    assert!(matches!(&found[1].1, Report::Failed(why) if why.contains("stream ended")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_hears_of_the_own_teams_lineages_alone_and_has_nothing_done() {
    let fleet = Fixture::start().await;
    let mut agent = agent(&fleet, "a1").await;
    build(&fleet, &mut agent).await;
    let known = wait_for_lineage(&fleet, away(), &["eu/a1"]).await;
    assert_eq!((known.project.as_str(), known.name.unwrap().platform.as_str()), ("web/shop", "linux/amd64"));
    for (caller, told) in [("team/web/member/bob", 1), ("team/infra/member/eve", 0), ("admin", 1)] {
        let reports = stats(&fleet, caller, v1::CacheAgents::default()).await.unwrap();
        let question = agent.question().await;
        let lineages = vec![used("web/shop"), used("infra/dns"), used("web2/shop")];
        let stats = v1::CacheStats { lineages, ..v1::CacheStats::default() };
        answer(&agent, question.number, Answer::Stats(stats)).await;
        let found = all(reports).await;
        let (Report::Lineages(known), Report::Stats(stats)) = (&found[0].1, &found[1].1) else {
            panic!("{found:?}")
        };
        assert_eq!(known.lineages.len(), told, "{caller}");
        assert_eq!(stats.lineages.len(), if caller == "admin" { 3 } else { 1 }, "{caller}");
    }
    let mut caches = CachesClient::new(fleet.channel("team/web/member/ann"));
    let refused = [
        caches.evict(v1::CacheEvictRequest::default()).await.unwrap_err(),
        caches.verify(v1::CacheVerifyRequest::default()).await.unwrap_err(),
        caches.warm(v1::CacheWarmRequest::default()).await.unwrap_err(),
    ];
    assert_eq!(refused.map(|status| status.code()), [Code::PermissionDenied; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lacks_a_lineage_is_told_who_has_it_under_a_grant() {
    let fleet = Fixture::start().await;
    let mut holder = agent(&fleet, "a1").await;
    let wanted = || {
        let request = module_build("web/shop", "k", &["linux/amd64"]);
        let (project, spec) = ("web/shop".to_owned(), request.spec);
        v1::CacheWarmRequest { agents: None, project, spec }
    };
    let mut caches = CachesClient::new(fleet.channel("admin"));
    let unknown = caches.warm(wanted()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("build it once"), "{unknown}");

    let manifest = build(&fleet, &mut holder).await;
    wait_for_lineage(&fleet, away(), &["eu/a1"]).await;
    let mut cold = agent(&fleet, "b1").await;
    let reports = caches.warm(wanted()).await.unwrap().into_inner();
    let question = cold.question().await;
    let Some(Question::Warm(v1::CacheWarming { hints: Some(hints), platform })) = question.question else {
        panic!("{question:?}")
    };
    let hint = hints.manifest.unwrap();
    assert_eq!((hint.manifest.unwrap().digest, hint.distance), (manifest.as_bytes().to_vec().into(), 0));
    assert_eq!((hint.holders[0].agent.as_str(), platform.as_str()), ("eu/a1", "linux/amd64"));
    assert!(hints.writes == "web/trusted" && !hints.grant.is_empty());
    let warmed = v1::CacheWarmed { bodies: 3, whole: true, ..v1::CacheWarmed::default() };
    answer(&cold, question.number, Answer::Warmed(warmed)).await;
    // What it last said of itself may be over, so whoever is known to hold it is asked as well.
    let question = holder.question().await;
    assert!(matches!(question.question, Some(Question::Warm(_))), "{question:?}");
    let held = v1::CacheWarmed { held: true, whole: true, ..v1::CacheWarmed::default() };
    answer(&holder, question.number, Answer::Warmed(held)).await;
    let found = all(reports).await;
    let said = |by: &str| found.iter().find(|(agent, _)| agent == by).map(|(_, report)| report);
    assert!(matches!(said("eu/a1"), Some(Report::Warmed(warmed)) if warmed.held), "{found:?}");
    assert!(matches!(said("eu/b1"), Some(Report::Warmed(warmed)) if warmed.bodies == 3), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_asked_for_one_platform_after_the_other_however_many_there_are() {
    const PLATFORMS: [&str; 12] = [
        "linux/amd64",
        "linux/arm64",
        "linux/386",
        "linux/arm",
        "linux/ppc64le",
        "linux/riscv64",
        "linux/s390x",
        "darwin/amd64",
        "darwin/arm64",
        "windows/amd64",
        "windows/arm64",
        "freebsd/amd64",
    ];
    let fleet = Fixture::start().await;
    let mut holder = agent(&fleet, "a1").await;
    let request = module_build("web/shop", "k", &PLATFORMS);
    let wanted = v1::CacheWarmRequest {
        agents: Some(v1::CacheAgents { agent: "eu/b1".to_owned(), region: String::new() }),
        project: "web/shop".to_owned(),
        spec: request.spec.clone(),
    };
    BuildsClient::new(fleet.channel("team/web/member/ann")).submit(request).await.unwrap();
    holder.work_off(1).await;
    let mut held = Vec::new();
    for (number, _) in PLATFORMS.iter().enumerate() {
        let (work, fence) = holder.take().await;
        let artifact = holder.artifact(&work, fence).await;
        assert!(holder.report(&work, fence, crate::fixture::built(artifact)).await);
        let digest = Digest::of(format!("manifest {number}").as_bytes());
        held.push(digest);
        let manifest = ManifestRef { digest, size: ByteCount(900), entries: 6, bytes: ByteCount::mib(3) };
        holder
            .say(AgentSaid::ManifestMade { task: work.task, fence, manifest, sample: Sample::default() })
            .await;
    }
    let figures = Observation { residency: held, ..Observation::default() };
    holder.say(AgentSaid::Observed(figures)).await;
    let mut cold = agent(&fleet, "b1").await;
    let mut caches = CachesClient::new(fleet.channel("admin"));
    let reports = loop {
        match caches.warm(wanted.clone()).await {
            Ok(reports) => break reports.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    for _ in PLATFORMS {
        let question = cold.question().await;
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), cold.question()).await;
        assert!(early.is_err(), "the next one is asked when this one has ended: {early:?}");
        let warmed = v1::CacheWarmed { whole: true, ..v1::CacheWarmed::default() };
        answer(&cold, question.number, Answer::Warmed(warmed)).await;
    }
    let found = all(reports).await;
    assert_eq!(found.len(), PLATFORMS.len());
    assert!(found.iter().all(|(_, report)| matches!(report, Report::Warmed(one) if one.whole)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_says_nothing_or_nonsense_is_refused_before_any_agent_hears_of_it() {
    use v1::cache_eviction::What;
    let fleet = Fixture::start().await;
    let mut caches = CachesClient::new(fleet.channel("admin"));
    let short = v1::LineageKeys { keys: vec![vec![1; 31].into()] };
    for what in [
        None,
        Some(What::All(false)),
        Some(What::Lineages(v1::LineageKeys::default())),
        Some(What::Lineages(short)),
    ] {
        let request = v1::CacheEvictRequest { agents: None, eviction: Some(v1::CacheEviction { what }) };
        assert_eq!(caches.evict(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
