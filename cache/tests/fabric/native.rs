//! A Go that knows nothing of GOCACHEPROG, in a directory that was laid out for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use meridian_cache::gocache::{harvest, lay_out};

use crate::pair::{Place, flip};

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

#[test]
fn what_one_build_left_is_laid_out_for_the_next_which_adds_nothing() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, namespace) = (source(dir), Place::namespace());
    let cold = dir.join("cold");
    lay_out(&place.store, &[namespace], &[], &cold, &|_| Ok(())).unwrap();
    let built = build(&source, &cold);
    let first = harvest(&place.store, &namespace, &cold).unwrap();
    assert!(first.added > 20 && first.refused == 0, "{first:?}");

    let warm = dir.join("warm");
    let count = lay_out(&place.store, &[namespace], &first.listed, &warm, &|_| Ok(())).unwrap();
    assert_eq!(count, first.listed.len() as u64);
    assert_eq!(build(&source, &warm), built);
    let second = harvest(&place.store, &namespace, &warm).unwrap();
    assert_eq!((second.added, second.refused), (0, 0));
    // Only what is needed to link again was used.
    assert!(!second.listed.is_empty() && second.listed.len() <= first.listed.len(), "{second:?}");
}

#[test]
fn a_body_that_rotted_in_the_directory_is_refused() {
    let place = Place::new();
    let dir = place.dir.path();
    let (source, namespace) = (source(dir), Place::namespace());
    let gocache = dir.join("gocache");
    fs::create_dir(&gocache).unwrap();
    build(&source, &gocache);
    let mut bodies = Vec::new();
    for shelf in fs::read_dir(&gocache).unwrap().filter_map(|shelf| fs::read_dir(shelf.unwrap().path()).ok())
    {
        bodies.extend(
            shelf.map(|file| file.unwrap().path()).filter(|path| path.to_str().unwrap().ends_with("-d")),
        );
    }
    let largest = bodies.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    flip(largest);
    let harvested = harvest(&place.store, &namespace, &gocache).unwrap();
    assert!(harvested.refused >= 1 && harvested.added > 20, "{harvested:?}");
}
