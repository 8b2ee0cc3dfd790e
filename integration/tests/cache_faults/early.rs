//! What a task will ask for is on its way before the task can begin.

use std::time::Duration;

use meridian_integration::{fixture::go_copy::GoCopy, home::Home, wait::wait_for};

use crate::world::{FAR, HOME, World};

/// More than a manifest and all that is said around it.
const BODIES_BYTES: u64 = 1 << 20;
/// How long an agent waits for its go command to tell its version is half a minute.
const WITHIN: Duration = Duration::from_secs(25);

/// The toolchain is the first that a task needs, so whoever waits for it has asked nothing yet.
#[test]
fn bodies_come_from_when_a_task_is_placed_and_not_from_when_its_toolchain_is_there() {
    let place = tempfile::tempdir().expect("a directory");
    let go = GoCopy::at(&place.path().join("go"));
    go.gate();
    let mut world = World::start();
    for name in [HOME, FAR] {
        let mut home = Home::with_proxy("off");
        home.set("GOROOT", go.root());
        // Within the sandbox nobody would see the gate.
        world.join_in(name, home, &["sandbox=off".to_owned()]);
    }
    let first = world.build(0);
    world.wait_for_manifest(0);

    let before = world.link(0).traffic();
    go.shut();
    let building = world.start_build(1);
    wait_for("the task waits for its toolchain", WITHIN, || go.is_waited_for().then_some(()));
    wait_for("bodies come while it waits", WITHIN, || {
        (world.link(0).traffic().since(&before).down_bytes > BODIES_BYTES).then_some(())
    });
    go.open();
    let there = world.finish(building);
    assert_eq!(there.artifact, first.artifact);
    assert!(there.brought > 10 && there.hits > 10, "{there:?}");
}
