//! The cache that a fleet shares, with real processes: what one agent built, another finds.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::{Fleet, free_address},
    home::Home,
    wait::wait_for,
};

const SHARD: &str = "shard.listen=127.0.0.1:0";

fn source(client: &Client, text: &str) -> String {
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", text).write(&directory).expect("a directory can be written");
    directory.display().to_string()
}

/// Builds in a region; gives the digests of what came out.
fn build(client: &Client, out: &str, source: &str, region: &str) -> Vec<String> {
    let arguments = [source, "--version", "1", "--project", "acme/p", "--region", region];
    let dist = client.build_into(out, &arguments).expect_success();
    dist.checksums().into_values().collect()
}

/// Waits until an agent tells that it holds so many manifests.
fn wait_for_residency(client: &Client, agent: &str, count: u64) {
    let holds = || {
        let answer = client.run(&["agents", "--json"]).expect_code(0).json_values();
        let agents = answer.iter().flat_map(|value| value["agents"].as_array().cloned().unwrap_or_default());
        let mut found = agents.filter(|one| one["agent"] == agent);
        found.any(|one| one["cache"]["manifests"].as_u64() >= Some(count)).then_some(())
    };
    wait_for("the agent tells what it holds", Duration::from_secs(30), holds);
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
