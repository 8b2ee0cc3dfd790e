//! What a waiting task is told of those before it and of the time until its turn.

use meridian_core::{
    id::TaskId,
    machine::{input::Observation, placement::reasons::WaitReason},
    quantity::Millis,
};

use crate::{
    fixture::{Fleet, in_region, task, tree},
    schedule::{attach, build_once, manifest, near, observe, on},
};

/// How many are before a task, and the time until its turn.
#[track_caller]
fn turn(fleet: &Fleet, id: &TaskId) -> (u64, Millis) {
    match fleet.machine.wait_reason(id) {
        Some(WaitReason::Busy { ahead, is_all: true, about: Some(about), .. }) => (ahead, about),
        other => panic!("{id}: {other:?}"),
    }
}

#[test]
fn a_task_waits_for_as_long_as_those_before_it_take_with_what_is_known_of_them_by_now() {
    let mut fleet = Fleet::new();
    attach(&mut fleet, 1, "eu/a", 1);
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(40));
    fleet.restart(false);
    // They are put in line before anybody has said what he holds.
    let ids: Vec<TaskId> = (0..4).map(|_| task(&fleet.submit(tree(1)), 0)).collect();
    attach(&mut fleet, 1, "eu/a", 1);
    observe(&mut fleet, 1, Observation { residency: vec![manifest("m").0.digest], ..near() });
    let turns: Vec<(u64, Millis)> = ids[1..].iter().map(|id| turn(&fleet, id)).collect();
    assert_eq!([turns[0].0, turns[1].0, turns[2].0], [0, 1, 2]);
    let each = [turns[1].1.0 - turns[0].1.0, turns[2].1.0 - turns[1].1.0];
    assert_eq!(each[0], each[1], "{turns:?}");
    assert!((1..20_000).contains(&each[0]), "what is at hand is not compiled: {turns:?}");
}

#[test]
fn of_two_that_may_have_the_same_agent_only_one_is_next_whatever_else_they_ask_for() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (running, fence) = fleet.lease_next(1);
    let first = task(&fleet.submit(on(tree(1), "eu/a")), 0);
    let second = task(&fleet.submit(in_region(tree(1), "eu")), 0);
    let elsewhere = task(&fleet.submit(in_region(tree(1), "us")), 0);
    let [(of_first, soon), (of_second, later)] = [&first, &second].map(|id| turn(&fleet, id));
    assert_eq!((of_first, of_second), (0, 1));
    assert!(soon < later, "{soon:?} {later:?}");
    assert!(!matches!(fleet.machine.wait_reason(&elsewhere), Some(WaitReason::Busy { .. })));
    assert!(fleet.report(1, &running, fence, crate::fixture::built()));
    assert_eq!(fleet.lease_next(1).0, first, "who said to be next is");
}

#[test]
fn who_has_very_many_before_it_says_that_they_are_at_least_so_many() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    for _ in 0..70 {
        fleet.submit(tree(4));
    }
    let last = task(&fleet.submit(tree(1)), 0);
    let waits = fleet.machine.wait_reason(&last);
    assert!(matches!(waits, Some(WaitReason::Busy { ahead: 256, is_all: false, .. })), "{waits:?}");
    let words = fleet.machine.waits_for(&last);
    assert!(words.starts_with("the only agent is busy: at least 256 ahead, at least "), "{words}");
}
