//! What decides where and when: measured ways, learned run times, shares, priorities, labels, regions and budgets.

use meridian_core::{
    build::BuildSpec,
    cache::manifest_ref::ManifestRef,
    digest::Digest,
    id::{ProjectId, RequestId, SessionId, TaskId},
    machine::{
        Limits, Machine,
        effect::Reply,
        input::{AgentOffer, Input, Observation, Outcome, PeerFigures},
        limits::{PlacementRule, SchedulePolicy, TeamPolicy},
        placement::reasons::WaitReason,
        record::{TaskState, TaskStep, Verdict},
    },
    quantity::{ByteCount, Millis},
    schedule::{
        priority::Priority,
        sketch::{self, HeldSketch, Sample},
    },
};

use crate::fixture::{Fleet, agent, built, cached, key, offer, requester, task, tree};

pub(crate) fn attach(fleet: &mut Fleet, session: u64, name: &str, slots: u32) {
    let (session, agent) = (SessionId(session), agent(name));
    let offer = cached(&agent, slots, 100);
    fleet.step(Input::Attach { session, agent, offer, held: Vec::new() });
}

pub(crate) fn observe(fleet: &mut Fleet, session: u64, observation: Observation) {
    fleet.step(Input::Observe { session: SessionId(session), observation });
}

pub(crate) fn near() -> Observation {
    Observation { rtt_us: Some(5_000), clock_offset_us: Some(0), ..Observation::default() }
}

pub(crate) fn hits(permille: u32) -> Outcome {
    let Outcome::Built { artifacts, go_version, log, .. } = built() else { panic!("a result") };
    Outcome::Built { artifacts, go_version, log, hit_permille: Some(permille) }
}

pub(crate) fn on(mut spec: BuildSpec, name: &str) -> BuildSpec {
    spec.wishes.agent = Some(agent(name));
    spec
}

pub(crate) fn placed_on(fleet: &Fleet, task: &TaskId) -> String {
    match fleet.state(task) {
        TaskState::Placed { agent, .. } | TaskState::Leased { agent, .. } => agent.to_string(),
        other => format!("{other:?}"),
    }
}

/// Why a task was placed where it was.
fn because(fleet: &Fleet, task: &TaskId) -> String {
    let record = fleet.machine.task(task).unwrap();
    let placed = record.history.iter().rev().find_map(|step| match step {
        TaskStep::Placed { placement, .. } => Some(placement.because.clone()),
        _ => None,
    });
    placed.unwrap()
}

/// The blobs of a manifest, and what stands for it.
fn blobs(name: &str) -> Vec<u32> {
    (0..400).map(|number| sketch::number(&Digest::of(format!("{name} {number}").as_bytes()))).collect()
}

pub(crate) fn manifest(name: &str) -> (ManifestRef, Sample) {
    let (digest, size) = (Digest::of(name.as_bytes()), ByteCount(60_000));
    let sample = Sample::of(blobs(name).into_iter().map(|number| (number, ByteCount(100_000))));
    (ManifestRef { digest, size, entries: 400, bytes: ByteCount::mib(40) }, sample)
}

/// Builds once on an agent, which then says that it holds the manifest.
pub(crate) fn build_once(fleet: &mut Fleet, session: u64, name: &str, left: &str, run: Millis) {
    build_spec_once(fleet, session, on(tree(1), name), left, run);
}

fn build_spec_once(fleet: &mut Fleet, session: u64, spec: BuildSpec, left: &str, run: Millis) {
    fleet.submit(spec);
    let (id, fence) = fleet.lease_next(session);
    fleet.pass(run);
    fleet.step(Input::Renew { session: SessionId(session), held: vec![(id.clone(), fence)] });
    assert!(fleet.report(session, &id, fence, hits(0)));
    let (manifest, sample) = manifest(left);
    let session = SessionId(session);
    fleet.step(Input::ManifestMade { session, task: id, fence, manifest, sample });
    let residency = vec![manifest.digest];
    fleet.step(Input::Observe { session, observation: Observation { residency, ..near() } });
}

fn two_regions() -> Fleet {
    let mut fleet = Fleet::new();
    attach(&mut fleet, 1, "eu/a", 1);
    attach(&mut fleet, 2, "us/b", 1);
    observe(&mut fleet, 1, near());
    observe(&mut fleet, 2, near());
    fleet
}

