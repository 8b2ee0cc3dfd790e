//! What is tried again, where, how often, and what an agent's failures say about the agent.

use meridian_core::{
    digest::Digest,
    id::{Fence, SessionId, TaskId},
    machine::{
        Limits,
        input::{AgentOffer, FailureKind, Input, Outcome},
        record::{BuildState, TaskState, TaskStep, Verdict},
    },
    quantity::{ByteCount, Millis},
};

use crate::fixture::{Fleet, agent, built, failed, in_region, offer, requester, task, tree};

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

    /// How many segments are known of the log of each attempt that came to nothing.
    fn kept_logs(&self, id: &TaskId) -> Vec<usize> {
        let failed = |step: &TaskStep| match step {
            TaskStep::AttemptFailed { log, .. } => Some(log.len()),
            _ => None,
        };
        self.machine.task(id).unwrap().history.iter().filter_map(failed).collect()
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
        "1.0 GiB of memory was too little, and none lets a build use more; us/c, which may take it, is away since \
         2027-01-15T08:00:00Z"
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
    assert!(lines[1].starts_with("  attempt 1 on us/b, 2027-"), "{message}");
    assert!(lines[1].contains("under fence 1: agent us/b did not renew"), "{message}");
    assert!(lines[4].starts_with("  attempt 4 on eu/a, 2027-"), "{message}");
    assert!(lines[4].ends_with("agent eu/a came back without the attempt"), "{message}");
    assert!(hint.contains(&format!("meridian logs {build} --task 0 --attempt N")), "{hint}");
}

#[test]
fn a_task_whose_attempts_all_fail_ends_with_what_became_of_each() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.attach(2, "us/b", 1);
    let build = fleet.submit(tree(1));
    for times in 0..Limits::default().attempts_max {
        assert_eq!(fleet.build_state(&build), BuildState::Running);
        fleet.wait(Millis::minutes(2 * u64::from(times > 0)));
        let session = if fleet.machine.task(&task(&build, 0)).is_some_and(
            |task| matches!(&task.state, TaskState::Placed { agent: at, .. } if *at == agent("eu/a")),
        ) {
            1
        } else {
            2
        };
        fleet
            .fail_next(session, if times == 3 { FailureKind::DiskFull } else { FailureKind::Infrastructure });
    }
    let (message, hint) = fleet.failure(&task(&build, 0));
    assert_eq!(message, "DiskFull happened", "as for every other target that failed of it");
    let lines: Vec<&str> = hint.lines().collect();
    assert!(lines[0].starts_with("every attempt came to nothing; `meridian logs "), "{hint}");
    assert_eq!(lines.len(), 5, "{hint}");
    assert!(lines[1].starts_with("  attempt 1 on ") && lines[1].ends_with(": Infrastructure happened"));
    assert!(lines[4].starts_with("  attempt 4 on ") && lines[4].ends_with(": DiskFull happened"));
    assert_eq!(fleet.kept_logs(&task(&build, 0)), [1; 4], "what they reported of their logs is kept");
    fleet.check_replay();
}

#[test]
fn what_had_arrived_of_a_lost_attempts_log_is_kept_once_and_over_a_restart() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let id = task(&fleet.submit(tree(1)), 0);
    let (_, lost) = fleet.lease_next(1);
    let log = |count: usize| (0..count).map(|number| Digest::of(&number.to_le_bytes())).collect::<Vec<_>>();
    let arrived = |fleet: &mut Fleet, fence, log| {
        fleet.step(Input::LogArrived { task: id.clone(), fence, log });
    };
    arrived(&mut fleet, lost, log(3));
    assert!(fleet.kept_logs(&id).is_empty(), "it runs on, and will name them itself");
    fleet.attach(2, "eu/a", 1);
    let (_, second) = fleet.lease_next(2);
    arrived(&mut fleet, lost, Vec::new());
    assert_eq!(fleet.kept_logs(&id), [0]);
    arrived(&mut fleet, lost, log(3));
    arrived(&mut fleet, lost, log(2));
    arrived(&mut fleet, Fence(99), log(2));
    assert_eq!(fleet.kept_logs(&id), [3]);
    fleet.attach(3, "eu/a", 1);
    arrived(&mut fleet, second, log(2_000));
    assert_eq!(fleet.kept_logs(&id), [3, 1_024], "of a long one the end");
    let last = fleet.machine.task(&id).unwrap().history.iter().rev().find_map(|step| match step {
        TaskStep::AttemptFailed { log, .. } => log.last().copied(),
        _ => None,
    });
    assert_eq!(last, log(2_000).last().copied());
    fleet.check_replay();
    fleet.restart(true);
    assert_eq!(fleet.kept_logs(&id), [3, 1_024]);
}

