//! State on disk: no room left, and a directory that another version wrote.

use std::{fs, path::Path, time::Duration};

use meridian::{exit_code::ExitCode, trouble::Trouble};
use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    golang::platform::Platform,
};
use meridian_integration::{
    caller::Caller,
    client::Client,
    fixture::{program::Program, small_disk::SmallDisk},
    fleet::Fleet,
    home::Home,
    process::Running,
    wait::try_wait_for,
};
use meridian_proto::v1;
use tonic::Status;

const BROKEN: i32 = 4;
/// How long the coordinator may take to answer anything.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A program with an asset that does not compress.
fn heavy_with(client: &Client, name: &str, mebibytes: usize) -> String {
    let directory = client.home.path().join(name);
    let program = Program::saying("example.test/p", name).noise("asset.bin", mebibytes << 20);
    program.write(&directory).expect("a directory can be written");
    directory.display().to_string()
}

#[test]
fn a_coordinator_without_room_says_so_and_its_state_is_whole() {
    let home = Home::with_proxy("off");
    let Some(disk) = SmallDisk::mount(home.path().join("coordinator"), 64 << 10) else { return };
    let mut fleet = Fleet::start_in(home, &["free_min_mib=16"]);
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let small = heavy_with(&client, "small", 0);
    client.build_into("a", &[&small, "--version", "1", "--project", "acme/p"]).expect_success();

    disk.fill(64 - 16);
    let large = heavy_with(&client, "large", 6);
    let full = client.build_into("b", &[&large, "--version", "1", "--project", "acme/p"]);
    full.expect_failure(BROKEN, &["the coordinator has no space left", "coordinator/blobs", "free some"]);
    // What needs no room still works, and nothing is forgotten.
    assert!(fleet.get("/healthz").starts_with("HTTP/1.1 200"));
    client.run(&["builds", "--project", "acme/p"]).expect_code(0).expect_words(&["acme/p/1"]);

    disk.make_room();
    let dist = client.build_into("c", &[&large, "--version", "1", "--project", "acme/p"]).expect_success();
    assert_eq!(dist.artifacts().len(), 1);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    client.run(&["builds", "--project", "acme/p"]).expect_code(0).expect_words(&["acme/p/1", "acme/p/2"]);
    drop(disk);
}

/// Asks for a build that takes much of the journal, and that nobody will make: there is no agent.
async fn submit_much(caller: &Caller, key: &str) -> Result<String, Status> {
    let stamp = |number| (format!("main.text{number}"), "x".repeat(4_000));
    let spec = BuildSpec {
        source: Source::Module { package: "example.test/never".to_owned(), query: "v1.0.0".to_owned() },
        packages: vec![".".to_owned()],
        platforms: Platform::parse("linux/amd64").into_iter().collect(),
        toolchain: Toolchain::Default,
        flags: BuildFlags { stamps: (0..20).map(stamp).collect(), ..BuildFlags::default() },
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    };
    let request = v1::SubmitRequest {
        project: "acme/p".to_owned(),
        key: key.to_owned(),
        spec: Some((&spec).into()),
        ways: Vec::new(),
    };
    Ok(caller.builds().submit(request).await?.into_inner().build)
}

#[test]
fn what_was_acknowledged_survives_a_disk_without_any_room() {
    let home = Home::with_proxy("off");
    let Some(disk) = SmallDisk::mount(home.path().join("coordinator"), 32 << 10) else { return };
    let mut fleet = Fleet::start_in(home, &[]);
    let client = fleet.member("alice");
    disk.fill(u32::MAX >> 8);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (acknowledged, refusal) = runtime.block_on(async {
        let caller = Caller::of(&client).expect("a connection");
        let mut acknowledged = Vec::new();
        loop {
            let key = format!("key-{}", acknowledged.len());
            match tokio::time::timeout(ANSWER_MAX, submit_much(&caller, &key)).await {
                Ok(Ok(build)) => acknowledged.push(build),
                Ok(Err(status)) => return (acknowledged, status),
                Err(_) => panic!("submit {key} got no answer at all"),
            }
        }
    });
    assert!(!acknowledged.is_empty(), "the journal's room is taken in advance");
    let trouble = Trouble::of_status("submit the build", &refusal);
    assert_eq!(trouble.exit, ExitCode::Broken, "{refusal:?}");
    for words in ["the coordinator has no space left for its journal", "free some", "start it again"] {
        assert!(trouble.message.contains(words), "{words}: {trouble}");
    }
    let ended = try_wait_for(ANSWER_MAX, || fleet.coordinator().ended());
    assert_eq!(ended.and_then(|status| status.code()), Some(BROKEN), "{}", fleet.coordinator().log());
    assert!(fleet.coordinator().log().contains("no space left for"), "{}", fleet.coordinator().log());
    fleet.kill_coordinator();
    disk.make_room();
    fleet.start_coordinator();
    let again = runtime.block_on(async {
        let caller = Caller::of(&client).expect("a connection");
        // The same key is the same build: that it is known shows that nothing was lost.
        submit_much(&caller, "key-0").await.expect("there is room again")
    });
    assert_eq!(Some(&again), acknowledged.first());
    let last = acknowledged.last().expect("some were acknowledged");
    client.run(&["explain", last]).expect_code(0);
    drop(disk);
}

