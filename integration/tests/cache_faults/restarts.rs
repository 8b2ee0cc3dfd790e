//! Each part ends in the midst of an upload and comes back.

use std::time::Duration;

use meridian_integration::{
    relay::{Shape, Way},
    wait::wait_for,
};

use crate::world::World;

const WITHIN: Duration = Duration::from_secs(90);
/// Less than all that the program leaves, and more than a manifest.
const MIDST_BYTES: u64 = 200_000;

/// Two agents of one region: what one builds is brought to the other.
fn region() -> World {
    let mut world = World::start();
    world.join("eu/a1");
    world.join("eu/a2");
    // The membership is told once it has lasted.
    wait_for("the agents know of each other", WITHIN, || {
        let told = (0..2).all(|agent| world.link(agent).traffic().up_bytes > 0);
        told.then_some(())
    });
    world.link(1).reshape(Shape::default().at_bytes_per_s(Way::Up, 300_000));
    world
}

fn wait_for_upload(world: &World, before: u64) {
    wait_for("an upload is under way", WITHIN, || {
        (world.link(1).traffic().up_bytes > before + MIDST_BYTES).then_some(())
    });
    // What follows finds it in the midst, however long that takes.
    world.link(1).reshape(Shape::default().at_bytes_per_s(Way::Up, 3_000));
}

#[test]
fn an_upload_ends_whoever_is_killed_in_the_midst_of_it() {
    // Who sends, who takes, and the coordinator.
    for killed in ["sender", "receiver", "coordinator"] {
        let mut world = region();
        let before = world.link(1).traffic().up_bytes;
        let first = world.build(0);
        wait_for_upload(&world, before);
        assert_eq!(world.manifests(1), Some(0), "it has not all come");
        match killed {
            "sender" => {
                world.fleet.kill_agent(0);
                world.restart(0);
            }
            "receiver" => {
                world.fleet.kill_agent(1);
                world.restart(1);
            }
            _ => {
                world.fleet.kill_coordinator();
                world.fleet.start_coordinator();
            }
        }
        world.link(1).reshape(Shape::default());
        world.wait_for_manifest(1);
        let there = world.build(1);
        assert_eq!(there.artifact, first.artifact, "{killed}");
        // Of all that the build needs, its binary alone is not brought to homes.
        assert!(there.gets - there.hits <= 3 && there.brought <= 1, "{killed}: {there:?}");
    }
}
