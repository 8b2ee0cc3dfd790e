//! A coordinator's journal on a real disk: torn at its end it opens, damaged earlier it says where and refuses; and what
//! was decided can be carried away and replayed to any moment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    caller::Caller,
    client::Client,
    fixture::program::Program,
    fleet::Fleet,
    home::Home,
    process::{Run, Running},
    wait::try_wait_for,
};
use serde_json::Value;

const BROKEN: i32 = 4;
/// Where a segment's first record starts.
const DATA_START: usize = 4096;

/// A fleet with a few builds that wait, and the member that asked for them.
fn fleet_with_builds() -> (Fleet, Client) {
    let fleet = Fleet::start();
    let client = fleet.member("alice");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let caller = Caller::of(&client).expect("a connection");
        for number in 0..5 {
            caller.submit("acme/p", &format!("key-{number}")).await.expect("admitted");
        }
    });
    (fleet, client)
}

/// The segment that was written last, and how much of it was written.
fn last_segment(state: &Path) -> (PathBuf, usize) {
    let newest = fs::read_dir(state.join("journal"))
        .expect("the coordinator has a journal")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && fs::metadata(path).is_ok_and(|metadata| metadata.len() > 1024))
        .max()
        .expect("a segment");
    let bytes = fs::read(&newest).expect("a segment can be read");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something was written") + 1;
    (newest, used)
}

fn verify(state: &Path) -> meridian_integration::process::Run {
    let home = Home::with_proxy("off");
    let mut command = home.meridian(["journal", "verify"]);
    command.arg(state);
    Running::start(command).finish(Duration::from_secs(30))
}

#[test]
fn a_record_torn_by_a_crash_is_cut_off_and_the_rest_is_there() {
    let (mut fleet, client) = fleet_with_builds();
    fleet.kill_coordinator();
    let (segment, used) = last_segment(&fleet.coordinator_state());
    let mut bytes = fs::read(&segment).expect("a segment can be read");
    bytes[used - 3..].fill(0);
    fs::write(&segment, bytes).expect("a segment can be written");
    verify(&fleet.coordinator_state()).expect_code(0).expect_words(&["is not whole", "a crash"]);
    let state = fleet.coordinator_state().display().to_string();
    look(&["inspect", "--dir", &state]).expect_code(0).expect_words(&["acme/p/4", "is not whole", "a crash"]);
    // A record that a crash tore was never acknowledged, so no history knows it.
    fs::remove_dir_all(fleet.coordinator_state().join("history")).expect("the history can be removed");

    fleet.start_coordinator();
    let listed = client.run(&["builds", "--project", "acme/p"]).expect_code(0);
    assert!(listed.says("acme/p/4"), "{listed}");
    verify_is_refused_while_it_runs_or_is_sound(&fleet);
}

/// A running coordinator owns its journal; reading it meanwhile must at least not call it damaged.
fn verify_is_refused_while_it_runs_or_is_sound(fleet: &Fleet) {
    let run = verify(&fleet.coordinator_state());
    assert!(!run.says("damaged:"), "{run}");
}

#[test]
fn damage_before_the_end_is_named_and_refused() {
    let (mut fleet, _client) = fleet_with_builds();
    fleet.kill_coordinator();
    let (segment, used) = last_segment(&fleet.coordinator_state());
    let mut bytes = fs::read(&segment).expect("a segment can be read");
    bytes[usize::midpoint(DATA_START, used)] ^= 0x20;
    fs::write(&segment, &bytes).expect("a segment can be written");

    let name = segment.file_name().expect("a file").to_string_lossy().into_owned();
    verify(&fleet.coordinator_state()).expect_code(BROKEN).expect_words(&[&name, "damaged"]);
    let state = fleet.coordinator_state().display().to_string();
    for command in ["inspect", "replay"] {
        let run = look(&[command, "--dir", &state]).expect_code(BROKEN);
        run.expect_words(&[&name, "damaged", "at byte", "record"]);
    }
    assert_eq!(fs::read(&segment).expect("a segment can be read"), bytes, "nothing is repaired");

    let mut refused = fleet.spawn_coordinator();
    let ended = try_wait_for(Duration::from_secs(20), || refused.ended());
    assert!(ended.is_some_and(|status| !status.success()), "it must refuse:\n{}", refused.log());
    assert!(refused.log().contains(&name), "it must say where:\n{}", refused.log());
    // Refusing changes nothing: the evidence is as it was.
    assert_eq!(fs::read(&segment).expect("a segment can be read"), bytes);
}

/// `meridian journal` with these arguments, as whoever is on call runs it: on no fleet.
fn look(arguments: &[&str]) -> Run {
    let home = Home::with_proxy("off");
    let mut command = home.meridian(["journal"]);
    command.args(arguments);
    Running::start(command).finish(Duration::from_secs(60))
}

/// The one JSON value of an answer.
fn answer(arguments: &[&str]) -> Value {
    let run = look(arguments).expect_code(0);
    let values = run.json_values();
    assert_eq!(values.len(), 1, "{run}");
    values.into_iter().next().expect("one value")
}

/// Every file of a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    entries.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

/// A fleet in which one build succeeded, one waits and one was given up.
fn fleet_with_a_story() -> (Fleet, Client) {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a1", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&directory).expect("a directory can be written");
    let source = directory.display().to_string();
    client.build(&[&source, "--version", "1", "--project", "acme/p"]).expect_success();
    for _ in 0..2 {
        let nowhere = ["--version", "1", "--project", "acme/p", "--region", "mars", "--detach"];
        client.run(&[&["build", &source, "--toolchain", "local"], &nowhere[..]].concat()).expect_code(0);
    }
    client.run(&["cancel", "acme/p/3"]).expect_code(0);
    (fleet, client)
}