/// Leases that need no renewal, so that tests can let agents be busy for as long as they like.
fn patient() -> Limits {
    Limits { lease: Millis::days(1), attempts_max: 30, ..Limits::default() }
}

impl Fleet {
    /// Lets the agent of session 2 fail as many tasks as it takes to be set aside, while that of session 1 does well.
    fn set_aside_bad(&mut self) {
        for times in 0..self.machine.limits().failures_in_a_row {
            assert_eq!(self.set_aside("us/bad"), None, "after {times}");
            self.submit(in_region(tree(1), "us"));
            self.fail_next(2, FailureKind::Infrastructure);
            self.submit(in_region(tree(1), "eu"));
            self.end_next(1, built());
        }
        assert!(self.set_aside("us/bad").is_some());
    }
}

#[test]
fn an_agent_that_fails_one_task_after_the_other_is_set_aside_for_ever_longer_until_one_ends_well() {
    let mut fleet = Fleet::with(patient());
    fleet.attach(1, "eu/good", 1);
    fleet.attach(4, "us/busy", 1);
    fleet.submit(in_region(tree(1), "us"));
    fleet.lease_next(4);
    fleet.attach(2, "us/bad", 1);
    fleet.set_aside_bad();
    let waiting = fleet.submit(in_region(tree(1), "us"));
    let why = fleet.set_aside("us/bad").unwrap();
    assert!(
        why.starts_with("set aside until 2027-")
            && why.ends_with("the last one with: Infrastructure happened"),
        "{why}"
    );
    assert_eq!(fleet.machine.waits_for(&task(&waiting, 0)).split(':').next(), Some("the only agent is busy"));

    // It stays so over another stream, and each failure after that is one too many.
    fleet.attach(3, "us/bad", 1);
    assert!(fleet.set_aside("us/bad").is_some());
    for minutes in [1, 2, 4] {
        fleet.submit(in_region(tree(1), "us"));
        fleet.wait(Millis(Millis::minutes(minutes).0 - 1_000));
        assert!(fleet.offers(3).is_empty(), "after {minutes} min, for another one could take it");
        fleet.wait(Millis::seconds(2));
        assert_eq!(fleet.set_aside("us/bad"), None);
        fleet.fail_next(3, FailureKind::Infrastructure);
        assert!(fleet.set_aside("us/bad").is_some());
    }
    fleet.submit(in_region(tree(1), "us"));
    fleet.wait(Millis::minutes(8));
    fleet.end_next(3, built());
    fleet.submit(in_region(tree(1), "us"));
    fleet.fail_next(3, FailureKind::Infrastructure);
    assert_eq!(fleet.set_aside("us/bad"), None, "one good end forgives all");
}

#[test]
fn what_only_an_agent_that_is_set_aside_may_build_is_tried_there_sooner_and_each_time_later() {
    let mut fleet = Fleet::with(patient());
    fleet.attach(1, "eu/good", 1);
    fleet.attach(2, "us/bad", 1);
    fleet.set_aside_bad();
    let build = fleet.submit(in_region(tree(1), "us"));
    let explained = fleet.machine.explain(&build).unwrap().remove(0);
    assert!(
        explained.now.contains("us/bad is set aside until 2027-")
            && explained.now.contains("for what no other agent may build): its last"),
        "{}",
        explained.now
    );
    for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
        fleet.wait(Millis::seconds(seconds - 1));
        assert!(fleet.offers(2).is_empty(), "before {seconds} s");
        fleet.wait(Millis::seconds(2));
        let (id, fence) = fleet.lease_all(2).pop().unwrap();
        let why = fleet.set_aside("us/bad");
        assert!(
            why.iter().all(|why| why.contains(", but for what no other agent may build: its")),
            "{seconds}: {why:?}"
        );
        assert_eq!(why.is_none(), seconds == 600, "then nobody need be spared it");
        assert!(fleet.report(2, &id, fence, failed(FailureKind::Infrastructure)));
    }
    // Whoever else may build it is not made to wait for that.
    fleet.wait(Millis::seconds(601));
    fleet.lease_next(2);
    fleet.attach(3, "us/new", 1);
    assert_eq!(fleet.lease_all(3).len(), 1);
}