#[test]
fn a_build_goes_where_what_the_last_one_of_its_lineage_left_is() {
    let mut fleet = two_regions();
    build_once(&mut fleet, 2, "us/b", "m", Millis::seconds(40));
    let again = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&again, 0)), "us/b");
    let record = fleet.machine.task(&task(&again, 0)).unwrap();
    let Some(TaskStep::Placed { placement, .. }) = record.history.last() else { panic!("{record:?}") };
    let terms: Vec<_> = placement
        .candidates
        .iter()
        .map(|candidate| match &candidate.verdict {
            Verdict::Eligible { terms: Some(terms), hit_rate_permille, .. } => (*terms, *hit_rate_permille),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((terms[0].0.transfer_us, terms[0].1), (0, Some(1_000)));
    assert!(terms[1].0.transfer_us > 500_000 && terms[1].0.rounds_us > terms[0].0.rounds_us, "{terms:?}");
}

#[test]
fn an_agent_that_holds_the_half_by_its_sketch_is_taken_before_one_that_holds_nothing() {
    let mut fleet = two_regions();
    attach(&mut fleet, 3, "us/c", 1);
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(40));
    observe(&mut fleet, 1, Observation { residency: vec![manifest("m").0.digest], ..near() });
    let half: Vec<u32> = blobs("m").into_iter().step_by(2).collect();
    observe(&mut fleet, 2, Observation { sketch: Some(HeldSketch::of([])), ..near() });
    observe(&mut fleet, 3, Observation { sketch: Some(HeldSketch::of(half)), ..near() });
    // A sketch that is not told again is still believed.
    observe(&mut fleet, 3, near());
    let first = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&first, 0)), "eu/a", "who holds all of it comes first");
    fleet.step(Input::Drain { session: SessionId(1) });
    let second = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&second, 0)), "us/c");
}

#[test]
fn the_way_that_was_measured_to_the_holder_decides_between_two_that_hold_nothing() {
    let mut fleet = two_regions();
    attach(&mut fleet, 3, "sa/c", 1);
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(40));
    let peer =
        |rtt_us, mib| vec![PeerFigures { agent: agent("eu/a"), rtt_us, bytes_per_s: ByteCount::mib(mib) }];
    observe(&mut fleet, 2, Observation { peers: peer(250_000, 1), ..near() });
    observe(&mut fleet, 3, Observation { peers: peer(90_000, 40), ..near() });
    fleet.step(Input::Drain { session: SessionId(1) });
    let build = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&build, 0)), "sa/c");
}

#[test]
fn a_task_is_kept_back_for_a_busy_agent_that_would_finish_it_sooner_but_not_for_longer_than_that_gains() {
    let mut fleet = two_regions();
    // Far away and slow to fetch to: what is missing there costs much more than a short wait.
    let peer = vec![PeerFigures { agent: agent("eu/a"), rtt_us: 300_000, bytes_per_s: ByteCount(300_000) }];
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(6));
    for _ in 0..12 {
        observe(&mut fleet, 2, Observation { peers: peer.clone(), ..near() });
    }
    let first = fleet.submit(tree(1));
    let second = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&first, 0)), "eu/a");
    let waits = fleet.machine.wait_reason(&task(&second, 0));
    let Some(WaitReason::KeptBack { agent: awaited, gain }) = waits else { panic!("{waits:?}") };
    assert_eq!(awaited, agent("eu/a"));
    assert!(gain > Millis::seconds(10), "{gain:?}");
    let (id, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &id, fence, hits(1_000)));
    assert_eq!(placed_on(&fleet, &task(&second, 0)), "eu/a", "it goes there as soon as that is free");
    let third = fleet.submit(tree(1));
    assert_eq!(*fleet.state(&task(&third, 0)), TaskState::Queued);
    let (id, fence) = fleet.lease_next(1);
    for _ in 0..4 {
        fleet.wait(Millis::seconds(15));
        fleet.step(Input::Renew { session: SessionId(1), held: vec![(id.clone(), fence)] });
    }
    assert_eq!(placed_on(&fleet, &task(&third, 0)), "us/b", "it was kept back for long enough");
    fleet.report(1, &id, fence, hits(1_000));
    fleet.check_replay();
}

#[test]
fn who_is_kept_back_for_an_agent_that_goes_waits_for_another_one() {
    let mut fleet = two_regions();
    let peer = vec![PeerFigures { agent: agent("eu/a"), rtt_us: 300_000, bytes_per_s: ByteCount(300_000) }];
    build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(6));
    for _ in 0..12 {
        observe(&mut fleet, 2, Observation { peers: peer.clone(), ..near() });
    }
    fleet.submit(tree(1));
    let second = fleet.submit(tree(1));
    let waits = fleet.machine.wait_reason(&task(&second, 0));
    assert!(matches!(waits, Some(WaitReason::KeptBack { .. })), "{waits:?}");
    let third = fleet.submit(on(tree(1), "us/b"));
    assert_eq!(placed_on(&fleet, &task(&third, 0)), "us/b");
    fleet.step(Input::Detach { session: SessionId(1) });
    let waits = fleet.machine.wait_reason(&task(&second, 0));
    assert!(matches!(waits, Some(WaitReason::Busy { .. })), "{waits:?}");
    let (id, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, hits(0)));
    assert_eq!(placed_on(&fleet, &task(&second, 0)), "us/b");
}

