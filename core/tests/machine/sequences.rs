//! Any sequence of inputs, sensible or not: what must hold, holds after each one.
//!
//! The inputs are drawn from few agents, sessions and builds, so that stale and crossed ones are common. An
//! operation names tasks, placements and fences by small numbers that are looked up in what exists at that
//! moment, with some chance to miss.

use meridian_core::{
    cache::{manifest_ref::ManifestRef, shards::ShardEpoch},
    digest::Digest,
    id::{AgentId, Fence, PlacementNumber, SessionId, TaskId},
    keyring::{Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::{
        CachePolicy, Limits,
        effect::Order,
        input::{FailureKind, Input, Observation, Outcome, Phase, Progress, Upkeep},
        record::{BuildState, TaskState, TaskStep, TokenGrant},
    },
    quantity::{ByteCount, Millis},
    schedule::sketch::Sample,
    time::Wall,
};
use proptest::prelude::*;

use crate::fixture::{
    Fleet, agent, built, cached, failed, in_region, key, module, offer, project, repeated, requester,
    resolved, sign, tree,
};

#[derive(Debug, Clone)]
enum Op {
    Submit { key: u8, platforms: usize, is_module: bool, region: u8 },
    Cancel { build: usize },
    CreateToken { secret: u8, lifetime_s: u64 },
    RedeemToken { secret: u8 },
    CertifyKey { key: u8, agent: u8 },
    RevokeKey { key: u8, ago_ms: u64 },
    RevokeAgent { agent: u8, ago_ms: u64 },
    Attach { session: u64, agent: u8, slots: u32, held: Vec<(usize, i8)> },
    Detach { session: u64 },
    Observe { session: u64, clock_s: i64, rtt_us: Option<u64>, held: Vec<u8> },
    Drain { session: u64 },
    Upkeep { agent: u8, what: u8, begins_s: i64, lasts_s: u64 },
    Drained { session: u64, is_drained: bool },
    Stopped { session: u64, task: usize, miss: i8, is_ended: bool },
    Lease { session: u64, task: usize, miss: i8 },
    Decline { session: u64, task: usize, miss: i8 },
    Renew { session: u64, held: Vec<(usize, i8)> },
    Progress { session: u64, task: usize, miss: i8 },
    Report { session: u64, task: usize, miss: i8, outcome: u8 },
    ManifestMade { session: u64, task: usize, miss: i8, manifest: u8 },
    Pass { ms: u64 },
    Deadline,
    WallJumps { ms: i64 },
    Restart { from_snapshot: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let session = || 0..5u64;
    let task = || 0..12usize;
    let miss = || prop_oneof![12 => Just(0i8), 1 => Just(-1), 1 => Just(1)];
    let held = || prop::collection::vec((task(), miss()), 0..5);
    prop_oneof![
        4 => (0..12u8, 0..4usize, any::<bool>(), 0..8u8)
            .prop_map(|(key, platforms, is_module, region)| Op::Submit { key, platforms, is_module, region }),
        1 => (0..6usize).prop_map(|build| Op::Cancel { build }),
        1 => (0..3u8, 0..100u64).prop_map(|(secret, lifetime_s)| Op::CreateToken { secret, lifetime_s }),
        1 => (0..3u8).prop_map(|secret| Op::RedeemToken { secret }),
        1 => (0..4u8, 0..3u8).prop_map(|(key, agent)| Op::CertifyKey { key, agent }),
        1 => (0..4u8, 0..5_000u64).prop_map(|(key, ago_ms)| Op::RevokeKey { key, ago_ms }),
        // Only one: a fleet whose agents are all gone for good does nothing.
        1 => (2..3u8, 0..5_000u64).prop_map(|(agent, ago_ms)| Op::RevokeAgent { agent, ago_ms }),
        4 => (session(), 0..3u8, 0..4u32, held())
            .prop_map(|(session, agent, slots, held)| Op::Attach { session, agent, slots, held }),
        1 => session().prop_map(|session| Op::Detach { session }),
        1 => (session(), -8..8i64, any::<Option<u64>>(), prop::collection::vec(0..6u8, 0..4))
            .prop_map(|(session, clock_s, rtt_us, held)| Op::Observe { session, clock_s, rtt_us, held }),
        1 => session().prop_map(|session| Op::Drain { session }),
        2 => (0..3u8, 0..6u8, -900..900i64, 0..90u64)
            .prop_map(|(agent, what, begins_s, lasts_s)| Op::Upkeep { agent, what, begins_s, lasts_s }),
        1 => (session(), any::<bool>())
            .prop_map(|(session, is_drained)| Op::Drained { session, is_drained }),
        1 => (session(), task(), miss(), any::<bool>())
            .prop_map(|(session, task, miss, is_ended)| Op::Stopped { session, task, miss, is_ended }),
        9 => (session(), task(), miss()).prop_map(|(session, task, miss)| Op::Lease { session, task, miss }),
        1 => (session(), task(), miss()).prop_map(|(session, task, miss)| Op::Decline { session, task, miss }),
        3 => (session(), held()).prop_map(|(session, held)| Op::Renew { session, held }),
        1 => (session(), task(), miss()).prop_map(|(session, task, miss)| Op::Progress { session, task, miss }),
        8 => (session(), task(), miss(), 0..10u8)
            .prop_map(|(session, task, miss, outcome)| Op::Report { session, task, miss, outcome }),
        3 => (session(), task(), miss(), 0..6u8)
            .prop_map(|(session, task, miss, manifest)| Op::ManifestMade { session, task, miss, manifest }),
        2 => (0..20_000u64).prop_map(|ms| Op::Pass { ms }),
        3 => Just(Op::Deadline),
        1 => (-90_000..90_000i64).prop_map(|ms| Op::WallJumps { ms }),
        1 => any::<bool>().prop_map(|from_snapshot| Op::Restart { from_snapshot }),
    ]
}

fn agent_number(number: u8) -> AgentId {
    agent(["eu/a", "eu/b", "us/c"][usize::from(number % 3)])
}

/// The task of that number among all that exist, or one that does not exist.
fn some_task(fleet: &Fleet, number: usize) -> TaskId {
    let mut tasks = fleet.machine.builds().rev().flat_map(|build| &build.tasks);
    let unknown = TaskId { build: "acme/web/999".parse().unwrap(), ordinal: 3 };
    tasks.nth(number).map_or(unknown, |task| task.id.clone())
}

fn last_placement(fleet: &Fleet, task: &TaskId) -> u64 {
    let history = fleet.machine.task(task).map_or(&[][..], |record| &record.history[..]);
    let number = |step: &TaskStep| match step {
        TaskStep::Placed { placement, .. } => Some(placement.number.0),
        _ => None,
    };
    history.iter().rev().find_map(number).unwrap_or(0)
}

fn last_fence(fleet: &Fleet, task: &TaskId) -> u64 {
    let history = fleet.machine.task(task).map_or(&[][..], |record| &record.history[..]);
    let number = |step: &TaskStep| match step {
        TaskStep::Leased { fence, .. } => Some(fence.0),
        _ => None,
    };
    history.iter().rev().find_map(number).unwrap_or(0)
}

fn held(fleet: &Fleet, held: &[(usize, i8)]) -> Vec<(TaskId, Fence)> {
    let lease = |(number, miss): &(usize, i8)| {
        let task = some_task(fleet, *number);
        let fence = Fence(last_fence(fleet, &task).saturating_add_signed(i64::from(*miss)));
        (task, fence)
    };
    held.iter().map(lease).collect()
}

fn manifest(number: u8) -> ManifestRef {
    ManifestRef { digest: Digest::of(&[number]), size: ByteCount(900), entries: 6, bytes: ByteCount(70_000) }
}

fn upkeep(what: u8, at: Wall, begins_s: i64, span: Millis) -> Upkeep {
    let why = String::new();
    let from = Wall(at.0.saturating_add_signed(begins_s * 1_000));
    match what {
        0 => Upkeep::Cordon { why },
        1 => Upkeep::Drain { why, grace: Some(span) },
        2 => Upkeep::Drain { why, grace: None },
        3 => Upkeep::Maintain { from, until: from.after(span), why },
        4 => Upkeep::EndMaintenance { from: None },
        _ => Upkeep::Uncordon,
    }
}

fn outcome(number: u8, fleet: &Fleet, task: &TaskId) -> Outcome {
    let is_resolve = fleet
        .machine
        .task(task)
        .is_some_and(|record| matches!(record.kind, meridian_core::machine::record::TaskKind::Resolve));
    match number {
        0 => failed(FailureKind::Compile),
        1 => failed(FailureKind::Infrastructure),
        2 => failed(FailureKind::Lost),
        3 => built(),
        4 => resolved(),
        _ if is_resolve => resolved(),
        _ => built(),
    }
}

fn input(fleet: &mut Fleet, op: Op) -> Option<Input> {
    Some(match op {
        Op::Attach { session, agent, slots, held: list } => {
            let (held, agent) = (held(fleet, &list), agent_number(agent));
            // Some streams are of an older release, which has no part in the cache.
            let offer = if session == 0 { offer(slots) } else { cached(&agent, slots, slots) };
            Input::Attach { session: SessionId(session), agent, offer, held }
        }
        Op::Detach { session } => Input::Detach { session: SessionId(session) },
        Op::Observe { session, clock_s, rtt_us, held } => {
            let clock_offset_us = Some(clock_s * 1_000_000);
            let residency = held.into_iter().map(|number| manifest(number).digest).collect();
            let figures = Observation { cache_hits: 7, cache_lookups: 5, ..Observation::default() };
            let observation = Observation { rtt_us, clock_offset_us, residency, ..figures };
            Input::Observe { session: SessionId(session), observation }
        }
        Op::Drain { session } => Input::Drain { session: SessionId(session) },
        Op::Drained { session, is_drained } => Input::Drained { session: SessionId(session), is_drained },
        Op::Stopped { session, task, miss, is_ended } => {
            let (task, fence) = held(fleet, &[(task, miss)]).remove(0);
            let remaining = if is_ended { String::new() } else { "it hangs".to_owned() };
            Input::Stopped { session: SessionId(session), task, fence, remaining }
        }
        Op::Lease { session, task, miss } => {
            let task = some_task(fleet, task);
            let number = last_placement(fleet, &task).saturating_add_signed(i64::from(miss));
            Input::Lease { session: SessionId(session), task, placement: PlacementNumber(number) }
        }
        Op::Decline { session, task, miss } => {
            let task = some_task(fleet, task);
            let number = last_placement(fleet, &task).saturating_add_signed(i64::from(miss));
            let placement = PlacementNumber(number);
            Input::Decline { session: SessionId(session), task, placement, why: "no".to_owned() }
        }
        Op::Renew { session, held: list } => {
            Input::Renew { session: SessionId(session), held: held(fleet, &list) }
        }
        Op::Progress { session, task, miss } => {
            let (task, fence) = held(fleet, &[(task, miss)]).remove(0);
            let progress = Progress { phase: Phase::Source, done: 1, total: 0, detail: String::new() };
            Input::Progress { session: SessionId(session), task, fence, progress }
        }
        Op::Report { session, task, miss, outcome: number } => {
            let (task, fence) = held(fleet, &[(task, miss)]).remove(0);
            let mut outcome = Box::new(outcome(number, fleet, &task));
            let evidence = Ok(sign(fleet.machine.durable().signing_order(&task, fence), &mut outcome));
            Input::Report { session: SessionId(session), task, fence, outcome, evidence }
        }
        Op::ManifestMade { session, task, miss, manifest: number } => {
            let (task, fence) = held(fleet, &[(task, miss)]).remove(0);
            Input::ManifestMade {
                session: SessionId(session),
                task,
                fence,
                manifest: manifest(number),
                sample: Sample::default(),
            }
        }
        _ => return None,
    })
}

/// Carries an operation out. Every request must be answered in its own step; `Fleet::ask` checks that.
fn run(fleet: &mut Fleet, op: Op) {
    match op {
        Op::Submit { key: number, platforms, is_module, region } => {
            let spec = if is_module { module(platforms) } else { tree(platforms) };
            let spec = match region {
                0 => in_region(spec, "us"),
                1 => repeated(spec, "eu/a"),
                _ => spec,
            };
            let (key, project) = (key(&format!("k{number}")), project());
            fleet.ask(|request| Input::Submit {
                request,
                project,
                requester: requester(),
                key,
                spec: Box::new(spec),
                traceparent: None,
                ways: None,
            });
        }
        Op::Cancel { build } => {
            let id = fleet.machine.builds().nth(build).map(|build| build.id.clone());
            let build = id.unwrap_or_else(|| "acme/web/999".parse().unwrap());
            fleet.ask(|request| Input::Cancel { request, build, by: requester() });
        }
        Op::CreateToken { secret, lifetime_s } => {
            let (hash, grant) = (Digest::of(&[secret]), TokenGrant::Agent(agent_number(secret)));
            let lifetime = Millis::seconds(lifetime_s);
            fleet.ask(|request| Input::CreateToken { request, hash, grant, lifetime });
        }
        Op::CertifyKey { key, agent } => {
            let claim = KeyClaim {
                algorithm: KeyAlgorithm::Ed25519,
                spki: vec![key],
                usage: KeyUse::Artifact,
                holder: KeyHolder::Agent(agent_number(agent)),
                grade: Grade::Production,
            };
            fleet.ask(|request| Input::CertifyKey { request, claim });
        }
        Op::RevokeKey { key, ago_ms } => {
            let since = Some(Wall(fleet.now.wall.0.saturating_sub(ago_ms)));
            let key = KeyId::of(&[key]);
            fleet.ask(|request| Input::RevokeKey { request, key, since });
        }
        Op::RevokeAgent { agent, ago_ms } => {
            let since = Some(Wall(fleet.now.wall.0.saturating_sub(ago_ms)));
            let identity = TokenGrant::Agent(agent_number(agent));
            fleet.ask(|request| Input::RevokeIdentity { request, identity, since });
        }
        Op::Upkeep { agent, what, begins_s, lasts_s } => {
            let (agent, by) = (agent_number(agent), requester());
            let upkeep = upkeep(what, fleet.now.wall, begins_s, Millis::seconds(lasts_s));
            fleet.ask(|request| Input::Upkeep { request, agent, by, upkeep });
        }
        Op::RedeemToken { secret } => {
            fleet.ask(|request| Input::RedeemToken { request, hash: Digest::of(&[secret]) });
        }
        Op::Pass { ms } => fleet.pass(Millis(ms)),
        Op::Deadline => tick(fleet),
        Op::WallJumps { ms } => fleet.now.wall.0 = fleet.now.wall.0.saturating_add_signed(ms),
        Op::Restart { from_snapshot } => fleet.restart(from_snapshot),
        other => {
            if let Some(input) = input(fleet, other) {
                fleet.step(input);
            }
        }
    }
}

/// Ticks when the next deadline is due; afterwards the next one must lie ahead, or the shell would spin.
fn tick(fleet: &mut Fleet) {
    let Some(deadline) = fleet.machine.next_deadline() else { return };
    fleet.pass(deadline.since(fleet.now.mono));
    fleet.step(Input::Tick);
    let next = fleet.machine.next_deadline();
    assert!(next.is_none_or(|next| next > fleet.now.mono), "{next:?} is not after {:?}", fleet.now.mono);
}

fn limits() -> Limits {
    let cache = CachePolicy { manifests_max: 3, ..CachePolicy::default() };
    Limits { queued_tasks_max: 24, builds_kept: 4, tokens_max: 2, cache, ..Limits::default() }
}

/// No lease, placement or capacity is counted that no task has.
fn check_load(fleet: &Fleet) {
    let counts = fleet.machine.counts();
    let mut slots = 0;
    for status in fleet.machine.agents() {
        let has = |state: &TaskState| matches!(state, TaskState::Placed { agent, .. } | TaskState::Leased { agent, .. } if agent == status.agent);
        let tasks =
            fleet.machine.builds().flat_map(|build| &build.tasks).filter(|task| has(&task.state)).count();
        assert_eq!(u64::from(status.busy), tasks as u64, "{} is busy with what nobody has", status.agent);
        slots += u64::from(status.busy);
    }
    assert!(slots <= counts.tasks_placed + counts.tasks_leased);
    // What came back from agents may exceed the bound, by no more than three agents' slots and their like.
    assert!(counts.tasks_queued <= 24 + 3 * 3 * 2, "{counts:?}");
    assert!(counts.builds_ended <= 4 && counts.tokens <= 2, "{counts:?}");
    assert!(fleet.machine.durable().manifests().len() <= 3);
}

/// What agents are told of the cache holds, and memberships are numbered upwards.
fn check_cache(fleet: &Fleet, last: &mut ShardEpoch) {
    for (session, order) in &fleet.sent {
        match order {
            Order::Shards { shards } => {
                assert!(shards.epoch >= *last, "{} after {last}", shards.epoch);
                *last = shards.epoch;
            }
            Order::Offer { cache: Some(hints), work, .. } => {
                assert!(!work.spec.from_scratch && hints.grant.is_empty());
                let holders = hints.manifest.iter().flat_map(|hint| &hint.holders);
                for holder in holders {
                    let status = fleet.machine.agents().find(|status| *status.agent == holder.agent);
                    // One that attached anew in the same step may have been named before.
                    assert!(status.is_none_or(|status| status.session != *session), "it is told of itself");
                }
            }
            _ => {}
        }
    }
}

/// One healthy agent for each region, and time: everything ends.
fn finish(fleet: &mut Fleet) {
    for (session, name) in [(90, "eu/z"), (91, "us/z")] {
        fleet.attach(session, name, 2);
    }
    for _ in 0..3_000 {
        if fleet.machine.is_idle() {
            return;
        }
        let mut leases: Vec<_> = fleet.lease_all(90).into_iter().map(|lease| (90, lease)).collect();
        leases.extend(fleet.lease_all(91).into_iter().map(|lease| (91, lease)));
        for (session, (task, fence)) in leases {
            let outcome = outcome(9, fleet, &task);
            fleet.report(session, &task, fence, outcome);
        }
        fleet.sent.retain(|(session, order)| session.0 >= 90 && matches!(order, Order::Offer { .. }));
        if fleet.sent.is_empty() && !fleet.machine.is_idle() {
            tick(fleet);
        }
    }
    let stuck: Vec<_> = fleet.machine.builds().filter(|build| build.state == BuildState::Running).collect();
    panic!("these never end: {stuck:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_inputs_keeps_every_promise(ops in prop::collection::vec(op(), 1..120)) {
        let (mut fleet, mut last) = (Fleet::with(limits()), ShardEpoch::default());
        for op in ops {
            run(&mut fleet, op);
            fleet.check_no_task_is_lost();
            check_load(&fleet);
            check_cache(&fleet, &mut last);
            fleet.sent.clear();
        }
        fleet.check_replay();
        finish(&mut fleet);
        fleet.check_replay();
    }

    #[test]
    fn equal_inputs_give_equal_decisions(ops in prop::collection::vec(op(), 1..60)) {
        let (mut one, mut other) = (Fleet::with(limits()), Fleet::with(limits()));
        for op in ops {
            run(&mut one, op.clone());
            run(&mut other, op);
            prop_assert_eq!(&one.sent, &other.sent);
        }
        prop_assert_eq!(&one.journal, &other.journal);
    }
}
