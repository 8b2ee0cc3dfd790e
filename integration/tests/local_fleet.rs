//! The local fleet: started by the first build, shared by all terminals, gone when idle.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, time::Duration};

use meridian_integration::{
    client::Client,
    fixture::{
        module_proxy::{Misbehaviour, ModuleProxy},
        program::Program,
    },
    home::Home,
    process::{Daemon, Running},
};

fn client() -> (Client, String) {
    let client = Client::local(Home::with_proxy("off"));
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&directory).expect("a directory can be written");
    let source = directory.display().to_string();
    (client, source)
}

/// The process of the local fleet that answers.
#[track_caller]
fn running_fleet(client: &Client) -> u64 {
    let status = client.run(&["local", "status", "--json"]).expect_code(0);
    status.json_values()[0]["pid"].as_u64().unwrap_or_else(|| panic!("no fleet answers: {status}"))
}

#[test]
fn two_terminals_share_one_fleet_and_the_second_build_is_warm() {
    let (client, source) = client();
    let first = client.start_build("a", &[&source, "--version", "1"]);
    let second = client.start_build("b", &[&source, "--version", "1"]);
    let (first, second) = (first.finish().expect_success(), second.finish().expect_success());
    assert_eq!(first.checksums(), second.checksums());

    let status = client.run(&["local", "status", "--json"]).expect_code(0);
    assert!(!status.json_values().is_empty());
    let warm = client.build_into("c", &[&source, "--version", "1"]);
    let took = warm.run.took;
    assert_eq!(warm.expect_success().checksums(), first.checksums());
    assert!(took < Duration::from_secs(10), "warm, and yet {took:?}");

    client.run(&["local", "stop"]).expect_code(0);
    let status = client.run(&["local", "status"]);
    assert!(status.says("not running"), "{status}");
    // Starts again on the same state.
    assert_eq!(
        client.build_into("d", &[&source, "--version", "1"]).expect_success().checksums(),
        first.checksums()
    );
}

#[test]
fn an_idle_fleet_is_gone() {
    let home = Home::with_proxy("off");
    let run = Running::start(home.meridian(["local", "run", "--idle", "1s"])).finish(Duration::from_secs(30));
    run.expect_code(0);
}

#[test]
fn a_variable_that_is_no_text_keeps_no_fleet_from_starting() {
    let mut home = Home::with_proxy("off");
    home.set("ODD", OsStr::from_bytes(b"\xff"));
    let client = Client::local(home);
    client.run(&["local", "start"]).expect_code(0);
    let fleet = running_fleet(&client);
    client.run(&["local", "start"]).expect_code(0);
    assert_eq!(running_fleet(&client), fleet);
}

#[test]
fn a_fleet_whose_state_was_moved_away_ends_without_hiding_the_one_that_took_its_place() {
    let client = Client::local(Home::with_proxy("off"));
    let log = client.home.path().join("first.log");
    let mut first =
        Daemon::start("the first fleet", client.home.meridian(["local", "run"]), &log).expect("a fleet");
    first.wait_for_log("the local fleet serves", Duration::from_secs(60));
    let local = client.home.state().join("local");
    fs::rename(&local, client.home.path().join("away")).expect("the state can be moved");
    client.run(&["local", "start"]).expect_code(0);
    let second = running_fleet(&client);
    assert_ne!(second, u64::from(first.id()));
    assert!(first.terminate(Duration::from_secs(30)).success());
    assert_eq!(running_fleet(&client), second);
}

#[test]
fn an_idle_fleet_takes_the_go_settings_of_the_next_build() {
    let proxy =
        ModuleProxy::start().with("example.test/p", "v1.0.0", &Program::saying("example.test/p", "hi"));
    let mut client = Client::local(Home::with_proxy("off"));
    client.build(&["example.test/p@v1.0.0"]).expect_failure(1, &["set GOPROXY"]);
    let first = running_fleet(&client);
    client.home.set("GOPROXY", proxy.url());
    client.build(&["example.test/p@v1.0.0"]).expect_success();
    let second = running_fleet(&client);
    assert_ne!(first, second);
    client.run(&["local", "start"]).expect_code(0);
    assert_eq!(running_fleet(&client), second, "the same settings share one fleet");
}

#[test]
fn a_busy_fleet_keeps_its_go_settings_and_says_so() {
    let proxy = ModuleProxy::start();
    proxy.misbehave("example.test", Misbehaviour::Hold);
    let mut client = Client::local(Home::with_proxy(&proxy.url()));
    let build = ["build", "example.test/p@v1.0.0", "--detach", "--toolchain", "local"];
    client.run(&build).expect_code(0);
    let busy = running_fleet(&client);
    client.home.set("GOPROXY", "off");
    let other = client.run(&["local", "start"]).expect_code(0);
    assert!(other.stderr.contains("Go settings") && other.stderr.contains("meridian local stop"), "{other}");
    assert_eq!(running_fleet(&client), busy);
}

#[test]
fn a_fleet_that_was_stopped_stays_so_until_a_new_command_starts_it() {
    let proxy =
        ModuleProxy::start().with("example.test/p", "v1.0.0", &Program::saying("example.test/p", "hi"));
    proxy.misbehave("example.test", Misbehaviour::Hold);
    let client = Client::local(Home::with_proxy(&proxy.url()));
    let following = client.start_build("dist", &["example.test/p@v1.0.0", "--toolchain", "local"]);
    proxy.wait_for_request("example.test", 1);
    client.run(&["local", "stop"]).expect_code(0);
    following.finish().expect_failure(4, &["the local fleet was stopped", "meridian local start"]);
    let status = client.run(&["local", "status"]);
    assert!(status.says("not running"), "{status}");

    proxy.release();
    client.run(&["local", "start"]).expect_code(0);
    let again = client.build(&["example.test/p@v1.0.0", "--toolchain", "local"]);
    again.expect_success();
}

#[test]
fn continuous_integration_must_ask_for_a_local_fleet() {
    let (mut client, source) = client();
    client.home.set("CI", "true");
    let command = client.home.meridian(["build", &source, "--version", "1"]);
    let run = Running::start(command).finish(Duration::from_secs(30));
    run.expect_code(3).expect_words(&["CI", "--local"]);
    assert!(!client.home.state().join("local").exists(), "nothing was started");
    client.build(&[&source, "--version", "1"]).expect_success();
}

#[test]
fn asking_for_the_figures_of_a_cache_starts_no_fleet() {
    let (client, source) = client();
    for asked in [
        &["stats"][..],
        &["verify"],
        &["evict", "--all", "--yes"],
        &["warm", &source, "--project", "local/p"],
    ] {
        let run = client.run(&[&["cache"], asked].concat());
        run.expect_code(3).expect_words(&[
            "the local one does not run",
            "meridian local start",
            "--coordinator",
        ]);
    }
    assert!(!client.home.state().join("local").exists(), "nothing was started");
    client.run(&["local", "start"]).expect_code(0);
    client.run(&["cache", "stats"]).expect_code(0);
}

#[test]
fn a_build_that_is_repeated_under_its_key_is_the_same_build() {
    let (client, source) = client();
    let arguments =
        ["build", &source, "--version", "1", "--idempotency-key", "once", "--detach", "--toolchain", "local"];
    let first = client.run(&arguments).expect_code(0);
    let second = client.run(&arguments).expect_code(0);
    assert_eq!(first.stdout.trim(), second.stdout.trim());
    let other = [&arguments[..], &["--tags", "different"]].concat();
    client.run(&other).expect_code(3).expect_words(&["key"]);
}