#[test]
fn a_task_that_only_an_agent_that_is_set_aside_may_build_ends_after_its_cap() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/good", 1);
    fleet.attach(2, "us/bad", 1);
    fleet.set_aside_bad();
    let running: Vec<_> = fleet.machine.builds().filter(|build| build.state == BuildState::Running).collect();
    let running: Vec<_> = running.into_iter().map(|build| build.id.clone()).collect();
    for build in running {
        fleet.ask(|request| Input::Cancel { request, build, by: requester() });
    }
    let build = fleet.submit(in_region(tree(1), "us"));
    for seconds in [10, 20, 40, 80] {
        assert_eq!(fleet.build_state(&build), BuildState::Running);
        fleet.wait(Millis::seconds(seconds));
        let (id, fence) = fleet.lease_all(2).pop().unwrap();
        assert!(fleet.report(2, &id, fence, failed(FailureKind::Infrastructure)));
    }
    assert_eq!(
        fleet.build_state(&build),
        BuildState::Failed,
        "after four attempts in two and a half minutes"
    );
}

/// What was lost on eu/a and then on eu/b, while eu/c is busy with something that never ends. The agents' sessions are 11,
/// 12 and 3.
fn lost_on_two() -> (Fleet, TaskId) {
    let mut fleet = Fleet::with(patient());
    fleet.attach(3, "eu/c", 1);
    fleet.submit(tree(1));
    fleet.lease_next(3);
    let id = task(&fleet.submit(tree(1)), 0);
    for (session, name) in [(1, "eu/a"), (2, "eu/b")] {
        fleet.attach(session, name, 1);
        assert_eq!(fleet.lease_next(session).0, id);
        // It is started again, and holds nothing any more.
        fleet.attach(session + 10, name, 1);
    }
    (fleet, id)
}

#[test]
fn a_task_waits_only_so_long_for_an_agent_that_has_not_failed_it_and_then_takes_who_failed_it_first() {
    let (mut fleet, id) = lost_on_two();
    let longest = fleet.machine.limits().avoid_longest;
    for (session, name) in [(11, "eu/a"), (12, "eu/b"), (21, "eu/a")] {
        let reason = fleet.machine.waits_for(&id);
        let may_have = format!("has not failed it is busy ({name}, which failed it, may have it from 2027-");
        assert!(reason.contains(&may_have), "{name}: {reason}");
        fleet.wait(Millis(longest.0 - 2_000));
        assert!(fleet.offers(11).is_empty() && fleet.offers(12).is_empty() && fleet.offers(21).is_empty());
        fleet.wait(Millis::seconds(2));
        assert_eq!(fleet.lease_all(session).len(), 1, "{name}");
        fleet.attach(session + 10, name, 1);
        fleet.check_replay();
    }
    assert!(fleet.offers(3).is_empty(), "the third never came");
}

#[test]
fn whom_a_task_has_forgiven_it_takes_as_soon_as_it_is_up() {
    let (mut fleet, id) = lost_on_two();
    let longest = fleet.machine.limits().avoid_longest;
    // Nobody who could have it is there.
    fleet.step(Input::Detach { session: SessionId(11) });
    fleet.step(Input::Detach { session: SessionId(12) });
    assert_eq!(
        fleet.machine.waits_for(&id).split(':').next(),
        Some("the only agent is busy"),
        "{}",
        fleet.machine.waits_for(&id)
    );
    fleet.wait(longest);
    fleet.attach(22, "eu/b", 1);
    fleet.submit(in_region(tree(1), "eu"));
    fleet.lease_next(22);
    fleet.wait(longest);
    let reason = fleet.machine.waits_for(&id);
    assert!(reason.starts_with("all 2 agents busy"), "{reason}");
    fleet.attach(21, "eu/a", 1);
    assert_eq!(fleet.lease_all(21).pop().map(|lease| lease.0), Some(id), "it failed it before the other did");
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
