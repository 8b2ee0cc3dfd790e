//! A build that repeats another: what is asked again, and of whom.

use meridian_core::{
    build::{BuildSpec, Toolchain, Wishes},
    id::BuildId,
    machine::{
        effect::Order,
        input::{FailureKind, Input, Outcome},
        record::{BuildState, TaskKind, TaskState, TaskStep, Verdict},
        request::request_digest,
    },
    quantity::Millis,
};

use crate::fixture::{
    Fleet, agent, built, failed, module, platform, repeated, requester, resolution, resolved, task, tree,
};

/// Lets one agent build all of a build.
fn build_all(fleet: &mut Fleet, session: u64, spec: BuildSpec) -> BuildId {
    let build = fleet.submit(spec);
    while fleet.build_state(&build) == BuildState::Running {
        let (task, fence) = fleet.lease_next(session);
        let outcome = match fleet.machine.task(&task).unwrap().kind {
            TaskKind::Resolve => resolved(),
            TaskKind::Compile(_) => built(),
        };
        assert!(fleet.report(session, &task, fence, outcome));
    }
    build
}

fn again(fleet: &Fleet, build: &BuildId) -> BuildSpec {
    fleet.machine.build(build).unwrap().rebuild(&[], Wishes::default()).unwrap()
}

fn builder(fleet: &Fleet, build: &BuildId, ordinal: u32) -> String {
    match fleet.state(&task(build, ordinal)) {
        TaskState::Placed { agent, .. } | TaskState::Leased { agent, .. } => agent.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_rebuild_asks_for_the_same_with_the_go_that_was_used_and_from_scratch() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    let first = build_all(&mut fleet, 1, module(2));
    let spec = again(&fleet, &first);
    assert_eq!(spec.check(), Ok(()));
    let rebuild = spec.rebuild.clone().unwrap();
    assert_eq!((&rebuild.of, &rebuild.resolution), (&first, &Some(resolution())));
    assert_eq!(rebuild.builders, [(platform(0), agent("eu/a")), (platform(1), agent("eu/a"))]);
    assert_eq!(
        spec.toolchain,
        Toolchain::Version { version: "1.27.3".to_owned(), pins: Vec::new() },
        "the default is another one in another release"
    );
    let asked = module(2);
    assert_eq!((&spec.source, &spec.platforms, spec.from_scratch), (&asked.source, &asked.platforms, true));
    assert_ne!(request_digest(&spec), request_digest(&asked));
}

#[test]
fn some_platforms_can_be_rebuilt_and_none_that_was_not_built() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    let first = build_all(&mut fleet, 1, tree(3));
    let record = fleet.machine.build(&first).unwrap();
    let ask = |numbers: &[usize]| {
        let platforms: Vec<_> = numbers.iter().map(|number| platform(*number)).collect();
        record.rebuild(&platforms, Wishes::default()).map(|spec| spec.platforms)
    };
    assert_eq!(ask(&[2, 0]).unwrap(), [platform(2), platform(0)]);
    let told = ask(&[3]).unwrap_err().to_string();
    assert!(told.contains("not for windows/amd64") && told.contains("darwin/arm64"), "{told}");
    assert!(ask(&[1, 1]).unwrap_err().to_string().contains("twice"));
}

#[test]
fn only_a_build_that_succeeded_is_rebuilt() {
    let mut fleet = Fleet::new();
    let running = fleet.submit(tree(1));
    let ask = |fleet: &Fleet| {
        let record = fleet.machine.build(&running).unwrap();
        record.rebuild(&[], Wishes::default()).unwrap_err().to_string()
    };
    assert!(ask(&fleet).contains("still running"));
    fleet.attach(1, "eu/a", 1);
    let (task, fence) = fleet.lease_next(1);
    fleet.report(1, &task, fence, failed(FailureKind::Compile));
    assert!(ask(&fleet).contains("failed, so there is nothing to compare"));
    let cancelled = fleet.submit(tree(1));
    fleet.ask(|request| Input::Cancel { request, build: cancelled.clone(), by: requester() });
    let record = fleet.machine.build(&cancelled).unwrap();
    let told = record.rebuild(&[], Wishes::default()).unwrap_err().to_string();
    assert!(told.contains("was cancelled"), "{told}");
}

#[test]
fn platforms_of_different_go_versions_are_not_rebuilt_as_if_they_were_of_one() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    let first = fleet.submit(tree(2));
    for (index, go) in ["go1.27.3", "go1.27.4 X:nodwarf5"].into_iter().enumerate() {
        let (task, fence) = if index == 0 { fleet.lease_all(1).remove(0) } else { held(&fleet, &first) };
        let Outcome::Built { artifacts, log, .. } = built() else { panic!() };
        fleet.report(
            1,
            &task,
            fence,
            Outcome::Built { artifacts, go_version: go.to_owned(), log, hit_permille: None },
        );
    }
    let record = fleet.machine.build(&first).unwrap();
    let told = record.rebuild(&[], Wishes::default()).unwrap_err().to_string();
    assert!(told.contains("go1.27.3, go1.27.4") && told.contains("--platform"), "{told}");
    let one = record.rebuild(&[platform(1)], Wishes::default()).unwrap();
    assert_eq!(one.toolchain, Toolchain::Version { version: "1.27.4".to_owned(), pins: Vec::new() });
}

