//! Trees: the same files are the same digest, and nothing is ever written outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_store::{
    blob::{BlobConfig, BlobError, DiskBlobs, Durability},
    tree::{
        Directory, DirectoryNode, FileNode, StatCache, SymlinkNode, Tree, TreeError, TreeLimits, materialise,
        remove_materialised, scan,
    },
};
use proptest::prelude::*;

fn blobs(root: &Path) -> DiskBlobs {
    let config = BlobConfig { capacity: ByteCount::gib(1), free_min: ByteCount(0) };
    DiskBlobs::open(root, config).unwrap()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn scan_paths(root: &Path, paths: &[&str]) -> Result<Tree, TreeError> {
    scan(root, paths.iter().map(PathBuf::from), &TreeLimits::default(), None)
}

fn store(tree: &Tree, blobs: &DiskBlobs) {
    for bytes in tree.directories.values() {
        blobs.put(bytes, Durability::Volatile).unwrap();
    }
    for (digest, file) in &tree.files {
        assert_eq!(blobs.put(&fs::read(&file.path).unwrap(), Durability::Volatile).unwrap(), *digest);
    }
}

fn lay_out(blobs: &DiskBlobs, root: &Digest, dest: &Path) -> Result<(), TreeError> {
    materialise(blobs, root, dest, &TreeLimits::default()).map(drop)
}

/// A directory whose bytes are stored as they are.
fn put(blobs: &DiskBlobs, directory: &Directory) -> Digest {
    blobs.put(&directory.encode().unwrap(), Durability::Volatile).unwrap()
}

#[test]
fn a_tree_comes_back_as_it_was_and_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write(&source, "go.mod", "module x");
    write(&source, "cmd/app/main.go", "package main");
    write(&source, "cmd/copy.go", "package main");
    write(&source, "run.sh", "#!/bin/sh");
    fs::set_permissions(source.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("cmd/app", source.join("app")).unwrap();
    symlink("../go.mod", source.join("cmd/dangling")).unwrap();
    fs::create_dir(source.join("empty")).unwrap();
    let paths = ["go.mod", "cmd/app/main.go", "cmd/copy.go", "run.sh", "app", "cmd/dangling", "empty"];
    let tree = scan_paths(&source, &paths).unwrap();
    assert_eq!((tree.entries, tree.files.len(), tree.directories.len()), (9, 3, 4));
    let mut backwards = paths;
    backwards.reverse();
    assert_eq!(scan_paths(&source, &backwards).unwrap().root, tree.root);

    let blobs = blobs(&dir.path().join("blobs"));
    store(&tree, &blobs);
    let dest = dir.path().join("dest");
    lay_out(&blobs, &tree.root, &dest).unwrap();
    assert_eq!(fs::read_to_string(dest.join("app/main.go")).unwrap(), "package main");
    assert_eq!(fs::read_link(dest.join("cmd/dangling")).unwrap(), Path::new("../go.mod"));
    let mode = |path: &str| fs::metadata(dest.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("go.mod"), mode("cmd"), mode("empty")), (0o555, 0o444, 0o555, 0o555));
    assert_eq!(fs::metadata(dest.join("go.mod")).unwrap().nlink(), 1, "no inode is shared with the store");
    let again = scan_paths(&dest, &paths).unwrap();
    assert_eq!(again.root, tree.root);
    assert!(matches!(lay_out(&blobs, &tree.root, &dest), Err(TreeError::Exists { .. })));
    remove_materialised(&dest).unwrap();
    assert!(!dest.exists());
    remove_materialised(&dest).unwrap();
}

