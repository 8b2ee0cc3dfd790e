//! Separate processes: a coordinator, agents of different regions that joined with one-time tokens, members.

use std::time::Duration;

use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::Fleet,
    home::{Home, host_platform},
    process::{Daemon, Running},
    wait::wait_for,
};
use rustix::process::Signal;

const REFUSED: i32 = 3;

fn source(client: &Client, text: &str) -> String {
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", text).write(&directory).expect("a directory can be written");
    directory.display().to_string()
}

#[test]
fn two_regions_build_and_every_command_answers() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu-central/a1", 1, Home::with_proxy("off"));
    fleet.join_agent("ap-south/a1", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let source = source(&client, "hello");

    for (out, region) in [("a", "eu-central"), ("b", "ap-south")] {
        let arguments = [&source, "--version", "1", "--project", "acme/p", "--region", region];
        client.build_into(out, &arguments).expect_success();
    }
    let explained = client.run(&["explain", "acme/p/2"]).expect_code(0);
    assert!(explained.says("ap-south/a1") && explained.says("because"), "{explained}");

    client.run(&["agents"]).expect_code(0).expect_words(&["eu-central/a1", "ap-south/a1", host_platform()]);
    client.run(&["builds", "--project", "acme/p"]).expect_code(0).expect_words(&["acme/p/1", "acme/p/2"]);
    client.run(&["status"]).expect_code(0).expect_words(&["proving"]);
    client.run(&["logs", "acme/p/1"]).expect_code(0);
    for command in
        [&["agents", "--json"][..], &["status", "--json"], &["builds", "--project", "acme/p", "--json"]]
    {
        assert!(!client.run(command).expect_code(0).json_values().is_empty(), "{command:?}");
    }

    assert!(fleet.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(fleet.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(fleet.get("/metrics").contains("meridian_"), "{}", fleet.get("/metrics"));
}

#[test]
fn a_wish_that_no_agent_can_fill_waits_and_says_why() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    let arguments =
        ["build", &source, "--version", "1", "--project", "acme/p", "--region", "mars", "--detach"];
    client.run(&arguments).expect_code(0).expect_words(&["acme/p/1"]);
    client.run(&["explain", "acme/p/1"]).expect_code(0).expect_words(&["mars", "eu/a"]);
    client.run(&["cancel", "acme/p/1"]).expect_code(0);
    // Once more changes nothing, and is no error.
    client.run(&["cancel", "acme/p/1"]).expect_code(0);
}

#[test]
fn a_command_that_reaches_no_coordinator_says_at_once_where_it_tries_and_why_in_vain() {
    let mut fleet = Fleet::start();
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    fleet.kill_coordinator();
    let (address, out) = (fleet.address(), client.home.path().join("again").display().to_string());
    for arguments in [
        &["build", &source, "--version", "1", "--project", "acme/p"][..],
        &["build", "example.test/p@v1.0.0", "--project", "acme/p"],
        &["rebuild", "acme/p/1", "--out", &out],
    ] {
        let running = client.start(arguments);
        wait_for("the address that is tried", Duration::from_secs(20), || {
            let told = running.output();
            (told.contains(&format!("coordinator at {address}")) && told.contains("refused")).then_some(())
        });
        running.signal(Signal::TERM);
        running.finish(Duration::from_secs(20)).expect_code(130);
    }
}

#[test]
fn another_team_learns_nothing() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let alice = fleet.member("alice");
    let source = source(&alice, "hello");
    alice.build(&[&source, "--version", "1", "--project", "acme/p"]).expect_success();

    let mallory = fleet.member_of("rivals", "mallory");
    for command in [&["logs", "acme/p/1"][..], &["explain", "acme/p/1"], &["cancel", "acme/p/1"]] {
        mallory.run(command).expect_code(REFUSED);
    }
    mallory.run(&["builds", "--project", "acme/p"]).expect_code(REFUSED);
    let stolen = mallory.run(&["build", &source, "--version", "1", "--project", "acme/p"]);
    assert_eq!(stolen.code, Some(REFUSED), "{stolen}");
    // Only administrators make tokens.
    mallory
        .run(&["token", "create", "--agent", "eu/b", "--coordinator", &fleet.address()])
        .expect_code(REFUSED);
}

