//! How long things stay: by age, by command, and never shorter than a build needs them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use meridian_cache::{
    disk::{CacheStore, Eviction},
    manifest::{Manifest, SignedManifest},
};
use meridian_core::{digest::Digest, quantity::ByteCount};

use crate::pair::{Place, bodies, flip, without_privilege};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Of the bodies that are not empty, each once.
const BODY_BYTES: u64 = 900 + 70_000 + 3_500_000 + 20;

/// Sets the modification times of all files below a directory back.
fn age(dir: &Path, by: Duration) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), by);
        } else {
            File::open(entry.path()).unwrap().set_modified(SystemTime::now() - by).unwrap();
        }
    }
}

fn reopened(place: Place) -> (tempfile::TempDir, Arc<CacheStore>) {
    let Place { dir, store, daemon, .. } = place;
    drop((store, daemon));
    let store = CacheStore::open(&dir.path().join("cache"), ByteCount::gib(1)).unwrap();
    (dir, store)
}

/// The manifest again, in another lineage and with these of its mappings.
fn published(place: &Place, signed: &SignedManifest, lineage: &[u8], mappings: usize) -> Arc<SignedManifest> {
    let entries = signed.manifest.entries[..mappings].to_vec();
    let manifest = Manifest { lineage: Digest::of(lineage), entries, ..signed.manifest.clone() };
    let signed = Arc::new(manifest.sign(&*place.team).unwrap());
    place.store.publish(&signed).unwrap();
    signed
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_that_nobody_used_for_as_long_as_things_are_kept() {
    let place = Place::new();
    place.build(&bodies()).await;
    let before = place.store.figures();
    assert_eq!((before.bytes, before.manifests), (BODY_BYTES, 1));
    assert!(before.frame_bytes > 0 && before.entries == 7);
    assert_eq!(place.store.sweep(Some(30 * DAY)).unwrap(), meridian_cache::disk::Evicted::default());
    for part in ["bodies", "frames", "manifests"] {
        age(&place.dir.path().join("cache").join(part), 31 * DAY);
    }
    let (_dir, store) = reopened(place);
    let evicted = store.sweep(Some(30 * DAY)).unwrap();
    assert_eq!((evicted.bodies, evicted.bytes, evicted.manifests), (4, BODY_BYTES, 1));
    assert_eq!(evicted.frame_bytes, before.frame_bytes);
    let after = store.figures();
    assert_eq!((after.bytes, after.frame_bytes, after.manifests), (0, 0, 0));
    // What is answered with nothing was asked for today.
    assert_eq!((after.entries, after.evicted_bodies, after.evicted_bytes), (2, 4, BODY_BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_build_in_flight_was_given_stays_until_its_end() {
    let place = Place::new();
    place.build(&bodies()).await;
    let task = place.task(None);
    let mut driver = place.driver(&task);
    assert_eq!(driver.get("large"), Some(bodies()[3].1.clone()));
    let evicted = place.store.evict(&Eviction::All).unwrap();
    assert_eq!((evicted.bodies, evicted.pinned_bodies, evicted.pinned_bytes), (3, 1, 3_500_000));
    // It is answered again, and what went is a miss.
    assert_eq!(driver.get("large"), Some(bodies()[3].1.clone()));
    assert_eq!(driver.get("archive"), None);
    driver.close();
    task.close(Duration::from_secs(5)).await;
    drop(task);
    // Its pins go beside, when its view is gone.
    for _ in 0..1_000 {
        if place.store.evict(&Eviction::All).unwrap().bodies == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((place.store.held(), place.store.figures().entries), (ByteCount(0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_where_the_disk_has_no_room_left_goes_and_is_counted() {
    let place = Place::new();
    place.build(&bodies()).await;
    // The index has no room to be written anew.
    std::os::unix::fs::symlink("/dev/full", place.dir.path().join("cache/index-3.new")).unwrap();
    let evicted = place.store.evict(&Eviction::All).unwrap();
    assert_eq!((evicted.bodies, place.store.held()), (4, ByteCount(0)));
    // It has now.
    assert!(place.store.evict(&Eviction::All).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_which_a_body_went_is_told_as_whole_no_more_until_it_is_again() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    assert_eq!(near.store.library().names(), [signed.digest]);
    let serving = near.serve().await;
    far.prefetch(&signed, &[serving.address]).ended().await;
    assert_eq!(far.store.library().names(), [signed.digest]);
    assert_eq!(far.store.recheck(), 0);

    // One that rotted is found when somebody asks for it, and who looks after the store hears of it.
    let gone = tokio::spawn({
        let store = Arc::clone(&far.store);
        async move { store.bodies_gone().await }
    });
    flip(&far.body_path(&bodies()[1].1));
    let task = far.task(None);
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("archive"), None);
    driver.close();
    drop(task);
    gone.await.unwrap();
    assert_eq!(far.store.recheck(), 1);
    assert!(far.store.library().names().is_empty());
    let figures = far.store.figures();
    assert_eq!((figures.manifests, figures.manifests_in_part, figures.damaged_bodies), (0, 1, 1));

    // What is lacking comes again, and with it the word.
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert!(prefetch.ended().await.bodies < 4);
    drop(prefetch);
    assert_eq!(far.store.library().names(), [signed.digest]);

    // Of what goes while nobody looks, the next process tells nothing wrong.
    fs::remove_file(far.body_path(&bodies()[3].1)).unwrap();
    let (_dir, store) = reopened(far);
    assert!(store.library().names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_after_the_store_takes_the_word_back_without_being_asked() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let keeping = tokio::spawn(Arc::clone(&place.store).keep_up(None));
    assert_eq!(place.store.library().names(), [signed.digest]);
    flip(&place.body_path(&bodies()[1].1));
    let task = place.task(None);
    let mut driver = place.driver(&task);
    assert_eq!(driver.get("archive"), None);
    driver.close();
    let taken_back = async {
        while !place.store.library().names().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken_back).await.expect("it is whole no more");
    keeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_for_room_takes_the_word_back_as_well() {
    let place = Place::with_capacity(ByteCount::mib(4));
    let signed = place.build(&bodies()).await;
    assert_eq!(place.store.library().names(), [signed.digest]);
    let gone = place.store.bodies_gone();
    let task = place.task(None);
    let mut driver = place.driver(&task);
    for number in 0..3_u8 {
        driver.put(&number.to_string(), &vec![number; 1 << 20]);
    }
    driver.close();
    gone.await;
    assert_eq!(place.store.recheck(), 1);
    assert!(place.store.library().names().is_empty());
    assert!(place.store.figures().evicted_bytes >= 3_500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_goes_without_what_another_one_uses_too() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let kept = published(&place, &signed, b"another", 2);
    let lineages = BTreeSet::from([Digest::of(b"lineage")]);
    let evicted = place.store.evict(&Eviction::Lineages(lineages)).unwrap();
    assert_eq!((evicted.bodies, evicted.bytes), (2, 3_500_020));
    assert!(evicted.manifests == 1 && evicted.frame_bytes > 0, "{evicted:?}");
    assert_eq!(place.store.library().names(), [kept.digest]);
    let task = place.task(None);
    let mut driver = place.driver(&task);
    assert_eq!(driver.get("archive"), Some(bodies()[1].1.clone()));
    assert_eq!(driver.get("large"), None);
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_finds_every_kind_of_damage_once_and_drops_it() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let cache = place.dir.path().join("cache");
    let checked = place.store.verify(&*place.team, |_| true).unwrap();
    assert_eq!((checked.bodies, checked.bytes, checked.damaged()), (5, BODY_BYTES, 0), "{checked:?}");
    assert_eq!((checked.entries, checked.manifests), (7, 1));

    let whole = fs::metadata(place.body_path(&bodies()[1].1)).unwrap().modified().unwrap();
    flip(&place.body_path(&bodies()[1].1));
    // Its stamp says that nothing happened.
    File::open(place.body_path(&bodies()[1].1)).unwrap().set_modified(whole).unwrap();
    flip(&cache.join("index-3"));
    flip(&cache.join("manifests").join(signed.digest.to_string()));
    flip(&fs::read_dir(cache.join("frames")).unwrap().next().unwrap().unwrap().path());
    let checked = place.store.verify(&*place.team, |_| true).unwrap();
    let damaged =
        [checked.damaged_bodies, checked.damaged_entries, checked.damaged_manifests, checked.damaged_frames];
    assert_eq!((damaged, checked.damaged()), ([1; 4], 4));
    assert!(place.store.library().names().is_empty());
    assert_eq!(place.store.verify(&*place.team, |_| true).unwrap().damaged(), 0);
    assert!(!place.body_path(&bodies()[1].1).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_the_whole_cache_could_not_hold_is_refused_before_anything_makes_room_for_it() {
    let place = Place::with_capacity(ByteCount::mib(1));
    let task = place.task(None);
    let mut driver = place.driver(&task);
    driver.put("small", &[1; 400_000]);
    driver.close();
    task.close(Duration::from_secs(5)).await;

    let task = place.task(None);
    let mut driver = place.driver(&task);
    driver.put("larger than all", &vec![2; 2 << 20]);
    // The connection goes on behind it.
    driver.put("another", &[3; 400_000]);
    assert!(driver.get("small").is_some() && driver.get("another").is_some());
    driver.close();
    let figures = place.store.figures();
    assert_eq!((figures.evicted_bodies, figures.bodies), (0, 2));
    assert!(!place.body_path(&[2; 2 << 20]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_somebody_removed_is_told_as_missing_once_and_forgotten_with_what_it_answers() {
    let place = Place::new();
    place.build(&bodies()).await;
    fs::remove_file(place.body_path(&bodies()[1].1)).unwrap();
    let checked = place.store.verify(&*place.team, |_| true).unwrap();
    assert_eq!((checked.missing_bodies, checked.damaged_bodies, checked.damaged()), (1, 0, 1));
    assert_eq!(checked.bodies, 4, "they are those that were hashed");
    assert!(place.store.library().names().is_empty());
    let checked = place.store.verify(&*place.team, |_| true).unwrap();
    assert_eq!((checked.damaged(), checked.entries), (0, 5), "one body answers two actions");
    // One that is let go is no loss.
    place.store.evict(&Eviction::All).unwrap();
    assert_eq!(place.store.verify(&*place.team, |_| true).unwrap().damaged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_keeps_what_cannot_be_read_now_and_says_how_much_that_is() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let cache = place.dir.path().join("cache");
    let frame = fs::read_dir(cache.join("frames")).unwrap().next().unwrap().unwrap().path();
    let manifest = cache.join("manifests").join(signed.digest.to_string());
    // The manifest before the body: without that it is whole no more, and under another name.
    let files = [manifest, frame, place.body_path(&bodies()[1].1)];
    let verify = || place.store.verify(&*place.team, |_| true).unwrap();
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
        let checked = without_privilege(verify);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!((checked.damaged(), checked.unreadable), (0, 1), "{}", file.display());
    }
    let checked = verify();
    assert_eq!((checked.bodies, checked.manifests, checked.damaged(), checked.unreadable), (5, 1, 0, 0));
    assert_eq!(place.store.library().names(), [signed.digest]);
    // What a disk does not give back any more, to whoever asks, is another matter.
    for file in &files {
        fs::remove_file(file).unwrap();
        // Nobody can read what leads to itself.
        std::os::unix::fs::symlink(file, file).unwrap();
        let checked = verify();
        assert_eq!((checked.damaged(), checked.unreadable), (1, 0), "{}", file.display());
        assert!(fs::symlink_metadata(file).is_err());
    }
    assert_eq!(verify().damaged(), 0);
    assert!(place.store.library().names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_and_what_went_is_counted_at_both_ends() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let figures = prefetch.ended().await;
    drop(prefetch);
    let (came, went) = (far.store.figures().tally, near.store.figures().tally);
    assert_eq!((came.fetched_bodies, came.fetched_bytes), (4, BODY_BYTES));
    assert_eq!((came.fetched_wire_bytes, came.served_wire_bytes), (figures.wire_bytes, 0));
    assert_eq!((went.served_wire_bytes, went.fetched_bodies), (figures.wire_bytes, 0));
}
