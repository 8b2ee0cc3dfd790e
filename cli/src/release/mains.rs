//! Which main packages a project has: what `main: ./cmd/...` looks among.
//!
//! Read from the files themselves, since the toolchain is the fleet's and need not be here. A file counts whose package
//! clause says `main` and that is not kept out of every build by `//go:build ignore`.

use std::{fs, path::Path};

use meridian_core::build::executable_name;

use crate::{
    goreleaser::{config::Config, plan::MainPackage, template::clean},
    source::modules,
};

/// More directories than a project has.
const DIRECTORIES_MAX: usize = 100_000;
/// A package clause stands near the beginning of its file.
const HEAD_LEN_MAX: usize = 64 << 10;

/// The main packages below the directories of all builds; none unless a `main` is a pattern.
#[must_use]
pub fn find(project: &Path, module_path: Option<&str>, config: &Config) -> Vec<MainPackage> {
    let is_pattern = |main: &str| main.ends_with("/...");
    if !config.builds.iter().any(|build| build.main.as_ref().is_some_and(|main| is_pattern(&main.text))) {
        return Vec::new();
    }
    let mut starts: Vec<String> = config
        .builds
        .iter()
        .map(|build| clean(build.dir.as_ref().map_or(".", |dir| dir.text.as_str())))
        .filter(|start| !start.starts_with("..") && !start.starts_with('/'))
        .collect();
    starts.sort();
    starts.dedup();
    let mut found: Vec<MainPackage> = Vec::new();
    for start in starts {
        let path = if start == "." {
            module_path.map(str::to_owned)
        } else {
            modules::path_of(&project.join(&start))
        };
        for package in below(project, &start, path.as_deref()) {
            if !found.iter().any(|known| known.directory == package.directory) {
                found.push(package);
            }
        }
    }
    found
}

/// The main packages of one module.
fn below(project: &Path, start: &str, module_path: Option<&str>) -> Vec<MainPackage> {
    let mut found = Vec::new();
    let mut unread = vec![start.to_owned()];
    let mut seen = 0;
    while let Some(directory) = unread.pop() {
        seen += 1;
        let Ok(entries) = fs::read_dir(project.join(&directory)) else { continue };
        let mut is_main = false;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_hidden = name.starts_with(['.', '_']);
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                let is_other = entry.path().join("go.mod").exists();
                if !is_hidden && !is_other && name != "vendor" && name != "testdata" && seen < DIRECTORIES_MAX
                {
                    unread.push(clean(&format!("{directory}/{name}")));
                }
            } else if !is_hidden && name.ends_with(".go") && !name.ends_with("_test.go") {
                is_main = is_main || is_main_file(&entry.path());
            }
        }
        if is_main {
            let path = match (directory == start, module_path) {
                (true, Some(path)) => path,
                _ => &directory,
            };
            found.push(MainPackage { name: executable_name(path), directory });
        }
    }
    found.sort_by(|left, right| left.directory.cmp(&right.directory));
    found
}

fn is_main_file(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(HEAD_LEN_MAX as u64).read_to_end(&mut head));
    read.is_ok() && is_main(&String::from_utf8_lossy(&head))
}

/// Whether a file's package clause says `main`, and the file is in some build.
fn is_main(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("//") {
            let (line, after) = comment.split_once('\n').unwrap_or((comment, ""));
            if line.strip_prefix("go:build ").is_some_and(|expression| expression.trim() == "ignore") {
                return false;
            }
            rest = after.trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let Some((_, after)) = comment.split_once("*/") else { return false };
            rest = after.trim_start();
        } else {
            break;
        }
    }
    let Some(clause) = rest.strip_prefix("package") else { return false };
    let name = clause.trim_start_matches([' ', '\t']);
    let is_apart = name.len() < clause.len();
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    is_apart && &name[..end] == "main"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_clause_is_found_past_every_comment() {
        for (text, expected) in [
            ("package main\n", true),
            ("// Copyright\n\n/* package other */\npackage main // yes\n", true),
            ("//go:build linux\n\npackage main;", true),
            ("//go:build ignore\n\npackage main\n", false),
            ("package mainly\n", false),
            ("package other\n// package main\n", false),
            ("/* never closed\npackage main\n", false),
            ("packagemain\n", false),
            ("", false),
        ] {
            assert_eq!(is_main(text), expected, "{text:?}");
        }
    }

    #[test]
    fn main_packages_of_the_module_are_found_and_those_of_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("go.mod", "module example.test/acme/tool/v2\n");
        write("main.go", "package main\n");
        for path in ["cmd/b/b.go", "cmd/a/a.go", "vendor/x/x.go", "cmd/_hidden/x.go", "other/cmd/c/c.go"] {
            write(path, "package main\n");
        }
        write("cmd/b/b_test.go", "package main\n");
        write("lib/lib.go", "package lib\n");
        write("other/go.mod", "module example.test/other\n");
        let config = |text: &str| Config::read(text).unwrap().0;
        let names = |text: &str| {
            let found = find(dir.path(), Some("example.test/acme/tool/v2"), &config(text)).into_iter();
            found.map(|package| format!("{}={}", package.name, package.directory)).collect::<Vec<_>>()
        };
        let all = "version: 2\nbuilds: [{main: ./...}]\n";
        assert_eq!(names(all), ["tool=.", "a=cmd/a", "b=cmd/b"]);
        assert_eq!(names("version: 2\nbuilds: [{dir: other, main: ./cmd/...}]\n"), ["c=other/cmd/c"]);
        assert!(names("version: 2\nbuilds: [{main: ./cmd/a}]\n").is_empty());
    }
}
