//! What a region may send in a day, and what waits because of it.

use meridian_core::{
    build::BuildSpec,
    cache::hints::CacheHints,
    id::{SessionId, TaskId},
    machine::{
        Limits,
        effect::Order,
        input::{Input, Observation},
        limits::SchedulePolicy,
        placement::reasons::WaitReason,
        record::{Placement, TaskState, TaskStep, Verdict},
    },
    quantity::{ByteCount, Millis},
    schedule::priority::Priority,
};

use crate::{
    fixture::{Fleet, agent, built, requester, task, tree},
    schedule::{attach, build_once, hits, manifest, near, observe, on, placed_on},
};

/// A fleet whose region `eu` may send so much in a day, and has built `tree(1)` once.
fn bounded(mib: u64) -> Fleet {
    let egress = [("eu".parse().unwrap(), ByteCount::mib(mib))].into();
    let schedule = SchedulePolicy { egress, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    attach(&mut fleet, 1, "eu/a", 1);
    attach(&mut fleet, 2, "us/b", 4);
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(40));
    fleet
}

fn placement(fleet: &Fleet, id: &TaskId) -> Placement {
    let record = fleet.machine.task(id).unwrap();
    let placed = record.history.iter().rev().find_map(|step| match step {
        TaskStep::Placed { placement, .. } => Some(placement.clone()),
        _ => None,
    });
    placed.unwrap_or_else(|| panic!("{record:?}"))
}

/// What an agent was told of the cache with its last offer of a task.
fn told(fleet: &Fleet, session: u64, id: &TaskId) -> Option<Option<CacheHints>> {
    fleet.sent.iter().rev().find_map(|(to, order)| match order {
        Order::Offer { work, cache, .. } if to.0 == session && work.task == *id => {
            Some(cache.as_deref().cloned())
        }
        _ => None,
    })
}

#[test]
fn what_a_region_may_not_send_any_more_is_waited_for_and_then_built_without_it() {
    let mut fleet = bounded(20);
    fleet.step(Input::Drain { session: SessionId(1) });
    let first = task(&fleet.submit(tree(1)), 0);
    assert_eq!(placed_on(&fleet, &first), "us/b");
    let hints = told(&fleet, 2, &first).unwrap().unwrap();
    assert_eq!(hints.manifest.unwrap().holders[0].agent, agent("eu/a"));
    let second = task(&fleet.submit(tree(1)), 0);
    let waits = fleet.machine.waits_for(&second);
    let words = "what it needs would leave region eu, which may send no more today; unless an agent that has it is free \
                 before, it is built without it from 2027-01-15T08:02:40Z on";
    assert_eq!(waits, words);
    let explained = fleet.machine.explain(&second.build).unwrap();
    let why = |name: &str| {
        let found = explained[0].candidates.iter().find(|candidate| candidate.agent == agent(name));
        match &found.unwrap_or_else(|| panic!("{name} is not named")).verdict {
            Verdict::Refused { why } => why.clone(),
            eligible => panic!("{eligible:?}"),
        }
    };
    assert_eq!([why("eu/a"), why("us/b")], ["draining", "region eu may send no more today"]);
    let (id, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, built()));
    assert_eq!(*fleet.state(&second), TaskState::Queued);
    fleet.wait(Millis::minutes(2));
    assert_eq!(placed_on(&fleet, &second), "us/b");
    assert_eq!(placement(&fleet, &second).egress, None);
    assert_eq!(told(&fleet, 2, &second), Some(None), "it may fetch nothing");
    fleet.check_replay();
}

#[test]
fn a_region_may_send_again_on_the_next_day() {
    let mut fleet = bounded(20);
    fleet.step(Input::Drain { session: SessionId(1) });
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, built()));
    fleet.wait(Millis::days(1));
    observe(&mut fleet, 2, near());
    let next = task(&fleet.submit(tree(1)), 0);
    assert_eq!(placed_on(&fleet, &next), "us/b");
    assert!(placement(&fleet, &next).egress.is_some());
    assert!(told(&fleet, 2, &next).unwrap().is_some());
}

#[test]
fn what_is_more_than_a_region_may_ever_send_says_so_and_does_not_wait_for_a_day_that_never_comes() {
    let mut fleet = bounded(0);
    fleet.step(Input::Drain { session: SessionId(1) });
    let build = task(&fleet.submit(tree(1)), 0);
    let waits = fleet.machine.wait_reason(&build);
    assert!(matches!(&waits, Some(WaitReason::Budget { is_for_good: true, .. })), "{waits:?}");
    let words = waits.unwrap().to_string();
    assert!(words.starts_with("what it needs is more than region eu may send in a day; "), "{words}");
    fleet.wait(Millis::minutes(2));
    assert_eq!(placed_on(&fleet, &build), "us/b");
    assert_eq!((placement(&fleet, &build).egress, told(&fleet, 2, &build)), (None, Some(None)));
}

