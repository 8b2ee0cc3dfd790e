//! Leases: granted once, kept alive, lost, and reported under.

use meridian_core::{
    build::{BuildSpec, Resolution, Source},
    digest::Digest,
    id::{Fence, PlacementNumber, SessionId},
    machine::{
        Limits,
        input::{AgentOffer, FailureKind, Input, Outcome, Phase, Progress},
        record::{BuildState, TaskState, TaskStep},
    },
    quantity::Millis,
};

use crate::fixture::{Fleet, agent, built, failed, module, offer, resolved, task, tree};

#[test]
fn a_module_build_resolves_once_and_then_compiles_for_each_platform() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(module(3));
    fleet.attach(1, "eu/a", 4);
    let leases = fleet.lease_all(1);
    assert_eq!(leases.len(), 1);
    assert!(fleet.report(1, &leases[0].0, leases[0].1, resolved()));
    let compiles = fleet.lease_all(1);
    assert_eq!(compiles.len(), 3);
    for (task, fence) in &compiles {
        assert!(fleet.report(1, task, *fence, built()));
    }
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
    assert!(fleet.machine.is_idle());
    fleet.check_replay();
}

/// Whether a resolution of `example.com/mod/cmd/tool@query` counts.
fn is_resolved(query: &str, module: &str, version: &str) -> bool {
    let mut fleet = Fleet::new();
    let package = "example.com/mod/cmd/tool".to_owned();
    fleet.submit(BuildSpec { source: Source::Module { package, query: query.to_owned() }, ..tree(1) });
    fleet.attach(1, "eu/a", 4);
    let leases = fleet.lease_all(1);
    let (module, version) = (module.to_owned(), version.to_owned());
    let found = Outcome::Resolved(Resolution { module, version, sum: "h1:abc".to_owned() });
    fleet.report(1, &leases[0].0, leases[0].1, found)
}

#[test]
fn a_version_that_was_asked_for_exactly_is_the_one_that_counts() {
    for (query, version, counts) in [
        ("v1.4.2", "v1.4.2", true),
        ("v1.4.2", "v1.4.1", false),
        ("v1.4.2", "v1.4.20", false),
        ("v1.4.2", "v1.4.2-rc.1", false),
        ("v1.4.2-rc.1", "v1.4.2", false),
        ("v2.0.0", "v2.0.0+incompatible", true),
        ("v2.0.0+incompatible", "v2.0.0+incompatible", true),
        ("v2.0.0+incompatible", "v2.0.0", false),
        ("v2.0.0+incompatible", "v2.0.1+incompatible", false),
        ("v1", "v1.4.1", true),
        ("latest", "v1.4.1", true),
        ("main", "v0.0.0-20260101000000-0123456789ab", true),
    ] {
        assert_eq!(is_resolved(query, "example.com/mod", version), counts, "{query}: {version}");
    }
}

#[test]
fn a_package_is_looked_for_in_no_module_that_is_not_above_it() {
    for (module, counts) in [
        ("example.com/mod", true),
        ("example.com/mod/cmd/tool", true),
        ("example.com/mo", false),
        ("example.com/mod/cmd/tool/x", false),
        ("evil.test/mod", false),
        ("", false),
    ] {
        assert_eq!(is_resolved("latest", module, "v1.4.2"), counts, "{module:?}");
    }
}

#[test]
fn a_failed_resolve_fails_the_build() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(module(3));
    fleet.attach(1, "eu/a", 4);
    let leases = fleet.lease_all(1);
    assert!(fleet.report(1, &leases[0].0, leases[0].1, failed(FailureKind::Modules)));
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    assert_eq!(fleet.machine.build(&build).unwrap().tasks.len(), 1);
}

#[test]
fn a_compile_error_is_not_retried_and_the_other_platforms_finish() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(2));
    fleet.attach(1, "eu/a", 2);
    let leases = fleet.lease_all(1);
    assert!(fleet.report(1, &leases[0].0, leases[0].1, failed(FailureKind::Compile)));
    assert_eq!(fleet.build_state(&build), BuildState::Running);
    assert!(fleet.report(1, &leases[1].0, leases[1].1, built()));
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    assert!(fleet.offers(1).is_empty());
}

