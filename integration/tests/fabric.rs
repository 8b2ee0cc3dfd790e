//! Agents of two regions that share a build cache, as separate processes with a link between.

use std::time::Duration;

use meridian_integration::{fabric::FabricUnderTest, fixture::program::Program, relay::Shape};

/// The standard library's archives, compressed, are some megabytes.
const A_LIBRARY_BYTES: u64 = 1 << 20;

#[test]
fn what_one_region_has_built_another_fetches_and_does_not_compile() {
    let mut fabric = FabricUnderTest::start();
    let home = fabric.join("sg/one", Shape::with_round_trip(Duration::from_millis(40)));
    let far = fabric.join("fra/one", Shape::default());
    let source = fabric.client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&source).unwrap();

    let first = fabric.build("sg/one", &source, ".");
    // Agents measure how far they are from each other.
    let before = fabric.link(home).traffic();
    let second = fabric.build("fra/one", &source, ".");
    let traffic = fabric.link(home).traffic().since(&before);
    assert!(traffic.down_bytes > A_LIBRARY_BYTES, "{traffic:?}");
    assert_eq!(second.artifact, first.artifact);
    assert!(second.compiled * 2 < first.compiled, "{second:?} after {first:?}");

    // Once more from nothing, with no link at all: it compiles again, and the artifact is the same.
    fabric.cool(far);
    fabric.link(home).blackhole();
    let alone = fabric.build("fra/one", &source, ".");
    assert_eq!(alone.artifact, first.artifact);
}
