//! A clock that is set while everything runs.

use std::{fs, path::Path};

use meridian_integration::{
    regions::{Plan, REGIONS, WITHIN, World},
    wait::wait_for,
};
use serde_json::Value;

/// The library that stands between a program and the clock. As Debian installs it.
const FAKERS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

#[test]
fn an_agent_whose_clock_is_set_forward_an_hour_gets_no_work_until_it_is_set_back_and_no_build_fails() {
    let Some(faker) = FAKERS.into_iter().find(|faker| Path::new(faker).exists()) else {
        assert!(std::env::var_os("MERIDIAN_REQUIRE_FAKETIME").is_none(), "there is no libfaketime");
        eprintln!("skipped: clocks cannot be shifted here: libfaketime is not installed");
        return;
    };
    let Some(mut world) = World::without_agents(Plan::default()) else { return };
    let mut home = world.home_in("eu");
    let clock = home.path().join("clock");
    fs::write(&clock, "+0s").expect("a file can be written");
    home.set("LD_PRELOAD", faker);
    home.set("FAKETIME_TIMESTAMP_FILE", &clock);
    home.set("FAKETIME_NO_CACHE", "1");
    // What waits is not shifted, nor what files say of themselves.
    home.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    home.set("NO_FAKE_STAT", "1");
    world.join_in("eu", home, &[]);
    world.join("us");
    world.join("ap");
    let storm = world.storm(&REGIONS, 3, &[]);
    storm.wait_until_acknowledged(&world);
    fs::write(&clock, "+3600s").expect("a file can be written");
    wait_for("the coordinator sees it", WITHIN, || {
        let is_off = |agent: &Value| agent["clock_offset_us"].as_i64().is_some_and(|us| us > 3_000_000_000);
        world.agents().iter().any(is_off).then_some(())
    });
    let there_only = world.storm(&["us"], 1, &["--region", "eu"]);
    world.wait_until_explained(&there_only.ids()[0], &["clock off by 3"]);
    let during = world.storm(&REGIONS, 1, &[]);
    storm.expect_success(&world);
    during.expect_success(&world);
    fs::write(&clock, "+0s").expect("a file can be written");
    there_only.expect_success(&world);
    world.expect_whole();
}