#[test]
fn a_lease_that_expired_cannot_report() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    fleet.wait(Millis::seconds(30));
    assert_eq!(*fleet.state(&id), TaskState::Queued);
    assert!(!fleet.report(1, &id, fence, built()));
    fleet.wait(Millis::seconds(1));
    let (_, newer) = fleet.lease_all(1).remove(0);
    assert!(newer > fence);
    assert!(fleet.report(1, &id, newer, built()));
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
}

#[test]
fn a_renewed_lease_lives_on() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    for _ in 0..20 {
        fleet.wait(Millis::seconds(10));
        fleet.step(Input::Renew { session: SessionId(1), held: vec![(id.clone(), fence)] });
    }
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &task(&build, 0), fence));
    assert!(fleet.revokes(1).is_empty());
}

#[test]
fn a_repeated_report_is_answered_as_it_was_the_first_time_and_changes_nothing() {
    for outcome in [built(), failed(FailureKind::Compile), failed(FailureKind::Infrastructure), resolved()] {
        let mut fleet = Fleet::new();
        fleet.submit(tree(1));
        fleet.attach(1, "eu/a", 1);
        let (id, fence) = fleet.lease_all(1).remove(0);
        let first = fleet.report(1, &id, fence, outcome.clone());
        assert_eq!(first, !matches!(outcome, Outcome::Resolved(_)));
        let events = fleet.journal.len();
        assert_eq!(fleet.report(1, &id, fence, outcome), first);
        assert_eq!(fleet.journal.len(), events);
    }
}

#[test]
fn a_report_counts_only_from_the_agent_that_holds_the_lease() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    fleet.attach(2, "eu/b", 1);
    assert!(!fleet.report(2, &id, fence, built()));
    assert!(!fleet.report(1, &id, Fence(fence.0 + 1), built()));
    assert!(matches!(fleet.state(&id), TaskState::Leased { .. }));
    assert!(fleet.report(1, &id, fence, built()));
}

#[test]
fn a_success_without_a_receipt_is_refused_and_tried_again() {
    let mut no_receipt = built();
    let mut wrong_receipt = built();
    let mut no_artifact = built();
    if let Outcome::Built { artifacts, .. } = &mut no_receipt {
        artifacts[0].receipts.clear();
    }
    if let Outcome::Built { artifacts, .. } = &mut wrong_receipt {
        artifacts[0].receipts[0].size.0 += 1;
    }
    if let Outcome::Built { artifacts, .. } = &mut no_artifact {
        artifacts.clear();
    }
    for outcome in [no_receipt, wrong_receipt, no_artifact] {
        let mut fleet = Fleet::new();
        fleet.submit(tree(1));
        fleet.attach(1, "eu/a", 1);
        let (id, fence) = fleet.lease_all(1).remove(0);
        assert!(!fleet.report(1, &id, fence, outcome));
        assert_eq!(*fleet.state(&id), TaskState::Queued);
        assert!(matches!(
            fleet.machine.task(&id).unwrap().history.last(),
            Some(TaskStep::AttemptFailed { failure, .. }) if failure.kind == FailureKind::Infrastructure
        ));
    }
}

#[test]
fn infrastructure_trouble_ends_after_four_attempts_with_its_last_words() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    for _ in 1..=4 {
        assert_eq!(fleet.build_state(&build), BuildState::Running);
        let (id, fence) = fleet.lease_next(1);
        assert!(fleet.report(1, &id, fence, failed(FailureKind::Infrastructure)));
    }
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    let TaskState::Failed { failure, log, .. } = fleet.state(&task(&build, 0)) else { panic!("it failed") };
    assert_eq!(failure.message, "Infrastructure happened");
    assert_eq!(log.len(), 1);
}

#[test]
fn a_result_with_a_log_that_is_too_long_counts_without_the_logs_end() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_next(1);
    let Outcome::Built { artifacts, go_version, .. } = built() else { panic!("a result") };
    let log = vec![Digest::of(b"segment"); 5_000];
    assert!(fleet.report(1, &id, fence, Outcome::Built { artifacts, go_version, log, hit_permille: None }));
    assert!(matches!(fleet.state(&task(&build, 0)), TaskState::Succeeded { log, .. } if log.len() == 4_096));
}

