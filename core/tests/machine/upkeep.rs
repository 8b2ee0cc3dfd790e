//! Agents that are taken out of service by an administrator, for a while or until they are let back in.

use meridian_core::{
    id::SessionId,
    machine::{
        Limits,
        effect::{Order, Refusal, Reply},
        event::EventKind,
        input::{AgentOffer, FailureKind, Input, Upkeep},
        record::{TaskState, TaskStep, Verdict},
        upkeep::ClosureKind,
    },
    quantity::Millis,
    requester::Requester,
    time::Wall,
};

use crate::fixture::{Fleet, agent, built, failed, offer, tree};

fn admin() -> Requester {
    "spiffe://acme/admin".parse().unwrap()
}

impl Fleet {
    fn upkeep(&mut self, name: &str, upkeep: Upkeep) -> Reply {
        let (agent, by) = (agent(name), admin());
        self.ask(|request| Input::Upkeep { request, agent, by, upkeep })
    }

    #[track_caller]
    fn changed(&mut self, name: &str, upkeep: Upkeep) -> u32 {
        match self.upkeep(name, upkeep) {
            Reply::UpkeepDone { changed, .. } => changed,
            other => panic!("{other:?}"),
        }
    }

    fn told(&mut self, session: u64) -> Vec<Order> {
        let (told, others) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(to, order)| to.0 == session && matches!(order, Order::Drain { .. } | Order::Resume));
        self.sent = others;
        told.into_iter().map(|(_, order)| order).collect()
    }

    fn closed(&self, name: &str) -> Option<String> {
        let agent = agent(name);
        let status = self.machine.agents().find(|status| *status.agent == agent).unwrap();
        status.closed.map(|closure| closure.why.clone())
    }
}

fn cordon(why: &str) -> Upkeep {
    Upkeep::Cordon { why: why.to_owned() }
}

fn drain(grace: Option<Millis>) -> Upkeep {
    Upkeep::Drain { why: "new disks".to_owned(), grace }
}

fn maintain(fleet: &Fleet, from: Millis, until: Millis) -> Upkeep {
    let at = fleet.now.wall;
    Upkeep::Maintain { from: at.after(from), until: at.after(until), why: "new disks".to_owned() }
}

#[test]
fn a_cordoned_agent_keeps_what_it_runs_and_gets_nothing_new_over_restarts_too() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    let running = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    assert_eq!(fleet.changed("eu/a", cordon("new disks")), 1);
    assert_eq!(fleet.changed("eu/a", cordon("new disks")), 0, "it is so already");
    assert!(fleet.told(1).is_empty(), "a cordon is the coordinator's alone");

    let waiting = fleet.submit(tree(1));
    assert!(fleet.offers(1).is_empty());
    let explained = fleet.machine.explain(&waiting).unwrap().remove(0);
    assert_eq!(explained.now, "queued: no agent is fit: eu/a is cordoned by admin: new disks");
    assert_eq!(
        explained.candidates[0].verdict,
        Verdict::Refused { why: "cordoned by admin: new disks".to_owned() }
    );

    for from_snapshot in [false, true] {
        fleet.restart(from_snapshot);
        fleet.attach_with(2, "eu/a", 2, vec![(id.clone(), fence)]);
        assert_eq!(fleet.closed("eu/a").as_deref(), Some("cordoned by admin: new disks"));
        assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence));
        assert!(fleet.offers(2).is_empty(), "a restart lets nobody back in");
    }
    fleet.check_replay();
    assert!(fleet.report(2, &id, fence, built()));
    assert!(fleet.machine.build(&running).unwrap().finished.is_some());

    assert_eq!(fleet.changed("eu/a", Upkeep::Uncordon), 1);
    assert_eq!(fleet.changed("eu/a", Upkeep::Uncordon), 0);
    assert_eq!(fleet.offers(2).len(), 1, "what waited goes there at once");
    assert_eq!(fleet.closed("eu/a"), None);
    fleet.check_replay();
}

#[test]
fn what_was_only_offered_to_a_closed_agent_is_taken_back_and_goes_elsewhere() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, placement) = fleet.offers(1).remove(0);
    fleet.attach(2, "eu/b", 1);
    fleet.changed("eu/a", cordon(""));
    assert_eq!(fleet.revokes(1), [(id.clone(), None)]);
    assert_eq!(fleet.offers(2).len(), 1);
    fleet.ask_lease(1, &id, placement);
    assert!(fleet.grants(1).is_empty(), "who asked too late gets no lease");
}