/// The state of the one task of a build after each event about it.
fn task_states(export: &str, build: &str) -> Vec<(String, String)> {
    let events = look(&["inspect", export, "--build", build, "--json"]).expect_code(0).json_values();
    let at = |event: &Value| {
        let index = event["index"].as_u64()?.to_string();
        let kind = event["kind"].as_str()?.to_owned();
        let state = answer(&["replay", export, "--at", &index, "--build", build, "--json"]);
        Some((kind, state["build"]["tasks"][0]["state"].as_str()?.to_owned()))
    };
    events.iter().filter_map(at).collect()
}

/// What is served of a build is what was replayed, but for what only the present knows.
fn expect_served(served: &Value, replayed: &Value) {
    let mut served = served.clone();
    for task in served["tasks"].as_array_mut().expect("tasks") {
        let task = task.as_object_mut().expect("a task");
        // No agent is attached to a journal, and nobody looks at its queue again: why a task waits is of the present.
        for of_now in ["waits", "waits_for"] {
            if task.contains_key(of_now) {
                task.insert(of_now.to_owned(), "".into());
            }
        }
    }
    for (name, value) in served.as_object().expect("a build") {
        assert_eq!(value, &replayed[name], "{name} of {}", served["build"]);
    }
}

#[test]
fn an_incident_is_carried_away_and_replayed_to_what_the_restarted_coordinator_serves() {
    let (mut fleet, client) = fleet_with_a_story();
    let state = fleet.coordinator_state().display().to_string();
    // A running coordinator is not in the way.
    let told = look(&["inspect", "--dir", &state, "--build", "acme/p/1"]).expect_code(0);
    told.expect_words(&[
        "build_submitted",
        "task_placed",
        "eu/a1",
        "lease_granted",
        "task_succeeded",
        "fence",
    ]);
    look(&["replay", "--dir", &state, "--check"]).expect_code(0).expect_words(&["the same, byte for byte"]);

    fleet.kill_coordinator();
    let before = contents(&fleet.coordinator_state().join("journal"));
    let away = tempfile::tempdir().expect("a directory");
    let export = away.path().join("incident.mjx").display().to_string();
    look(&["export", "--dir", &state, "--out", &export])
        .expect_code(0)
        .expect_words(&["from the very first on"]);
    look(&["export", "--dir", &state, "--out", &export]).expect_code(2).expect_words(&["is there already"]);
    assert_eq!(contents(&fleet.coordinator_state().join("journal")), before, "nothing was changed");

    let states = task_states(&export, "acme/p/1");
    let expected = [
        ("build_submitted", "queued"),
        ("task_placed", "placed"),
        ("lease_granted", "leased"),
        ("task_succeeded", "succeeded"),
    ];
    for (kind, state) in expected {
        assert!(states.contains(&(kind.to_owned(), state.to_owned())), "{kind} {state}: {states:?}");
    }
    let words = look(&["replay", &export, "--build", "acme/p/1"]).expect_code(0);
    words.expect_words(&["acme/p/1: succeeded", "because", "leased to eu/a1 under fence"]);
    look(&["replay", &export, "--at", "1", "--build", "acme/p/1"])
        .expect_code(3)
        .expect_words(&["submits it"]);
    let diff = look(&["replay", &export, "--diff", "1"]).expect_code(0);
    diff.expect_words(&["+ build acme/p/1", "~ counters"]);
    look(&["replay", &export, "--at", "999999"]).expect_code(2).expect_words(&["it ends at"]);
    let replayed = answer(&["replay", &export, "--json"]);
    assert_eq!(replayed["queue"], serde_json::json!(["acme/p/2/0"]), "{replayed}");

    fleet.start_coordinator();
    let run = client.run(&["builds", "--project", "acme/p", "--json"]).expect_code(0);
    let served = run.json_values()[0]["builds"].as_array().expect("builds").clone();
    assert_eq!(served.len(), 3, "{run}");
    for build in &served {
        let all = replayed["records"]["build"].as_array().expect("builds");
        let found = all.iter().find(|one| one["build"] == build["build"]).expect("it was replayed");
        expect_served(build, found);
    }
    let explained = client.run(&["explain", "acme/p/1", "--json"]).expect_code(0).json_values();
    let build = answer(&["replay", &export, "--build", "acme/p/1", "--json"]);
    assert_eq!(explained[0]["tasks"], build["build"]["explained"]);
}

#[test]
fn a_part_of_a_journal_is_enough_for_one_builds_story() {
    let (fleet, _client) = fleet_with_a_story();
    let state = fleet.coordinator_state().display().to_string();
    let away = tempfile::tempdir().expect("a directory");
    let export = away.path().join("one.mjx").display().to_string();
    look(&["export", "--dir", &state, "--build", "acme/p#1", "--out", &export]).expect_code(0);
    look(&["replay", &export, "--build", "acme/p/1"]).expect_code(0).expect_words(&["acme/p/1: succeeded"]);
    look(&["replay", &export, "--check"]).expect_code(0);
    let unknown = away.path().join("none.mjx").display().to_string();
    let run = look(&["export", "--dir", &state, "--build", "acme/p/99", "--out", &unknown]).expect_code(3);
    run.expect_words(&["no event about build acme/p/99"]);
    assert!(!Path::new(&unknown).exists());

    let mut bytes = fs::read(&export).expect("an export");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&export, bytes).expect("a file can be written");
    look(&["replay", &export]).expect_code(BROKEN).expect_words(&["is damaged behind event"]);
    look(&["replay", &state, "--at", "yesterday"]).expect_code(2).expect_words(&["2026-11-22T10:11:12Z"]);
    look(&["inspect", "--dir", away.path().to_str().expect("UTF-8")])
        .expect_code(2)
        .expect_words(&["there is no journal", "state directory"]);
}
