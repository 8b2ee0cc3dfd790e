//! Too little room.

use std::fs;

use meridian_integration::fixture::small_disk::SmallDisk;

use crate::world::{FAR, HOME, World, files};

/// One agent builds with a full disk under its cache, brought to by another, and serves what it has to a third.
#[test]
fn a_cache_whose_disk_is_full_makes_builds_slower_and_neither_failed_nor_wrong() {
    let mut world = World::start();
    world.join(HOME);
    world.join(FAR);
    world.join("us/a1");
    let mut disk = None;
    // Ten times less than the program leaves.
    world.while_stopped(1, |cache| disk = SmallDisk::mount(cache.to_owned(), 2048));
    if disk.is_none() {
        return;
    }

    let first = world.build(0);
    world.wait_for_manifest(0);
    let there = world.build(1);
    assert_eq!(there.artifact, first.artifact, "on a disk that was full in the midst of a prefetch");
    let again = world.build(1);
    assert_eq!(again.artifact, first.artifact, "on a disk that is full");
    let third = world.build(2);
    assert_eq!(third.artifact, first.artifact, "beside a shard whose disk is full");
    assert!(third.brought > 10, "{third:?}");

    // With room again it goes on as ever.
    for path in files(&world.cache(1).join("bodies")) {
        fs::remove_file(path).expect("a body can be removed");
    }
    assert_eq!(world.build(1).artifact, first.artifact);
}
