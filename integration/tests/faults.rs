//! What happens when processes die: nothing that was acknowledged is lost, and each task has one result.

use std::time::Duration;

use meridian_integration::{
    client::{Client, RunningBuild},
    fixture::{
        module_proxy::{Misbehaviour, ModuleProxy},
        program::Program,
    },
    fleet::Fleet,
    home::Home,
    process::descendants,
    relay::{Relay, Shape, Way},
    wait::wait_for,
};
use rustix::process::Signal;

/// Leases short enough that a test can wait for one to expire.
const SHORT_LEASES: &[&str] = &["limits.lease_ms=3000"];

/// The one request that the proxies here hold.
const HELD: &str = "/example.test/lib/@v/v1.0.0.zip";

/// A proxy that answers for the module itself, but holds a dependency's zip: a build stops in its modules
/// until the test releases it.
fn holding_proxy() -> ModuleProxy {
    let library =
        Program::module("example.test/lib").file("lib.go", "package lib\n\nconst Text = \"held\"\n");
    let program = Program::module("example.test/p")
        .file("go.mod", "module example.test/p\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file(
            "main.go",
            "package main\n\nimport \"example.test/lib\"\n\nfunc main() { println(lib.Text) }\n",
        );
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library).with(
        "example.test/p",
        "v1.0.0",
        &program,
    );
    proxy.misbehave(HELD, Misbehaviour::Hold);
    proxy
}

/// A build that an agent has begun, and that waits for what the proxy does not give.
struct Begun {
    proxy: ModuleProxy,
    fleet: Fleet,
    agent: usize,
    client: Client,
    build: RunningBuild,
}

impl Begun {
    /// In a fleet with these settings and one agent of this name.
    #[track_caller]
    fn on(proxy: ModuleProxy, agent: &str, settings: &[&str]) -> Self {
        let mut fleet = Fleet::start_with(settings);
        let agent = fleet.join_agent(agent, 1, Home::with_proxy(&proxy.url()));
        let client = fleet.member("alice");
        let build = client.start_build("dist", &["example.test/p@v1.0.0", "--project", "acme/p"]);
        proxy.wait_for_request(HELD, 1);
        Self { proxy, fleet, agent, client, build }
    }
}

/// Waits for the build's end: it succeeded, once, and nothing was asked for twice.
#[track_caller]
fn expect_one_result(client: &Client, build: RunningBuild) {
    let dist = build.finish().expect_success();
    assert_eq!(dist.execute(&dist.only().file_name().expect("a file").to_string_lossy(), &[]).trim(), "held");
    let listed = client.run(&["builds", "--project", "acme/p", "--json"]).expect_code(0);
    assert_eq!(listed.stdout.matches("acme/p/").count().min(2), 1, "one build was asked for: {listed}");
}

#[test]
fn an_agent_killed_in_mid_build_is_replaced_by_another_attempt() {
    let Begun { proxy, mut fleet, agent, client, build } =
        Begun::on(holding_proxy(), "eu/first", SHORT_LEASES);
    fleet.kill_agent(agent);
    fleet.join_agent("us/second", 1, Home::with_proxy(&proxy.url()));
    proxy.wait_for_request(HELD, 2);
    proxy.release();
    expect_one_result(&client, build);
    let builds = client.run(&["explain", "acme/p/1"]).expect_code(0);
    assert!(builds.says("eu/first") && builds.says("us/second"), "both attempts are told: {builds}");
}

#[test]
fn an_agent_that_comes_back_takes_its_work_up_again() {
    let Begun { proxy, mut fleet, agent, client, build } =
        Begun::on(holding_proxy(), "eu/only", SHORT_LEASES);
    fleet.kill_agent(agent);
    proxy.release();
    fleet.restart_agent(agent);
    expect_one_result(&client, build);
}

#[test]
fn a_coordinator_killed_in_mid_build_finds_the_build_going_on() {
    let Begun { proxy, mut fleet, agent, client, build } = Begun::on(holding_proxy(), "eu/only", &[]);
    fleet.kill_coordinator();
    // The agent builds on while nobody leads.
    proxy.release();
    fleet.start_coordinator();
    expect_one_result(&client, build);
    assert!(fleet.agent(agent).ended().is_none(), "the agent outlives its coordinator");
    assert_eq!(proxy.count(HELD), 1, "the build was not begun again");
}

/// What is uploaded, and how much of it has been when the coordinator dies.
const SOURCE_LEN: usize = 3 << 20;
const MIDST_BYTES: u64 = 1 << 20;

