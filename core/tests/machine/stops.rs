//! What is waited for once a lease was taken back, and what is said of an agent that does not stop.

use meridian_core::{
    id::{BuildId, Fence, SessionId, TaskId},
    machine::{
        effect::Reply,
        input::{AgentOffer, Input},
    },
    quantity::Millis,
};

use crate::fixture::{Fleet, agent, offer, requester, tree};

/// How a build that [`cancel`] gave up is told of.
const CANCELLED: &str = "cancelled by team/acme/member/ci";

/// A build that an agent runs and that was cancelled.
fn cancelled() -> (Fleet, BuildId, TaskId, Fence) {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    cancel(&mut fleet, &build);
    (fleet, build, id, fence)
}

#[track_caller]
fn cancel(fleet: &mut Fleet, build: &BuildId) {
    let build = build.clone();
    let reply = fleet.ask(|request| Input::Cancel { request, build, by: requester() });
    assert_eq!(reply, Reply::Cancelled { changed: true });
}

fn now(fleet: &Fleet, build: &BuildId) -> String {
    fleet.machine.explain(build).unwrap().remove(0).now
}

fn stopped(session: u64, task: &TaskId, fence: Fence, remaining: &str) -> Input {
    let (session, task, remaining) = (SessionId(session), task.clone(), remaining.to_owned());
    Input::Stopped { session, task, fence, remaining }
}

#[test]
fn a_cancel_is_waited_for_until_the_agent_says_that_nothing_is_alive() {
    let (mut fleet, build, id, fence) = cancelled();
    assert_eq!(fleet.revokes(1), [(id.clone(), Some(fence))]);
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; agent eu/a is told to stop it"));
    fleet.wait(Millis::seconds(4));
    assert!(fleet.warned.is_empty());
    fleet.step(stopped(1, &id, fence, ""));
    assert_eq!(now(&fleet, &build), CANCELLED);
    fleet.wait(Millis::minutes(1));
    assert!(fleet.warned.is_empty(), "{:?}", fleet.warned);
}

#[test]
fn an_agent_that_says_nothing_for_five_seconds_is_said_to() {
    let (mut fleet, build, id, fence) = cancelled();
    fleet.wait(Millis::seconds(5));
    let words = "it has said nothing for 5.0 s";
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; agent eu/a has not stopped it: {words}"));
    let line = format!("task {id} is not stopped on agent eu/a (the build was {CANCELLED}): {words}");
    assert_eq!(fleet.warned, [line]);
    fleet.wait(Millis::minutes(1));
    assert_eq!(fleet.warned.len(), 1, "it is said once");
    fleet.step(stopped(1, &id, fence, ""));
    assert_eq!(now(&fleet, &build), CANCELLED);
}

#[test]
fn an_agent_that_cannot_end_a_process_says_why() {
    let (mut fleet, build, id, fence) = cancelled();
    fleet.step(stopped(1, &id, fence, "process 7 (cc1) is in uninterruptible sleep"));
    let words = "agent eu/a has not stopped it: process 7 (cc1) is in uninterruptible sleep";
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; {words}"));
    assert_eq!(fleet.warned.len(), 1);
    fleet.wait(Millis::minutes(1));
    assert_eq!(fleet.warned.len(), 1);
    fleet.step(stopped(1, &id, fence, ""));
    assert_eq!(now(&fleet, &build), CANCELLED);
}

#[test]
fn an_agent_that_is_away_is_named_and_told_when_it_attaches() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.step(Input::Detach { session: SessionId(1) });
    cancel(&mut fleet, &build);
    let words = "agent eu/a has not stopped it: it is not attached, and learns of it when it is";
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; {words}"));
    fleet.wait(Millis::seconds(5));
    assert_eq!(fleet.warned.len(), 1);
    // With what it holds or without: it is told once.
    fleet.attach_with(2, "eu/a", 1, vec![(id.clone(), fence)]);
    assert_eq!(fleet.revokes(2), [(id.clone(), Some(fence))]);
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; agent eu/a is told to stop it"));
    fleet.attach(3, "eu/a", 1);
    assert_eq!(fleet.revokes(3), [(id.clone(), Some(fence))], "the word may have been lost with the stream");
    fleet.step(stopped(3, &id, fence, ""));
    assert_eq!(now(&fleet, &build), CANCELLED);
}

#[test]
fn nobody_else_can_say_that_a_run_has_ended() {
    let (mut fleet, build, id, fence) = cancelled();
    fleet.attach(2, "eu/b", 1);
    fleet.step(stopped(2, &id, fence, ""));
    fleet.step(stopped(1, &id, Fence(fence.0 + 1), ""));
    fleet.step(stopped(9, &id, fence, ""));
    assert_eq!(now(&fleet, &build), format!("{CANCELLED}; agent eu/a is told to stop it"));
}

#[test]
fn of_an_agent_of_an_earlier_release_nothing_is_waited_for() {
    let mut fleet = Fleet::new();
    let earlier = AgentOffer { tells_stops: false, ..offer(1) };
    let session = SessionId(1);
    fleet.step(Input::Attach { session, agent: agent("eu/a"), offer: earlier, held: Vec::new() });
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    cancel(&mut fleet, &build);
    assert_eq!(fleet.revokes(1), [(id, Some(fence))]);
    assert_eq!(now(&fleet, &build), CANCELLED);
    fleet.wait(Millis::minutes(1));
    assert!(fleet.warned.is_empty());
}