/// Another lineage than that of `tree(1)`.
fn other() -> BuildSpec {
    BuildSpec { packages: vec!["./other".to_owned()], ..tree(1) }
}

/// Two regions, each warm for one lineage and asked to build it.
fn two_lineages() -> Fleet {
    let mut fleet = two_regions();
    build_spec_once(&mut fleet, 1, on(tree(1), "eu/a"), "m", Millis::seconds(40));
    build_spec_once(&mut fleet, 2, on(other(), "us/b"), "n", Millis::seconds(40));
    fleet.submit(on(tree(1), "eu/a"));
    fleet.submit(on(other(), "us/b"));
    fleet
}

#[test]
fn a_task_lets_one_behind_it_have_what_suits_it_less_and_takes_what_nobody_else_wants() {
    let mut fleet = two_lineages();
    fleet.lease_next(1);
    let (busy, busy_fence) = fleet.lease_next(2);
    let first = fleet.submit(tree(1));
    let second = fleet.submit(other());
    assert!(fleet.report(2, &busy, busy_fence, hits(1_000)));
    assert_eq!(placed_on(&fleet, &task(&second, 0)), "us/b", "which holds what it needs");
    let waits = fleet.machine.wait_reason(&task(&first, 0));
    assert!(matches!(waits, Some(WaitReason::Busy { .. })), "{waits:?}");
    let (id, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, hits(1_000)));
    assert_eq!(placed_on(&fleet, &task(&first, 0)), "us/b", "nobody else wants it");
    fleet.check_replay();
}

#[test]
fn nobody_yields_for_longer_than_ten_minutes() {
    let mut fleet = two_lineages();
    let (long, long_fence) = fleet.lease_next(1);
    let (mut busy, mut busy_fence) = fleet.lease_next(2);
    let first = fleet.submit(tree(1));
    let mut yielded = 0;
    // There is always something behind it that suits the free agent better.
    for _ in 0..60 {
        fleet.submit(other());
        fleet.pass(Millis::seconds(20));
        fleet.step(Input::Renew { session: SessionId(1), held: vec![(long.clone(), long_fence)] });
        fleet.step(Input::Renew { session: SessionId(2), held: vec![(busy.clone(), busy_fence)] });
        assert!(fleet.report(2, &busy, busy_fence, hits(1_000)));
        if placed_on(&fleet, &task(&first, 0)) == "us/b" {
            break;
        }
        yielded += 1;
        (busy, busy_fence) = fleet.lease_next(2);
    }
    assert_eq!(yielded, 30, "ten minutes after it first could have had the agent");
}

#[test]
fn what_results_teach_is_the_same_after_a_restart() {
    let mut fleet = two_regions();
    for _ in 0..6 {
        build_once(&mut fleet, 1, "eu/a", "m", Millis::seconds(7));
    }
    let records = |fleet: &Fleet| fleet.machine.durable().run_times().records().collect::<Vec<_>>();
    let before = records(&fleet);
    assert!(before.len() >= 4, "{before:?}");
    for from_snapshot in [true, false] {
        fleet.restart(from_snapshot);
        assert_eq!(records(&fleet), before);
    }
}

#[test]
fn a_slow_agent_is_found_out_by_its_results() {
    let mut fleet = Fleet::new();
    attach(&mut fleet, 1, "eu/quick", 1);
    attach(&mut fleet, 2, "eu/slow", 1);
    observe(&mut fleet, 1, near());
    observe(&mut fleet, 2, near());
    for _ in 0..40 {
        build_once(&mut fleet, 1, "eu/quick", "m", Millis::seconds(10));
        build_once(&mut fleet, 2, "eu/slow", "m", Millis::seconds(40));
    }
    let build = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&build, 0)), "eu/quick");
    let last = fleet.machine.task(&task(&build, 0)).unwrap();
    let Some(TaskStep::Placed { placement, .. }) = last.history.last() else { panic!("{last:?}") };
    assert_eq!(placement.candidates[1].agent, agent("eu/slow"));
}