#[test]
fn a_source_is_built_whose_upload_a_killed_coordinator_broke_off() {
    let mut fleet = Fleet::start();
    let agent = fleet.join_agent("eu/only", 1, Home::with_proxy("off"));
    let mut client = fleet.member("alice");
    let narrow = Shape::default().at_bytes_per_s(Way::Up, 500_000);
    let way = Relay::start(fleet.address().parse().expect("an address"), narrow);
    client.coordinator = Some(way.address().to_string());
    let source = client.home.path().join("source");
    let program = Program::saying("example.test/p", "held").noise("asset.bin", SOURCE_LEN);
    program.write(&source).expect("a directory can be written");
    let source = source.display().to_string();
    let mut build = client.start_build("dist", &[&source, "--version", "1", "--project", "acme/p"]);
    wait_for("the source is on its way", Duration::from_secs(60), || {
        (way.traffic().up_bytes > MIDST_BYTES).then_some(())
    });
    fleet.kill_coordinator();
    assert!(way.traffic().up_bytes < SOURCE_LEN as u64, "in the midst of it: {:?}", way.traffic());
    // What is on the narrow way belongs to nobody any more.
    way.cut_connections();
    assert!(build.running.is_running(), "{}", build.running.output());
    fleet.start_coordinator();
    fleet.wait_until_attached(agent);
    expect_one_result(&client, build);
}

#[test]
fn an_agent_that_is_told_twice_to_stop_ends_without_its_coordinator_and_says_what_it_drops() {
    let Begun { proxy: _proxy, mut fleet, agent, .. } = Begun::on(holding_proxy(), "eu/only", &[]);
    fleet.kill_coordinator();
    let agent = fleet.agent(agent);
    agent.signal(Signal::TERM);
    agent.wait_for_log("draining", Duration::from_secs(10));
    let ended = agent.terminate(Duration::from_secs(30));
    assert_eq!(ended.code(), Some(4), "{}", agent.log());
    assert!(agent.log().contains("had taken what became of acme/p/1/"), "{}", agent.log());
}

#[test]
fn an_agent_that_is_told_twice_to_stop_gives_its_task_back_to_the_coordinator() {
    let Begun { proxy, mut fleet, agent, client, build } = Begun::on(holding_proxy(), "eu/only", &[]);
    let told = fleet.agent(agent);
    told.signal(Signal::TERM);
    told.wait_for_log("draining", Duration::from_secs(10));
    let ended = told.terminate(Duration::from_secs(30));
    assert_eq!(ended.code(), Some(0), "{}", told.log());
    proxy.release();
    fleet.restart_agent(agent);
    expect_one_result(&client, build);
}

#[test]
fn coordinator_and_agent_killed_together_lose_nothing() {
    let Begun { proxy, mut fleet, agent, client, build } =
        Begun::on(holding_proxy(), "eu/only", SHORT_LEASES);
    fleet.kill_coordinator();
    fleet.kill_agent(agent);
    proxy.release();
    fleet.start_coordinator();
    fleet.restart_agent(agent);
    expect_one_result(&client, build);
}

#[test]
fn a_cancelled_build_leaves_no_process_behind() {
    let Begun { proxy: _proxy, mut fleet, agent, client, build } = Begun::on(holding_proxy(), "eu/only", &[]);
    let id = fleet.agent(agent).id();
    assert!(descendants(id).iter().any(|process| process.name == "go"), "{:?}", descendants(id));
    client.run(&["cancel", "acme/p/1"]).expect_code(0);
    build.finish().expect_failure(130, &["cancelled"]);
    wait_until_stopped(&client, "acme/p/1");
    client.run(&["explain", "acme/p/1"]).expect_words(&["ago: cancelled by team/acme/member/"]);
    assert!(
        descendants(id).iter().all(|process| process.name != "go"),
        "the agent said so: {:?}",
        descendants(id)
    );
}

/// Waits until `explain` says that nothing of a cancelled build is alive.
#[track_caller]
fn wait_until_stopped(client: &Client, build: &str) {
    wait_for("the agent to say that it has stopped", Duration::from_secs(15), || {
        let told = client.run(&["explain", build]).stdout;
        // While something is waited for, it stands behind a semicolon.
        let is_stopped =
            |line: &str| !line.starts_with(' ') && line.contains(": cancelled by ") && !line.contains(';');
        told.lines().any(is_stopped).then_some(())
    });
}

#[test]
fn a_cancel_that_an_agent_does_not_carry_out_says_why_until_it_does() {
    let Begun { proxy: _proxy, mut fleet, agent, client, build } = Begun::on(holding_proxy(), "eu/only", &[]);
    fleet.agent(agent).signal(Signal::STOP);
    client.run(&["cancel", "acme/p/1"]).expect_code(0);
    build.finish().expect_failure(130, &["cancelled"]);
    wait_for("explain to say why", Duration::from_secs(15), || {
        let explained = client.run(&["explain", "acme/p/1"]);
        explained.says("agent eu/only has not stopped it: it has said nothing for 5.0 s").then_some(())
    });
    fleet.coordinator().wait_for_log("is not stopped on agent eu/only", Duration::from_secs(5));
    fleet.agent(agent).signal(Signal::CONT);
    wait_until_stopped(&client, "acme/p/1");
    let id = fleet.agent(agent).id();
    assert!(descendants(id).iter().all(|process| process.name != "go"), "{:?}", descendants(id));
}

