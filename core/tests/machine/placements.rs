//! Where tasks are placed, in which order, and why.

use meridian_core::{
    id::SessionId,
    machine::{
        Limits,
        input::{AgentOffer, FailureKind, Input, Observation},
        record::{BuildState, TaskState, TaskStep, Verdict},
    },
    quantity::Millis,
    sandbox::{Sandbox, SandboxDemand},
};

use crate::fixture::{Fleet, agent, built, failed, in_region, offer, project, task, tree};

fn observe(fleet: &mut Fleet, session: u64, rtt_us: u64, hits: u64) {
    let observation = Observation {
        rtt_us: Some(rtt_us),
        clock_offset_us: Some(0),
        cache_hits: hits,
        cache_lookups: 100,
        ..Observation::default()
    };
    fleet.step(Input::Observe { session: SessionId(session), observation });
}

fn placed_on(fleet: &Fleet, build: &meridian_core::id::BuildId, ordinal: u32) -> String {
    match fleet.state(&task(build, ordinal)) {
        TaskState::Placed { agent, .. } | TaskState::Leased { agent, .. } => agent.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_task_goes_where_round_trips_and_misses_cost_least() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/near", 2);
    fleet.attach(2, "sa/far", 2);
    observe(&mut fleet, 1, 5_000, 50);
    observe(&mut fleet, 2, 200_000, 50);
    let build = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &build, 0), "eu/near");
    // A cache that always hits is worth more than forty milliseconds of round trip.
    observe(&mut fleet, 1, 45_000, 0);
    observe(&mut fleet, 2, 5_000, 100);
    let build = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &build, 0), "sa/far");
}

#[test]
fn equal_agents_share_the_tasks_of_a_build() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    fleet.attach(2, "eu/b", 2);
    let build = fleet.submit(tree(4));
    let mut agents: Vec<_> = (0..4).map(|ordinal| placed_on(&fleet, &build, ordinal)).collect();
    agents.sort();
    assert_eq!(agents, ["eu/a", "eu/a", "eu/b", "eu/b"]);
}

#[test]
fn a_placement_records_the_numbers_it_was_made_by() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    fleet.attach(2, "us/b", 1);
    observe(&mut fleet, 1, 5_000, 50);
    let build = fleet.submit(in_region(tree(1), "eu"));
    let record = fleet.machine.task(&task(&build, 0)).unwrap();
    let TaskStep::Placed { placement, .. } = &record.history[0] else { panic!("{record:?}") };
    assert!(
        placement.because.contains("eu/a") && placement.because.contains("5.0 ms"),
        "{}",
        placement.because
    );
    assert!(matches!(
        placement.candidates[0].verdict,
        Verdict::Eligible {
            rtt_us: Some(5_000),
            busy: 0,
            slots: 2,
            hit_rate_permille: Some(500),
            terms: Some(_),
            ..
        }
    ));
    assert_eq!(placement.candidates.len(), 1);
    assert_eq!(placement.refused, [("region eu wanted".to_owned(), 1)]);
}

#[test]
fn the_queue_is_first_come_first_served_and_a_wish_that_waits_holds_nobody_up() {
    let mut fleet = Fleet::new();
    let first = fleet.submit(tree(2));
    let wishful = fleet.submit(in_region(tree(1), "mars"));
    let last = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 3);
    let order: Vec<_> = fleet.offers(1).into_iter().map(|(task, _)| task).collect();
    assert_eq!(order, [task(&first, 0), task(&first, 1), task(&last, 0)]);
    assert_eq!(*fleet.state(&task(&wishful, 0)), TaskState::Queued);
    assert_eq!(
        fleet.machine.waits_for(&task(&wishful, 0)),
        "no attached agent can ever match: region mars is wanted and has no agent attached"
    );
}

#[test]
fn a_queued_task_says_what_it_waits_for() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(3));
    let waits = |fleet: &Fleet, ordinal| fleet.machine.waits_for(&task(&build, ordinal));
    assert_eq!(waits(&fleet, 0), "no agent attached");
    fleet.attach(1, "eu/a", 1);
    assert_eq!(waits(&fleet, 1), "the only agent is busy: next, about 62 s");
    assert_eq!(waits(&fleet, 0), "");
    fleet.attach(2, "eu/b", 1);
    assert_eq!(waits(&fleet, 2), "all 2 agents busy: next, about 62 s");
    let explained = fleet.machine.explain(&build).unwrap();
    assert_eq!(explained[2].now, "queued: all 2 agents busy: next, about 62 s");
    let waits_us = explained[2].candidates.iter().map(|candidate| match &candidate.verdict {
        Verdict::Eligible { terms: Some(terms), .. } => terms.wait_us,
        other => panic!("{other:?}"),
    });
    assert_eq!(waits_us.collect::<Vec<_>>(), [62_000_000; 2]);
    assert!(explained[0].now.starts_with("offered to eu/a: "), "{}", explained[0].now);
    assert!(explained[0].now.contains(" of 1 slot busy"), "{}", explained[0].now);
    fleet.step(Input::Drain { session: SessionId(1) });
    fleet.step(Input::Drain { session: SessionId(2) });
    assert_eq!(waits(&fleet, 2), "all 2 agents are draining");
}

