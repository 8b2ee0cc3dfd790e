//! What people ask for: builds, their end, tokens, and leadership.

use meridian_core::{
    build::{Receipt, Source},
    digest::Digest,
    id::{Epoch, JournalIndex, SessionId},
    machine::{
        ApplyError, Durable, Fault, Limits, Machine, SnapshotError, Step,
        effect::{Order, Refusal, Reply},
        event::{Event, EventKind},
        input::Input,
        record::{BuildState, Record, TaskState, TokenGrant},
        request::request_digest,
    },
    quantity::{ByteCount, Millis},
    time::{Mono, Now, Wall},
};

use crate::fixture::{Fleet, agent, built, key, module, project, requester, task, tree};

#[test]
fn the_same_key_and_request_is_the_same_build() {
    let mut fleet = Fleet::new();
    let first = fleet.submit_as("k", tree(2));
    let events = fleet.journal.len();
    let mut again = tree(2);
    if let Source::Tree { receipts, root, .. } = &mut again.source {
        let (digest, size) = (*root, ByteCount(1));
        receipts.push(Receipt { holder: "other".to_owned(), digest, size, mac: Vec::new() });
    }
    assert_eq!(fleet.submit_as("k", again), first, "a receipt is not part of what is asked");
    assert_eq!(fleet.journal.len(), events);
    assert!(matches!(fleet.submit_as("k", tree(3)), Reply::Refused(Refusal::KeyReused { .. })));
    fleet.restart(true);
    assert_eq!(fleet.submit_as("k", tree(2)), first);
}

#[test]
fn every_attempt_joins_the_trace_that_the_build_came_with_and_a_repeat_changes_nothing() {
    let traced = |fleet: &mut Fleet, parent: u64| {
        let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{parent:016x}-01").parse().ok();
        let (project, key, spec) = (project(), key("k"), Box::new(tree(1)));
        fleet.ask(|request| Input::Submit {
            request,
            project,
            requester: requester(),
            key,
            spec,
            traceparent,
            ways: None,
        })
    };
    let parents = |fleet: &mut Fleet| -> Vec<String> {
        let sent = std::mem::take(&mut fleet.sent).into_iter();
        let offers = sent.filter_map(|(_, order)| match order {
            Order::Offer { work, .. } => work.traceparent,
            _ => None,
        });
        offers.map(|traceparent| traceparent.to_string()).collect()
    };
    let mut fleet = Fleet::new();
    let first = traced(&mut fleet, 1);
    assert_eq!(traced(&mut fleet, 2), first, "the trace is no part of what is asked");
    let expected = ["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01"];
    for (session, from_snapshot) in [(1, true), (2, false)] {
        fleet.restart(from_snapshot);
        fleet.attach(session, "eu/a", 1);
        assert_eq!(parents(&mut fleet), expected, "session {session}");
    }
}

#[test]
fn the_digest_of_a_request_never_changes() {
    // The digests are in journals: a change here makes repeated submits look like different requests.
    let hex = |spec| request_digest(&spec).to_hex();
    assert_eq!(hex(tree(1)), "c428032503d4f4d4d3f14a270195da865f33d0fb1f599814ba9a7d0e8b9cf303");
    assert_eq!(hex(module(2)), "f4dc7261b9af853fd92c3ecf6d575042270534cf4b6a73bf77c7932412dd5522");
}

#[test]
fn a_full_queue_refuses_with_a_time_to_come_back_and_keeps_the_number_free() {
    let mut fleet = Fleet::with(Limits { queued_tasks_max: 7, ..Limits::default() });
    fleet.submit(tree(3));
    // A module build counts for its resolve task and for the three that will follow.
    fleet.submit(module(3));
    let refused = fleet.submit_as("late", tree(1));
    let (limit, retry_after) = (7, Millis::seconds(5));
    assert_eq!(refused, Reply::Refused(Refusal::QueueFull { queued: 7, limit, retry_after }));
    fleet.attach(1, "eu/a", 9);
    let build = fleet.submit(tree(1));
    assert_eq!(build.number, 3);
}

#[test]
fn a_build_that_is_larger_than_the_queue_is_refused_for_good() {
    let mut fleet = Fleet::with(Limits { queued_tasks_max: 3, ..Limits::default() });
    let refused = fleet.submit_as("large", module(3));
    let Reply::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal, Refusal::TooManyTasks { tasks: 4, limit: 3 });
    let words = refusal.to_string();
    assert!(words.contains("makes 4 tasks") && words.contains("at most 3"), "{words}");
    assert!(!words.contains("try again"), "{words}");
    fleet.submit(tree(3));
    assert!(matches!(fleet.submit_as("late", tree(3)), Reply::Refused(Refusal::QueueFull { .. })));
}