#[test]
fn a_drained_agent_is_told_says_that_it_heard_and_may_finish() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.changed("eu/a", drain(None));
    assert_eq!(fleet.told(1), [Order::Drain { why: "drained by admin: new disks".to_owned() }]);
    let heard = |fleet: &Fleet| fleet.machine.agents().next().unwrap().is_drained;
    assert!(!heard(&fleet));
    fleet.step(Input::Drained { session: SessionId(1), is_drained: true });
    assert!(heard(&fleet));

    // A new stream is told again, and heard of again.
    fleet.attach_with(2, "eu/a", 1, vec![(id.clone(), fence)]);
    assert!(!heard(&fleet));
    assert_eq!(fleet.told(2).len(), 1);
    for _ in 0..100 {
        fleet.wait(Millis::seconds(10));
        fleet.step(Input::Renew { session: SessionId(2), held: vec![(id.clone(), fence)] });
    }
    assert!(fleet.report(2, &id, fence, built()), "it may take as long as it takes");
    fleet.changed("eu/a", Upkeep::Uncordon);
    assert_eq!(fleet.told(2), [Order::Resume]);
}

#[test]
fn an_agent_that_knows_of_no_drains_is_told_nothing_and_gets_nothing() {
    let mut fleet = Fleet::new();
    let offer = AgentOffer { heeds_drain: false, ..offer(1) };
    fleet.step(Input::Attach { session: SessionId(1), agent: agent("eu/a"), offer, held: Vec::new() });
    fleet.changed("eu/a", drain(None));
    fleet.submit(tree(1));
    assert!(fleet.told(1).is_empty() && fleet.offers(1).is_empty());
}

#[test]
fn what_still_runs_after_the_grace_is_moved_and_not_counted_against_the_task() {
    let limits = Limits { attempts_max: 1, losses_max: 1, ..Limits::default() };
    let mut fleet = Fleet::with(limits);
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.changed("eu/a", drain(Some(Millis::seconds(20))));
    fleet.attach(2, "eu/b", 1);
    fleet.wait(Millis::seconds(19));
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence), "not before its time");
    fleet.wait(Millis::seconds(1));
    assert_eq!(fleet.revokes(1), [(id.clone(), Some(fence))]);
    let (_, newer) = fleet.lease_next(2);
    let history = &fleet.machine.task(&id).unwrap().history;
    let moved = history.iter().find_map(|step| match step {
        TaskStep::AttemptFailed { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    let moved = moved.unwrap();
    assert_eq!(moved.kind, FailureKind::Moved);
    assert_eq!(moved.message, "moved away from agent eu/a, which is drained by admin: new disks");
    assert!(!fleet.report(1, &id, fence, built()), "the old fence is void");
    assert!(fleet.report(2, &id, newer, built()), "one failure would have ended this task");
}

#[test]
fn an_agent_that_was_emptied_is_as_good_as_any_afterwards() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, _) = fleet.lease_next(1);
    fleet.changed("eu/a", drain(Some(Millis(0))));
    assert_eq!(*fleet.state(&id), TaskState::Queued);
    fleet.changed("eu/a", Upkeep::Uncordon);
    assert_eq!(fleet.offers(1).len(), 1, "at once: it has failed nothing");
}

#[test]
fn a_task_that_is_moved_for_ever_ends_all_the_same() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let mut last = None;
    for _ in 0..Limits::default().placements_max {
        last = Some(fleet.lease_next(1).0);
        fleet.changed("eu/a", drain(Some(Millis(0))));
        fleet.changed("eu/a", Upkeep::Uncordon);
    }
    assert!(matches!(fleet.state(&last.unwrap()), TaskState::Failed { .. }));
}

