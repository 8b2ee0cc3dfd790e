//! The way to the one who has what is needed fails.

use std::{
    thread,
    time::{Duration, Instant},
};

use meridian_integration::relay::{Shape, Way};

use crate::world::World;

/// What questions may wait for a cache that is gone: a second in all while nothing comes, for each of those that are under
/// way at once.
const WAITED_MS_MAX: u64 = 8_000;
/// Less than the program needs, and more than the manifest.
const MIDST_BYTES: u64 = 100_000;

/// Faults come one after the other at one fleet: each build begins with nothing.
#[test]
fn whatever_becomes_of_the_way_to_a_shard_the_build_goes_on_and_the_artifact_is_the_same() {
    let (mut world, first) = World::with_two();
    let narrow = Shape::default().at_bytes_per_s(Way::Down, 500_000);

    // As it should be, so that the rest means something.
    let good = world.build(1);
    assert_eq!(good.artifact, first.artifact);
    assert!(good.brought > 10 && good.hits > 10, "{good:?}");

    // A bit flips on the way.
    world.cool(1);
    world.link(0).flip_bit(Way::Down, MIDST_BYTES);
    let flipped = world.build(1);
    assert_eq!(flipped.artifact, first.artifact, "a bit that flipped on the wire");
    assert_eq!(world.link(0).flipped_bits(), 1, "it did flip: {:?}", world.link(0).traffic());

    // It is slow for ever.
    world.cool(1);
    world.link(0).reshape(Shape::default().at_bytes_per_s(Way::Down, 2_000));
    let slow = world.build(1);
    assert_eq!(slow.artifact, first.artifact, "a shard that is slow for ever");
    assert!(slow.waited_ms < WAITED_MS_MAX && slow.brought == 0, "{slow:?}");

    // It becomes a black hole in the midst of a build. An agent that found the other slow would not ask it for a while.
    world.link(0).reshape(narrow);
    world.cool_until_it_knows(1, 0);
    let mut building = world.start_build(1);
    world.wait_for_bytes(0, &mut building, MIDST_BYTES);
    world.link(0).blackhole();
    let swallowed = world.finish(building);
    assert_eq!(swallowed.artifact, first.artifact, "a cache that vanished in the midst of a build");
    assert!(swallowed.waited_ms < WAITED_MS_MAX, "{swallowed:?}");

    // Whoever asked in vain does not wait for it again.
    let again = Instant::now();
    let without = world.build(1);
    assert_eq!(without.artifact, first.artifact);
    assert!(without.waited_ms < WAITED_MS_MAX, "{without:?} after {:?}", again.elapsed());
    world.link(0).mend();

    // The shard itself dies.
    world.cool_until_it_knows(1, 0);
    let mut building = world.start_build(1);
    world.wait_for_bytes(0, &mut building, MIDST_BYTES);
    world.fleet.kill_agent(0);
    // With its machine: what that had still to send would arrive for as long as the narrow way takes.
    world.link(0).cut_connections();
    let alone = world.finish(building);
    assert_eq!(alone.artifact, first.artifact, "a shard that was killed in the midst of a build");
    assert!(alone.waited_ms < WAITED_MS_MAX, "{alone:?}");

    // And comes back: by what it has on its disk, since the newest manifest was the other's, who has lost it.
    world.restart(0);
    world.link(0).reshape(Shape::default());
    world.cool_until_it_knows(1, 0);
    let mended = world.build(1);
    assert_eq!(mended.artifact, first.artifact);
    assert!(mended.brought > 10 && mended.hits > 10, "{mended:?}");
}

/// Two tasks of one agent that need the same at once have it brought once.
#[test]
fn two_builds_that_need_the_same_at_once_have_it_fetched_once_and_both_find_it() {
    let (mut world, first) = World::with_two();
    let before = world.link(0).traffic();
    let alone = world.build(1);
    let once = world.link(0).traffic().since(&before).down_bytes;
    assert_eq!(alone.artifact, first.artifact);

    world.cool(1);
    world.link(0).reshape(Shape::default().at_bytes_per_s(Way::Down, 1_000_000));
    let before = world.link(0).traffic();
    let one = world.start_build(1);
    // Another request, and not another watcher of the first.
    thread::sleep(Duration::from_millis(50));
    let other = world.start_build(1);
    let (one, other) = (world.finish(one), world.finish(other));
    let both = world.link(0).traffic().since(&before).down_bytes;
    assert_eq!((&one.artifact, &other.artifact), (&first.artifact, &first.artifact));
    assert!(both < once + once / 2, "{both} bytes for two, {once} for one");
    assert!(one.hits > 10 && other.hits > 10, "{one:?} {other:?}");
}