#[test]
fn a_revoked_member_is_refused_and_the_name_is_not_given_out_again() {
    let fleet = Fleet::start();
    let alice = fleet.member("alice");
    let bob = fleet.member("bob");
    alice.run(&["builds", "--project", "acme/p"]).expect_code(0);
    fleet.revoke("--member", "acme/alice").expect_code(0).expect_words(&["alice", "revoked"]);
    alice
        .run(&["builds", "--project", "acme/p"])
        .expect_code(REFUSED)
        .expect_words(&["revoked", "another name"]);
    bob.run(&["builds", "--project", "acme/p"]).expect_code(0);
    bob.run(&["revoke", "--member", "acme/alice"]).expect_code(REFUSED).expect_words(&["--state"]);
    fleet.create_token("--member", "acme/alice", "1h").expect_code(REFUSED).expect_words(&["revoked"]);
    fleet.revoke("--member", "acme/alice").expect_code(0).expect_words(&["before"]);
    // A name that nobody has is told: it may be a slip.
    fleet.revoke("--agent", "eu/nobody").expect_code(0).expect_words(&["no signing key", "name"]);
    for wrong in ["acme", "acme/", "a b/c"] {
        fleet.revoke("--member", wrong).expect_code(2);
    }
}

#[test]
fn a_token_is_good_once_for_its_time_and_its_fleet() {
    let fleet = Fleet::start();
    let address = fleet.address();
    let join = |token: &str| {
        let stranger = Client { home: Home::with_proxy("off"), coordinator: Some(address.clone()) };
        stranger.run(&["join", token, "--coordinator", &address])
    };
    let token = fleet.token("--member", "acme/bob");
    join(&token).expect_code(0);
    join(&token).expect_code(REFUSED).expect_words(&["token"]);

    let brief = fleet.create_token("--member", "acme/carol", "1s").expect_code(0);
    let brief =
        brief.stdout.split_whitespace().find(|word| word.starts_with("mrd1.")).expect("a token").to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    join(&brief).expect_code(REFUSED);

    // A token of another fleet carries another authority's pin: the secret never leaves.
    let other = Fleet::start();
    let foreign = other.token("--member", "acme/dave");
    let run = join(&foreign);
    assert!(matches!(run.code, Some(3 | 4)), "{run}");
    assert!(!run.says(foreign.split('.').nth(2).expect("a secret")), "the secret is shown: {run}");
    let redeemed = Client { home: Home::with_proxy("off"), coordinator: Some(other.address()) };
    redeemed.run(&["join", &foreign, "--coordinator", &other.address()]).expect_code(0);
}

#[test]
fn a_taken_port_is_said_so() {
    let mut fleet = Fleet::start();
    let mut second = fleet.spawn_coordinator();
    let ended =
        meridian_integration::wait::try_wait_for(std::time::Duration::from_secs(20), || second.ended());
    let status = ended.expect("a second coordinator on the same state and port must end");
    assert!(!status.success());
    assert!(fleet.coordinator().ended().is_none());

    let home = Home::with_proxy("off");
    let mut command =
        home.meridian(["coordinator", "--fleet", "other", "--listen", &fleet.address(), "--state"]);
    command.arg(home.path().join("state-of-its-own"));
    let run = Running::start(command).finish(std::time::Duration::from_secs(20));
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.says(&fleet.address()), "{run}");
}

#[test]
fn a_drained_agent_ends_after_its_work() {
    let mut fleet = Fleet::start();
    let agent = fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    client.build(&[&source, "--version", "1", "--project", "acme/p"]).expect_success();
    let status = Daemon::terminate(fleet.agent(agent), std::time::Duration::from_secs(30));
    assert!(status.success(), "{status}");
    let status = fleet.coordinator().terminate(std::time::Duration::from_secs(30));
    assert!(status.success(), "{status}");
}

#[test]
fn a_second_process_of_one_name_is_told_why_it_is_not_let_in_and_takes_over_when_the_first_is_gone() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut fleet = Fleet::start();
    let first = fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let second = fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    wait_for("the second to be told why", PATIENCE, || {
        let log = fleet.agent(second).log();
        (log.contains("another process is attached as agent eu/a") && log.contains("stop one of the two"))
            .then_some(())
    });
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    client.build(&[&source, "--version", "1", "--project", "acme/p"]).expect_success();
    assert_eq!(
        fleet.agent(first).log().matches("attached to the coordinator").count(),
        1,
        "it was left alone"
    );

    fleet.kill_agent(first);
    wait_for("the second to attach", PATIENCE, || {
        fleet.agent(second).log().contains("attached to the coordinator").then_some(())
    });
}
