//! Coordinator and agents together, through crashes of both and streams that break: nothing acknowledged is
//! lost, nothing is accepted twice, and when the trouble ends, everything ends.

use meridian_core::{build::BuildSpec, id::SessionId, machine::record::BuildState};
use proptest::prelude::*;

use crate::{
    fixture::{in_region, module, repeated, tree},
    link::{Dice, Fleet},
};

const BUILDS: usize = 12;

fn spec(build: usize) -> BuildSpec {
    let spec = if build.is_multiple_of(3) { module(2) } else { tree(1 + build % 3) };
    match build {
        0 | 5 | 10 => in_region(spec, "eu"),
        3 | 4 => repeated(spec, "eu/b"),
        _ => spec,
    }
}

fn some_session(fleet: &Fleet, dice: &mut Dice) -> Option<SessionId> {
    let count = fleet.links.len();
    (count > 0).then(|| fleet.links.keys().nth(dice.roll(count)).copied())?
}

/// One thing goes on, or wrong.
fn stir(fleet: &mut Fleet, dice: &mut Dice) {
    let number = dice.roll(fleet.agents.len());
    match dice.roll(100) {
        0..4 => {
            // Submits are repeated until they are answered, and sometimes after that.
            let build = dice.roll(BUILDS);
            fleet.submit(build, spec(build));
        }
        4..40 => {
            if let Some(session) = some_session(fleet, dice) {
                fleet.deliver_up(session);
            }
        }
        40..65 => {
            if let Some(session) = some_session(fleet, dice) {
                let reads_late = dice.chance(50);
                fleet.deliver_down(session, reads_late);
            }
        }
        65..80 => fleet.commit(),
        80..86 => fleet.connect(number),
        86..88 => {
            let arrives = dice.roll(4);
            fleet.break_stream(number, arrives);
        }
        88..94 => {
            let (nth, trouble) = (dice.roll(2), dice.chance(5));
            fleet.finish_run(number, nth, trouble);
        }
        94 => {
            let arrives = dice.roll(4);
            fleet.kill_agent(number, arrives);
        }
        95 => fleet.kill_coordinator(),
        _ => fleet.pass(dice.roll(2_000) as u64),
    }
    if fleet.coordinator.is_none() && dice.chance(20) {
        fleet.start_coordinator();
    }
}

/// The trouble is over: every message arrives, every process lives.
fn calm_down(fleet: &mut Fleet) {
    if fleet.coordinator.is_none() {
        fleet.start_coordinator();
    }
    for build in 0..BUILDS {
        if !fleet.acknowledged.contains_key(&build) {
            fleet.submit(build, spec(build));
        }
    }
    for _ in 0..4_000 {
        for number in 0..fleet.agents.len() {
            fleet.connect(number);
        }
        fleet.commit();
        let sessions: Vec<_> = fleet.links.keys().copied().collect();
        for session in sessions {
            for _ in 0..4 {
                fleet.deliver_up(session);
                fleet.commit();
                fleet.deliver_down(session, false);
            }
        }
        for number in 0..fleet.agents.len() {
            fleet.finish_run(number, 0, false);
        }
        fleet.pass(100);
        let is_idle = fleet.coordinator.as_ref().is_some_and(|c| c.machine.is_idle());
        if is_idle && fleet.acknowledged.len() == BUILDS {
            return;
        }
    }
    let machine = &fleet.coordinator.as_ref().unwrap().machine;
    let stuck: Vec<_> = machine.builds().filter(|build| build.state == BuildState::Running).collect();
    panic!("these never end: {stuck:#?}");
}

fn simulate(seed: u64, length: usize) {
    let mut dice = Dice(seed);
    let mut fleet = Fleet::new(&[("eu/a", 1), ("eu/b", 2), ("us/c", 2)]);
    fleet.start_coordinator();
    for _ in 0..length {
        stir(&mut fleet, &mut dice);
    }
    calm_down(&mut fleet);
    fleet.commit();
    fleet.check();
    let machine = &fleet.coordinator.as_ref().unwrap().machine;
    for build in machine.builds() {
        assert_ne!(build.state, BuildState::Running, "seed {seed}: {}", build.id);
        assert_ne!(build.state, BuildState::Cancelled);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_through_crashes_of_both_sides(seed in any::<u64>(), length in 1..1_500usize) {
        simulate(seed, length);
    }
}

#[test]
fn seeds_that_once_were_trouble_stay_harmless() {
    for seed in 0..100 {
        simulate(seed, 2_500);
    }
}
