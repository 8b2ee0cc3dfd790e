//! The cache that a fleet shares, with real processes: what one agent built, another finds.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::{Fleet, free_address},
    home::Home,
    wait::wait_for,
};

/// A Go before 1.24.
const OLD_GO: &str = "1.22.12";
const SHARD: &str = "shard.listen=127.0.0.1:0";

fn source(client: &Client, text: &str) -> String {
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", text).write(&directory).expect("a directory can be written");
    directory.display().to_string()
}

/// Builds in a region; gives the digests of what came out.
fn build(client: &Client, out: &str, source: &str, region: &str) -> Vec<String> {
    build_with(client, out, &[source, "--version", "1", "--region", region])
}

/// Builds what the arguments say.
fn build_with(client: &Client, out: &str, arguments: &[&str]) -> Vec<String> {
    let arguments = [arguments, &["--project", "acme/p"]].concat();
    let dist = client.build_into(out, &arguments).expect_success();
    dist.checksums().into_values().collect()
}

/// Waits until an agent tells that it holds so many manifests.
fn wait_for_residency(client: &Client, agent: &str, count: u64) {
    let holds = || told(client, agent, |one| one["cache"]["manifests"].as_u64() >= Some(count));
    wait_for("the agent tells what it holds", Duration::from_secs(30), holds);
}

/// Whether what an agent told the coordinator of itself is so.
fn told(client: &Client, agent: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> Option<()> {
    let answer = client.run(&["agents", "--json"]).expect_code(0).json_values();
    let agents = answer.iter().flat_map(|value| value["agents"].as_array().cloned().unwrap_or_default());
    agents.filter(|one| one["agent"] == agent).any(|one| is_so(&one)).then_some(())
}

/// What an agent's log says of the cache of its last build: the figure of that name.
fn figure(fleet: &Fleet, agent: usize, name: &str) -> u64 {
    let log = std::fs::read_to_string(fleet.agent_home(agent).path().join("agent.log")).expect("a log");
    let line = log.lines().rfind(|line| line.contains("build cache") && line.contains("wire_bytes"));
    let line = line.unwrap_or_else(|| panic!("nothing of the build cache in {log}"));
    let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn a_cold_agent_of_another_region_finds_all_that_the_first_one_built() {
    let mut fleet = Fleet::start();
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_proxy("off"), &[SHARD]);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_proxy("off"), &[SHARD]);
    let client = fleet.member("alice");
    let source = source(&client, "hello");

    let first = build(&client, "a", &source, "ap-southeast");
    assert_eq!(figure(&fleet, sg, "hits"), 0);
    wait_for_residency(&client, "ap-southeast/a1", 1);

    let second = build(&client, "b", &source, "eu-central");
    assert_eq!(second, first);
    let (gets, hits) = (figure(&fleet, fra, "gets"), figure(&fleet, fra, "hits"));
    assert!(figure(&fleet, fra, "brought") > 20 && hits > 20 && gets - hits <= 3, "{hits} of {gets}");
}

#[test]
fn a_go_that_knows_no_cache_program_finds_all_that_another_agent_built() {
    let mut fleet = Fleet::start();
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_the_real_proxy(), &[SHARD]);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_the_real_proxy(), &[SHARD]);
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    let on = |region: &str, out: &str| {
        build_with(&client, out, &[&source, "--version", "1", "--go", OLD_GO, "--region", region])
    };
    let first = on("ap-southeast", "a");
    let built = figure(&fleet, sg, "puts");
    assert!(built > 20 && figure(&fleet, sg, "hits") == 0, "{built}");
    wait_for_residency(&client, "ap-southeast/a1", 1);

    let second = on("eu-central", "b");
    assert_eq!(second, first);
    let [gets, hits, brought] = ["gets", "hits", "brought"].map(|name| figure(&fleet, fra, name));
    assert!(hits > 20 && gets == hits && brought > 20, "{hits} of {gets}, {brought} brought");
    wait_for("the agent tells what it found", Duration::from_secs(30), || {
        told(&client, "eu-central/a1", |agent| agent["cache_hits"].as_u64() == Some(hits))
    });
}