/// The lease that a build has now.
fn held(fleet: &Fleet, build: &BuildId) -> (meridian_core::id::TaskId, meridian_core::id::Fence) {
    let record = fleet.machine.build(build).unwrap();
    let lease = |task: &meridian_core::machine::record::TaskRecord| match task.state {
        TaskState::Leased { fence, .. } => Some((task.id.clone(), fence)),
        _ => None,
    };
    record.tasks.iter().find_map(lease).unwrap()
}

#[test]
fn nothing_is_resolved_again_and_every_attempt_is_told_what_it_was() {
    let mut fleet = Fleet::new();
    let again = fleet.submit(repeated(module(2), "eu/a"));
    let record = fleet.machine.build(&again).unwrap();
    assert_eq!(record.resolution, Some(resolution()));
    assert!(record.tasks.iter().all(|task| matches!(task.kind, TaskKind::Compile(_))), "{record:?}");
    assert_eq!(record.tasks.len(), 2);
    fleet.attach(1, "eu/b", 2);
    let told = |(_, order): &(_, Order)| match order {
        Order::Offer { work, .. } => Some((work.resolution.clone(), work.spec.from_scratch)),
        _ => None,
    };
    let works: Vec<_> = fleet.sent.iter().filter_map(told).collect();
    assert_eq!(works, [(Some(resolution()), true), (Some(resolution()), true)]);
    fleet.check_replay();
}

#[test]
fn another_agent_is_taken_than_the_one_that_built_it_first_and_waited_for() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    fleet.attach(2, "us/b", 1);
    let again = fleet.submit(repeated(tree(2), "eu/a"));
    assert_eq!(builder(&fleet, &again, 0), "us/b");
    let explained = fleet.machine.explain(&again).unwrap();
    let waits = "queued: the only agent that did not build it before is busy: next";
    assert!(explained[1].now.starts_with(waits), "{}", explained[1].now);
    let first = explained[1].candidates.iter().find(|candidate| candidate.agent == agent("eu/a")).unwrap();
    assert_eq!(first.verdict, Verdict::Refused { why: "built it the first time".to_owned() });
    fleet.wait(Millis::seconds(5));
    assert_eq!(*fleet.state(&task(&again, 1)), TaskState::Queued, "the first builder is free and not taken");
    fleet.check_replay();
}

#[test]
fn the_first_builder_is_taken_at_once_where_it_is_the_only_one_or_the_one_asked_for() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 4);
    let again = fleet.submit(repeated(tree(1), "eu/a"));
    assert_eq!(builder(&fleet, &again, 0), "eu/a");
    fleet.attach(2, "us/b", 4);
    let mut spec = repeated(tree(1), "eu/a");
    spec.wishes.agent = Some(agent("eu/a"));
    let wished = fleet.submit(spec);
    assert_eq!(builder(&fleet, &wished, 0), "eu/a");
}

#[test]
fn a_rebuild_that_the_only_other_agent_fails_ends_with_the_first_builder() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.attach(2, "us/b", 1);
    let again = fleet.submit(repeated(tree(1), "eu/a"));
    let (failing, fence) = fleet.lease_next(2);
    fleet.report(2, &failing, fence, failed(FailureKind::Infrastructure));
    let (task, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &task, fence, built()));
    assert_eq!(fleet.build_state(&again), BuildState::Succeeded);
    let history = &fleet.machine.task(&task).unwrap().history;
    assert!(history.iter().any(|step| matches!(step, TaskStep::AttemptFailed { .. })));
}

#[test]
fn what_a_rebuild_says_of_the_first_build_must_fit_the_rest() {
    let good = repeated(module(2), "eu/a");
    assert_eq!(good.check(), Ok(()));
    let told = |change: fn(&mut BuildSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        spec.check().unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert!(told(|spec| spec.from_scratch = false).contains("starts from scratch"));
    assert!(told(|spec| spec.rebuild.as_mut().unwrap().resolution = None).contains("resolved to"));
    assert!(told(|spec| drop(spec.rebuild.as_mut().unwrap().builders.pop())).contains("first builder"));
}

#[test]
fn whatever_a_rebuild_fixes_is_part_of_its_request() {
    let digests: Vec<_> = [
        tree(1),
        BuildSpec { from_scratch: true, ..tree(1) },
        repeated(tree(1), "eu/a"),
        repeated(tree(1), "eu/b"),
        BuildSpec { from_scratch: false, ..repeated(tree(1), "eu/a") },
    ]
    .iter()
    .map(request_digest)
    .collect();
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}
