//! Agents that differ in what they take for granted: the time, and where things are.

use std::{fs, path::Path, time::Duration};

use meridian_integration::{
    binary,
    fixture::{module_proxy::ModuleProxy, program::Program},
    home::Home,
    process::Running,
    wait::wait_for,
};

use crate::world::{FAR, HOME, World, figure};

/// The library that stands between a program and the clock. As Debian installs it.
const FAKERS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// How long a go command may take, or an agent to tell of it.
const WITHIN: Duration = Duration::from_secs(180);

/// A home of an agent that serves go commands beside it, in their team's trusted scope.
fn beside() -> Home {
    let home = Home::with_proxy("off");
    let text = "[sidecar]\nprojects = [\"acme/p\"]\ntrusted = true\n";
    fs::write(home.path().join("agent.toml"), text).expect("a configuration can be written");
    home
}

/// The same whose processes see the time shifted by so many seconds.
fn shifted(faker: &str, seconds: i32) -> Home {
    let mut home = beside();
    home.set("LD_PRELOAD", faker);
    home.set("FAKETIME", format!("{seconds:+}s"));
    // What waits is not shifted, nor what files say of themselves.
    home.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    home.set("NO_FAKE_STAT", "1");
    home
}

/// What a go command beside an agent got, as a job on its machine runs it. Each agent has one.
#[derive(Debug)]
struct GoBuild {
    gets: u64,
    hits: u64,
    puts: u64,
}

fn go_build_beside(world: &World, agent: usize) -> GoBuild {
    let runner = Home::with_proxy("off");
    let mut command = runner.program("sh");
    let script = "set -e; eval \"$(\"$MERIDIAN\" ci-env --socket \"$SOCKET\")\"; test -n \"$GOCACHEPROG\"; \
                  go build -trimpath -buildvcs=false -o \"$HOME/out\" .";
    command.args(["-c", script]).current_dir(world.client.home.path().join("source"));
    command.env("MERIDIAN", binary::meridian());
    command.env("SOCKET", world.fleet.agent_home(agent).path().join("agent/sidecar.sock"));
    Running::start(command).finish(WITHIN).expect_code(0);
    let log = wait_for("the go command's end is logged", WITHIN, || {
        Some(world.log(agent)).filter(|log| log.contains(ENDED))
    });
    let line = log.lines().rfind(|line| line.contains(ENDED)).expect("the line that was waited for");
    let [gets, hits, puts] = ["gets", "hits", "puts"].map(|name| figure(line, name));
    GoBuild { gets, hits, puts }
}

/// What an agent logs of it.
const ENDED: &str = "a go command beside the agent has ended";

/// Work is placed only where the clock is right to some seconds; what agents say to each other bears ten minutes, which
/// `trust/src/cache_grant.rs` tests to the millisecond.
#[test]
fn an_agent_whose_clock_is_ten_minutes_off_joins_is_told_and_disturbs_no_others_cache() {
    let Some(faker) = FAKERS.into_iter().find(|faker| Path::new(faker).exists()) else {
        assert!(std::env::var_os("MERIDIAN_REQUIRE_FAKETIME").is_none(), "there is no libfaketime");
        eprintln!("skipped: clocks cannot be shifted here: libfaketime is not installed");
        return;
    };
    let mut home = Home::with_proxy("off");
    home.set("MERIDIAN_CACHE_TRUSTED_SIDECARS", "acme/*/*");
    let mut world = World::start_in(home);
    world.join_in(HOME, beside(), &[]);
    world.join_in(FAR, beside(), &[]);
    // Neighbours of both, that are homes of what those make. What an agent says of its clock is on its way for a moment,
    // which makes an agent that is ahead seem less so; ten minutes to the second would be none that is borne.
    world.join_in("ap-southeast/behind", shifted(faker, -590), &[]);
    world.join_in("eu-central/ahead", shifted(faker, 595), &[]);
    let first = world.build(0);
    world.wait_for_manifest(0);
    // What it made is brought to the one whose clock is behind, and counts there.
    world.wait_for_manifest(2);
    let there = world.build(1);
    assert_eq!(there.artifact, first.artifact);
    assert!(there.brought > 10 && there.hits > 10, "{there:?}");
    world.wait_for_manifest(3);
    let mut refused = world.start_build(3);
    refused.wait_for_words("the clock of eu-central/ahead is off by 59");

    // Go commands are placed by nobody. What one leaves with the agent that is ahead counts where the time is right.
    let known = world.manifests(3);
    let made = go_build_beside(&world, 3);
    assert!(made.hits == 0 && made.puts > 10, "{made:?}");
    wait_for("the agent tells what was left", WITHIN, || (world.manifests(3) > known).then_some(()));
    let taken = go_build_beside(&world, 1);
    assert!(taken.gets - taken.hits <= 3, "{taken:?} of {made:?}");
    // For the one that is behind it is from a time that is twenty minutes off: it builds itself.
    let alone = go_build_beside(&world, 2);
    assert!(alone.hits == 0 && alone.puts > 10, "{alone:?} of {made:?}");
    assert!(world.log(2).contains("one of the two clocks is off"), "it says why");
}

#[test]
fn agents_that_keep_things_in_different_places_make_the_same_and_find_each_others_work() {
    let library = Program::module("example.test/lib")
        .file("lib.go", "package lib\n\nfunc Text() string { return \"text\" }\n");
    let program = Program::module("example.test/p")
        .file("go.mod", "module example.test/p\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file(
            "main.go",
            "package main\n\nimport \"example.test/lib\"\n\nfunc main() { println(lib.Text()) }\n",
        );
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library).with(
        "example.test/p",
        "v1.0.0",
        &program,
    );
    let mut world = World::start();
    world.join_in(HOME, Home::with_proxy(&proxy.url()), &[]);
    world.join_in(FAR, Home::with_proxy(&proxy.url()), &[]);
    world.build_instead("example.test/p@v1.0.0");
    let first = world.build(0);
    world.wait_for_manifest(0);
    let there = world.build(1);
    assert_eq!(there.artifact, first.artifact);
    // What has a path in its key is the index of a module, and is made anew.
    assert!(there.brought > 10 && there.hits * 2 > there.gets, "{there:?}");
}
