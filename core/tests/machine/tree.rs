//! The machine is pure only as long as nothing it is built from can do otherwise.

use std::{collections::BTreeSet, process::Command};

#[test]
fn nothing_that_waits_draws_lots_or_reads_a_clock_is_in_the_dependency_tree() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "meridian-core", "--edges", "normal", "--prefix", "none", "--offline"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("meridian-core") && names.contains("sha2"), "{text}");
    let banned = [
        "tokio",
        "tonic",
        "sled",
        "rand",
        "rand_core",
        "getrandom",
        "fastrand",
        "time",
        "chrono",
        "jiff",
        "async-trait",
        "futures",
        "prost",
        "mio",
        "socket2",
        "tracing",
    ];
    let found: Vec<_> = banned.into_iter().filter(|name| names.contains(name)).collect();
    assert!(found.is_empty(), "meridian-core depends on {found:?}:\n{text}");
}