#[test]
fn teams_have_the_fleet_by_their_weights_however_much_one_of_them_submits() {
    let team = |weight| TeamPolicy { weight, ..TeamPolicy::default() };
    let teams = [("acme", team(100)), ("beta", team(300))];
    let teams = teams.map(|(name, team)| (name.parse().unwrap(), team)).into();
    let schedule = SchedulePolicy { teams, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    for number in 0..200 {
        let text = format!("a{number}");
        submit(&mut fleet, "acme/web", &text, tree(1));
    }
    for number in 0..60 {
        let text = format!("b{number}");
        submit(&mut fleet, "beta/web", &text, tree(1));
    }
    fleet.attach(1, "eu/a", 1);
    let mut of_beta = 0;
    for _ in 0..40 {
        let (id, fence) = fleet.lease_next(1);
        of_beta += usize::from(id.build.project.team.as_str() == "beta");
        fleet.pass(Millis::seconds(1));
        assert!(fleet.report(1, &id, fence, built()));
    }
    assert!((28..=32).contains(&of_beta), "{of_beta}");
}

#[test]
fn a_high_priority_goes_before_what_was_submitted_earlier_and_a_low_one_after() {
    let mut fleet = Fleet::new();
    let with = |priority| {
        let mut spec = tree(1);
        spec.wishes.priority = priority;
        spec
    };
    let low = fleet.submit(with(Priority::Low));
    let normal = fleet.submit(with(Priority::Normal));
    let high = fleet.submit(with(Priority::High));
    fleet.attach(1, "eu/a", 3);
    let order: Vec<_> = fleet.offers(1).into_iter().map(|(task, _)| task.build).collect();
    assert_eq!(order, [high, normal, low]);
}

#[test]
fn a_label_that_nobody_has_is_named_and_who_has_it_gets_the_task() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let mut spec = tree(1);
    spec.wishes.labels = ["hsm", "macos"].map(|label| label.parse().unwrap()).into();
    let build = fleet.submit(spec);
    let waits = fleet.machine.waits_for(&task(&build, 0));
    assert_eq!(waits, "no attached agent can ever match: no attached agent has hsm or macos");
    let labels = ["hsm", "macos", "x"].map(|label| label.parse().unwrap()).into();
    let offer = AgentOffer { labels, ..offer(1) };
    fleet.step(Input::Attach { session: SessionId(2), agent: agent("us/b"), offer, held: Vec::new() });
    assert_eq!(placed_on(&fleet, &task(&build, 0)), "us/b");
}

