use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use meridian_core::time::Wall;
use proptest::prelude::*;
use serde::Deserialize;

use crate::goreleaser::config::Config;

use super::{Context, GitFacts, MainPackage, Part, Plan, PlanErrors, PlannedBuild, Subject};

/// What a real GoReleaser made of a configuration; see `regenerate.py` beside the files.
#[derive(Debug, Deserialize)]
struct Golden {
    now_ms: u64,
    git: Option<Git>,
    version: String,
    assets: BTreeSet<String>,
    archives: BTreeMap<String, GoldenArchive>,
    builds: Vec<GoldenBuild>,
}

#[derive(Debug, Deserialize)]
struct Git {
    branch: String,
    tag: Option<String>,
    commit: String,
    short_commit: String,
    commit_seconds: i64,
    summary: String,
    url: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct GoldenArchive {
    binaries: Vec<String>,
    format: String,
    wrap_in: String,
}

#[derive(Debug, Deserialize)]
struct GoldenBuild {
    args: Vec<String>,
    cwd: String,
    env: BTreeMap<String, String>,
}

fn context(golden: &Golden) -> Context {
    let main =
        |name: &str, directory: &str| MainPackage { name: name.to_owned(), directory: directory.to_owned() };
    Context {
        directory: PathBuf::from("/project"),
        module_path: Some("example.com/acme/tool".to_owned()),
        cargo_name: None,
        remote_name: Some("remote".to_owned()),
        git: golden.git.as_ref().map(|git| GitFacts {
            branch: git.branch.clone(),
            tag: git.tag.clone(),
            commit: git.commit.clone(),
            short_commit: git.short_commit.clone(),
            commit_seconds: git.commit_seconds,
            summary: git.summary.clone(),
            url: git.url.clone(),
            ..GitFacts::default()
        }),
        env: BTreeMap::from([("FLAVOUR".to_owned(), "vanilla".to_owned())]),
        now: Wall(golden.now_ms),
        host: ("linux".to_owned(), "amd64".to_owned()),
        main_packages: vec![main("tool", "."), main("tool", "cmd/tool"), main("helper", "cmd/helper")],
        is_snapshot: true,
        single_target: false,
    }
}

fn sample() -> Context {
    let text = include_str!("../../../golden/goreleaser/single_build.json");
    context(&serde_json::from_str(text).unwrap())
}

fn plan(text: &str) -> Result<Plan, PlanErrors> {
    Config::read(text).unwrap().0.resolve(&sample())
}

fn names(text: &str) -> Vec<String> {
    plan(text).unwrap().asset_names().into_iter().collect()
}

fn errors(text: &str) -> String {
    plan(text).unwrap_err().to_string()
}

/// The arguments of `go build`, as GoReleaser writes them; one run makes several packages of one build.
fn command_line(builds: &[&PlannedBuild]) -> Vec<String> {
    let first = builds[0];
    let mut args = vec!["build".to_owned()];
    args.extend(first.flags.clone());
    args.extend(first.asmflags.iter().map(|flags| format!("-asmflags={flags}")));
    args.extend(first.gcflags.iter().map(|flags| format!("-gcflags={flags}")));
    args.extend(first.tags.iter().map(|tags| format!("-tags={}", tags.join(","))));
    args.push(format!("-ldflags={}", first.ldflags));
    args.extend(first.buildmode.iter().map(|mode| format!("-buildmode={mode}")));
    args.push("-o".to_owned());
    args.push(format!("/project/{}", first.path));
    args.extend(builds.iter().map(|build| build.main.clone()));
    args
}

/// Compares a plan with what GoReleaser made.
fn check(name: &str, config: &str, golden: &str) {
    let golden: Golden = serde_json::from_str(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (config, _) = Config::read(config).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plan = config.resolve(&context(&golden)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(plan.version, golden.version, "{name}");
    assert_eq!(plan.asset_names(), golden.assets, "{name}");
    let archives = plan.archives.iter().filter(|archive| archive.format != "binary").map(|archive| {
        // GoReleaser lists executables with their directories, whether or not those are stripped.
        let binary = |part: Part| match part {
            Part::Build(index) => plan.builds[index].binary.clone(),
            Part::Universal(index) => plan.universal_binaries[index].name.clone(),
        };
        let mut binaries: Vec<String> = archive.binaries.iter().map(|(part, _)| binary(*part)).collect();
        binaries.sort();
        let found =
            GoldenArchive { binaries, format: archive.format.clone(), wrap_in: archive.wrap_in.clone() };
        (archive.name.clone(), found)
    });
    assert_eq!(archives.collect::<BTreeMap<_, _>>(), golden.archives, "{name}");
    check_builds(name, &plan, &golden);
}

fn check_builds(name: &str, plan: &Plan, golden: &Golden) {
    let mut runs: BTreeMap<Vec<String>, &PlannedBuild> = BTreeMap::new();
    let path = format!("/project/{}", plan.builds[0].path);
    let is_several = !golden.builds.iter().any(|build| build.args.contains(&path));
    for build in &plan.builds {
        if is_several {
            // Packages of one run share their platform; GoReleaser names the directory then.
            let run: Vec<&PlannedBuild> =
                plan.builds.iter().filter(|other| other.target == build.target).collect();
            let mut args = command_line(&run);
            let out = args.len() - run.len() - 1;
            let directory = args[out].rsplit_once('/').unwrap().0.to_owned();
            args[out] = directory;
            runs.insert(args, build);
        } else {
            runs.insert(command_line(&[build]), build);
        }
    }
    let expected: BTreeSet<&Vec<String>> = golden.builds.iter().map(|build| &build.args).collect();
    assert_eq!(runs.keys().collect::<BTreeSet<_>>(), expected, "{name}");
    for made in &golden.builds {
        let build = runs[&made.args];
        assert_eq!(crate::goreleaser::template::clean(&build.directory), made.cwd, "{name}");
        let mut env = made.env.clone();
        for (key, value) in &build.env {
            assert_eq!(env.remove(key).as_ref(), Some(value), "{name}: {key} of {}", build.target);
        }
        let target = format!("{}/{}", env["GOOS"], env["GOARCH"]);
        assert_eq!(build.platform.pair(), target, "{name}");
        // What is left is the platform's, or the configuration's for everything.
        env.retain(|key, _| !(key.starts_with("GO") || key == "CHANNEL"));
        assert!(env.is_empty(), "{name}: {env:?}");
    }
}

macro_rules! golden {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(
                    stringify!($name),
                    include_str!(concat!("../../../golden/goreleaser/", stringify!($name), ".yaml")),
                    include_str!(concat!("../../../golden/goreleaser/", stringify!($name), ".json")),
                );
            }
        )*
    };
}

