//! Artifacts come from whoever is near and has them, and sources go only where they are not yet.

use std::time::Duration;

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
