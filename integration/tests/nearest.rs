//! Artifacts come from whoever is near and has them, and sources go only where they are not yet.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    fabric::FabricUnderTest,
    fixture::program::Program,
    relay::{Relay, Shape},
};

/// A Go program has more than this, compressed.
const AN_ARTIFACT_BYTES: u64 = 300 << 10;
/// What is in the source and never changes. No compression makes it smaller.
const NOISE_LEN: usize = 2 << 20;
/// What a build says up to the coordinator besides the files that it has not yet: less than a tenth of the noise.
const A_CHANGE_BYTES_MAX: u64 = 200_000;

#[test]
fn an_artifact_comes_from_the_near_agent_that_made_it_and_from_the_far_coordinator_without_it() {
    let mut fabric = FabricUnderTest::start();
    let near = fabric.join("sg/one", Shape::default());
    let address = fabric.fleet.address().parse().unwrap();
    let far = Relay::start(address, Shape::with_round_trip(Duration::from_millis(400)));
    fabric.client.coordinator = Some(far.address().to_string());
    let source = fabric.client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&source).unwrap();

    let first = fabric.build("sg/one", &source, ".");
    let near_bytes = fabric.link(near).traffic().down_bytes;
    assert!(near_bytes > AN_ARTIFACT_BYTES, "{near_bytes} bytes came from the agent");
    let far_bytes = far.traffic().down_bytes;
    assert!(far_bytes < AN_ARTIFACT_BYTES, "{far_bytes} bytes came from the coordinator");

    // An agent that nobody reaches costs its bound, and no artifact.
    fabric.link(near).blackhole();
    let second = fabric.build("sg/one", &source, ".");
    assert_eq!(second.artifact, first.artifact);
    let more = far.traffic().down_bytes - far_bytes;
    assert!(more > AN_ARTIFACT_BYTES, "{more} bytes came from the coordinator");
}

/// The file in which a user keeps how far the one fleet is that they joined.
fn ways_of(state: &Path) -> PathBuf {
    let fleets = fs::read_dir(state.join("fleets")).expect("a fleet was joined");
    let files: Vec<PathBuf> =
        fleets.map(|fleet| fleet.expect("its directory").path().join("ways.json")).collect();
    assert!(matches!(files.as_slice(), [file] if file.exists()), "{files:?}");
    files[0].clone()
}

#[test]
fn a_build_that_may_be_made_anywhere_is_made_in_the_region_that_is_near_to_who_asked() {
    let mut fabric = FabricUnderTest::start();
    // By name and in all else the first would be taken.
    fabric.join("eu/far", Shape::with_round_trip(Duration::from_millis(240)));
    fabric.join("sg/near", Shape::default());
    let address = fabric.fleet.address().parse().unwrap();
    let coordinator = Relay::start(address, Shape::with_round_trip(Duration::from_millis(400)));
    fabric.client.coordinator = Some(coordinator.address().to_string());
    let source = fabric.client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&source).unwrap();
    let place = source.display().to_string();

    let built = fabric.client.build(&[&place, "--version", "1", "--project", "acme/p"]);
    built.expect_success();
    let told = fabric.client.run(&["explain", "acme/p/1"]).expect_code(0);
    told.expect_words(&["placed on sg/near", "delivery"]);
    let told = fabric.client.run(&["explain", "acme/p/1", "--json"]).expect_code(0);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let candidates = told["tasks"][0]["candidates"].as_array().unwrap();
    let delivery = |agent: &str| {
        let candidate = candidates.iter().find(|candidate| candidate["agent"] == agent).unwrap();
        candidate["terms"]["deliver_us"].as_u64().unwrap()
    };
    assert!(delivery("sg/near") + 500_000 < delivery("eu/far"), "{told}");
    assert!(delivery("sg/near") > 0, "{told}");

    // What was measured is kept beside the identity, and the next build starts with it.
    let kept = ways_of(&fabric.client.home.state());
    let measured = fs::read(&kept).unwrap();
    fabric.client.build_into("again", &[&place, "--version", "2", "--project", "acme/p"]).expect_success();
    let told = fabric.client.run(&["explain", "acme/p/2"]).expect_code(0);
    told.expect_words(&["placed on sg/near", "delivery"]);
    assert_eq!(fs::read(&kept).unwrap(), measured);
}

#[test]
fn a_second_build_of_a_changed_tree_sends_up_only_what_changed() {
    let mut fabric = FabricUnderTest::start();
    fabric.join("sg/one", Shape::default());
    let way = Relay::start(fabric.fleet.address().parse().unwrap(), Shape::default());
    fabric.client.coordinator = Some(way.address().to_string());
    let source = fabric.client.home.path().join("source");
    Program::saying("example.test/p", "one").noise("noise.bin", NOISE_LEN).write(&source).unwrap();

    let first = fabric.build("sg/one", &source, ".");
    let whole = way.traffic();
    assert!(whole.up_bytes > NOISE_LEN as u64, "the first build sends it all: {whole:?}");
    Program::saying("example.test/p", "two").write(&source).unwrap();
    let second = fabric.build("sg/one", &source, ".");
    assert_ne!(second.artifact, first.artifact, "the change is built");
    let changed = way.traffic().since(&whole);
    assert!(changed.up_bytes < A_CHANGE_BYTES_MAX, "{changed:?} after {whole:?}");
}
