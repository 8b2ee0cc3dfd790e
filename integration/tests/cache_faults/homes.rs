//! What a region keeps of a build whose maker is gone.

use std::{fs, time::Duration};

use meridian_integration::wait::wait_for;

use crate::world::World;

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn a_build_whose_maker_is_gone_comes_from_the_homes_of_its_region_of_which_none_has_all() {
    let mut world = World::start();
    for name in ["eu/a1", "eu/a2", "eu/a3", "ap/a1"] {
        world.join(name);
    }
    // The membership is told once it has lasted.
    wait_for("the agents know of each other", WITHIN, || {
        let told = (0..4).all(|agent| world.link(agent).traffic().up_bytes > 0);
        told.then_some(())
    });
    let before = [1, 2].map(|home| world.link(home).traffic().up_bytes);
    let first = world.build(0);
    let queue = world.cache(0).join("write-back");
    wait_for("what was built is with its homes", WITHIN, || {
        let now = [1, 2].map(|home| world.link(home).traffic().up_bytes);
        let has_begun = now.iter().zip(before).all(|(now, before)| *now > before + 100_000);
        // One name a line, each until it is with its homes.
        let is_done = fs::read_to_string(&queue).is_ok_and(|names| names.trim().is_empty());
        (has_begun && is_done).then_some(())
    });
    assert_eq!([1, 2].map(|home| world.manifests(home)), [Some(0), Some(0)], "each has its share");
    world.fleet.kill_agent(0);
    let before = [1, 2].map(|home| world.link(home).traffic());
    let far = world.build(3);
    assert_eq!(far.artifact, first.artifact);
    // Of all that the build needs, its binary alone is not brought to homes.
    assert!(far.gets - far.hits <= 3 && far.brought > 10, "{far:?}");
    let carried = [1, 2].map(|home| world.link(home).traffic()).map(|traffic| traffic.down_bytes);
    for (carried, before) in carried.into_iter().zip(before) {
        assert!(carried - before.down_bytes > 100_000, "{carried} after {before:?}");
    }
}
