//! The house rules that a compiler does not check: crate direction, what `core` must never call, the sizes of
//! files and functions, and words that must not stand in the source.
//!
//! Budgets have an allow-list below. It may only shrink: an entry that is no longer needed fails the test.

mod scan;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the budget, with the reason each is one file.
const LONG_FILES: &[(&str, &str)] = &[];
/// Functions over the budget, as `path::name`, with the reason each is one function.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Which crates of the workspace each crate may import.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("runtime", &[]),
    ("proto", &["core"]),
    ("store", &["core"]),
    ("trust", &["core"]),
    ("coordinator", &["core", "proto", "store", "trust", "runtime"]),
    ("cache", &["core", "proto", "store", "trust"]),
    ("agent", &["core", "proto", "store", "trust", "runtime", "cache"]),
    ("cli", &["core", "proto", "store", "trust", "runtime", "cache", "coordinator", "agent"]),
    ("integration", &["core", "proto", "store", "trust", "runtime", "cache", "coordinator", "agent", "cli"]),
];

/// What would make a decision depend on anything but its arguments.
const BANNED_IN_CORE: &[&str] = &[
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "f32",
    "f64",
    "rand",
    "getrandom",
    "tokio",
    "async",
    "await",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "println",
    "eprintln",
];
/// The same modules where they hide in `use std::{…}`.
const BANNED_STD_MODULES: &[&str] = &["fs", "net", "env", "process", "thread", "io"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn manifest(of: &str) -> toml::Table {
    let path = root().join(of).join("Cargo.toml");
    fs::read_to_string(&path).expect("each member has a manifest").parse().expect("cargo reads it too")
}

/// Every Rust file of the workspace, by its path from the root.
fn rust_files() -> BTreeMap<String, String> {
    fn walk(directory: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for (member, _) in EDGES {
        for room in ["src", "tests", "benches", "examples"] {
            walk(&root().join(member).join(room), &mut paths);
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("found below the root").display().to_string();
            (name, fs::read_to_string(path).expect("source is UTF-8"))
        })
        .collect()
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_import_only_in_the_direction_of_the_design() {
    let members = manifest(".")["workspace"]["members"].as_array().expect("a list of members").clone();
    let listed: Vec<_> = members.iter().filter_map(|member| member.as_str()).collect();
    let mut wrong = Vec::new();
    for member in &listed {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| name == member) else {
            wrong.push(format!("{member} has no row in EDGES"));
            continue;
        };
        for (section, name, _) in dependencies(member) {
            let imported = match name.as_str() {
                "meridian" => "cli",
                other => other.strip_prefix("meridian-").unwrap_or_default(),
            };
            if !imported.is_empty() && !allowed.contains(&imported) {
                wrong.push(format!("{member}/Cargo.toml [{section}] imports {imported}"));
            }
        }
    }
    none("crates that import against the direction", &wrong);
}

fn dependencies(member: &str) -> Vec<(&'static str, String, toml::Value)> {
    let manifest = manifest(member);
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            found.push((section, name.clone(), value.clone()));
        }
    }
    found
}

#[test]
fn versions_and_lints_stand_once_in_the_root_manifest() {
    let mut wrong = Vec::new();
    for (member, _) in EDGES {
        for (section, name, value) in dependencies(member) {
            let shared = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !shared || value.get("version").is_some() {
                wrong.push(format!("{member}/Cargo.toml [{section}] {name}"));
            }
        }
        let manifest = manifest(member);
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if manifest["package"][key].get("workspace").is_none() {
                wrong.push(format!("{member}/Cargo.toml [package] {key}"));
            }
        }
        if manifest.get("lints").and_then(|lints| lints.get("workspace")).is_none() {
            wrong.push(format!("{member}/Cargo.toml [lints]"));
        }
    }
    none("must be inherited from the workspace", &wrong);
}

#[test]
fn core_calls_nothing_that_its_arguments_do_not_decide() {
    let mut wrong = Vec::new();
    for (path, source) in rust_files().iter().filter(|(path, _)| path.starts_with("core/src/")) {
        let code = scan::without_tests(&scan::strip(source));
        for word in BANNED_IN_CORE {
            for at in scan::words(&code, word) {
                wrong.push(format!("{path}:{}: {word}", scan::line_of(&code, at)));
            }
        }
        for (at, _) in code.match_indices("std::{") {
            let group = code[at..].split(';').next().unwrap_or_default();
            for word in BANNED_STD_MODULES.iter().filter(|word| scan::has_word(group, word)) {
                wrong.push(format!("{path}:{}: std::{word}", scan::line_of(&code, at)));
            }
        }
    }
    none("core must not use", &wrong);
}

