//! SIGSTOP: a process that is there, holds its connections, and does nothing, until it goes on as if no time had passed.

use std::thread;

use meridian_integration::regions::{HOME, Held, LEASE, REGIONS};
use rustix::process::Signal;

#[test]
fn what_a_frozen_agent_held_ends_elsewhere_and_what_it_says_when_it_thaws_counts_for_nothing() {
    let Some(mut held) = Held::begin() else { return };
    let agent = held.world.agent(HOME);
    let storm = held.world.storm(&REGIONS, 3, &[]);
    storm.wait_until_acknowledged(&held.world);
    held.world.fleet.agent(agent).signal(Signal::STOP);
    held.wait_until_taken_over();
    storm.expect_success(&held.world);
    let ids = held.ids();
    let mut world = held.expect_success();
    for id in &ids {
        world.explain(id).expect_code(0).expect_words(&["eu/a0 did not renew its lease"]);
    }
    world.fleet.agent(agent).signal(Signal::CONT);
    world.storm(&["us"], 2, &["--region", HOME]).expect_success(&world);
    let evidence = world.expect_whole();
    for id in &ids {
        let leases = evidence.leases.iter().filter(|lease| lease.task.to_string().starts_with(id.as_str()));
        let failed = leases.filter(|lease| lease.failed.is_some()).count();
        assert!(failed >= 1, "{id}: {:?}", evidence.leases);
    }
}

#[test]
fn a_coordinator_that_is_frozen_for_longer_than_leases_live_ends_every_build_once() {
    let Some(mut held) = Held::begin() else { return };
    let storm = held.world.storm(&REGIONS, 4, &[]);
    storm.wait_until_acknowledged(&held.world);
    held.world.fleet.coordinator().signal(Signal::STOP);
    // This is the fault itself: the time that leases live passes, and nobody can renew one.
    thread::sleep(LEASE + LEASE / 2);
    held.world.fleet.coordinator().signal(Signal::CONT);
    storm.expect_success(&held.world);
    held.expect_success().expect_whole();
}