mod a_real_goreleaser_agrees_on {
    use super::check;

    golden! {
        binary_format
        every_main
        flags_and_environment
        levels
        libraries
        matrix_with_ignore
        name_template
        no_repository
        no_tag
        odd_levels
        one_of_every_main
        released_name
        several_archives
        several_builds_in_one_archive
        signatures_and_documents
        single_build
        split_checksums
        targets_and_overrides
        universal_beside
        universal_replacing
        version_one
    }
}

const ONE: &str = "version: 2\nbuilds: [{goos: [linux], goarch: [amd64]}]\n";

#[test]
fn a_release_has_the_version_of_its_tag_and_needs_one() {
    let (config, _) = Config::read(ONE).unwrap();
    let mut context = sample();
    context.is_snapshot = false;
    let names = config.resolve(&context).unwrap().asset_names();
    assert!(names.contains("tool_1.2.3_linux_amd64.tar.gz"), "{names:?}");
    let git = context.git.as_mut().unwrap();
    git.tag = Some("nightly".to_owned());
    let words = "the tag \"nightly\" is no version such as v1.2.3";
    assert_eq!(config.resolve(&context).unwrap_err().to_string(), words);
    context.git.as_mut().unwrap().tag = None;
    let words = "the commit has no tag; tag it, or make a snapshot";
    assert_eq!(config.resolve(&context).unwrap_err().to_string(), words);
}

#[test]
fn the_project_is_called_as_goreleaser_would_call_it() {
    let named = "version: 2\nrelease: {github: {name: released}}\n";
    let (config, _) = Config::read(named).unwrap();
    let mut context = sample();
    context.cargo_name = Some("crate".to_owned());
    let mut name = |change: &dyn Fn(&mut Context), config: &Config| {
        change(&mut context);
        config.resolve(&context).map(|plan| plan.project_name)
    };
    assert_eq!(name(&|_| (), &config).unwrap(), "crate");
    assert_eq!(name(&|context| context.cargo_name = None, &config).unwrap(), "released");
    let (bare, _) = Config::read("version: 2").unwrap();
    assert_eq!(name(&|_| (), &bare).unwrap(), "tool");
    // GoReleaser takes the last element of the module's path as it is.
    let major = |context: &mut Context| context.module_path = Some("example.com/acme/tool/v2".to_owned());
    assert_eq!(name(&major, &bare).unwrap(), "v2");
    assert_eq!(name(&|context| context.module_path = None, &bare).unwrap(), "remote");
    let words = "nothing says what the project is called; set `project_name`";
    assert_eq!(name(&|context| context.remote_name = None, &bare).unwrap_err().to_string(), words);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "version: 2\nproject_name: p\nbuilds:\n  - goos: [linux, windwos]\n    goarch: [amd64]\n  \
                - id: b\n    goos: [linux]\n    goarch: [amd64]\n    ldflags: '{{ .Verison }}'\n  \
                - id: c\n    goos: [linux]\n    goarch: [arm]\n    goarm: [8]\n  - id: c\n    targets: [linux]\n\
                checksum: {name_template: '{{ .Os }}'}\narchives: [{formats: [rar]}]\n";
    let told = errors(text);
    for words in [
        "builds[0].goos[1] (line 4): \"windwos\" is not known here; it can be aix, ",
        "builds[1].ldflags (line 9): there is no `.Verison` here; did you mean `.Version`?",
        "builds[2] (line 10): \"8\" is not known here; it can be 5, 6, 7",
        "2 builds have the id \"c\"; give each its own",
        "builds[3].targets[0] (line 15): \"linux\" is no target such as linux_amd64",
    ] {
        assert!(told.contains(words), "{words}\nnot in\n{told}");
    }
    let told = errors("version: 2\nproject_name: p\nchecksum: {name_template: '{{ .Os }}'}\n");
    assert!(told.starts_with("checksum.name_template (line 3): there is no `.Os` here"), "{told}");
}