#[test]
fn a_fleet_that_demands_a_sandbox_neither_places_nor_accepts_without_one() {
    let mut fleet = Fleet::with(Limits { sandbox: SandboxDemand::Required, ..Limits::default() });
    fleet.attach(1, "eu/bare", 1);
    let build = fleet.submit(tree(1));
    let waits = fleet.machine.waits_for(&task(&build, 0));
    assert!(waits.contains("demands a sandbox") && waits.contains("meridian doctor"), "{waits}");
    let explained = fleet.machine.explain(&build).unwrap();
    let Verdict::Refused { why } = &explained[0].candidates[0].verdict else { panic!("{explained:?}") };
    assert_eq!(why, "it has no sandbox, and this fleet demands one");
    let sandbox = Sandbox::new("namespaces", vec!["network".to_owned()]);
    let offer = AgentOffer { sandbox, ..offer(1) };
    fleet.step(Input::Attach { session: SessionId(2), agent: agent("eu/boxed"), offer, held: Vec::new() });
    let (leased, fence) = fleet.lease_next(2);
    assert_eq!(placed_on(&fleet, &build, 0), "eu/boxed");
    // What the fixture's signers say stood around their compilers is nothing.
    assert!(!fleet.report(2, &leased, fence, built()), "the agent has a sandbox and did not use it");
    let record = fleet.machine.task(&leased).unwrap();
    let Some(TaskStep::AttemptFailed { failure, .. }) = record.history.last() else { panic!("{record:?}") };
    assert!(failure.message.contains("built without a sandbox"), "{failure:?}");
}

#[test]
fn an_agent_whose_clock_is_off_gets_nothing_until_it_is_right_again() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let off = |us| Input::Observe {
        session: SessionId(1),
        observation: Observation { clock_offset_us: Some(us), ..Observation::default() },
    };
    fleet.step(off(-6_000_000));
    let build = fleet.submit(tree(1));
    assert_eq!(fleet.machine.waits_for(&task(&build, 0)), "no agent is fit: the clock of eu/a is off by 6 s");
    fleet.step(off(4_000_000));
    assert_eq!(fleet.offers(1).len(), 1);
}

#[test]
fn a_task_that_failed_on_an_agent_goes_to_another_even_if_that_one_is_busy_now() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/broken", 4);
    fleet.attach(2, "eu/good", 1);
    let busy = fleet.submit(in_region(tree(1), "eu"));
    let build = fleet.submit(tree(1));
    let (good, broken): (Vec<_>, Vec<_>) = (fleet.lease_all(2), fleet.lease_all(1));
    assert_eq!((good.len(), broken.len()), (1, 1));
    let _ = (busy, build);
    let (id, fence) = broken[0].clone();
    fleet.report(1, &id, fence, failed(FailureKind::DiskFull));
    fleet.wait(Millis::seconds(20));
    assert!(fleet.offers(1).is_empty(), "it waits for the other agent rather than fail again");
    let waits = fleet.machine.waits_for(&id);
    assert!(
        waits.starts_with(
            "the only agent that has not failed it is busy (eu/broken, which failed it, may have it from 2027-"
        ),
        "{waits}"
    );
    fleet.step(Input::Renew { session: SessionId(2), held: good.clone() });
    assert!(fleet.report(2, &good[0].0, good[0].1, built()));
    assert_eq!(fleet.lease_all(2)[0].0, id);
}

#[test]
fn a_task_goes_back_to_the_agent_that_failed_it_when_there_is_no_other_but_not_at_once() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 4);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_all(1).remove(0);
    fleet.report(1, &id, fence, failed(FailureKind::Infrastructure));
    assert!(fleet.offers(1).is_empty());
    assert!(fleet.machine.waits_for(&id).starts_with("waits before another attempt"));
    fleet.wait(Millis(999));
    assert!(fleet.offers(1).is_empty());
    fleet.wait(Millis(1));
    assert_eq!(fleet.offers(1).len(), 1);
}

#[test]
fn an_offer_that_nobody_takes_up_is_withdrawn_and_in_the_end_given_up() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/mute", 1);
    fleet.wait(Millis::minutes(15));
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    assert_eq!(fleet.offers(1).len(), 32);
    assert_eq!(fleet.revokes(1).len(), 32);
}

#[test]
fn a_declined_task_goes_elsewhere_at_once() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    fleet.attach(2, "eu/b", 1);
    let (id, placement) = fleet.offers(1).remove(0);
    let why = "disk is full".to_owned();
    fleet.step(Input::Decline { session: SessionId(1), task: id, placement, why });
    assert_eq!(placed_on(&fleet, &build, 0), agent("eu/b").to_string());
    assert_eq!(fleet.machine.builds_of(&project()).count(), 1);
}

#[test]
fn a_placement_is_offered_again_over_a_new_stream() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let before = fleet.offers(1);
    fleet.attach(2, "eu/a", 1);
    assert_eq!(fleet.offers(2), before);
    // The old stream is void, whatever still comes over it.
    fleet.ask_lease(1, &before[0].0, before[0].1);
    assert!(fleet.grants(1).is_empty());
    fleet.step(Input::Detach { session: SessionId(1) });
    assert_eq!(fleet.machine.agents().count(), 1);
    assert_eq!(fleet.lease_all(2).len(), 0);
    fleet.ask_lease(2, &before[0].0, before[0].1);
    assert_eq!(fleet.grants(2).len(), 1);
}
