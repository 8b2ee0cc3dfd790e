//! Disasters by the hundred, in a time of their own: see `meridian_integration::sim`.

use meridian_integration::sim::{
    command::{self, catch, tally},
    event_file::Told,
    faults::{self, Fault, FaultKind, Whom},
    mutation::Mutation,
    seed::{self, Plan, Verdict},
};

/// Seeds of a run of all tests. `MERIDIAN_SEEDS` says another number, which is thousands where every change is tested
/// (`.ci/run`); `sim --seeds 10000` runs more, and in a release build.
const SEEDS: u64 = 12;

fn seeds() -> u64 {
    let Ok(said) = std::env::var("MERIDIAN_SEEDS") else { return SEEDS };
    said.parse().unwrap_or_else(|_| panic!("MERIDIAN_SEEDS={said:?} is no number of seeds"))
}

fn none_broke(broken: &[Verdict]) {
    let said: Vec<_> = broken
        .iter()
        .map(|verdict| format!("seed {}: {:?} after {:?}", verdict.seed, verdict.finding, verdict.faults))
        .collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// Tells some seeds with these faults in place of their own.
#[track_caller]
fn survives(seeds: std::ops::Range<u64>, faults: &[(u64, FaultKind)]) {
    survives_all(
        seeds,
        faults.iter().map(|(second, kind)| Fault { at: second * 1_000, kind: *kind }).collect(),
    );
}

#[track_caller]
fn survives_all(seeds: std::ops::Range<u64>, faults: Vec<Fault>) {
    let plan = Plan { mutation: None, faults: Some(faults) };
    let broken: Vec<_> = seeds.filter_map(|seed| seed::run(seed, &plan).finding).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn hundreds_of_builds_in_each_of_many_disasters_end_exactly_once() {
    let seeds = seeds();
    let tally = tally(0, seeds, 2, |_| {});
    none_broke(&tally.broken);
    assert!(tally.builds >= 200 * seeds, "{}", tally.builds);
    assert!(tally.faults.values().sum::<u64>() >= 5 * seeds, "{:?}", tally.faults);
    assert!(tally.virtual_ms >= seeds * 3_600_000);
}

#[test]
fn a_seed_tells_the_same_story_twice_and_its_event_file_tells_it_again() {
    let (one, two) = (seed::run(7, &Plan::default()), seed::run(7, &Plan::default()));
    assert_eq!(one.told, two.told);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("story.jsonl");
    one.told.write(&file).unwrap();
    let (read, mutation) = Told::read(&file).unwrap();
    assert_eq!((&read, mutation), (&one.told, None));
    assert_eq!(seed::replay(&read.header.setup, None, &read.story), None);
}

#[cfg(debug_assertions)]
#[test]
fn every_protection_is_missed_when_it_is_gone_and_the_failure_is_told_again_from_its_file() {
    std::panic::set_hook(Box::new(|_| {}));
    let uncaught: Vec<_> = std::thread::scope(|scope| {
        let tried: Vec<_> = Mutation::all()
            .into_iter()
            .map(|mutation| (mutation, scope.spawn(move || catch(mutation, command::SEEDS_PER_MUTATION))))
            .collect();
        tried
            .into_iter()
            .filter_map(|(mutation, tried)| {
                let caught = tried.join().unwrap();
                caught.as_ref().is_none_or(|failed| !is_told_again(failed, mutation)).then(|| mutation.name())
            })
            .collect()
    });
    let _ = std::panic::take_hook();
    assert!(uncaught.is_empty(), "{uncaught:?}");
}

#[cfg(debug_assertions)]
fn is_told_again(failed: &Verdict, mutation: Mutation) -> bool {
    let again = seed::replay(&failed.told.header.setup, Some(mutation), &failed.told.story);
    again.map(|(_, finding)| finding) == failed.finding
}

// What other fleets were bitten by, as a storm of nothing else. Each invariant is checked after every step of it.

#[test]
fn capacity_does_not_leak_through_streams_and_agents_that_go_at_any_moment() {
    // NativeLink#2642, sccache#477 and #513: a worker that went away kept its slots, until the fleet was idle and full.
    let mut faults = Vec::new();
    for round in 0..12_u64 {
        faults.push((60 + round * 200, FaultKind::Flaps(Whom::All, 8)));
        faults.push((
            90 + round * 200,
            FaultKind::AgentsDie(Whom::Region(u8::try_from(round % 3).unwrap()), 20_000),
        ));
    }
    survives(0..2, &faults);
}

#[test]
fn a_task_that_runs_twice_has_one_result() {
    // NativeLink#2648: an execution that was begun again while the first went on left the state in two minds.
    let away = |round: u64| FaultKind::Partition {
        whom: Whom::Region(u8::try_from(round % 3).unwrap()),
        up: true,
        down: true,
        lasts: 70_000,
    };
    let mut faults = vec![(30, FaultKind::Slow(Whom::All, 20, 2_400_000))];
    faults.extend((0..14).map(|round| (60 + round * 180, away(round))));
    survives(2..4, &faults);
}

#[test]
fn a_task_that_is_kept_back_for_an_agent_that_goes_is_kept_back_for_nobody() {
    for ways in [(true, false), (false, true), (true, true)] {
        survives_all(0..6, faults::silences(Whom::All, ways, 35_000));
    }
}

#[test]
fn one_leader_does_not_end_what_another_has_granted() {
    // NativeLink#2680: one scheduler timed out the tasks of another.
    let mut faults = Vec::new();
    for round in 0..10_u64 {
        faults.push((60 + round * 240, FaultKind::TwoLeaders(20_000)));
        faults.push((180 + round * 240, FaultKind::LeaderSleeps(40_000)));
    }
    survives(4..6, &faults);
}

#[test]
fn tasks_of_agents_that_do_not_return_are_taken_over() {
    // NativeLink#2685: orphans that nobody looked for.
    let faults = [
        (100, FaultKind::AgentsDie(Whom::Region(0), 2_400_000)),
        (400, FaultKind::AgentsDie(Whom::Region(1), 1_200_000)),
        (500, FaultKind::LeaderDies { appends: true, performs: 0 }),
    ];
    survives(6..8, &faults);
}

#[test]
fn a_disconnect_in_mid_handoff_leaves_nothing_executing_for_ever() {
    // NativeLink#2658 and #1972: a worker that went between the offer and its answer caused a panic, or hung.
    let faults: Vec<_> =
        (0..4_u64).map(|round| (60 + round * 600, FaultKind::Flaps(Whom::All, 100))).collect();
    survives(8..10, &faults);
}

#[test]
fn a_store_that_fails_for_a_moment_fails_no_build() {
    // NativeLink#2657: a store's transient error was taken for the user's.
    let mut faults = Vec::new();
    for round in 0..12_u64 {
        faults.push((60 + round * 200, FaultKind::AppendFails));
        faults.push((
            160 + round * 200,
            FaultKind::PowerCut { changes: 1 + u32::try_from(round % 3).unwrap(), seed: round },
        ));
    }
    survives(10..12, &faults);
}

#[test]
fn a_coordinator_that_flaps_fails_no_build() {
    // nix-grpc-store#76: a scheduler that came and went failed 18 of 30 builds.
    let dies = |round: u64| FaultKind::LeaderDies {
        appends: round.is_multiple_of(2),
        performs: u32::try_from(round % 5).unwrap(),
    };
    let faults: Vec<_> = (0..60).map(|round| (60 + round * 40, dies(round))).collect();
    survives(12..14, &faults);
}

#[test]
fn agents_may_be_taken_out_of_service_at_any_moment_of_a_leader_s_and_of_its_clock_s() {
    let region = |round: u64| Whom::Region(u8::try_from(round % 3).unwrap());
    let mut faults = Vec::new();
    for round in 0..12_u64 {
        let at = 60 + round * 200;
        let (appends, performs) = (round.is_multiple_of(2), u32::try_from(round % 5).unwrap());
        let step = if appends { 3_600_000 } else { -3_600_000 };
        faults.push((at, FaultKind::Drains { whom: region(round), grace: Some(5_000), lasts: 60_000 }));
        faults.push((at + 2, FaultKind::LeaderDies { appends, performs }));
        faults.push((
            at + 40,
            FaultKind::Maintains { whom: region(round + 1), starts_in: 130_000, lasts: 30_000 },
        ));
        faults.extend([0, 1].map(|host| (at + 50, FaultKind::ClockSet(host, step))));
        faults.push((at + 90, FaultKind::Cordons(Whom::All, 20_000)));
        faults.push((at + 92, FaultKind::LeaderDies { appends: !appends, performs }));
    }
    survives(14..16, &faults);
}

#[test]
fn an_agent_that_comes_back_without_a_label_or_is_cordoned_keeps_no_offer_that_it_may_not_take() {
    survives_all(16..18, faults::upheavals());
}
