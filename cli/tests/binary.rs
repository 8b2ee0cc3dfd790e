//! The binary by itself. What it does with a fleet is tested by the `integration` package, and this has it built with all tests.

use std::process::{Command, Output};

fn meridian(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian")).args(arguments).output().expect("it runs")
}

#[test]
fn it_says_its_version_and_nothing_else() {
    let output = meridian(&["--version"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("text");
    assert_eq!(told.trim_end(), format!("meridian {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_word_that_is_no_command_is_a_mistake_of_usage() {
    let output = meridian(&["bild"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("bild") && told.contains("build"), "{told}");
}
