//! What holds a task back whoever is free.

use meridian_core::{
    build::{BuildSpec, ConcurrencyGroup},
    id::{BuildId, SessionId},
    machine::{
        effect::Reply,
        input::{FailureKind, Input},
        placement::reasons::WaitReason,
        record::{BuildState, TaskState},
    },
};

use crate::fixture::{Fleet, built, failed, requester, task, tree};

fn grouped(name: &str, cancels: bool) -> BuildSpec {
    let mut spec = tree(1);
    spec.wishes.group = Some(ConcurrencyGroup { name: name.parse().unwrap(), cancels });
    spec
}

fn is_queued(fleet: &Fleet, build: &BuildId) -> bool {
    *fleet.state(&task(build, 0)) == TaskState::Queued
}

#[test]
fn builds_of_a_group_run_one_after_the_other_and_others_beside_them() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 4);
    let first = fleet.submit(grouped("deploy", false));
    let second = fleet.submit(grouped("deploy", false));
    let third = fleet.submit(grouped("deploy", false));
    let other = fleet.submit(grouped("lint", false));
    assert!(!is_queued(&fleet, &first) && !is_queued(&fleet, &other));
    for waiting in [&second, &third] {
        let reason = fleet.machine.wait_reason(&task(waiting, 0));
        assert_eq!(reason, Some(WaitReason::Group { build: first.clone() }));
    }
    fleet.restart(true);
    fleet.attach_with(2, "eu/a", 4, Vec::new());
    assert!(is_queued(&fleet, &second));
    let leased = fleet.lease_all(2);
    let (id, fence) = leased.iter().find(|(id, _)| id.build == first).unwrap();
    assert!(fleet.report(2, id, *fence, failed(FailureKind::Compile)));
    assert!(!is_queued(&fleet, &second) && is_queued(&fleet, &third));
    fleet.ask(|request| Input::Cancel { request, build: second.clone(), by: requester() });
    assert!(!is_queued(&fleet, &third));
    fleet.check_no_task_is_lost();
}

#[test]
fn a_build_of_a_group_that_cancels_ends_those_before_it_and_says_in_whose_favour() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 4);
    let first = fleet.submit(grouped("main", false));
    let (id, fence) = fleet.lease_next(1);
    let second = fleet.submit(grouped("main", false));
    let third = fleet.submit(grouped("main", true));
    assert_eq!(fleet.build_state(&first), BuildState::Cancelled);
    assert_eq!(fleet.build_state(&second), BuildState::Cancelled);
    assert!(!is_queued(&fleet, &third));
    assert_eq!(fleet.revokes(1), [(id.clone(), Some(fence))]);
    assert!(!fleet.report(1, &id, fence, built()), "what it made counts no more");
    for ended in [&first, &second] {
        assert_eq!(fleet.machine.build(ended).unwrap().superseded_by.as_ref(), Some(&third));
        let explained = fleet.machine.explain(ended).unwrap().remove(0);
        let words = format!("cancelled: build {third} of the same concurrency group takes its place");
        assert!(explained.now.starts_with(&words), "{}", explained.now);
    }
    fleet.ask(|request| Input::Cancel { request, build: third.clone(), by: requester() });
    assert_eq!(fleet.machine.build(&third).unwrap().superseded_by, None, "somebody gave it up");
    fleet.check_replay();
}

#[test]
fn no_more_of_a_build_s_tasks_are_at_work_than_it_allows() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 8);
    let mut spec = tree(5);
    spec.wishes.at_once = Some(2);
    let build = fleet.submit(spec);
    let leased = fleet.lease_all(1);
    assert_eq!(leased.len(), 2);
    let reason = fleet.machine.wait_reason(&task(&build, 4));
    assert_eq!(reason, Some(WaitReason::AtOnce { at_once: 2 }));
    let mut done = 0;
    let mut at_work = leased;
    while let Some((id, fence)) = at_work.pop() {
        assert!(fleet.report(1, &id, fence, built()));
        done += 1;
        at_work.extend(fleet.lease_all(1));
        assert!(at_work.len() <= 2);
    }
    assert_eq!((done, fleet.build_state(&build)), (5, BuildState::Succeeded));
}

fn reason(fleet: &Fleet, build: &BuildId, ordinal: u32) -> WaitReason {
    fleet.machine.wait_reason(&task(build, ordinal)).unwrap()
}

#[test]
fn a_task_names_its_gate_even_while_nobody_is_free_to_send_it_there() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let first = fleet.submit(grouped("deploy", false));
    let second = fleet.submit(grouped("deploy", false));
    let mut spec = tree(2);
    spec.wishes.at_once = Some(1);
    let bounded = fleet.submit(spec);
    assert_eq!(reason(&fleet, &second, 0), WaitReason::Group { build: first.clone() });
    assert!(matches!(reason(&fleet, &bounded, 0), WaitReason::Busy { .. }));
    let (id, fence) = fleet.lease_next(1);
    assert_eq!(id.build, first);
    assert!(fleet.report(1, &id, fence, built()));
    fleet.ask(|request| Input::Cancel { request, build: second, by: requester() });
    let (id, _) = fleet.lease_next(1);
    assert_eq!(id, task(&bounded, 0));
    assert_eq!(reason(&fleet, &bounded, 1), WaitReason::AtOnce { at_once: 1 });
}

fn same(fleet: &mut Fleet, text: &str) -> BuildId {
    match fleet.submit_as(text, tree(1)) {
        Reply::Submitted { build } => build,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_asks_for_what_is_just_being_made_waits_and_then_all_go_at_once() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 8);
    let builds: Vec<BuildId> = (0..4).map(|number| same(&mut fleet, &format!("k{number}"))).collect();
    let (id, fence) = fleet.lease_next(1);
    assert_eq!(id.build, builds[0]);
    for waiting in &builds[1..] {
        let reason = fleet.machine.wait_reason(&task(waiting, 0));
        assert_eq!(reason, Some(WaitReason::Same { task: id.clone() }));
    }
    assert!(fleet.report(1, &id, fence, built()));
    assert_eq!(fleet.lease_all(1).len(), 3, "each is built for itself, from the cache");
}

#[test]
fn when_the_first_of_the_same_fails_or_is_lost_the_next_one_makes_it() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 8);
    let builds: Vec<BuildId> = (0..3).map(|number| same(&mut fleet, &format!("k{number}"))).collect();
    let (id, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &id, fence, failed(FailureKind::Compile)));
    let (second, _) = fleet.lease_next(1);
    assert_eq!(second.build, builds[1]);
    assert!(is_queued(&fleet, &builds[2]));
    fleet.step(Input::Detach { session: SessionId(1) });
    fleet.attach(2, "eu/a", 8);
    let next = fleet.lease_all(2);
    assert_eq!(next.len(), 1, "{next:?}");
    fleet.check_no_task_is_lost();
}

#[test]
fn what_is_built_from_scratch_waits_for_nobody_who_makes_the_same() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 8);
    let scratch = || BuildSpec { from_scratch: true, ..tree(1) };
    for text in ["k1", "k2"] {
        assert!(matches!(fleet.submit_as(text, scratch()), Reply::Submitted { .. }));
    }
    assert_eq!(fleet.lease_all(1).len(), 2);
}