#[test]
fn what_may_not_leave_its_regions_waits_for_an_agent_there() {
    let regions = ["eu", "sa"].map(|region| region.parse().unwrap()).into();
    let teams = [("acme".parse().unwrap(), TeamPolicy { regions, ..TeamPolicy::default() })].into();
    let schedule = SchedulePolicy { teams, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    fleet.attach(1, "us/b", 1);
    let of_team = fleet.submit(tree(1));
    let mut spec = tree(1);
    spec.wishes.regions = ["sa", "us"].map(|region| region.parse().unwrap()).into();
    let of_both = fleet.submit(spec);
    let waits = |fleet: &Fleet, build| fleet.machine.waits_for(&task(build, 0));
    let nobody = "no attached agent can ever match: it may not leave";
    let policy = "by this fleet's policy for the team (`[schedule] regions`)";
    assert_eq!(
        waits(&fleet, &of_team),
        format!("{nobody} eu or sa, {policy}, and no agent is attached there")
    );
    let both = format!("{nobody} sa, as was asked and {policy}, and no agent is attached there");
    assert_eq!(waits(&fleet, &of_both), both);
    fleet.attach(2, "eu/a", 2);
    assert_eq!(placed_on(&fleet, &task(&of_team, 0)), "eu/a");
    assert_eq!(*fleet.state(&task(&of_both, 0)), TaskState::Queued);
}

#[test]
fn a_build_that_no_region_is_left_for_is_refused_and_one_that_was_taken_in_before_says_by_what() {
    let regions = |names: &[&str]| names.iter().map(|region| region.parse().unwrap()).collect();
    let policy = |names: &[&str]| {
        let team = TeamPolicy { regions: regions(names), ..TeamPolicy::default() };
        let schedule =
            SchedulePolicy { teams: [("acme".parse().unwrap(), team)].into(), ..SchedulePolicy::default() };
        Limits { schedule, ..Limits::default() }
    };
    let mut spec = tree(1);
    spec.wishes.regions = regions(&["us"]);
    let mut fleet = Fleet::with(policy(&["eu", "sa"]));
    let refused = fleet.submit_as("nowhere", spec.clone());
    let Reply::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(
        refusal.to_string(),
        "no region is left: the build may be in us only, as was asked, and builds of team acme in eu or sa only, by this \
         fleet's policy (`[schedule] regions`)"
    );
    let mut by_region = tree(1);
    by_region.wishes.region = Some("us".parse().unwrap());
    let mut by_agent = tree(1);
    by_agent.wishes.agent = Some("us/b".parse().unwrap());
    for (key, spec) in [("by-region", by_region), ("by-agent", by_agent)] {
        assert_eq!(fleet.submit_as(key, spec), Reply::Refused(refusal.clone()), "{key}");
    }
    // The policy is another one when the coordinator is started anew.
    let mut fleet = Fleet::with(policy(&["eu", "us"]));
    let build = fleet.submit(spec);
    let durable = fleet.machine.durable().clone();
    fleet.machine = Machine::new(durable, policy(&["eu"]));
    fleet.restart(true);
    fleet.attach(1, "us/b", 1);
    let waits = fleet.machine.waits_for(&task(&build, 0));
    let by = "as was asked and by this fleet's policy for the team (`[schedule] regions`)";
    let words = format!("no attached agent can ever match: no region is left where it may be, {by}");
    assert_eq!(waits, words);
}

#[test]
fn the_mission_s_rule_takes_near_and_warm_agents_by_turns_and_then_those_of_the_fallback_region() {
    let rule = PlacementRule::NearAndWarm { fallback: Some("sa".parse().unwrap()) };
    let schedule = SchedulePolicy { rule, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    for (session, name, rtt_us, hits) in
        [(1, "eu/a", 5_000, 90), (2, "eu/b", 6_000, 90), (3, "us/c", 90_000, 99), (4, "sa/d", 200_000, 0)]
    {
        fleet.attach(session, name, 2);
        let observation =
            Observation { rtt_us: Some(rtt_us), cache_hits: hits, cache_lookups: 100, ..near() };
        observe(&mut fleet, session, observation);
    }
    let builds: Vec<_> = (0..7).map(|_| fleet.submit(tree(1))).collect();
    let placed: Vec<_> = builds.iter().map(|build| placed_on(&fleet, &task(build, 0))).collect();
    assert_eq!(placed, ["eu/a", "eu/b", "eu/a", "eu/b", "sa/d", "sa/d", "us/c"]);
    let because = |place: usize| because(&fleet, &task(&builds[place], 0));
    assert_eq!(
        because(0),
        "eu/a is near (5.0 ms) and warm (90 %), by turns; round trip 5.0 ms, 0 of 2 slots busy, 90 % of its inputs there"
    );
    assert!(
        because(4)
            .starts_with("sa/d is in the fallback region sa, since nobody who is free is near and warm; ")
    );
    // It is the only one that is free, but not the only one that can take it.
    let last = "us/c is anybody: nobody who is free is near and warm, or in the fallback region sa; ";
    assert!(because(6).starts_with(last), "{}", because(6));
}

#[test]
fn round_robin_goes_round() {
    let schedule = SchedulePolicy { rule: PlacementRule::RoundRobin, ..SchedulePolicy::default() };
    let mut fleet = Fleet::with(Limits { schedule, ..Limits::default() });
    for (session, name) in [(1, "eu/a"), (2, "eu/b"), (3, "us/c")] {
        fleet.attach(session, name, 2);
    }
    let build = fleet.submit(tree(6));
    let placed: std::collections::BTreeSet<_> =
        (0..3).map(|ordinal| placed_on(&fleet, &task(&build, ordinal))).collect();
    assert_eq!(placed.len(), 3);
    let because = because(&fleet, &task(&build, 1));
    assert!(
        because.contains(" is the next of those that are free, by turns; round trip not measured, "),
        "{because}"
    );
    assert!(!because.contains("expected"), "{because}");
}

pub(crate) fn submit(fleet: &mut Fleet, project: &str, text: &str, mut spec: BuildSpec) {
    let project: ProjectId = project.parse().unwrap();
    spec.version = text.to_owned();
    let reply = fleet.ask(|request: RequestId| Input::Submit {
        request,
        project,
        requester: requester(),
        key: key(text),
        spec: Box::new(spec),
        traceparent: None,
        ways: None,
    });
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
}

#[test]
fn a_task_that_waits_before_another_attempt_goes_to_an_agent_that_comes_meanwhile() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    fleet.report(1, &id, fence, crate::fixture::failed(meridian_core::machine::input::FailureKind::DiskFull));
    assert_eq!(fleet.machine.wait_reason(&id), Some(WaitReason::BackOff));
    fleet.attach(2, "eu/b", 1);
    assert_eq!(placed_on(&fleet, &id), "eu/b");
}
