//! A server of the remote execution API that is not of the fleet keeps what two regions build, with real processes.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::{Fleet, free_address},
    home::Home,
    process::{Daemon, Running},
    relay::{Relay, Shape, Way},
    stock_clients::{bgd, bgd_server, if_to_be_had},
    wait::wait_for,
};

/// How an agent's log says that the server is of no use.
const OF_NO_USE: &str = "remote_cache is not used";
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

    assert!(!log(&fleet, fra).contains(OF_NO_USE), "it was good until now");
    others.kill_agent(kept);
    Program::saying("example.test/q", "other").write(&client.home.path().join("other")).expect("a program");
    let other = client.home.path().join("other").display().to_string();
    assert_eq!(build(&client, "c", &other, "eu-central").len(), 1);
    wait_for("that is told", Duration::from_secs(60), || log(&fleet, fra).contains(OF_NO_USE).then_some(()));
    assert_eq!(log(&fleet, fra).matches(OF_NO_USE).count(), 1);
}

#[test]
fn an_agent_that_cannot_use_the_cache_outside_the_fleet_warns_when_it_starts_and_the_doctor_tells_the_same() {
    let mut fleet = Fleet::start();
    let setting = format!("remote_cache.url=grpc://{}", free_address());
    let agent = fleet.join_agent_with("eu/a1", 1, Home::with_proxy("off"), &[&setting]);
    wait_for("it warns", Duration::from_secs(30), || log(&fleet, agent).contains(OF_NO_USE).then_some(()));
    let told = log(&fleet, agent);
    let line = told.lines().find(|line| line.contains(OF_NO_USE)).expect("the line");
    assert!(line.contains("WARN") && line.contains("see remote_cache.url"), "{line}");

    let home = Home::with_proxy("off");
    // Whether there can be a sandbox here does not matter.
    let doctor = |words: &[&str]| {
        let words = [&["doctor", "--set", &setting], words].concat();
        Running::start(home.meridian(words)).finish(Duration::from_secs(60))
    };
    doctor(&[]).expect_words(&["is not used", "cannot be reached", "see remote_cache.url"]);
    let told = doctor(&["--json"]);
    assert_eq!(told.json_values()[0]["remote_cache"]["works"], false, "{told}");
}

/// Its results do not outlive it, its blobs do.
#[test]
fn a_server_that_nobody_here_wrote_keeps_what_two_regions_build_also_when_it_dies_in_the_midst_of_an_upload()
{
    let Some(bgd) = if_to_be_had(bgd()) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let address = free_address();
    let start = || {
        let server = bgd_server(&bgd, directory.path(), address).expect("its settings can be written");
        let started = Daemon::start("bgd", server, &directory.path().join("log")).expect("it starts");
        wait_for("it listens", Duration::from_secs(120), || TcpStream::connect(address).ok());
        started
    };
    let mut server = start();
    let way = Relay::start(address, Shape::default().at_bytes_per_s(Way::Up, 400_000));

    let mut fleet = Fleet::start();
    let mut join = |name: &str, server: SocketAddr| {
        let settings =
            [format!("remote_cache.url=grpc://{server}"), "remote_cache.instance=builds".to_owned()];
        fleet.join_agent_with(name, 1, Home::with_proxy("off"), &settings.each_ref().map(String::as_str))
    };
    let (sg, fra) = (join("ap-southeast/a1", way.address()), join("eu-central/a1", address));
    let client = fleet.member("alice");
    let source = client.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&source).expect("a program can be written");
    let source = source.display().to_string();

    let first = build(&client, "a", &source, "ap-southeast");
    let has_it = "the cache outside the fleet has what a build made";
    wait_for("it is in the midst", Duration::from_secs(60), || {
        (way.traffic().up_bytes > 500_000).then_some(())
    });
    way.reshape(Shape::default().at_bytes_per_s(Way::Up, 3_000));
    assert!(!log(&fleet, sg).contains(has_it), "it has all of it already");
    server.kill();
    wait_for("that is noticed", Duration::from_secs(60), || {
        log(&fleet, sg).contains("the cache outside the fleet did not take what a build made").then_some(())
    });
    let _server = start();
    way.reshape(Shape::default());
    wait_for("all of it is outside", Duration::from_secs(150), || {
        log(&fleet, sg).contains(has_it).then_some(())
    });

    let second = build(&client, "b", &source, "eu-central");
    assert_eq!(second, first);
    let (gets, hits) = (figure(&fleet, fra, "gets"), figure(&fleet, fra, "hits"));
    assert!(figure(&fleet, fra, "brought") > 20 && gets - hits <= 3, "{hits} of {gets}");
}
