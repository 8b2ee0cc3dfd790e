//! A server of the remote execution API that is not of the fleet keeps what two regions build, with real processes.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::{Fleet, free_address},
    home::Home,
    relay::{Relay, Shape, Way},
    stock_clients::{bgd, if_to_be_had},
    stock_server::StockServer,
    wait::wait_for,
};

const TOKEN: &str = "a-token-of-twenty-and-more";

/// Builds in a region; gives the digests of what came out.
fn build(client: &Client, out: &str, source: &str, region: &str) -> Vec<String> {
    let arguments = [source, "--version", "1", "--project", "acme/p", "--region", region];
    client.build_into(out, &arguments).expect_success().checksums().into_values().collect()
}

fn log(fleet: &Fleet, agent: usize) -> String {
    fs::read_to_string(fleet.agent_home(agent).path().join("agent.log")).expect("a log")
}

/// What an agent's log says of the cache of its last build: the figure of that name.
fn figure(fleet: &Fleet, agent: usize, name: &str) -> u64 {
    let log = log(fleet, agent);
    let line = log.lines().rfind(|line| line.contains("build cache") && line.contains("wire_bytes"));
    let line = line.unwrap_or_else(|| panic!("nothing of the build cache in {log}"));
    let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn agents_that_cannot_reach_one_another_share_a_cache_outside_the_fleet_and_do_without_it_when_it_is_gone() {
    let server = free_address();
    let secret = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| {
        let path = secret.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        path.display().to_string()
    };
    let (tokens, token) =
        (write("tokens", format!("{TOKEN} builds write\n")), write("token", TOKEN.to_owned()));
    // The server is an agent of another fleet, as far as these are concerned.
    let mut others = Fleet::start();
    let settings = [format!("reapi.listen={server}"), format!("reapi.tokens={tokens}")];
    let kept = others.join_agent_with(
        "eu/cache",
        1,
        Home::with_proxy("off"),
        &settings.each_ref().map(String::as_str),
    );

    let mut fleet = Fleet::start();
    let settings = [
        format!("remote_cache.url=grpc://{server}"),
        "remote_cache.instance=builds".to_owned(),
        format!("remote_cache.token={token}"),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_proxy("off"), &settings);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_proxy("off"), &settings);
    let client = fleet.member("alice");
    let source = client.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&source).expect("a program can be written");
    let source = source.display().to_string();

    let first = build(&client, "a", &source, "ap-southeast");
    wait_for("what was built is outside", Duration::from_secs(30), || {
        log(&fleet, sg).contains("the cache outside the fleet has what a build made").then_some(())
    });
    // A third has it brought before any build, though nobody can be asked but the server.
    fleet.join_agent_with("us-east/a1", 1, Home::with_proxy("off"), &settings);
    let words = ["cache", "warm", &source, "--project", "acme/p", "--toolchain", "local"];
    let warmed = fleet.administer(&[words.as_slice(), &["--agent", "us-east/a1"]].concat()).expect_code(0);
    assert!(warmed.says("all of it is there now"), "{warmed}");

    let second = build(&client, "b", &source, "eu-central");
    assert_eq!(second, first);
    let (gets, hits) = (figure(&fleet, fra, "gets"), figure(&fleet, fra, "hits"));
    assert!(figure(&fleet, fra, "brought") > 20 && gets - hits <= 3, "{hits} of {gets}");

    others.kill_agent(kept);
    Program::saying("example.test/q", "other").write(&client.home.path().join("other")).expect("a program");
    let other = client.home.path().join("other").display().to_string();
    assert_eq!(build(&client, "c", &other, "eu-central").len(), 1);
}

/// Slow enough for a kill to come in the middle of what a build made.
const NARROW_BYTES_PER_S: u64 = 2 << 20;
const TAKEN: &str = "the cache outside the fleet has what a build made";
const NOT_TAKEN: &str = "the cache outside the fleet did not take what a build made";

#[test]
fn what_a_server_of_others_was_killed_in_the_middle_of_taking_comes_later_and_serves_another_region() {
    let Some(program) = if_to_be_had(bgd()) else { return };
    let mut server = StockServer::start(program);
    let link = Relay::start(server.address(), Shape::default().at_bytes_per_s(Way::Up, NARROW_BYTES_PER_S));
    let settings = [
        format!("remote_cache.url=grpc://{}", link.address()),
        format!("remote_cache.instance={}", StockServer::INSTANCE),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let mut fleet = Fleet::start();
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_proxy("off"), &settings);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_proxy("off"), &settings);
    let client = fleet.member("alice");
    let [source, other] = ["p", "q"].map(|name| {
        let source = client.home.path().join(name);
        Program::saying(&format!("example.test/{name}"), name).write(&source).expect("a program");
        source.display().to_string()
    });

    let first = build(&client, "a", &source, "ap-southeast");
    wait_for("an upload to be under way", Duration::from_secs(30), || {
        (link.traffic().up_bytes > 3 * NARROW_BYTES_PER_S).then_some(())
    });
    server.kill();
    wait_for("the agent to notice", Duration::from_secs(30), || {
        log(&fleet, sg).contains(NOT_TAKEN).then_some(())
    });
    assert!(!log(&fleet, sg).contains(TAKEN), "it was killed too late");
    // Nothing waits for it.
    assert_eq!(build(&client, "b", &other, "ap-southeast").len(), 1);

    let kept = server.blobs();
    assert!(kept > 0, "it was killed too early");
    link.reshape(Shape::default());
    server.start_again();
    wait_for("the rest and the other build to come there", Duration::from_secs(120), || {
        (log(&fleet, sg).matches(TAKEN).count() == 2).then_some(())
    });
    assert!(server.blobs() > kept);

    let second = build(&client, "c", &source, "eu-central");
    assert_eq!(second, first);
    let (gets, hits) = (figure(&fleet, fra, "gets"), figure(&fleet, fra, "hits"));
    assert!(figure(&fleet, fra, "brought") > 20 && gets - hits <= 3, "{hits} of {gets}");
}
