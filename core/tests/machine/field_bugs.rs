//! Bugs that other build fleets have had, each as the test that would have found it here.

use meridian_core::{
    id::{Fence, SessionId},
    machine::{
        input::{FailureKind, Input},
        record::{BuildState, TaskState},
    },
    quantity::Millis,
};

use crate::fixture::{Fleet, agent, built, failed, requester, task, tree};

fn busy(fleet: &Fleet) -> u32 {
    fleet.machine.agents().map(|status| status.busy).sum()
}

#[test]
fn capacity_does_not_leak_whatever_way_an_attempt_ends() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    for way in 0..7 {
        let build = fleet.submit(tree(1));
        let (id, fence) = fleet.lease_next(1);
        assert_eq!(busy(&fleet), 1);
        match way {
            0 => drop(fleet.report(1, &id, fence, built())),
            1 => drop(fleet.report(1, &id, fence, failed(FailureKind::Compile))),
            2 => drop(fleet.report(1, &id, fence, failed(FailureKind::Infrastructure))),
            3 => drop(fleet.ask(|request| Input::Cancel { request, build: build.clone(), by: requester() })),
            4 => fleet.wait(Millis::seconds(30)),
            5 => fleet.attach(1, "eu/a", 1),
            _ => fleet.restart(false),
        }
        assert_eq!(busy(&fleet), 0, "way {way}");
        fleet.ask(|request| Input::Cancel { request, build, by: requester() });
    }
    assert_eq!(fleet.machine.durable().busy(&agent("eu/a")), 0);
}

#[test]
fn a_second_execution_cannot_desynchronise_the_state() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, first) = fleet.lease_next(1);
    fleet.wait(Millis::seconds(30));
    fleet.attach(2, "eu/b", 1);
    fleet.wait(Millis::seconds(1));
    let (_, second) = fleet.lease_next(2);
    // Both run now. Whichever order they end in, only the current lease counts.
    assert!(!fleet.report(1, &id, first, failed(FailureKind::Compile)));
    assert!(fleet.report(2, &id, second, built()));
    assert!(!fleet.report(1, &id, first, built()));
    assert!(matches!(fleet.state(&id), TaskState::Succeeded { fence, .. } if *fence == second));
    assert_eq!((fleet.machine.counts().tasks_leased, busy(&fleet)), (0, 0));
}

#[test]
fn a_new_leader_does_not_time_out_what_the_old_one_granted() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_next(1);
    for _ in 0..10 {
        fleet.wait(Millis::seconds(25));
        fleet.restart(true);
    }
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence));
}

#[test]
fn an_orphaned_task_is_taken_from_an_agent_that_never_returns() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(2));
    fleet.attach(1, "eu/gone", 1);
    fleet.lease_next(1);
    fleet.step(Input::Detach { session: SessionId(1) });
    fleet.restart(false);
    fleet.attach(2, "eu/b", 2);
    for _ in 0..2 {
        let (id, fence) = fleet.lease_next(2);
        assert!(fleet.report(2, &id, fence, built()));
    }
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
}

#[test]
fn a_disconnect_in_mid_handoff_leaves_no_task_executing_for_ever() {
    // The stream breaks after each message of the handoff in turn.
    for cut in 0..4 {
        let mut fleet = Fleet::new();
        let build = fleet.submit(tree(1));
        fleet.attach(1, "eu/a", 1);
        let (id, placement) = fleet.offers(1).remove(0);
        let mut held = Vec::new();
        if cut >= 1 {
            fleet.ask_lease(1, &id, placement);
        }
        if cut >= 2 {
            held = fleet.grants(1);
        }
        fleet.step(Input::Detach { session: SessionId(1) });
        if cut >= 3 {
            fleet.restart(true);
        }
        fleet.sent.clear();
        fleet.attach_with(2, "eu/a", 1, held.clone());
        let (id, fence) = held.pop().unwrap_or_else(|| fleet.lease_next(2));
        assert!(fleet.report(2, &id, fence, built()), "cut {cut}");
        assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
    }
}

#[test]
fn a_grant_that_arrives_after_the_agent_attached_again_is_void() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, late) = fleet.lease_next(1);
    // The agent had written its list before the grant came in over the old stream, and runs under it now.
    fleet.attach(2, "eu/a", 1);
    fleet.step(Input::Renew { session: SessionId(2), held: vec![(id.clone(), late)] });
    assert_eq!(fleet.revokes(2), [(id.clone(), Some(late))]);
    assert!(!fleet.report(2, &id, late, built()));
    let (_, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, built()));
}

#[test]
fn transient_trouble_is_retried_and_never_becomes_the_users_error() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    for kind in [FailureKind::DiskFull, FailureKind::Infrastructure, FailureKind::Lost] {
        let (id, fence) = fleet.lease_next(1);
        assert!(fleet.report(1, &id, fence, failed(kind)));
        assert_eq!(fleet.build_state(&build), BuildState::Running);
    }
    let (id, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &id, fence, built()));
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
}

#[test]
fn a_flapping_coordinator_fails_no_build() {
    let mut fleet = Fleet::new();
    let builds: Vec<_> = (0..30).map(|_| fleet.submit(tree(1))).collect();
    let mut held: Vec<(meridian_core::id::TaskId, Fence)> = Vec::new();
    for round in 1..=120 {
        fleet.attach_with(round, "eu/a", 2, held.clone());
        held.extend(fleet.lease_all(round));
        if round % 2 == 0 {
            for (id, fence) in std::mem::take(&mut held) {
                assert!(fleet.report(round, &id, fence, built()));
            }
        }
        fleet.pass(Millis::seconds(3));
        fleet.restart(round % 3 == 0);
    }
    assert!(builds.iter().all(|build| fleet.build_state(build) == BuildState::Succeeded));
    assert!(builds.iter().all(|build| fleet.machine.task(&task(build, 0)).unwrap().history.len() <= 2));
}
