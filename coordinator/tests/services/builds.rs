//! The life of a build as a member sees it.

use meridian_core::{
    cache::offer::{CacheKey, CacheOffer},
    digest::Digest,
    machine::{Limits, input::Outcome},
};
use meridian_proto::v1::{self, builds_client::BuildsClient, candidate::Verdict};
use tonic::{Code, transport::Channel};

use crate::fixture::{Fixture, built, module_build};

fn builds(fleet: &Fixture, member: &str) -> BuildsClient<Channel> {
    BuildsClient::new(fleet.channel(member))
}

const ANN: &str = "team/web/member/ann";

async fn submit(
    builds: &mut BuildsClient<Channel>,
    request: v1::SubmitRequest,
) -> Result<String, tonic::Status> {
    builds.submit(request).await.map(|answer| answer.into_inner().build)
}

/// Follows a build to its end and gives its last state.
async fn watch_to_the_end(builds: &mut BuildsClient<Channel>, build: &str) -> v1::Build {
    let request = v1::WatchRequest { build: build.to_owned(), after_revision: 0 };
    let mut stream = builds.watch(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(update) = stream.message().await.unwrap() {
        let build = update.build.unwrap();
        let grew = last.as_ref().is_none_or(|last: &v1::Build| last.revision <= build.revision);
        assert!(grew, "a watch went back in time");
        last = Some(build);
    }
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_build_is_resolved_once_and_compiled_for_each_platform() {
    let fleet = Fixture::start().await;
    let mut agent = fleet.agent("a1").await;
    let mut builds = builds(&fleet, ANN);
    let request = module_build("web/shop", "k1", &["linux/amd64", "darwin/arm64"]);
    let build = submit(&mut builds, request.clone()).await.unwrap();
    assert_eq!(build, "web/shop/1");
    assert_eq!(submit(&mut builds, request).await.unwrap(), build, "the same key is the same build");
    let (ended, ()) = tokio::join!(watch_to_the_end(&mut builds, &build), agent.work_off(3));
    assert_eq!(ended.state(), v1::BuildState::Succeeded);
    assert_eq!(ended.resolution.as_ref().unwrap().version, "v1.0.0");
    assert_eq!(ended.tasks.len(), 3);
    let explained = builds.explain(v1::ExplainRequest { build }).await.unwrap().into_inner();
    assert!(explained.tasks.iter().all(|task| !task.candidates.is_empty()), "{explained:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_for_another_request_is_refused() {
    let fleet = Fixture::start().await;
    let mut builds = builds(&fleet, ANN);
    submit(&mut builds, module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let other = submit(&mut builds, module_build("web/shop", "k", &["linux/arm64"])).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("web/shop/1"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_a_receipt_of_the_holder_is_not_accepted() {
    let fleet = Fixture::start().await;
    let mut agent = fleet.agent("a1").await;
    let mut builds = builds(&fleet, ANN);
    submit(&mut builds, module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    agent.work_off(1).await;
    let (work, fence) = agent.take().await;
    let mut artifact = agent.artifact(&work, fence).await;
    artifact.receipts[0].mac[0] ^= 1;
    agent.report(&work, fence, built(artifact)).await;
    let build = builds.get(v1::GetBuildRequest { build: "web/shop/1".into() }).await.unwrap().into_inner();
    assert_eq!(build.state(), v1::BuildState::Running, "a forged receipt became a result");
    agent.work_off(1).await;
    let build = builds.get(v1::GetBuildRequest { build: "web/shop/1".into() }).await.unwrap().into_inner();
    assert_eq!(build.state(), v1::BuildState::Succeeded);
}

fn again(build: &str, key: &str) -> v1::RebuildRequest {
    v1::RebuildRequest { build: build.to_owned(), key: key.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_made_from_the_first_builds_record_and_by_nobody_else() {
    let fleet = Fixture::start().await;
    let mut agent = fleet.agent("a1").await;
    let mut members = builds(&fleet, ANN);
    let first = submit(&mut members, module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let early = members.rebuild(again(&first, "r")).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    assert!(early.message().contains("still running"), "{early}");
    let (ended, ()) = tokio::join!(watch_to_the_end(&mut members, &first), agent.work_off(2));
    assert_eq!(ended.state(), v1::BuildState::Succeeded);

    let rebuilt = members.rebuild(again(&first, "r")).await.unwrap().into_inner().build;
    assert_eq!(rebuilt, "web/shop/2");
    assert_eq!(
        members.rebuild(again(&first, "r")).await.unwrap().into_inner().build,
        rebuilt,
        "the same key"
    );
    let (ended, ()) = tokio::join!(watch_to_the_end(&mut members, &rebuilt), agent.work_off(1));
    assert_eq!(ended.resolution.as_ref().unwrap().version, "v1.0.0", "nothing is resolved again");
    let spec = ended.spec.unwrap();
    assert_eq!((spec.from_scratch, spec.rebuild.as_ref().unwrap().of.as_str()), (true, first.as_str()));
    let explained = members.explain(v1::ExplainRequest { build: rebuilt }).await.unwrap().into_inner();
    assert_eq!(explained.rebuild_of, first);

    let mut forged = module_build("web/shop", "forged", &["linux/amd64"]);
    forged.spec.as_mut().unwrap().rebuild = spec.rebuild;
    let refused = submit(&mut members, forged).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let stranger = builds(&fleet, "team/other/member/eve").rebuild(again(&first, "x")).await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied, "{stranger}");
    let unknown = members.rebuild(again("web/shop/99", "y")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_coordinator_knows_its_builds_and_goes_on() {
    let fleet = Fixture::start().await;
    let build =
        submit(&mut builds(&fleet, ANN), module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let fleet = fleet.restart(Limits::default()).await;
    let mut builds = builds(&fleet, ANN);
    let mut agent = fleet.agent("a1").await;
    let (ended, ()) = tokio::join!(watch_to_the_end(&mut builds, &build), agent.work_off(2));
    assert_eq!(ended.state(), v1::BuildState::Succeeded);
    assert_eq!(submit(&mut builds, module_build("web/shop", "k", &["linux/amd64"])).await.unwrap(), build);
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_the_machine_forgot_are_listed_from_history_page_by_page() {
    let limits = Limits { builds_kept: 1, ..Limits::default() };
    let fleet = Fixture::start_with(limits.clone()).await;
    let mut members = builds(&fleet, ANN);
    let mut agent = fleet.agent("a1").await;
    for number in 1..=5 {
        let build = submit(&mut members, module_build("web/shop", &number.to_string(), &["linux/amd64"]))
            .await
            .unwrap();
        let (ended, ()) = tokio::join!(watch_to_the_end(&mut members, &build), agent.work_off(2));
        assert_eq!(ended.state(), v1::BuildState::Succeeded);
    }
    drop(agent);
    let expected: Vec<_> =
        (1..=5).rev().map(|n| (format!("web/shop/{n}"), v1::BuildState::Succeeded)).collect();
    // History follows the journal; a restarted coordinator catches up with all that was durable before.
    let fleet = fleet.restart(limits.clone()).await;
    assert_eq!(list_all(&fleet).await, expected);
    let explained =
        builds(&fleet, ANN).explain(v1::ExplainRequest { build: "web/shop/1".into() }).await.unwrap();
    assert!(explained.into_inner().tasks.iter().all(|task| task.now.starts_with("succeeded")));
    let history = fleet.state().join("history");
    let fleet = fleet.restart_after(limits, || std::fs::remove_dir_all(history).unwrap()).await;
    assert_eq!(list_all(&fleet).await, expected, "a lost history was not read again from the journal");
}

/// Every build of the shop, newest first, in pages of two.
async fn list_all(fleet: &Fixture) -> Vec<(String, v1::BuildState)> {
    let mut members = builds(fleet, ANN);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListBuildsRequest { project: "web/shop".into(), page_size: 2, page_token: token };
        let page = members.list(request).await.unwrap().into_inner();
        assert!(page.builds.len() <= 2);
        seen.extend(page.builds.into_iter().map(|build| (build.id.clone(), build.state())));
        token = page.next_page_token;
        if token.is_empty() {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_a_typed_rejection_with_a_time_to_try_again() {
    let fleet = Fixture::start_with(Limits { queued_tasks_max: 4, ..Limits::default() }).await;
    let mut members = builds(&fleet, ANN);
    let mut refused = None;
    for key in 0..10 {
        if let Err(status) =
            submit(&mut members, module_build("web/shop", &key.to_string(), &["linux/amd64"])).await
        {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("ten builds fit into a queue of four tasks");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().contains_key("retry-after-ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_and_its_late_report_counts_for_nothing() {
    let fleet = Fixture::start().await;
    let mut agent = fleet.agent("a1").await;
    let mut members = builds(&fleet, ANN);
    let build = submit(&mut members, module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let (work, fence) = agent.take().await;
    assert!(
        members.cancel(v1::CancelBuildRequest { build: build.clone() }).await.unwrap().into_inner().changed
    );
    let late = Outcome::Resolved(meridian_core::build::Resolution {
        module: "example.com/tool".into(),
        version: "v1.0.0".into(),
        sum: String::new(),
    });
    assert!(!agent.report(&work, fence, late).await);
    let ended = members.get(v1::GetBuildRequest { build: build.clone() }).await.unwrap().into_inner();
    assert_eq!(ended.state(), v1::BuildState::Cancelled);
    assert!(!members.cancel(v1::CancelBuildRequest { build }).await.unwrap().into_inner().changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_teams_builds_cannot_be_seen_watched_or_cancelled() {
    let fleet = Fixture::start().await;
    let build =
        submit(&mut builds(&fleet, ANN), module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let mut eve = builds(&fleet, "team/other/member/eve");
    let get = eve.get(v1::GetBuildRequest { build: build.clone() }).await.unwrap_err();
    let cancel = eve.cancel(v1::CancelBuildRequest { build: build.clone() }).await.unwrap_err();
    let watch = eve.watch(v1::WatchRequest { build, after_revision: 0 }).await.unwrap_err();
    let submit = submit(&mut eve, module_build("web/shop", "x", &["linux/amd64"])).await.unwrap_err();
    for status in [get, cancel, watch, submit] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_where_it_may_measure_and_what_it_says_of_its_ways_is_a_term_of_each_cost() {
    let fleet = Fixture::start().await;
    let cache = CacheOffer {
        address: Some("a1.example:7444".parse().unwrap()),
        key: CacheKey::new(*Digest::of(b"a1").as_bytes()),
        weight: 20,
    };
    let mut listening = fleet.agent_with("a1", Some(cache)).await;
    let mut builds = builds(&fleet, ANN);
    let question = |project: &str| v1::RegionsRequest { project: project.to_owned() };
    let answer = builds.regions(question("web/shop")).await.unwrap().into_inner();
    let agent = v1::regions_response::Agent { agent: "eu/a1".into(), address: "a1.example:7444".into() };
    assert_eq!(answer.regions, [v1::regions_response::Region { name: "eu".into(), agents: vec![agent] }]);
    let other = builds.regions(question("other/shop")).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);

    let way = |region: &str, rtt_us| v1::ClientWay { region: region.into(), rtt_us, bytes_per_s: None };
    let ways = vec![way("", 100_000), way("eu", 8_000)];
    let spoilt = v1::SubmitRequest {
        ways: vec![way("eu", 0)],
        ..module_build("web/shop", "spoilt", &["linux/amd64"])
    };
    let refused = submit(&mut builds, spoilt).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("ways[0].rtt_us"), "{refused}");
    let request = v1::SubmitRequest { ways, ..module_build("web/shop", "k", &["linux/amd64"]) };
    let build = submit(&mut builds, request).await.unwrap();
    listening.work_off(2).await;
    let explained = builds.explain(v1::ExplainRequest { build }).await.unwrap().into_inner();
    let delivery = |task: usize| match &explained.tasks[task].candidates[0].verdict {
        Some(Verdict::Eligible(eligible)) => eligible.terms.unwrap().deliver_us,
        other => panic!("{other:?}"),
    };
    assert_eq!(delivery(0), 0, "what a module is, nobody has brought to them");
    let straight = 4 * 8_000;
    assert!((straight..500_000).contains(&delivery(1)), "{}", delivery(1));
}