#[test]
fn a_lost_agent_costs_more_patience_than_a_failing_one_but_not_without_end() {
    let limits = Limits::default();
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    for session in 1..=u64::from(limits.losses_max) {
        assert_eq!(fleet.build_state(&build), BuildState::Running);
        fleet.attach(session, "eu/a", 1);
        fleet.lease_next(session);
        fleet.step(Input::Detach { session: SessionId(session) });
        fleet.wait(limits.lease);
    }
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
}

#[test]
fn a_repeated_request_for_the_lease_gets_the_same_grant() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, placement) = fleet.offers(1).remove(0);
    fleet.ask_lease(1, &id, placement);
    fleet.ask_lease(1, &id, placement);
    let grants = fleet.grants(1);
    assert_eq!(grants.len(), 2);
    assert_eq!(grants[0], grants[1]);
}

#[test]
fn a_stale_request_for_a_lease_is_answered_with_the_placement_that_is_out() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, stale) = fleet.offers(1).remove(0);
    fleet.wait(Millis::seconds(12));
    let (_, fresh) = fleet.offers(1).remove(0);
    fleet.sent.clear();
    fleet.ask_lease(1, &id, stale);
    assert_eq!(fleet.offers(1), [(id.clone(), fresh)]);
    assert!(fleet.revokes(1).is_empty());
    fleet.ask_lease(1, &id, PlacementNumber(fresh.0 + 7));
    assert!(fleet.grants(1).is_empty());
}

#[test]
fn an_agent_that_comes_back_without_its_attempt_has_lost_it_at_once() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    fleet.attach(2, "eu/a", 1);
    assert_eq!(fleet.closed, [SessionId(1)]);
    assert_eq!(*fleet.state(&id), TaskState::Queued);
    fleet.wait(Millis::seconds(1));
    assert!(fleet.lease_all(2)[0].1 > fence);
}

#[test]
fn an_agent_that_comes_back_with_its_attempt_keeps_it() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(2));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    let stranger = (id.clone(), Fence(fence.0 + 9));
    fleet.restart(true);
    fleet.attach_with(2, "eu/a", 1, vec![(id.clone(), fence), stranger.clone()]);
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence));
    assert_eq!(fleet.revokes(2), [(stranger.0, Some(stranger.1))]);
    assert!(fleet.report(2, &id, fence, built()));
}

#[test]
fn progress_is_shown_only_for_the_current_lease() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    let progress = Progress { phase: Phase::Compile, done: 3, total: 9, detail: "net/http".to_owned() };
    let tell = |fence| Input::Progress {
        session: SessionId(1),
        task: id.clone(),
        fence,
        progress: progress.clone(),
    };
    fleet.step(tell(Fence(fence.0 + 1)));
    assert_eq!(fleet.machine.progress(&id), None);
    fleet.step(tell(fence));
    assert_eq!(fleet.machine.progress(&id), Some(&progress));
    fleet.report(1, &id, fence, built());
    assert_eq!(fleet.machine.progress(&id), None);
}

#[test]
fn what_is_placed_at_an_agent_that_comes_back_without_what_it_needs_goes_elsewhere() {
    let mut fleet = Fleet::new();
    let labelled = |labels: &[&str]| {
        let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        AgentOffer { labels, ..offer(1) }
    };
    let attach = |fleet: &mut Fleet, session, name, offer| {
        fleet.step(Input::Attach {
            session: SessionId(session),
            agent: agent(name),
            offer,
            held: Vec::new(),
        });
    };
    attach(&mut fleet, 1, "eu/a", labelled(&["hsm"]));
    let mut spec = tree(1);
    spec.wishes.labels = ["hsm"].map(|label| label.parse().unwrap()).into();
    fleet.submit(spec);
    let (id, placement) = fleet.offers(1).remove(0);

    // Its configuration was changed and it was started again, before it took the offer up.
    attach(&mut fleet, 2, "eu/a", labelled(&[]));
    assert!(fleet.offers(2).is_empty());
    fleet.ask_lease(2, &id, placement);
    assert!(fleet.grants(2).is_empty());
    assert_eq!(*fleet.state(&id), TaskState::Queued);
    let reason = fleet.machine.waits_for(&id);
    assert_eq!(reason, "no attached agent can ever match: no attached agent has hsm");

    attach(&mut fleet, 3, "eu/b", labelled(&["hsm"]));
    assert_eq!(fleet.lease_next(3).0, id);
    fleet.check_no_task_is_lost();
}
