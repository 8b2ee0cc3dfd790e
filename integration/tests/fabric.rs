//! Agents of two regions that share a build cache, as separate processes with a link between.

use std::{fs, time::Duration};

use meridian_integration::{
    fabric::{FabricUnderTest, PROJECT},
    fixture::program::Program,
    relay::Shape,
};

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

#[test]
fn a_far_agent_is_given_the_binary_of_the_very_same_tree_and_links_one_with_a_file_more() {
    let mut fabric = FabricUnderTest::start();
    fabric.join("sg/one", Shape::with_round_trip(Duration::from_millis(40)));
    let far = fabric.join("fra/one", Shape::default());
    let [source, other] = ["source", "other"].map(|name| fabric.client.home.path().join(name));
    for directory in [&source, &other] {
        Program::saying("example.test/p", "p").write(directory).unwrap();
    }
    fs::write(other.join("of-no-package"), "").unwrap();

    let first = fabric.build("sg/one", &source, ".");
    // A link is put with what it said.
    for (directory, project, links) in
        [(&other, "acme/other", true), (&source, PROJECT, false), (&source, PROJECT, false)]
    {
        fabric.project = project;
        let built = fabric.build("fra/one", directory, ".");
        let [gets, hits, puts] = ["gets", "hits", "puts"].map(|name| fabric.cache_figure(far, name));
        assert_eq!(built.artifact, first.artifact);
        assert!(links == (puts > 0) && hits * 10 >= gets * 9, "{hits} of {gets}, {puts} put");
        if links {
            fabric.cool(far);
        }
    }
}