#[test]
fn maintenance_closes_an_agent_early_empties_it_in_time_and_opens_it_again_by_itself() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    let (from, until) = (Millis::minutes(60), Millis::minutes(90));
    let window = maintain(&fleet, from, until);
    assert_eq!(fleet.changed("eu/a", window.clone()), 1);
    assert_eq!(fleet.changed("eu/a", window), 0);
    assert_eq!(fleet.closed("eu/a"), None, "it is still an hour away");
    let live = |fleet: &mut Fleet, span: Millis| {
        for _ in 0..span.0 / 10_000 {
            fleet.wait(Millis::seconds(10));
            fleet.step(Input::Renew { session: SessionId(1), held: vec![(id.clone(), fence)] });
        }
    };
    live(&mut fleet, Millis::minutes(50));
    assert!(fleet.closed("eu/a").unwrap().starts_with("closed for maintenance from 2027-"));
    assert_eq!(fleet.told(1).len(), 1, "it is drained");
    fleet.submit(tree(1));
    assert!(fleet.offers(1).is_empty());
    fleet.restart(true);
    fleet.attach_with(1, "eu/a", 2, vec![(id.clone(), fence)]);
    live(&mut fleet, Millis::minutes(9));
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence));
    live(&mut fleet, Millis::minutes(1));
    assert!(
        fleet.closed("eu/a").unwrap().contains("in maintenance until 2027-"),
        "{:?}",
        fleet.closed("eu/a")
    );
    assert_eq!(fleet.revokes(1)[0], (id.clone(), Some(fence)), "what still runs is moved");
    fleet.sent.clear();
    fleet.wait(Millis::minutes(30));
    assert_eq!(fleet.closed("eu/a"), None);
    assert_eq!(fleet.told(1), [Order::Resume]);
    assert_eq!(fleet.offers(1).len(), 2);
    assert_eq!(fleet.machine.durable().maintenance().count(), 0);
    let ended = fleet
        .journal
        .iter()
        .filter(|(_, event)| matches!(&event.kind, EventKind::MaintenanceEnded { by: None, .. }));
    assert_eq!(ended.count(), 1);
    fleet.check_replay();
}

#[test]
fn planned_maintenance_can_be_taken_back_one_window_or_all() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    for minutes in [5, 100, 200] {
        let window = maintain(&fleet, Millis::minutes(minutes), Millis::minutes(minutes + 9));
        fleet.changed("eu/a", window);
    }
    assert!(fleet.closed("eu/a").is_some());
    let first = fleet.now.wall.after(Millis::minutes(5));
    assert_eq!(fleet.changed("eu/a", Upkeep::EndMaintenance { from: Some(first) }), 1);
    assert_eq!(fleet.closed("eu/a"), None);
    assert_eq!(fleet.changed("eu/a", Upkeep::EndMaintenance { from: Some(first) }), 0);
    assert_eq!(fleet.changed("eu/a", Upkeep::EndMaintenance { from: None }), 2);
    fleet.check_replay();
}

#[test]
fn maintenance_that_is_over_is_refused_and_the_number_of_plans_is_bounded() {
    let limits = Limits { cordons_max: 1, maintenance_max: 1, ..Limits::default() };
    let mut fleet = Fleet::with(limits);
    let at = fleet.now.wall;
    for (from, until) in [(at.after(Millis(9)), at.after(Millis(9))), (Wall(1), at)] {
        let upkeep = Upkeep::Maintain { from, until, why: String::new() };
        let refused = fleet.upkeep("eu/a", upkeep);
        assert!(matches!(refused, Reply::Refused(Refusal::MaintenanceOver { .. })), "{refused:?}");
    }
    let window = maintain(&fleet, Millis(1), Millis(9));
    assert_eq!(fleet.changed("eu/a", window.clone()), 1);
    assert!(matches!(fleet.upkeep("eu/b", window), Reply::Refused(Refusal::TooMuchMaintenance { limit: 1 })));
    assert_eq!(fleet.changed("eu/a", cordon("")), 1);
    assert_eq!(fleet.changed("eu/a", drain(None)), 1, "the same agent may be changed");
    assert!(matches!(fleet.upkeep("eu/b", cordon("")), Reply::Refused(Refusal::TooManyCordons { limit: 1 })));
}

