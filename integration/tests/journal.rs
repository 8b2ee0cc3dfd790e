//! A coordinator's journal on a real disk: torn at its end it opens, damaged earlier it says where and refuses.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    caller::Caller, client::Client, fleet::Fleet, home::Home, process::Running, wait::try_wait_for,
};

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

    let mut refused = fleet.spawn_coordinator();
    let ended = try_wait_for(Duration::from_secs(20), || refused.ended());
    assert!(ended.is_some_and(|status| !status.success()), "it must refuse:\n{}", refused.log());
    assert!(refused.log().contains(&name), "it must say where:\n{}", refused.log());
    // Refusing changes nothing: the evidence is as it was.
    assert_eq!(fs::read(&segment).expect("a segment can be read"), bytes);
}