#[test]
fn an_archive_of_unlike_platforms_or_twice_the_same_name_is_refused() {
    let unlike = "version: 2\nbuilds:\n  - {id: a, goos: [linux], goarch: [amd64, arm64]}\n  \
                  - {id: b, binary: b, goos: [linux], goarch: [amd64]}\n";
    assert!(errors(unlike).contains("would not hold the same number of binaries"), "{}", errors(unlike));
    let twice = "version: 2\nbuilds: [{goos: [linux], goarch: [amd64, arm64]}]\n\
                 archives: [{name_template: same}]\n";
    assert!(errors(twice).contains("another archive of the name \"same.tar.gz\""), "{}", errors(twice));
}

#[test]
fn a_name_never_leaves_the_output_directory() {
    for name in ["../x", "a/../../x", "/x", "a\\b", "a\nb", "a//b"] {
        let text = format!("{ONE}archives: [{{name_template: {name:?}}}]\n");
        assert!(errors(&text).contains("is not one of a file in the output directory"), "{name:?}");
    }
    let deep = format!("{ONE}archives: [{{name_template: 'a/b'}}]\n");
    assert!(names(&deep).contains(&"a/b.tar.gz".to_owned()));
}

#[test]
fn a_matrix_without_end_is_refused() {
    let builds: String = (0..200).map(|at| format!("  - {{id: b{at}, binary: b{at}, <<: *all}}\n")).collect();
    let text = format!(
        "version: 2\nbuilds:\n  - &all\n    goos: [linux, darwin, windows, freebsd, openbsd, netbsd]\n    \
         goarch: [amd64, arm64, arm, '386']\n    goamd64: [v1, v2, v3, v4]\n    goarm: ['5', '6', '7']\n{builds}"
    );
    assert!(errors(&text).contains("asks for more than 4096 builds"));
}

#[test]
fn what_is_signed_and_described_is_known() {
    let text = format!(
        "{ONE}signs: [{{artifacts: checksum}}]\nsboms: [{{artifacts: binary}}]\n\
         binary_signs: [{{signature: '${{artifact}}.s'}}]\n"
    );
    let plan = plan(&text).unwrap();
    let subjects: Vec<&Subject> = plan.signatures.iter().map(|signature| &signature.subject).collect();
    let list = Subject::Asset(plan.checksums[0].name.clone());
    assert_eq!(subjects, [&Subject::Part(Part::Build(0)), &list]);
    assert_eq!(plan.documents[0].subject, Subject::Part(Part::Build(0)));
    let listed = &plan.checksums[0].assets;
    assert_eq!(listed, &[plan.archives[0].name.clone(), plan.documents[0].name.clone()]);
}

#[test]
fn hooks_are_listed_and_levels_are_kept_for_the_build() {
    let text = "version: 2\nproject_name: p\nbefore: {hooks: ['go mod tidy', 'echo {{ .Version }}', '{{ .ModulePath }}']}\n\
                builds: [{goos: [linux], goarch: [riscv64], goriscv64: [rva22u64]}]\n";
    let plan = plan(text).unwrap();
    assert_eq!(plan.before_hooks, ["go mod tidy", &format!("echo {}", plan.version)]);
    assert_eq!(plan.builds[0].platform.to_string(), "linux/riscv64/rva22u64");
}

fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("version: 2\n"),
        Just("builds:\n"),
        Just("  - "),
        Just("    "),
        Just("id: a\n"),
        Just("goos: [linux]\n"),
        Just("goarch: [amd64, arm]\n"),
        Just("goarm: [6, 7]\n"),
        Just("archives:\n"),
        Just("formats: [zip, binary]\n"),
        Just("name_template: '{{ .Os }}{{ .Arm }}'\n"),
        Just("signs:\n"),
        Just("artifacts: all\n"),
        Just("sboms:\n"),
        Just("checksum: {split: true}\n"),
        Just("universal_binaries: [{replace: true}]\n"),
        Just("main: ./...\n"),
        Just("goos: [darwin]\n"),
        Just("binary: '{{ .Nope }}'\n"),
        Just("targets: [go_first_class]\n"),
        Just("x: &x\n"),
        Just("<<: *x\n"),
        Just("source: {enabled: true}\n"),
        Just("binary_signs:\n"),
        Just("ids: [a]\n"),
    ];
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_configuration_is_planned_or_refused_and_its_names_stay_inside(text in words()) {
        let Ok((config, _)) = Config::read(&text) else { return Ok(()) };
        if let Ok(plan) = config.resolve(&sample()) {
            for name in plan.asset_names() {
                prop_assert!(!name.is_empty() && !name.starts_with('/') && !name.contains(".."));
            }
        }
    }
}