#[test]
fn what_changes_nothing_is_written_down_before_it_is_answered() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let window = maintain(&fleet, Millis(1), Millis::minutes(9));
    let from = fleet.now.wall.after(Millis(1));
    fleet.changed("eu/a", cordon("disks"));
    fleet.changed("eu/a", window.clone());
    let cordoned = fleet.machine.durable().cordons().next().cloned();
    fleet.pass(Millis(5));
    let last = |fleet: &Fleet| fleet.machine.durable().last_index().0;
    for (upkeep, changed) in [
        (cordon("disks"), 0),
        (window, 0),
        (Upkeep::EndMaintenance { from: Some(from) }, 1),
        (Upkeep::EndMaintenance { from: Some(from) }, 0),
        (Upkeep::EndMaintenance { from: None }, 0),
        (Upkeep::Uncordon, 1),
        (Upkeep::Uncordon, 0),
    ] {
        let before = last(&fleet);
        if upkeep == Upkeep::Uncordon && changed == 1 {
            assert_eq!(fleet.machine.durable().cordons().next(), cordoned.as_ref(), "it holds since then");
        }
        assert_eq!(fleet.changed("eu/a", upkeep.clone()), changed, "{upkeep:?}");
        assert_eq!(last(&fleet), before + 1, "{upkeep:?}");
    }
}

#[test]
fn of_two_reasons_the_one_that_empties_the_agent_is_told() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let kind = |fleet: &Fleet| fleet.machine.agents().next().unwrap().closed.map(|closure| closure.kind);
    fleet.changed("eu/a", cordon(""));
    assert_eq!(kind(&fleet), Some(ClosureKind::Cordoned));
    let window = maintain(&fleet, Millis(1), Millis::minutes(9));
    fleet.changed("eu/a", window);
    assert_eq!(kind(&fleet), Some(ClosureKind::Maintenance));
    fleet.changed("eu/a", drain(None));
    assert_eq!(kind(&fleet), Some(ClosureKind::Drained));
    fleet.changed("eu/a", Upkeep::EndMaintenance { from: None });
    fleet.changed("eu/a", Upkeep::Uncordon);
    fleet.changed("eu/a", cordon(""));
    assert_eq!(kind(&fleet), Some(ClosureKind::Cordoned), "a drain can become a cordon again");
    assert_eq!(fleet.told(1).last(), Some(&Order::Resume));
}

#[test]
fn a_reason_stays_when_none_is_given_and_a_cordon_takes_no_drain_back() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.changed("eu/a", cordon("new disks"));
    let moves = Some(Millis::minutes(5));
    assert_eq!(fleet.changed("eu/a", Upkeep::Drain { why: String::new(), grace: moves }), 1);
    assert_eq!(fleet.closed("eu/a").as_deref(), Some("drained by admin: new disks"));
    let drained = fleet.machine.durable().cordons().next().unwrap().clone();
    assert!(drained.drain.is_some_and(|drain| drain.moves.is_some()));
    let again = fleet.upkeep("eu/a", cordon(""));
    assert!(matches!(again, Reply::UpkeepDone { changed: 0, drains: true, .. }), "{again:?}");
    assert_eq!(fleet.machine.durable().cordons().next(), Some(&drained));
    fleet.changed("eu/a", cordon("newer disks"));
    assert_eq!(fleet.closed("eu/a").as_deref(), Some("drained by admin: newer disks"));
    fleet.changed("eu/a", Upkeep::Uncordon);
    let anew = fleet.upkeep("eu/a", cordon(""));
    assert!(matches!(anew, Reply::UpkeepDone { changed: 1, drains: false, .. }), "{anew:?}");
    assert_eq!(fleet.closed("eu/a").as_deref(), Some("cordoned by admin"), "that reason was taken back");
}

#[test]
fn a_failure_on_a_cordoned_agent_is_an_ordinary_one() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.changed("eu/a", cordon(""));
    assert!(fleet.report(1, &id, fence, failed(FailureKind::Compile)));
    assert!(matches!(fleet.state(&id), TaskState::Failed { .. }));
}

#[test]
fn a_clock_that_is_set_back_opens_again_what_it_closed_too_early() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let window = maintain(&fleet, Millis::minutes(60), Millis::minutes(90));
    fleet.changed("eu/a", window);
    let right = fleet.now.wall;
    fleet.now.wall = right.after(Millis::minutes(61));
    fleet.step(Input::Tick);
    assert!(fleet.closed("eu/a").unwrap().contains("in maintenance until"));
    fleet.now.wall = right;
    fleet.step(Input::Tick);
    assert_eq!(fleet.closed("eu/a"), None, "it is an hour away, as it was before");
    fleet.submit(tree(1));
    assert_eq!(fleet.offers(1).len(), 1);
    assert_eq!(fleet.told(1).last(), Some(&Order::Resume));
    fleet.wait(Millis::minutes(50));
    assert!(
        fleet.closed("eu/a").unwrap().starts_with("closed for maintenance from"),
        "and comes in its time"
    );
}