#[test]
fn what_no_tree_may_hold_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root, "sub/file", "x");
    write(dir.path(), "secret", "s");
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("..", root.join("above")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (path, what) in [
        ("absolute", "absolute"),
        ("out", "leads out"),
        ("loop", "loops"),
        ("pipe", "is a pipe"),
        ("socket", "is a socket"),
        ("../secret", "names a directory itself"),
        ("/etc/passwd", "absolute"),
        ("sub/./file", "names a directory itself"),
        ("sub//file", "empty"),
        ("above/secret", "a link stands where"),
        ("sub/file/x", "a link stands where"),
        ("gone", "No such file"),
    ] {
        let error = scan_paths(&root, &[path]).unwrap_err().to_string();
        assert!(error.contains(what), "{path}: {error}");
    }
}

#[test]
fn limits_hold_for_scanning_and_for_laying_out() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(&dir.path().join("blobs"));
    let root = dir.path().join("root");
    for path in ["a/b/c/d", "e", "f"] {
        write(&root, path, "12345");
    }
    let paths = || ["a/b/c/d", "e", "f"].map(PathBuf::from);
    let tree = scan(&root, paths(), &TreeLimits::default(), None).unwrap();
    store(&tree, &blobs);
    let whole = TreeLimits::default();
    for limits in [
        TreeLimits { depth: 2, ..whole },
        TreeLimits { entries: 5, ..whole },
        TreeLimits { total: ByteCount(14), ..whole },
    ] {
        assert!(matches!(scan(&root, paths(), &limits, None), Err(TreeError::Limit { .. })), "{limits:?}");
        let dest = dir.path().join("dest");
        let error = materialise(&blobs, &tree.root, &dest, &limits).unwrap_err();
        assert!(matches!(error, TreeError::Limit { .. }), "{error}");
    }
    // A few small blobs can mean a tree of astronomical size.
    let mut digest = put(&blobs, &Directory::default());
    for _ in 0..60 {
        let node = |name: &str| DirectoryNode { name: name.to_owned(), digest };
        digest = put(&blobs, &Directory { directories: vec![node("a"), node("b")], ..Directory::default() });
    }
    let error = lay_out(&blobs, &digest, &dir.path().join("dest")).unwrap_err();
    assert!(matches!(error, TreeError::Limit { what: "entries", .. }), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_refused_by_its_name_and_from_its_size_alone() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(&dir.path().join("blobs"));
    let root = dir.path().join("root");
    write(&root, "data/huge.bin", "");
    // Sparse: it takes no room on the disk, but minutes to be read.
    fs::File::options().write(true).open(root.join("data/huge.bin")).unwrap().set_len(5 << 30).unwrap();
    let error = scan_paths(&root, &["data/huge.bin"]).unwrap_err();
    assert!(matches!(error, TreeError::File { .. }), "{error}");
    let error = error.to_string();
    assert!(["data/huge.bin", "5.0 GiB", "2.0 GiB"].iter().all(|part| error.contains(part)), "{error}");

    // Whoever is given such a tree refuses it as well, before its blobs are fetched.
    let node = FileNode {
        name: "huge.bin".to_owned(),
        digest: Digest::of(b""),
        size: ByteCount::gib(5),
        executable: false,
    };
    let root = put(&blobs, &Directory { files: vec![node], ..Directory::default() });
    let error = lay_out(&blobs, &root, &dir.path().join("dest")).unwrap_err();
    assert!(matches!(error, TreeError::File { .. }), "{error}");
}

