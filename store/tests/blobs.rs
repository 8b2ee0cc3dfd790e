//! Blobs: verified, published whole, evicted only when nobody holds them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_store::blob::{BlobConfig, BlobError, BlobStore, DiskBlobs, Durability, VerifyingStore};
use proptest::prelude::*;

fn open(root: &Path, capacity: u64) -> DiskBlobs {
    DiskBlobs::open(root, BlobConfig { capacity: ByteCount(capacity), free_min: ByteCount(0) }).unwrap()
}

fn files_below(root: &Path) -> usize {
    fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_blob_is_published_whole_and_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 1000);
    let mut writer = blobs.writer(None).unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    assert_eq!(files_below(&dir.path().join("blobs")), 0);
    let (digest, size) = writer.commit(None, Durability::Durable).unwrap();
    assert_eq!((digest, size), (Digest::of(b"hello world"), ByteCount(11)));
    let handle = blobs.get(&digest).unwrap();
    assert!(handle.path.ends_with(digest.to_hex()) && handle.path.extension().is_none());
    assert_eq!(fs::metadata(&handle.path).unwrap().permissions().mode() & 0o777, 0o444);
    assert!(matches!(DiskBlobs::open(dir.path(), BlobConfig::default()), Err(BlobError::Locked { .. })));
    drop(blobs);
    fs::write(dir.path().join("tmp/left"), "by a crash").unwrap();
    let blobs = open(dir.path(), 1000);
    assert_eq!(blobs.usage().bytes, ByteCount(11));
    assert_eq!(blobs.read(&digest, ByteCount(11)).unwrap(), "hello world");
    assert!(matches!(blobs.read(&digest, ByteCount(10)), Err(BlobError::TooLarge { .. })));
    assert_eq!(files_below(&dir.path().join("tmp")), 0);
}

#[test]
fn bytes_that_are_not_their_digest_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 1000);
    let mut writer = blobs.writer(None).unwrap();
    writer.write_all(b"evil").unwrap();
    let error = writer.commit(Some(Digest::of(b"good")), Durability::Volatile).unwrap_err();
    assert!(matches!(error, BlobError::Mismatch { .. }), "{error}");
    let mut writer = blobs.writer(Some(ByteCount(3))).unwrap();
    let error = writer.write_all(b"evil").unwrap_err();
    assert!(error.to_string().contains("limit of 3 B"), "{error}");
    assert!(writer.commit(None, Durability::Volatile).is_err());
    drop(blobs.writer(None).unwrap());
    assert_eq!((files_below(&dir.path().join("tmp")), blobs.usage().blobs), (0, 0));
}

#[test]
fn the_longest_unused_goes_first_and_the_pinned_never() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 40);
    let put = |byte: u8| blobs.put(&[byte; 10], Durability::Volatile);
    let digests: Vec<_> = (0..4).map(|byte| put(byte).unwrap()).collect();
    let guard = blobs.pin([digests[0]]);
    blobs.pin_named("build", [digests[1]]);
    blobs.get(&digests[2]).unwrap();
    put(10).unwrap();
    let here = |digest: &Digest| blobs.contains(digest) && blobs.path_exists(digest);
    assert_eq!(digests.iter().map(here).collect::<Vec<_>>(), [true, true, true, false]);
    put(11).unwrap();
    put(12).unwrap();
    assert!(here(&digests[0]) && here(&digests[1]) && !here(&digests[2]));
    let second = blobs.pin([digests[0], Digest::of(&[13; 10]), Digest::of(&[14; 10])]);
    put(13).unwrap();
    put(14).unwrap();
    assert!(matches!(put(15), Err(BlobError::DiskFull { .. })));
    assert_eq!(blobs.usage().bytes, ByteCount(40));
    drop(guard);
    assert!(matches!(put(15), Err(BlobError::DiskFull { .. })), "still pinned once");
    assert!(blobs.unpin_named("build") && !blobs.unpin_named("build"));
    put(15).unwrap();
    assert!(!here(&digests[1]) && here(&digests[0]));
    drop(second);
    assert_eq!(blobs.usage().pinned, 0);
}

trait PathExists {
    fn path_exists(&self, digest: &Digest) -> bool;
}

impl PathExists for DiskBlobs {
    fn path_exists(&self, digest: &Digest) -> bool {
        self.get(digest).is_some_and(|handle| handle.path.exists())
    }
}

#[test]
fn a_disk_that_should_keep_more_free_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let config = BlobConfig { capacity: ByteCount(1 << 40), free_min: ByteCount(u64::MAX) };
    let blobs = DiskBlobs::open(dir.path(), config).unwrap();
    let error = blobs.put(b"x", Durability::Volatile).unwrap_err();
    assert!(matches!(error, BlobError::DiskFull { .. }), "{error}");
}

#[test]
fn a_blob_that_rotted_is_reported_once_and_healed_by_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 1000);
    let digest = blobs.put(b"content", Durability::Durable).unwrap();
    spoil(&blobs.get(&digest).unwrap().path);
    let mut reader = blobs.open_verified(&digest).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("corrupt"), "{error}");
    assert!(matches!(blobs.open_verified(&digest), Err(BlobError::Missing { .. })));
    blobs.put(b"content", Durability::Durable).unwrap();
    spoil(&blobs.get(&digest).unwrap().path);
    blobs.put(b"content", Durability::Durable).unwrap();
    assert_eq!(blobs.read(&digest, ByteCount(100)).unwrap(), "content");
    fs::remove_file(blobs.get(&digest).unwrap().path).unwrap();
    assert!(matches!(blobs.open_verified(&digest), Err(BlobError::Missing { .. })));
    assert!(!blobs.contains(&digest));
}

#[tokio::test]
async fn an_untrusted_store_is_verified_both_ways() {
    use tokio::io::AsyncReadExt as _;
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 1 << 20);
    let store = VerifyingStore::new(Box::new(blobs.clone()));
    let big = vec![5; 600 << 10];
    let digest = Digest::of(&big);
    assert_eq!(store.missing(&[digest]).await.unwrap(), [digest]);
    let error = store.put(&digest, Box::pin(&b"other"[..])).await.unwrap_err();
    assert!(matches!(error, BlobError::Mismatch { .. }), "{error}");
    store.put(&digest, Box::pin(std::io::Cursor::new(big.clone()))).await.unwrap();
    assert!(store.missing(&[digest]).await.unwrap().is_empty());
    let mut read = Vec::new();
    store.get(&digest).await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read, big);
    spoil(&blobs.get(&digest).unwrap().path);
    let error = store.get(&digest).await.unwrap().read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(matches!(store.get(&Digest::of(b"?")).await, Err(BlobError::Missing { .. })));
}

#[test]
fn threads_that_write_the_same_blobs_agree_on_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path(), 3000);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let blobs = &blobs;
            scope.spawn(move || {
                for round in 0..200u8 {
                    blobs.put(&[round.wrapping_mul(thread) % 50; 100], Durability::Volatile).unwrap();
                }
            });
        }
    });
    let usage = blobs.usage();
    assert_eq!(usage.blobs, files_below(&dir.path().join("blobs")));
    assert!(usage.bytes <= ByteCount(3000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_come_back_as_they_went_in(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..6)) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path(), 1 << 20);
        let mut writer = blobs.writer(None).unwrap();
        for piece in &pieces {
            writer.write_all(piece).unwrap();
        }
        let whole = pieces.concat();
        let (digest, _) = writer.commit(Some(Digest::of(&whole)), Durability::Volatile).unwrap();
        prop_assert_eq!(blobs.read(&digest, ByteCount(1 << 20)).unwrap(), whole);
    }
}
