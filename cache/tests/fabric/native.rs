//! A Go that knows nothing of GOCACHEPROG, in a directory that is filled for it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use meridian_cache::{gocache::NativeCache, manifest::Manifest, prefetch::Supply};
use meridian_core::digest::Digest;

use crate::pair::{Place, SCOPE, flip};

const PROGRAM: &str =
    "package main\n\nimport \"strings\"\n\nfunc main() { println(strings.ToUpper(\"built\")) }\n";

fn source(dir: &Path) -> PathBuf {
    let source = dir.join("src");
    fs::create_dir_all(&source).unwrap();
    for (name, text) in [("go.mod", "module example.test/program\n\ngo 1.21\n"), ("main.go", PROGRAM)] {
        let path = source.join(name);
        fs::write(&path, text).unwrap();
        // Of what changed in the last two seconds cmd/go keeps no index.
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    source
}

fn build(source: &Path, gocache: &Path) -> Vec<u8> {
    let output = source.parent().unwrap().join("program");
    let _ = fs::remove_file(&output);
    let done = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&output)
        .arg(".")
        .current_dir(source)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", source)
        .env("GOCACHE", gocache)
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("CGO_ENABLED", "0")])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read(output).unwrap()
}

/// The cache of a task for which nothing is on its way.
fn native(place: &Place) -> Arc<NativeCache> {
    Arc::new(NativeCache::new(&place.daemon, &Place::scope(), Arc::new(Supply::new(None, None))))
}

/// Makes what a build used known here, as its manifest.
fn publish(place: &Place, native: &NativeCache) {
    let manifest = Manifest {
        toolchain: Digest::of(b"go"),
        scope: SCOPE.into(),
        lineage: Digest::of(b"lineage"),
        written_ms: 0,
        entries: native.listed(),
        binaries: Vec::new(),
    };
    place.store.publish(&Arc::new(manifest.sign(&*place.team).unwrap())).unwrap();
}

fn bodies(gocache: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(gocache).unwrap().filter_map(|shelf| fs::read_dir(shelf.unwrap().path()).ok());
    let files = shelves.flatten().map(|file| file.unwrap().path());
    files.filter(|path| path.to_str().unwrap().ends_with("-d")).collect()
}

#[tokio::test]
async fn what_one_build_left_is_laid_out_for_the_next_which_adds_nothing() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, cold, warm) = (source(dir), dir.join("cold"), dir.join("warm"));
    fs::create_dir(&cold).unwrap();
    let first = native(&place);
    first.fill(cold.clone()).await;
    let built = build(&source, &cold);
    first.gather(cold).await;
    let figures = first.figures();
    assert!(figures.puts > 20 && figures.hits == 0 && figures.gets == figures.puts, "{figures:?}");
    publish(&place, &first);

    let second = native(&place);
    second.fill(warm.clone()).await;
    assert_eq!(build(&source, &warm), built);
    second.gather(warm).await;
    let figures = second.figures();
    assert!(figures.puts == 0 && figures.hits > 20 && figures.hit_bytes > 100_000, "{figures:?}");
    assert!(second.listed().len() <= first.listed().len());
    let all = place.daemon.figures();
    assert_eq!((all.hits, all.puts), (figures.hits, first.figures().puts));
}

#[tokio::test]
async fn no_file_of_a_directory_is_one_of_the_stores() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, cold, warm) = (source(dir), dir.join("cold"), dir.join("warm"));
    fs::create_dir(&cold).unwrap();
    build(&source, &cold);
    let first = native(&place);
    first.gather(cold).await;
    publish(&place, &first);
    native(&place).fill(warm.clone()).await;
    let bodies = bodies(&warm);
    assert!(bodies.len() > 20, "{bodies:?}");
    for body in bodies {
        assert_eq!(fs::metadata(&body).unwrap().nlink(), 1, "{}", body.display());
    }
}

#[tokio::test]
async fn a_body_that_rotted_in_the_directory_is_refused() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, gocache) = (source(dir), dir.join("gocache"));
    fs::create_dir(&gocache).unwrap();
    build(&source, &gocache);
    let bodies = bodies(&gocache);
    let largest = bodies.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let output = Digest::of(&fs::read(largest).unwrap());
    flip(largest);
    let native = native(&place);
    native.gather(gocache).await;
    let listed = native.listed();
    assert!(listed.len() > 20 && listed.iter().all(|one| one.entry.output != output), "{}", listed.len());
}

#[tokio::test]
async fn a_build_cannot_have_what_is_anothers_gathered_by_a_link_to_it() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, others, gocache) = (source(dir), dir.join("others"), dir.join("gocache"));
    fs::create_dir(&others).unwrap();
    build(&source, &others);
    fs::create_dir(&gocache).unwrap();
    for shelf in 0..=255_u8 {
        let name = format!("{shelf:02x}");
        std::os::unix::fs::symlink(others.join(&name), gocache.join(&name)).unwrap();
    }
    let whole = dir.join("whole");
    std::os::unix::fs::symlink(&others, &whole).unwrap();
    for linked in [gocache, whole] {
        let native = native(&place);
        native.gather(linked).await;
        assert_eq!(native.listed(), []);
    }
}