#[test]
fn a_request_without_a_platform_is_refused() {
    let mut fleet = Fleet::new();
    assert!(matches!(fleet.submit_as("k", tree(0)), Reply::Refused(Refusal::Spec(_))));
    assert!(matches!(fleet.submit_as("k", tree(65)), Reply::Refused(Refusal::Spec(_))));
    assert_eq!(fleet.machine.builds().count(), 0);
}

#[test]
fn a_cancelled_build_takes_its_tasks_back_and_no_report_counts_any_more() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(3));
    fleet.attach(1, "eu/a", 2);
    let leases = fleet.lease_all(1);
    let (leased, fence) = leases[0].clone();
    assert_eq!(
        fleet.ask(|request| Input::Cancel { request, build: build.clone(), by: requester() }),
        Reply::Cancelled { changed: true }
    );
    assert_eq!(fleet.build_state(&build), BuildState::Cancelled);
    assert_eq!(fleet.revokes(1).len(), 2);
    assert!(!fleet.report(1, &leased, fence, built()));
    assert!(matches!(fleet.state(&leased), TaskState::Cancelled { .. }));
    assert_eq!(
        fleet.ask(|request| Input::Cancel { request, build: build.clone(), by: requester() }),
        Reply::Cancelled { changed: false }
    );
    for (task, fence) in leases {
        let (session, remaining) = (SessionId(1), String::new());
        fleet.step(Input::Stopped { session, task, fence, remaining });
    }
    assert_eq!(fleet.machine.next_deadline(), None, "nothing is waited for");
    fleet.check_replay();
}

#[test]
fn a_cancel_that_never_reached_the_agent_is_repeated_when_it_renews() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let held = fleet.lease_all(1);
    fleet.ask(|request| Input::Cancel { request, build: build.clone(), by: requester() });
    fleet.sent.clear();
    fleet.step(Input::Renew { session: SessionId(1), held: held.clone() });
    assert_eq!(fleet.revokes(1), [(held[0].0.clone(), Some(held[0].1))]);
    let mut unknown = build;
    unknown.number = 99;
    assert!(matches!(
        fleet.ask(|request| Input::Cancel { request, build: unknown, by: requester() }),
        Reply::Refused(Refusal::UnknownBuild { .. })
    ));
}

#[test]
fn the_oldest_ended_builds_are_forgotten_with_their_keys() {
    let mut fleet = Fleet::with(Limits { builds_kept: 2, ..Limits::default() });
    for number in 1..=3 {
        let reply = fleet.submit_as(&format!("k{number}"), tree(1));
        let Reply::Submitted { build } = reply else { panic!("{reply:?}") };
        fleet.ask(|request| Input::Cancel { request, build, by: requester() });
    }
    let kept: Vec<_> = fleet.machine.builds().map(|build| build.id.number).collect();
    assert_eq!(kept, [2, 3]);
    let reply = fleet.submit_as("k1", tree(2));
    assert!(matches!(reply, Reply::Submitted { build } if build.number == 4));
    fleet.check_replay();
}

fn create(fleet: &mut Fleet, secret: &str, lifetime: Millis) -> Reply {
    let (hash, grant) = (Digest::of(secret.as_bytes()), TokenGrant::Agent(agent("eu/a")));
    fleet.ask(|request| Input::CreateToken { request, hash, grant, lifetime })
}

fn redeem(fleet: &mut Fleet, secret: &str) -> Reply {
    let hash = Digest::of(secret.as_bytes());
    fleet.ask(|request| Input::RedeemToken { request, hash })
}

#[test]
fn a_token_works_once() {
    let mut fleet = Fleet::new();
    assert_eq!(create(&mut fleet, "s", Millis::minutes(1)), Reply::TokenCreated);
    assert_eq!(create(&mut fleet, "s", Millis::minutes(1)), Reply::TokenCreated);
    assert_eq!(fleet.machine.counts().tokens, 1);
    fleet.restart(false);
    assert!(matches!(redeem(&mut fleet, "s"), Reply::TokenRedeemed { .. }));
    assert_eq!(redeem(&mut fleet, "s"), Reply::Refused(Refusal::InvalidToken));
    assert_eq!(redeem(&mut fleet, "unknown"), Reply::Refused(Refusal::InvalidToken));
}

