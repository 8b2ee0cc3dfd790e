//! What is tried again, where, how often, and what an agent's failures say about the agent.

use meridian_core::{
    id::{SessionId, TaskId},
    machine::{
        Limits,
        input::{AgentOffer, FailureKind, Input, Outcome},
        record::{BuildState, TaskState, TaskStep, Verdict},
    },
    quantity::{ByteCount, Millis},
};

use crate::fixture::{Fleet, agent, built, failed, in_region, offer, task, tree};

impl Fleet {
    fn attach_large(&mut self, session: u64, name: &str, memory: Option<ByteCount>) {
        let offer = AgentOffer { memory, ..offer(1) };
        let session = SessionId(session);
        self.step(Input::Attach { session, agent: agent(name), offer, held: Vec::new() });
    }

    /// What a task failed of: its message and its hint.
    #[track_caller]
    fn failure(&self, id: &TaskId) -> (String, String) {
        match self.state(id) {
            TaskState::Failed { failure, .. } => (failure.message.clone(), failure.hint.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn fail_next(&mut self, session: u64, kind: FailureKind) -> TaskId {
        let (id, fence) = self.lease_next(session);
        assert!(self.report(session, &id, fence, failed(kind)));
        id
    }

    #[track_caller]
    fn end_next(&mut self, session: u64, outcome: Outcome) {
        let (id, fence) = self.lease_next(session);
        assert!(self.report(session, &id, fence, outcome));
    }

    fn set_aside(&self, name: &str) -> Option<String> {
        let agent = agent(name);
        let status = self.machine.agents().find(|status| *status.agent == agent)?;
        status.set_aside.map(|set_aside| set_aside.why.clone())
    }
}

const GIB: Option<ByteCount> = Some(ByteCount::gib(1));
const TWO_GIB: Option<ByteCount> = Some(ByteCount::gib(2));

#[test]
fn a_task_that_ran_out_of_memory_goes_once_to_an_agent_that_has_more() {
    let mut fleet = Fleet::new();
    fleet.attach_large(1, "eu/a", GIB);
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.attach_large(2, "eu/b", GIB);
    fleet.attach_large(3, "us/c", TWO_GIB);
    assert!(fleet.report(1, &id, fence, failed(FailureKind::OutOfMemory)));
    assert!(fleet.offers(1).is_empty() && fleet.offers(2).is_empty());
    let step = fleet.machine.task(&id).unwrap().history.iter().rev().find_map(|step| match step {
        TaskStep::AttemptFailed { memory, .. } => Some(*memory),
        _ => None,
    });
    assert_eq!(step, Some(GIB), "what it had is written down");
    fleet.check_replay();
    fleet.end_next(3, built());
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
}

#[test]
fn who_has_too_little_memory_is_told_apart_and_waits_are_explained() {
    let mut fleet = Fleet::new();
    fleet.attach_large(1, "eu/a", GIB);
    fleet.attach_large(2, "us/c", TWO_GIB);
    // The large one is busy.
    let spec = in_region(tree(1), "us");
    fleet.submit(spec);
    let build = fleet.submit(tree(1));
    fleet.fail_next(1, FailureKind::OutOfMemory);
    let explained = fleet.machine.explain(&build).unwrap().remove(0);
    let small = explained.candidates.iter().find(|candidate| candidate.agent == agent("eu/a")).unwrap();
    assert_eq!(
        small.verdict,
        Verdict::Refused { why: "it lets a build use 1.0 GiB, which was too little".to_owned() }
    );
    fleet.step(Input::Detach { session: SessionId(2) });
    assert_eq!(
        fleet.machine.waits_for(&task(&build, 0)),
        "no attached agent can ever match: 1.0 GiB of memory was too little, and none lets a build use more"
    );
}

#[test]
fn a_task_that_no_attached_agent_has_memory_for_ends_at_once_and_says_what_to_do() {
    let mut fleet = Fleet::new();
    fleet.attach_large(1, "eu/a", GIB);
    fleet.attach_large(2, "us/c", TWO_GIB);
    // The one that has more is in a region that was not asked for.
    let spec = in_region(tree(1), "eu");
    let build = fleet.submit(spec);
    let id = fleet.fail_next(1, FailureKind::OutOfMemory);
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    let (message, hint) = fleet.failure(&id);
    assert_eq!(
        message,
        "OutOfMemory happened\neu/a lets a build use 1.0 GiB, and no other attached agent that may build it is known to let it use more"
    );
    assert!(hint.contains("limits.memory_mib"), "{hint}");
}

#[test]
fn a_second_want_of_memory_is_final_and_names_both_agents() {
    let mut fleet = Fleet::new();
    fleet.attach_large(1, "eu/a", GIB);
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.attach_large(2, "us/c", TWO_GIB);
    fleet.attach_large(3, "us/d", Some(ByteCount::gib(64)));
    assert!(fleet.report(1, &id, fence, failed(FailureKind::OutOfMemory)));
    let is_second = matches!(fleet.state(&id), TaskState::Placed { agent: at, .. } if *at == agent("us/c"));
    let session = if is_second { 2 } else { 3 };
    let (_, fence) = fleet.lease_next(session);
    assert!(fleet.report(session, &id, fence, failed(FailureKind::OutOfMemory)));
    assert_eq!(fleet.build_state(&build), BuildState::Failed, "also where another has still more");
    let (message, _) = fleet.failure(&id);
    assert!(message.contains("out of memory twice: eu/a lets a build use 1.0 GiB, us/"), "{message}");
}

#[test]
fn of_agents_that_do_not_say_how_much_memory_they_have_another_one_is_tried() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let alone = fleet.submit(tree(1));
    fleet.fail_next(1, FailureKind::OutOfMemory);
    assert_eq!(fleet.build_state(&alone), BuildState::Failed, "the same again would end the same");

    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.attach(2, "eu/b", 1);
    assert!(fleet.report(1, &id, fence, failed(FailureKind::OutOfMemory)));
    fleet.end_next(2, built());
    assert_eq!(fleet.build_state(&build), BuildState::Succeeded);
}

#[test]
fn a_users_own_error_is_tried_once() {
    for kind in [FailureKind::Compile, FailureKind::Modules, FailureKind::Request, FailureKind::TimedOut] {
        let mut fleet = Fleet::new();
        fleet.attach(1, "eu/a", 1);
        fleet.attach(2, "eu/b", 1);
        let build = fleet.submit(tree(1));
        fleet.fail_next(1, kind);
        assert_eq!(fleet.build_state(&build), BuildState::Failed);
    }
}

#[test]
fn a_task_that_takes_its_agents_down_ends_after_its_cap_with_its_evidence() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    for session in 1..=u64::from(Limits::default().losses_max) {
        assert_eq!(fleet.build_state(&build), BuildState::Running);
        let name = if session % 2 == 0 { "eu/a" } else { "us/b" };
        fleet.attach(session, name, 1);
        fleet.lease_next(session);
        // Every other one is started again at once, and holds nothing any more.
        if session % 4 == 0 {
            fleet.attach(session + 100, name, 1);
            fleet.step(Input::Detach { session: SessionId(session + 100) });
        } else {
            fleet.step(Input::Detach { session: SessionId(session) });
            fleet.wait(Limits::default().lease);
        }
    }
    assert_eq!(fleet.build_state(&build), BuildState::Failed);
    let (message, hint) = fleet.failure(&task(&build, 0));
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(
        lines[0],
        "its agent was lost 12 times, on 2 different agents: it is probably what takes them down"
    );
    assert_eq!(lines.len(), 13);
    assert!(lines[1].starts_with("  2027-") && lines[1].contains("under fence 1: agent us/b did not renew"));
    assert!(lines[4].ends_with("agent eu/a came back without the attempt"), "{message}");
    assert!(hint.contains(&format!("meridian logs {build} --task 0")), "{hint}");
}

#[test]
fn an_agent_that_fails_one_task_after_the_other_is_set_aside_for_ever_longer_until_one_ends_well() {
    let limits = Limits::default();
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/good", 1);
    fleet.attach(2, "us/bad", 1);
    let on = |fleet: &mut Fleet, region: &str| fleet.submit(in_region(tree(1), region));
    for _ in 1..limits.failures_in_a_row {
        on(&mut fleet, "us");
        fleet.fail_next(2, FailureKind::Infrastructure);
        on(&mut fleet, "eu");
        fleet.end_next(1, built());
    }
    assert_eq!(fleet.set_aside("us/bad"), None);
    let waiting = on(&mut fleet, "us");
    fleet.fail_next(2, FailureKind::DiskFull);
    let why = fleet.set_aside("us/bad").unwrap();
    assert!(
        why.starts_with("set aside until 2027-") && why.ends_with("the last one with: DiskFull happened"),
        "{why}"
    );
    let explained = fleet.machine.explain(&waiting).unwrap().remove(0);
    assert!(explained.now.contains("us/bad is set aside until"), "{}", explained.now);

    // It stays so over another stream, and each failure after that is one too many.
    fleet.attach(3, "us/bad", 1);
    assert!(fleet.set_aside("us/bad").is_some());
    for minutes in [1, 2, 4] {
        fleet.wait(Millis(Millis::minutes(minutes).0 - 1_000));
        assert!(fleet.offers(3).is_empty(), "after {minutes} min");
        fleet.wait(Millis::seconds(2));
        assert_eq!(fleet.set_aside("us/bad"), None);
        fleet.fail_next(3, FailureKind::Infrastructure);
        assert!(fleet.set_aside("us/bad").is_some());
    }
    fleet.wait(Millis::minutes(8));
    fleet.end_next(3, built());
    on(&mut fleet, "us");
    fleet.fail_next(3, FailureKind::Infrastructure);
    assert_eq!(fleet.set_aside("us/bad"), None, "one good end forgives all");
}

#[test]
fn one_task_sets_no_agent_aside() {
    let limits = Limits { attempts_max: 30, ..Limits::default() };
    let mut fleet = Fleet::with(limits);
    fleet.attach(1, "eu/good", 1);
    fleet.attach(2, "us/a", 1);
    fleet.submit(in_region(tree(1), "us"));
    for _ in 0..20 {
        fleet.submit(in_region(tree(1), "eu"));
        fleet.end_next(1, built());
        fleet.fail_next(2, FailureKind::Infrastructure);
        assert_eq!(fleet.set_aside("us/a"), None);
    }
}

#[test]
fn trouble_that_all_agents_have_sets_none_aside() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.attach(2, "us/b", 1);
    for _ in 0..10 {
        for (session, region) in [(1, "eu"), (2, "us")] {
            fleet.submit(in_region(tree(1), region));
            fleet.fail_next(session, FailureKind::Infrastructure);
        }
    }
    assert_eq!((fleet.set_aside("eu/a"), fleet.set_aside("us/b")), (None, None));
}

#[test]
fn an_agent_that_was_away_for_a_while_is_not_set_aside_for_all_that_it_held() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 8);
    fleet.submit(in_region(tree(4), "eu"));
    fleet.submit(in_region(tree(4), "eu"));
    assert_eq!(fleet.lease_all(1).len(), 8);
    fleet.attach(2, "us/b", 1);
    fleet.step(Input::Detach { session: SessionId(1) });
    fleet.submit(in_region(tree(1), "us"));
    fleet.end_next(2, built());
    fleet.wait(Limits::default().lease);
    fleet.submit(in_region(tree(1), "us"));
    fleet.end_next(2, built());
    fleet.attach(3, "eu/a", 8);
    assert_eq!(fleet.set_aside("eu/a"), None);
}