#[test]
fn a_stream_that_breaks_again_and_again_costs_no_lease_and_begins_nothing_anew() {
    let proxy = holding_proxy();
    let mut fleet = Fleet::start();
    let way = Relay::start(fleet.address().parse().expect("an address"), Shape::default());
    let agent =
        fleet.join_agent_through(&way.address().to_string(), "eu/far", 1, Home::with_proxy(&proxy.url()));
    let client = fleet.member("alice");
    let build = client.start_build("dist", &["example.test/p@v1.0.0", "--project", "acme/p"]);
    proxy.wait_for_request(HELD, 1);
    let attached =
        |fleet: &mut Fleet| fleet.agent(agent).log().matches("attached to the coordinator").count();
    for times in 2..=4 {
        way.cut_connections();
        wait_for("the agent to attach again", Duration::from_secs(30), || {
            (attached(&mut fleet) == times).then_some(())
        });
    }
    proxy.release();
    expect_one_result(&client, build);
    let explained = client.run(&["explain", "acme/p/1"]).expect_code(0);
    // The resolve task and the compile task, each under its one lease.
    assert_eq!(explained.stdout.matches("leased to eu/far under fence").count(), 2, "{explained}");
    assert!(!explained.says("failed"), "{explained}");
    assert_eq!(proxy.count(HELD), 1, "nothing was begun again");
}

#[test]
fn trouble_of_the_origin_is_retried_and_never_shown() {
    let proxy = holding_proxy();
    proxy.behave();
    proxy.misbehave(HELD, Misbehaviour::Status(503, "busy".to_owned()));
    let Begun { proxy, fleet: _fleet, client: _client, build, .. } = Begun::on(proxy, "eu/only", &[]);
    proxy.behave();
    build.finish().expect_success();
}

/// Waits until `meridian agents` says this of the fleet.
#[track_caller]
fn wait_for_state(client: &Client, words: &str) {
    wait_for(&format!("`meridian agents` to say {words:?}"), Duration::from_secs(30), || {
        client.run(&["agents"]).stdout.contains(words).then_some(())
    });
}

#[test]
fn a_drained_agent_hears_it_is_emptied_after_its_grace_and_stays_drained_over_a_restart() {
    let Begun { proxy, mut fleet, agent, client, build } = Begun::on(holding_proxy(), "eu/first", &[]);
    let drain = ["agents", "drain", "eu/first", "--why", "new disks", "--grace", "3s"];
    client.run(&drain).expect_code(3).expect_words(&["--state"]);
    fleet.administer(&drain).expect_code(0).expect_words(&["1 task", "after 3s"]);
    fleet.agent(agent).wait_for_log("told to take no new work", Duration::from_secs(10));
    wait_for_state(&client, "drained by admin: new disks (1 task to go)");
    fleet.join_agent("us/second", 1, Home::with_proxy(&proxy.url()));
    proxy.wait_for_request(HELD, 2);
    proxy.release();
    expect_one_result(&client, build);
    let explained = client.run(&["explain", "acme/p/1"]).expect_code(0);
    explained.expect_words(&["moved away from agent eu/first", "drained by admin: new disks", "us/second"]);
    wait_for_state(&client, "drained by admin: new disks (empty)");

    fleet.kill_coordinator();
    fleet.start_coordinator();
    wait_for_state(&client, "drained by admin: new disks (empty)");
    let arguments = ["build", "example.test/p@v1.0.0", "--project", "acme/p", "--region", "eu", "--detach"];
    client.run(&arguments).expect_code(0);
    client.run(&["explain", "acme/p/2"]).expect_code(0).expect_words(&["eu/first", "drained by admin"]);
    fleet.administer(&["agents", "uncordon", "eu/first"]).expect_code(0);
    fleet.agent(agent).wait_for_log("told to take new work again", Duration::from_secs(10));
    wait_for("the build to go to the agent that is back", Duration::from_secs(60), || {
        client.run(&["explain", "acme/p/2"]).says("leased to eu/first under fence").then_some(())
    });
}

#[test]
fn maintenance_is_planned_listed_and_taken_back() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let maintain = ["agents", "maintain", "eu/a", "--from", "now", "--for", "1h", "--why", "new kernel"];
    fleet.administer(&maintain).expect_code(0).expect_words(&["eu/a is in maintenance from"]);
    wait_for_state(&client, "in maintenance until");
    client.run(&["agents"]).expect_words(&["planned by admin: new kernel", "maintenance of eu/a from"]);
    fleet.administer(&["agents", "maintain", "eu/a", "--remove"]).expect_code(0).expect_words(&["1 window"]);
    wait_for_state(&client, "ready");
    let past = ["agents", "maintain", "eu/a", "--from", "2020-01-01T00:00Z", "--for", "1h"];
    fleet.administer(&past).expect_code(3).expect_words(&["lies in the past"]);
    fleet
        .administer(&["agents", "cordon", "us/gone"])
        .expect_code(0)
        .expect_words(&["no agent of that name"]);
    client.run(&["agents"]).expect_words(&["us/gone is not attached, and cordoned"]);
}