#[test]
fn a_token_expires_by_its_deadline_or_while_nobody_led() {
    let mut fleet = Fleet::with(Limits { tokens_max: 2, ..Limits::default() });
    create(&mut fleet, "a", Millis::minutes(1));
    create(&mut fleet, "b", Millis::minutes(2));
    assert!(matches!(
        create(&mut fleet, "c", Millis::minutes(1)),
        Reply::Refused(Refusal::TooManyTokens { limit: 2 })
    ));
    fleet.wait(Millis::minutes(1));
    assert_eq!(fleet.machine.counts().tokens, 1);
    fleet.pass(Millis::minutes(1));
    fleet.restart(true);
    assert_eq!(fleet.machine.counts().tokens, 0);
    assert_eq!(redeem(&mut fleet, "b"), Reply::Refused(Refusal::InvalidToken));
    assert_eq!(fleet.machine.next_deadline(), None);
}

#[test]
fn nobody_decides_before_leading_and_an_old_term_cannot_lead() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(1));
    let now = Now { mono: Mono(5), wall: Wall(7) };
    let mut machine = Machine::new(fleet.machine.durable().clone(), Limits::default());
    let (spec, key) = (Box::new(tree(1)), key("k"));
    let request = meridian_core::id::RequestId(1);
    let submit = Input::Submit {
        request,
        project: project(),
        requester: requester(),
        key,
        spec,
        traceparent: None,
        ways: None,
    };
    assert_eq!(machine.step(now, submit), Step::default());
    assert_eq!(machine.step(now, Input::Lead { epoch: Epoch(1) }), Step::default());
    assert!(!machine.is_leading());
    let step = machine.step(now, Input::Lead { epoch: Epoch(2) });
    assert_eq!(step.events[0].1.kind, EventKind::EpochBegan { epoch: Epoch(2) });
    assert_eq!(machine.step(now, Input::Lead { epoch: Epoch(3) }), Step::default());
}

#[test]
fn a_new_leader_gives_every_lease_its_full_grace() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    fleet.attach(1, "eu/a", 1);
    let (id, fence) = fleet.lease_all(1).remove(0);
    fleet.wait(Millis::seconds(29));
    fleet.restart(false);
    fleet.wait(Millis(29_999));
    assert!(fleet.machine.holds_lease(&agent("eu/a"), &id, fence));
    fleet.wait(Millis(1));
    assert_eq!(*fleet.state(&task(&build, 0)), TaskState::Queued);
}

#[test]
fn an_event_that_does_not_fit_is_named_and_leaves_the_state_alone() {
    let mut fleet = Fleet::new();
    let build = fleet.submit(tree(1));
    let mut state = fleet.machine.durable().clone();
    let before = state.clone();
    let next = JournalIndex(state.last_index().0 + 1);
    let event = |kind| Event { at: Wall(1), kind };
    let cases = [
        EventKind::EpochBegan { epoch: Epoch(1) },
        EventKind::BuildForgotten { build: build.clone() },
        EventKind::SourceResolved {
            task: task(&build, 0),
            fence: meridian_core::id::Fence(1),
            resolution: match crate::fixture::resolved() {
                meridian_core::machine::input::Outcome::Resolved(resolution) => resolution,
                other => panic!("{other:?}"),
            },
        },
        EventKind::TokenExpired { hash: Digest::of(b"none") },
        EventKind::BuildCancelled { build: "acme/web/77".parse().unwrap(), superseded_by: None, by: None },
    ];
    for kind in cases {
        let error = state.apply(next, &event(kind)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("journal event {next} does not apply: ")), "{error}");
        assert_eq!(state, before);
    }
    let skipped = JournalIndex(next.0 + 1);
    let expected = ApplyError { index: skipped, fault: Fault::Order { expected: next } };
    assert_eq!(
        state.apply(skipped, &event(EventKind::BuildCancelled { build, superseded_by: None, by: None })),
        Err(expected)
    );
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut fleet = Fleet::new();
    fleet.submit(tree(2));
    fleet.attach(1, "eu/a", 1);
    fleet.lease_all(1);
    let good = fleet.machine.durable().records();
    assert_eq!(Durable::from_records(Vec::new()), Err(SnapshotError::Counters(0)));
    let twice: Vec<_> = good.iter().chain(&good[1..]).cloned().collect();
    assert!(matches!(Durable::from_records(twice), Err(SnapshotError::Twice(_))));
    let broken = |change: fn(&mut Record)| {
        let mut records = good.clone();
        records.iter_mut().for_each(change);
        Durable::from_records(records)
    };
    let changes: [fn(&mut Record); 4] = [
        |record| {
            if let Record::Counters(counters) = record {
                counters.fence.0 = 0;
            }
        },
        |record| {
            if let Record::Build(build) = record {
                build.state = BuildState::Succeeded;
            }
        },
        |record| {
            if let Record::Build(build) = record {
                build.tasks.swap(0, 1);
            }
        },
        |record| {
            if let Record::Project(project) = record {
                project.last_build = 0;
            }
        },
    ];
    for change in changes {
        assert!(matches!(broken(change), Err(SnapshotError::Inconsistent { .. })));
    }
}