#[test]
fn a_new_leader_places_nothing_where_a_budget_may_forbid_it_before_it_knows_who_holds_what() {
    let mut fleet = bounded(1);
    for from_snapshot in [false, true] {
        fleet.restart(from_snapshot);
        attach(&mut fleet, 2, "us/b", 4);
        observe(&mut fleet, 2, near());
        let build = task(&fleet.submit(tree(1)), 0);
        let waits = fleet.machine.wait_reason(&build);
        assert!(matches!(waits, Some(WaitReason::HoldersUnknown { .. })), "{waits:?}");
        // Who holds it comes back, so that it is the budget that it waits for.
        attach(&mut fleet, 1, "eu/a", 0);
        observe(&mut fleet, 1, Observation { residency: vec![manifest("m").0.digest], ..near() });
        let waits = fleet.machine.wait_reason(&build);
        assert!(matches!(waits, Some(WaitReason::Budget { .. })), "{waits:?}");
        fleet.ask(|request| Input::Cancel { request, build: build.build.clone(), by: requester() });
    }
    // Where nobody comes back who holds it, it waits no longer than agents may take to attach.
    fleet.restart(false);
    attach(&mut fleet, 2, "us/b", 4);
    observe(&mut fleet, 2, near());
    let build = task(&fleet.submit(tree(1)), 0);
    fleet.wait(Millis::seconds(29));
    assert_eq!(*fleet.state(&build), TaskState::Queued);
    fleet.wait(Millis::seconds(2));
    assert_eq!(placed_on(&fleet, &build), "us/b");
}

#[test]
fn what_needs_nothing_from_elsewhere_does_not_wait_for_a_new_leader_to_learn() {
    let mut fleet = bounded(1);
    fleet.restart(false);
    attach(&mut fleet, 2, "us/b", 4);
    let scratch = task(&fleet.submit(BuildSpec { from_scratch: true, ..tree(1) }), 0);
    assert_eq!(placed_on(&fleet, &scratch), "us/b");
    let unlike = BuildSpec { platforms: vec!["windows/amd64".parse().unwrap()], ..tree(1) };
    let first_of_its_kind = task(&fleet.submit(unlike), 0);
    assert_eq!(placed_on(&fleet, &first_of_its_kind), "us/b");
    attach(&mut fleet, 1, "eu/a", 1);
    let at_home = task(&fleet.submit(tree(1)), 0);
    assert_eq!(placed_on(&fleet, &at_home), "eu/a", "nothing leaves the region for it");
}

#[test]
fn what_waits_for_a_budget_holds_up_nobody_who_needs_nothing_from_there() {
    let egress = [("eu".parse().unwrap(), ByteCount::mib(1))].into();
    let schedule = SchedulePolicy { egress, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    attach(&mut fleet, 1, "eu/a", 1);
    attach(&mut fleet, 2, "us/b", 1);
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(40));
    // The only one that need not fetch is busy.
    fleet.submit(on(tree(1), "eu/a"));
    let (long, _) = fleet.lease_next(1);
    let mut urgent = tree(1);
    urgent.wishes.priority = Priority::High;
    let first = fleet.submit(urgent);
    assert_eq!(*fleet.state(&task(&first, 0)), TaskState::Queued, "{long}");
    let waits = fleet.machine.wait_reason(&task(&first, 0));
    assert!(matches!(waits, Some(WaitReason::Budget { .. })), "somebody is free: {waits:?}");
    // What is built from scratch fetches nothing.
    let other = BuildSpec { from_scratch: true, ..tree(1) };
    fleet.submit(on(other.clone(), "us/b"));
    let (id, fence) = fleet.lease_next(2);
    let second = fleet.submit(other);
    assert!(fleet.report(2, &id, fence, hits(0)));
    assert_eq!(placed_on(&fleet, &task(&second, 0)), "us/b");
    assert_eq!(*fleet.state(&task(&first, 0)), TaskState::Queued);
    let waits = fleet.machine.wait_reason(&task(&first, 0));
    assert!(matches!(waits, Some(WaitReason::Busy { .. })), "{waits:?}");
}

#[test]
fn what_waits_for_a_budget_goes_as_soon_as_what_it_needs_is_elsewhere() {
    let mut fleet = bounded(20);
    fleet.step(Input::Drain { session: SessionId(1) });
    fleet.submit(tree(1));
    let second = task(&fleet.submit(tree(1)), 0);
    let waits = fleet.machine.wait_reason(&second);
    assert!(matches!(waits, Some(WaitReason::Budget { .. })), "{waits:?}");
    // The first has brought all of it to the other region. Nobody came, went, or became free.
    fleet.pass(Millis::seconds(2));
    observe(&mut fleet, 2, Observation { residency: vec![manifest("m").0.digest], ..near() });
    assert_eq!(placed_on(&fleet, &second), "us/b");
}