#[test]
fn files_stay_within_their_budget() {
    let mut wrong = Vec::new();
    for (path, source) in rust_files() {
        let kept = scan::without_tests(&scan::strip(&source));
        let tests = source
            .lines()
            .zip(kept.lines())
            .filter(|(before, after)| {
                let comment = before.trim_start().starts_with("//");
                !comment && !before.trim().is_empty() && after.trim().is_empty()
            })
            .count();
        let lines = source.lines().count() - tests;
        let listed = LONG_FILES.iter().any(|(name, _)| *name == path);
        if lines > FILE_LINES_MAX && !listed {
            wrong.push(format!("{path}: {lines} lines without its tests, the budget is {FILE_LINES_MAX}"));
        }
        if lines <= FILE_LINES_MAX && listed {
            wrong.push(format!("{path}: fits its budget again, take it off the list"));
        }
    }
    for (name, _) in LONG_FILES.iter().filter(|(name, _)| !root().join(name).exists()) {
        wrong.push(format!("{name}: listed, but there is no such file"));
    }
    none("files", &wrong);
}

#[test]
fn functions_stay_within_their_budget() {
    let mut wrong = Vec::new();
    let mut needed = Vec::new();
    for (path, source) in rust_files() {
        for function in scan::functions(&scan::without_tests(&scan::strip(&source))) {
            if function.lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let name = format!("{path}::{}", function.name);
            if !LONG_FUNCTIONS.iter().any(|(listed, _)| *listed == name) {
                wrong.push(format!(
                    "{path}:{}: {} has {} lines",
                    function.line, function.name, function.lines
                ));
            }
            needed.push(name);
        }
    }
    for (name, _) in LONG_FUNCTIONS.iter().filter(|(name, _)| !needed.iter().any(|long| long == name)) {
        wrong.push(format!("{name}: fits its budget again, take it off the list"));
    }
    none(&format!("functions over {FUNCTION_LINES_MAX} lines"), &wrong);
}

#[test]
fn nothing_is_left_open_or_switched_off() {
    let banned = ["todo!", "unimplemented!", "#[ignore", "#[allow(", "#![allow("];
    let mut wrong = Vec::new();
    for (path, source) in rust_files() {
        let code = scan::strip(&source);
        for word in banned {
            for (at, _) in code.match_indices(word) {
                wrong.push(format!("{path}:{}: {word}", scan::line_of(&code, at)));
            }
        }
    }
    none("must be finished, or expected with a reason", &wrong);
}

#[test]
fn files_are_named_for_what_they_hold() {
    let vague = ["util", "utils", "helper", "helpers", "common", "misc"];
    let wrong: Vec<_> = rust_files()
        .into_keys()
        .filter(|path| {
            Path::new(path).components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                vague.contains(&name.trim_end_matches(".rs"))
            })
        })
        .collect();
    none("names that say nothing", &wrong);
}

#[test]
fn every_door_says_what_is_behind_it() {
    let wrong: Vec<_> = rust_files()
        .into_iter()
        .filter(|(path, _)| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"))
        .filter(|(_, source)| !source.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    none("crates without a word of what they are for", &wrong);
}

#[test]
fn a_module_file_only_declares() {
    let mut wrong = Vec::new();
    for (path, source) in rust_files().iter().filter(|(path, _)| path.ends_with("/mod.rs")) {
        for function in scan::functions(&scan::without_tests(&scan::strip(source))) {
            wrong.push(format!("{path}:{}: {}", function.line, function.name));
        }
    }
    none("logic in mod.rs", &wrong);
}

#[test]
fn no_public_proxy_is_compiled_in() {
    // Split, so that this file does not find itself.
    let hosts = [["proxy.", "golang.org"], ["goproxy", ".io"], ["goproxy", ".cn"], ["index.", "golang.org"]];
    let mut wrong = Vec::new();
    for (path, source) in rust_files() {
        for host in hosts.iter().map(|parts| parts.concat()) {
            for (at, _) in source.match_indices(&host) {
                wrong.push(format!("{path}:{}: {host}", scan::line_of(&source, at)));
            }
        }
    }
    none("addresses that belong in the user's configuration", &wrong);
}