#[test]
fn agents_with_different_paths_ask_the_same_questions_in_their_sandboxes() {
    let mut fleet = Fleet::start();
    let settings = [SHARD, "sandbox=required"];
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_the_real_proxy(), &settings);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_the_real_proxy(), &settings);
    assert_ne!(fleet.agent_home(sg).path(), fleet.agent_home(fra).path());
    let client = fleet.member("alice");
    // Its own module and two others.
    let module = "golang.org/x/tools/cmd/stringer@v0.30.0";
    let on =
        |region: &str, out: &str| build_with(&client, out, &[module, "--go", "default", "--region", region]);
    let first = on("ap-southeast", "a");
    assert!(figure(&fleet, sg, "puts") > 20);
    wait_for_residency(&client, "ap-southeast/a1", 1);
    let second = on("eu-central", "b");
    assert_eq!(second, first);
    let [gets, hits, puts] = ["gets", "hits", "puts"].map(|name| figure(&fleet, fra, name));
    // The link is in no cache: it is asked for in vain, and what it said is put.
    assert!(hits > 20 && gets - hits <= 1 && puts <= 1, "{hits} of {gets}, {puts} put");
}

#[test]
fn bare_agents_with_different_paths_compile_nothing_twice_and_wait_for_nobody_with_the_rest() {
    let mut fleet = Fleet::start();
    let settings = [SHARD, "sandbox=off"];
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, Home::with_proxy("off"), &settings);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_proxy("off"), &settings);
    let client = fleet.member("alice");
    let source = source(&client, "hello");
    let first = build(&client, "a", &source, "ap-southeast");
    wait_for_residency(&client, "ap-southeast/a1", 1);
    let second = build(&client, "b", &source, "eu-central");
    assert_eq!(second, first);
    assert!(figure(&fleet, fra, "hits") > 20);
    // That of the manifest itself.
    assert_eq!(figure(&fleet, fra, "round_trips"), 1);
    let known = bodies(&fleet, sg);
    for (name, path) in bodies(&fleet, fra) {
        let is_index = || std::fs::read(&path).expect("a body").starts_with(b"go index ");
        assert!(known.contains_key(&name) || is_index(), "{name} was compiled twice");
    }
}

#[test]
fn an_agent_that_never_built_a_program_need_not_even_link_it() {
    let mut fleet = Fleet::start();
    fleet.join_agent_with("ap-southeast/a1", 1, Home::with_proxy("off"), &[SHARD]);
    let fra = fleet.join_agent_with("eu-central/a1", 1, Home::with_proxy("off"), &[SHARD]);
    let client = fleet.member("alice");
    let text = source(&client, "hello");
    let first = build(&client, "a", &text, "ap-southeast");
    wait_for_residency(&client, "ap-southeast/a1", 1);
    let second = build(&client, "b", &text, "eu-central");
    assert_eq!(second, first);
    // A link is put with what it said.
    assert_eq!((figure(&fleet, fra, "puts"), figure(&fleet, fra, "restored")), (0, 1));

    // What was changed is linked, and what it was before is known again.
    let changed = build(&client, "c", &source(&client, "hello again"), "eu-central");
    assert_ne!(changed, first);
    assert_eq!(figure(&fleet, fra, "restored"), 0);
    assert!(figure(&fleet, fra, "puts") > 0);
}

/// The bodies that an agent holds, by their names.
fn bodies(fleet: &Fleet, agent: usize) -> BTreeMap<String, PathBuf> {
    let directory = fleet.agent_home(agent).path().join("agent/cache/bodies");
    let shelves = std::fs::read_dir(directory).expect("a cache").map(|shelf| shelf.expect("a shelf").path());
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf).expect("a shelf"));
    files
        .map(|file| {
            let file = file.expect("a file");
            (file.file_name().to_string_lossy().into_owned(), file.path())
        })
        .collect()
}

#[test]
fn an_agent_serves_stock_clients_that_show_a_token_and_no_others() {
    use meridian_proto::reapi::v2::{GetCapabilitiesRequest, capabilities_client::CapabilitiesClient};

    let mut fleet = Fleet::start();
    let home = Home::with_proxy("off");
    let tokens = home.path().join("tokens");
    std::fs::write(&tokens, "a-token-of-twenty-and-more acme write\n").expect("a file can be written");
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let address = free_address();
    let settings = [format!("reapi.listen={address}"), format!("reapi.tokens={}", tokens.display())];
    fleet.join_agent_with("eu/a1", 1, home, &settings.each_ref().map(String::as_str));

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ask = |token: Option<&str>| {
        let mut request = tonic::Request::new(GetCapabilitiesRequest { instance_name: "acme".to_owned() });
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        runtime.block_on(async {
            let mut client =
                CapabilitiesClient::connect(format!("http://{address}")).await.expect("it listens");
            client.get_capabilities(request).await.map(|_| ())
        })
    };
    ask(Some("a-token-of-twenty-and-more")).expect("a token of the file");
    for token in [None, Some("a-token-of-somebody-else-s")] {
        assert_eq!(ask(token).expect_err("a stranger").code(), tonic::Code::Unauthenticated);
    }
}
