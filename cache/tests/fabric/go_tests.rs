//! Results of tests, and builds with the race detector: entries like any others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use meridian_cache::local::TaskCache;

use crate::{driver::shim_program, pair::Place};

const TEST: &str = "package program\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestRead(t *testing.T) {\n\t\
                    if _, err := os.ReadFile(\"testdata/input\"); err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n";

/// A module whose test reads a file. All of it is old: cmd/go keeps no result of what may still change.
fn source(dir: &Path) -> PathBuf {
    let source = dir.join("src");
    fs::create_dir_all(source.join("testdata")).unwrap();
    let files = [
        ("go.mod", "module example.test/program\n\ngo 1.21\n"),
        ("program.go", "package program\n"),
        ("program_test.go", TEST),
        ("testdata/input", "what is read"),
    ];
    for (name, text) in files {
        let path = source.join(name);
        fs::write(&path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    source
}

/// Runs the test on a machine of its own, whose only cache is the task's; gives what go said.
fn go_test(source: &Path, task: &TaskCache, flags: &[&str]) -> String {
    let machine = tempfile::tempdir().unwrap();
    let shim = format!("{} --socket {}", shim_program().display(), task.socket_path().display());
    let done = Command::new("go")
        .arg("test")
        .args(flags)
        .arg(".")
        .current_dir(source)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", machine.path())
        .env("GOCACHE", machine.path().join("gocache"))
        .env("GOCACHEPROG", shim)
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off")])
        .env("CGO_ENABLED", if flags.is_empty() { "0" } else { "1" })
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What is tested on one machine is known on another, which is told before it asks.
async fn expect_known_elsewhere(flags: &[&str]) {
    let (near, far) = (Place::new(), Place::new());
    let source = source(near.dir.path());
    let task = near.task(None);
    let said = go_test(&source, &task, flags);
    assert!(said.starts_with("ok") && !said.contains("(cached)"), "{said}");
    let signed = near.publish(&task).await;
    let serving = near.serve().await;

    let prefetch = far.prefetch(&signed, &[serving.address]);
    let task = far.task(Some(&prefetch));
    let said = go_test(&source, &task, flags);
    assert!(said.contains("(cached)"), "{said}");
    let figures = task.close(Duration::from_secs(10)).await;
    assert!(figures.hits > 20 && figures.gets - figures.hits <= 3, "{figures:?}");

    // A file that the test reads and that changes has it run again.
    fs::write(source.join("testdata/input"), "what was changed").unwrap();
    let task = far.task(Some(&Arc::clone(&prefetch)));
    let said = go_test(&source, &task, flags);
    assert!(!said.contains("(cached)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_test_is_known_where_its_cache_was_brought() {
    expect_known_elsewhere(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_that_of_one_with_the_race_detector() {
    let has = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(name).exists())
    };
    if !["gcc", "cc", "clang"].into_iter().any(has) {
        let is_required = std::env::var_os("MERIDIAN_REQUIRE_RACE_DETECTOR").is_some();
        assert!(!is_required, "there is no C compiler, which the race detector needs");
        eprintln!("skipped: the race detector needs a C compiler");
        return;
    }
    expect_known_elsewhere(&["-race"]).await;
}
