//! What lies on a disk is not what it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::world::{World, files};

/// A record of the index: key, output, size, time, day, code.
const RECORD_LEN: usize = 100;
const OUTPUT: std::ops::Range<usize> = 32..64;

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file of the cache");
    if !bytes.is_empty() {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("it can be written");
    }
}

fn cut(path: &Path) {
    let len = fs::metadata(path).expect("a file of the cache").len();
    fs::File::options().write(true).open(path).and_then(|file| file.set_len(len / 2)).expect("it can be cut");
}

fn bodies_and_frames(cache: &Path) -> Vec<PathBuf> {
    [files(&cache.join("bodies")), files(&cache.join("frames"))].concat()
}

#[test]
fn what_rotted_was_cut_short_or_moved_on_a_disk_reaches_no_compiler_there_or_elsewhere() {
    let (mut world, first) = World::with_two();
    let cache = world.cache(0);

    // Under the holder's hands: every other file has a flipped bit, and the rest is cut short.
    let kept = bodies_and_frames(&cache);
    assert!(kept.len() > 20, "{}", kept.len());
    for (number, path) in kept.iter().enumerate() {
        if number % 2 == 0 { flip(path) } else { cut(path) }
    }
    let far = world.build(1);
    assert_eq!(far.artifact, first.artifact, "from a holder whose disk rotted");
    assert_eq!(far.brought, 0, "{far:?}");
    let own = world.build(0);
    assert_eq!(own.artifact, first.artifact, "on a disk that rotted");

    // It has all been built again. Now every mapping leads to what another action gave.
    world.while_stopped(0, |cache| {
        let path = cache.join("index-3");
        let mut index = fs::read(&path).expect("the index");
        let count = index.len() / RECORD_LEN;
        let outputs: Vec<Vec<u8>> =
            index.chunks_exact(RECORD_LEN).map(|record| record[OUTPUT].to_vec()).collect();
        for (number, record) in index.chunks_exact_mut(RECORD_LEN).enumerate() {
            record[OUTPUT].copy_from_slice(&outputs[(number + 1) % count]);
        }
        fs::write(path, index).expect("it can be written");
    });
    let swapped = world.build(0);
    assert_eq!(swapped.artifact, first.artifact, "after the index's outputs were moved on by one");

    // And the same in the manifests, which others would believe.
    world.while_stopped(0, |cache| {
        for path in files(&cache.join("manifests")) {
            let mut bytes = fs::read(&path).expect("a manifest");
            // Within the list of outputs, wherever that begins: two bytes change places.
            let middle = bytes.len() / 2;
            bytes.swap(middle, middle + 32);
            fs::write(path, bytes).expect("it can be written");
        }
    });
    world.cool(1);
    let far = world.build(1);
    assert_eq!(far.artifact, first.artifact, "after the manifests were changed");
    assert_eq!(far.brought, 0, "{far:?}");
}