#[test]
fn a_failed_layout_leaves_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(&dir.path().join("blobs"));
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let good = blobs.put(b"good", Durability::Volatile).unwrap();
    let file = |name: &str, digest, size| FileNode {
        name: name.to_owned(),
        digest,
        size: ByteCount(size),
        executable: false,
    };
    let missing = Directory {
        files: vec![file("a", good, 4), file("b", Digest::of(b"missing"), 7)],
        ..Directory::default()
    };
    let lying = Directory { files: vec![file("a", good, 5)], ..Directory::default() };
    let link = SymlinkNode { name: "l".to_owned(), target: "../../etc".to_owned() };
    let escaping = Directory { symlinks: vec![link], ..Directory::default() };
    let missing = put(&blobs, &missing);
    let error = lay_out(&blobs, &missing, &work.join("dest")).unwrap_err();
    assert!(matches!(error, TreeError::Blob(BlobError::Missing { .. })), "{error}");
    for directory in [lying, escaping] {
        lay_out(&blobs, &put(&blobs, &directory), &work.join("dest")).unwrap_err();
    }
    // Rot in a blob is noticed while it is copied.
    let bad = put(&blobs, &Directory { files: vec![file("a", good, 4)], ..Directory::default() });
    let path = blobs.get(&good).unwrap().path;
    fs::remove_file(&path).unwrap();
    fs::write(&path, "evil").unwrap();
    let error = lay_out(&blobs, &bad, &work.join("dest")).unwrap_err();
    assert!(matches!(error, TreeError::Blob(BlobError::Corrupt { .. })), "{error}");
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
}

fn age(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn a_file_just_written_is_read_again_because_its_times_cannot_be_trusted_yet() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root, "file", "one");
    age(&root.join("file"), 3600);
    let mut cache = StatCache::default();
    let mut run = || {
        let paths = [PathBuf::from("file")];
        scan(&root, paths, &TreeLimits::default(), Some(&mut cache)).unwrap()
    };
    let first = run();
    assert_eq!((first.files_read, run().files_read), (1, 1), "its inode changed within the last tick");
    // Same length, and the time of the last write put back: only the inode's own time tells.
    fs::write(root.join("file"), "two").unwrap();
    age(&root.join("file"), 3600);
    assert_ne!(run().root, first.root);
}

#[test]
fn a_settled_file_is_not_read_again_and_the_cache_survives_its_file() {
    // Files that were there long before this test: the crate's own sources.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tree/golden");
    let settled = fs::metadata(root.join("directory_v1.hex")).unwrap();
    let changed = u64::try_from(settled.ctime().max(settled.mtime())).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(changed + 3 < now, "the sources were written only just now");
    let dir = tempfile::tempdir().unwrap();
    let mut cache = StatCache::default();
    let paths = || [PathBuf::from("directory_v1.hex")];
    let first = scan(&root, paths(), &TreeLimits::default(), Some(&mut cache)).unwrap();
    assert_eq!((first.files_read, cache.len()), (1, 1));
    let file = dir.path().join("cache");
    cache.save(&file).unwrap();
    let mut loaded = StatCache::load(&file);
    assert_eq!(loaded, cache);
    let second = scan(&root, paths(), &TreeLimits::default(), Some(&mut loaded)).unwrap();
    assert_eq!((second.files_read, second.root), (0, first.root));
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(StatCache::load(&file).is_empty());
    assert!(StatCache::load(&dir.path().join("none")).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_survives_the_round_trip(
        files in prop::collection::btree_map("[a-c]{1,2}(/[a-cä]{1,3}){0,3}", "[a-z]{0,20}", 0..20)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        // A path that needs a directory where a file is already cannot be made; leave it out.
        let mut made = BTreeMap::new();
        for (path, text) in files {
            let full = source.join(&path);
            if fs::create_dir_all(full.parent().unwrap()).is_ok() && !full.exists() && fs::write(&full, &text).is_ok() {
                made.insert(path, text);
            }
        }
        let tree = scan(&source, made.keys().map(PathBuf::from), &TreeLimits::default(), None).unwrap();
        let blobs = blobs(&dir.path().join("blobs"));
        store(&tree, &blobs);
        let dest = dir.path().join("dest");
        let loaded = materialise(&blobs, &tree.root, &dest, &TreeLimits::default()).unwrap();
        prop_assert_eq!(loaded.files.len(), made.len());
        for (path, text) in &made {
            prop_assert_eq!(&fs::read_to_string(dest.join(path)).unwrap(), text);
        }
        remove_materialised(&dest).unwrap();
    }
}