#[test]
fn an_agent_without_room_hands_its_task_to_one_that_has() {
    let cramped = Home::with_proxy("off");
    let Some(disk) = SmallDisk::mount(cramped.path().join("agent"), 24 << 10) else { return };
    // It is not given up while somebody with room is still on the way.
    let mut fleet = Fleet::start_with(&["limits.attempts=20"]);
    fleet.join_agent("eu/cramped", 1, cramped);
    let client = fleet.member("alice");
    let source = heavy_with(&client, "source", 2);
    let build = client.start_build("a", &[&source, "--version", "1", "--project", "acme/p"]);
    // It tries, and says so, before there is anybody else.
    let tried = try_wait_for(Duration::from_secs(60), || {
        client.run(&["explain", "acme/p/1"]).says("another attempt").then_some(())
    });
    assert!(tried.is_some(), "{}", client.run(&["explain", "acme/p/1"]));
    fleet.join_agent("us/roomy", 1, Home::with_proxy("off"));
    build.finish().expect_success();
    client.run(&["explain", "acme/p/1"]).expect_code(0).expect_words(&[
        "eu/cramped",
        "us/roomy",
        "no space left",
    ]);
    drop(disk);
}

fn write_version(state: &Path, version: &str) {
    fs::write(state.join("VERSION"), format!("{version}\n")).expect("a state directory has a VERSION");
}

#[test]
fn a_state_directory_of_another_version_is_refused_and_left_alone() {
    let mut fleet = Fleet::start();
    fleet.kill_coordinator();
    let state = fleet.coordinator_state();
    let old = fs::read_to_string(state.join("VERSION")).expect("a state directory has a VERSION");
    for (version, advice) in [("999", "newer program"), ("0", "move it away"), ("many", "expected a number")]
    {
        write_version(&state, version);
        let mut refused = fleet.spawn_coordinator();
        let ended = try_wait_for(Duration::from_secs(30), || refused.ended());
        assert_eq!(ended.and_then(|status| status.code()), Some(BROKEN), "{}", refused.log());
        assert!(refused.log().contains(advice), "{}", refused.log());
    }
    write_version(&state, old.trim());
    fleet.start_coordinator();
}

#[test]
fn a_local_fleet_of_another_version_is_named_where_it_lies() {
    let client = Client::local(Home::with_proxy("off"));
    let state = client.home.state().join("local");
    fs::create_dir_all(&state).expect("a fresh home");
    write_version(&state, "999");
    let source = heavy_with(&client, "source", 0);
    let place = state.display().to_string();
    client
        .build(&[&source, "--version", "1"])
        .expect_failure(BROKEN, &[&place, "layout 999", "newer program"]);
    // Somebody else's directory is nobody's to fill.
    fs::remove_file(state.join("VERSION")).expect("it was written");
    fs::write(state.join("thesis.txt"), "years of work").expect("a file can be written");
    client.build(&[&source, "--version", "1"]).expect_failure(BROKEN, &[&place, "thesis.txt"]);
    fs::remove_file(state.join("thesis.txt")).expect("it is left alone");
    let run = Running::start(client.home.meridian(["local", "status"])).finish(Duration::from_secs(30));
    assert!(run.says("not running"), "{run}");
}
