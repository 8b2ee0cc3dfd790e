//! `meridian release`: a GoReleaser configuration, built by a fleet and packed here, and every way in which it is wrong.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meridian_integration::{
    client::Client,
    fixture::{git::git_in, program::Program},
    home::{Home, host_platform},
    process::{Run, Running},
};
use serde_json::Value;

/// A program that says what it was stamped with.
const MAIN: &str = "package main\n\nvar version, commit, date = \"\", \"\", \"\"\n\n\
                    func main() { println(version, commit, date) }\n";

/// Everything that is packed: two systems, a universal binary, two formats, documents, and signatures by a command.
const CONFIG: &str = r#"version: 2
project_name: tool
env:
  - FLAVOUR=vanilla
before:
  hooks:
    - sh -c 'mkdir -p gen && printf "%s {{ .Version }}\n" "$FLAVOUR" > gen/notes.txt'
builds:
  - env: [CGO_ENABLED=0]
    goos: [linux, windows, darwin]
    goarch: [amd64, arm64]
    ignore: [{goos: linux, goarch: arm64}, {goos: windows, goarch: arm64}]
    flags: [-trimpath]
universal_binaries:
  - replace: true
archives:
  - formats: [tar.gz]
    format_overrides: [{goos: windows, formats: [zip]}]
    wrap_in_directory: true
    files:
      - README.md
      - src: gen/*.txt
        dst: docs
        strip_parent: true
source:
  enabled: true
  format: zip
  prefix_template: "{{ .ProjectName }}/"
checksum:
  name_template: checksums.txt
sboms:
  - artifacts: archive
signs:
  - cmd: sh
    args: ["-c", "sha256sum < ${artifact} > ${signature}"]
    artifacts: checksum
binary_signs:
  - ids: [tool]
    signature: "${artifact}_{{ .Os }}_{{ .Arch }}.sig"
brews:
  - name: tool
"#;

/// A repository of one tagged commit.
fn project(directory: &Path, config: &str) -> PathBuf {
    let program = Program::module("example.test/tool")
        .file("main.go", MAIN)
        .file("README.md", "a tool\n")
        .file(".gitignore", "dist/\ngen/\n")
        .file(".goreleaser.yaml", config);
    program.write(directory).expect("a directory can be written");
    git_in(directory, &["init", "--quiet", "--initial-branch", "main"]);
    git_in(directory, &["add", "--all"]);
    git_in(directory, &["commit", "--quiet", "--message", "first"]);
    git_in(directory, &["tag", "v1.2.3"]);
    directory.to_owned()
}

#[track_caller]
fn release(client: &Client, project: &Path, more: &[&str]) -> Run {
    let project = project.display().to_string();
    client.run(&[&["release", &project, "--toolchain", "local"], more].concat())
}

/// The assets that an answer lists, each with its digest.
#[track_caller]
fn assets(run: &Run) -> BTreeMap<String, String> {
    let said = &run.json_values()[0];
    let text =
        |value: &Value| value.as_str().unwrap_or_else(|| panic!("a text was expected: {run}")).to_owned();
    let assets = said["assets"].as_array().unwrap_or_else(|| panic!("no assets: {run}"));
    assets.iter().map(|asset| (text(&asset["name"]), text(&asset["sha256"]))).collect()
}

#[track_caller]
fn done(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().expect("it starts");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

const ARCHIVE: &str = "tool_1.2.3_linux_amd64";
const ASSETS: [&str; 11] = [
    "checksums.txt",
    "checksums.txt.sig",
    "tool-1.2.3.zip",
    "tool.exe_windows_amd64.sig",
    "tool_1.2.3_darwin_all.tar.gz",
    "tool_1.2.3_darwin_all.tar.gz.sbom.json",
    "tool_1.2.3_linux_amd64.tar.gz",
    "tool_1.2.3_linux_amd64.tar.gz.sbom.json",
    "tool_1.2.3_windows_amd64.zip",
    "tool_1.2.3_windows_amd64.zip.sbom.json",
    "tool_linux_amd64.sig",
];

#[test]
fn a_release_is_packed_verified_and_the_same_bytes_in_another_place() {
    let mut client = Client::local(Home::with_proxy("off"));
    let first = project(&client.home.path().join("first"), CONFIG);
    let run = release(&client, &first, &["--json"]).expect_code(0);
    let made = assets(&run);
    assert_eq!(made.keys().collect::<Vec<_>>(), ASSETS, "{run}");
    let ignored = run.json_values()[0]["ignored"].to_string();
    assert!(ignored.contains("\"brews\"") && run.stderr.contains("`brews`"), "{run}");
    anybodys_tools_read(&client, &first);
    what_comes_after_finds_what_goreleaser_leaves(&first.join("dist"), &made);

    // A clone elsewhere, by somebody whose files have other modes and whose clock another zone, gives the same bytes.
    client.home.set("TZ", "Asia/Singapore");
    client.home.set("LC_ALL", "C.UTF-8");
    let second = client.home.path().join("elsewhere/second");
    fs::create_dir_all(second.parent().expect("a parent")).expect("a directory");
    let clone = format!("umask 077; git clone --quiet {} {}", first.display(), second.display());
    done("sh", &["-c", &clone], client.home.path());
    let again = assets(&release(&client, &second, &["--json"]).expect_code(0));
    // What a signer signs is signed anew; all else is the same.
    let is_packed = |name: &str| !name.ends_with(".sig") || name.starts_with("checksums");
    let packed = |all: BTreeMap<String, String>| {
        all.into_iter().filter(|(name, _)| is_packed(name)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(packed(made), packed(again));
}

#[track_caller]
fn anybodys_tools_read(client: &Client, project: &Path) {
    let dist = project.join("dist");
    done("sha256sum", &["--check", "--quiet", "checksums.txt"], &dist);
    let unpacked = client.home.path().join("unpacked");
    fs::create_dir_all(&unpacked).expect("a directory");
    let tar = dist.join(format!("{ARCHIVE}.tar.gz")).display().to_string();
    done("tar", &["-xzf", &tar], &unpacked);
    let notes = fs::read_to_string(unpacked.join(ARCHIVE).join("docs/notes.txt")).expect("the hook's file");
    assert_eq!(notes, "vanilla 1.2.3\n");
    let binary = unpacked.join(ARCHIVE).join("tool");
    if host_platform() == "linux/amd64" {
        let commit = git_in(project, &["rev-parse", "HEAD"]);
        let said = done(&binary.display().to_string(), &[], &unpacked);
        assert!(said.starts_with(&format!("1.2.3 {commit} 20")), "{said}");
    }
    let zip = fs::File::open(dist.join("tool_1.2.3_windows_amd64.zip")).expect("an archive");
    let zip = zip::ZipArchive::new(zip).expect("a zip");
    let inner =
        ["README.md", "docs/notes.txt", "tool.exe"].map(|name| format!("tool_1.2.3_windows_amd64/{name}"));
    let names: Vec<_> = zip.file_names().map(|name| name.expect("a name").into_owned()).collect();
    assert_eq!(names, inner);

    // The executable in the archive is the one that the fleet signed.
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let signed = dist.join("signed/tool_1.2.3_linux_amd64");
    let content = read(binary);
    assert!(content == read(signed.clone()) && content == read(dist.join("tool_linux_amd64_v1/tool")));
    client.run(&["verify", &signed.display().to_string()]).expect_code(0);
    let own = read(dist.join("signed/tool_1.2.3_linux_amd64.sig"));
    assert_eq!(read(dist.join("tool_linux_amd64.sig")), own);
}

#[track_caller]
fn what_comes_after_finds_what_goreleaser_leaves(dist: &Path, made: &BTreeMap<String, String>) {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(dist.join(name)).expect("a list")).expect("JSON")
    };
    let (artifacts, metadata) = (read("artifacts.json"), read("metadata.json"));
    let packed = format!("{ARCHIVE}.tar.gz");
    let mut rows = artifacts.as_array().expect("a list").iter();
    let row = rows.find(|row| row["name"] == packed.as_str()).expect("its row");
    assert_eq!((&row["internal_type"], &row["type"]), (&Value::from(1), &Value::from("Archive")), "{row}");
    assert_eq!((&row["goos"], &row["goamd64"]), (&Value::from("linux"), &Value::from("v1")), "{row}");
    assert_eq!(row["path"], format!("dist/{packed}"), "{row}");
    assert_eq!(row["extra"]["Checksum"], format!("sha256:{}", made[&packed]), "{row}");
    assert_eq!((&metadata["version"], &metadata["tag"]), (&Value::from("1.2.3"), &Value::from("v1.2.3")));
}

#[test]
fn a_snapshot_needs_no_tag_and_says_the_same_names_before_and_after() {
    let client = Client::local(Home::with_proxy("off"));
    let config = "version: 2\nproject_name: tool\nbuilds: [{targets: [linux_amd64, windows_arm64]}]\n\
                  archives: [{formats: [binary]}, {id: packed, formats: [tar.zst]}]\nsource: {enabled: true}\n\
                  checksum: {split: true, algorithm: sha512}\n";
    let project = project(&client.home.path().join("project"), config);
    git_in(&project, &["tag", "--delete", "v1.2.3"]);
    fs::write(project.join("new.txt"), "changed").expect("a file");
    let planned = release(&client, &project, &["--snapshot", "--dry-run", "--json"]).expect_code(0);
    assert!(!project.join("dist").exists(), "a dry run makes nothing");
    let planned: Vec<String> = planned.json_values()[0]["assets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|asset| asset["name"].as_str().expect("a name").to_owned())
        .collect();
    let made = assets(&release(&client, &project, &["--snapshot", "--json"]).expect_code(0));
    assert_eq!(made.keys().cloned().collect::<Vec<_>>(), planned);
    let commit = git_in(&project, &["rev-parse", "--short", "HEAD"]);
    let source = format!("tool-0.0.0-SNAPSHOT-{commit}.tar.gz");
    let dist = project.join("dist");
    let listed = done("tar", &["-tzf", &source], &dist);
    assert_eq!(listed, ".gitignore\n.goreleaser.yaml\nREADME.md\ngo.mod\nmain.go\n");
    let digest = fs::read_to_string(dist.join(format!("{source}.sha512"))).expect("a digest for each");
    assert!(done("sha512sum", &[&source], &dist).starts_with(&digest), "{digest}");
    // A second time needs --clean, which leaves nothing of the first.
    let refused = release(&client, &project, &["--snapshot"]).expect_code(2);
    refused.expect_words(&["is not empty", "--clean"]);
    fs::write(dist.join("left"), "").expect("a file");
    release(&client, &project, &["--snapshot", "--clean"]).expect_code(0);
    assert!(!dist.join("left").exists());
}

#[test]
fn a_dry_run_asks_no_fleet_and_knows_what_is_left_out() {
    let home = Home::with_proxy("off");
    let project = project(&home.path().join("project"), CONFIG);
    let dir = project.display().to_string();
    let planned = |more: &[&str]| {
        let arguments = [&["release", &dir, "--dry-run", "--coordinator", "127.0.0.1:1"], more].concat();
        Running::start(home.meridian(&arguments)).finish(Duration::from_secs(60)).expect_code(0)
    };
    let all = planned(&[]);
    assert_eq!(all.stdout.lines().count(), 11, "{all}");
    let bare = planned(&["--skip=sbom,sign,publish"]);
    let names = "checksums.txt\ntool-1.2.3.zip\ntool_1.2.3_darwin_all.tar.gz\n\
                 tool_1.2.3_linux_amd64.tar.gz\ntool_1.2.3_windows_amd64.zip\n";
    assert_eq!(bare.stdout, names, "{bare}");
    if host_platform() == "linux/amd64" {
        let one = planned(&["--skip=sbom,sign", "--single-target"]);
        let names = "checksums.txt\ntool-1.2.3.zip\ntool_1.2.3_linux_amd64.tar.gz\n";
        assert_eq!(one.stdout, names, "{one}");
    }
    let other = home.path().join("other.yaml");
    fs::write(&other, "version: 2\nproject_name: other\nbuilds: [{targets: [plan9_386]}]\n").expect("a file");
    let told = planned(&["--config", &other.display().to_string()]);
    assert!(told.stdout.contains("other_1.2.3_plan9_386.tar.gz"), "{told}");
    assert!(!project.join("dist").exists() && !project.join("gen").exists(), "nothing was made");
}

/// Refused before a fleet is asked for anything: there is none.
#[track_caller]
fn refused(config: &str, more: &[&str], words: &[&str]) -> Run {
    let home = Home::with_proxy("off");
    let project = project(&home.path().join("project"), config);
    let dir = project.display().to_string();
    let arguments = [&["release", &dir, "--coordinator", "127.0.0.1:1"], more].concat();
    let run = Running::start(home.meridian(&arguments)).finish(Duration::from_secs(60)).expect_code(2);
    assert!(!run.says("panicked") && !project.join("dist").exists(), "{run}");
    run.expect_words(words)
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_before_anything_runs() {
    let of = |rest: &str| format!("version: 2\nbuilds: [{{targets: [linux_amd64]}}]\n{rest}\n");
    let deep = format!("version: 2\nx: {}\n", "[".repeat(5000));
    let bomb = (1..30).fold("version: 2\na0: &a0 [x, x]\n".to_owned(), |text, at| {
        let before = at - 1;
        text + &format!("a{at}: &a{at} [*a{before}, *a{before}]\n")
    });
    for (config, words) in [
        (of("archives: [").as_str(), &["goreleaser.yaml", "line"][..]),
        (&of("x: &x [*x]"), &["line 3"]),
        (&deep, &["line"]),
        (&bomb, &["line"]),
        (&of("archvies: []"), &["line 3", "did you mean `archives`?"]),
        ("version: 1\narchives: [{rlcp: true}]\n", &["`archives[0].rlcp`", "version 1"]),
        (&of("nightly: {}"), &["GoReleaser Pro"]),
        (&of("checksum: {name_template: '{{ shout .Version }}'}"), &["checksum.name_template", "shout"]),
        (&of("archives: [{ids: [other]}]"), &["no build has the id \"other\""]),
        (
            &of(
                "archives: [{formats: [binary], name_template: same}, {id: b, formats: [binary], name_template: same}]",
            ),
            &["2 assets are called \"same\""],
        ),
        (&of("archives: [{formats: [rar]}]"), &["\"rar\" is not known"]),
        (&of("archives: [{files: ['../../etc/passwd']}]"), &["leaves the project's directory"]),
        (&of("archives: [{files: [{src: README.md, dst: ../../up}]}]"), &["would leave the directory"]),
        (&of("archives: [{wrap_in_directory: '../up'}]"), &["would leave the directory"]),
        (&of("source: {enabled: true, prefix_template: '../up/'}"), &["would leave the directory"]),
        (&of("archives: [{name_template: '../up'}]"), &["not one of a file in the output directory"]),
        (&of("checksum: {algorithm: crc32}"), &["\"crc32\" is not made", "sha512"]),
        (
            "version: 2\nbuilds: [{targets: [linux_amd64], flags: [-race], buildmode: pie}]\n",
            &["`-race`", "-buildmode=pie"],
        ),
    ] {
        refused(config, &[], words);
    }
}

#[test]
fn a_release_is_of_a_clean_tree_and_its_tag() {
    let home = Home::with_proxy("off");
    let project = project(&home.path().join("project"), "version: 2\n");
    let dir = project.display().to_string();
    let refused = |words: &[&str]| {
        let command = home.meridian(["release", &dir, "--coordinator", "127.0.0.1:1"]);
        let run = Running::start(command).finish(Duration::from_secs(60));
        run.expect_code(2).expect_words(words).expect_words(&["--snapshot"]);
    };
    fs::write(project.join("new.txt"), "").expect("a file");
    refused(&["differs from its commit", "?? new.txt"]);
    git_in(&project, &["add", "--all"]);
    git_in(&project, &["commit", "--quiet", "--message", "second"]);
    refused(&["the tag v1.2.3 is of another commit"]);
    git_in(&project, &["tag", "--delete", "v1.2.3"]);
    refused(&["has no tag"]);
    fs::remove_dir_all(project.join(".git")).expect("a repository");
    refused(&["no commit of a git repository"]);
    fs::remove_file(project.join(".goreleaser.yaml")).expect("a configuration");
    let command = home.meridian(["release", &dir, "--snapshot"]);
    let run = Running::start(command).finish(Duration::from_secs(60));
    run.expect_code(2).expect_words(&["no GoReleaser configuration", "--config"]);
}

#[test]
fn a_hook_that_fails_or_hangs_is_named_and_nothing_is_built() {
    let client = Client::shared();
    let of = |name: &str, hook: &str| {
        let config =
            format!("version: 2\nbefore: {{hooks: [\"{hook}\"]}}\nbuilds: [{{targets: [linux_amd64]}}]\n");
        project(&client.home.path().join(name), &config)
    };
    let failing = of("failing-hook", "sh -c 'echo from the hook; exit 3'");
    let run = release(&client, &failing, &[]).expect_code(1);
    let run = run.expect_words(&["running sh -c", "from the hook", "failed: exit status: 3"]);
    assert!(run.stdout.is_empty() && !failing.join("dist").join("signed").exists(), "{run}");

    let hanging = of("hanging-hook", "sleep 600");
    let run = release(&client, &hanging, &["--timeout", "5s"]).expect_code(4);
    assert!(run.took < Duration::from_secs(60), "{run}");
    run.expect_words(&["`sleep 600` did not end", "--timeout"]);

    let for_shell = of("shell-hook", "a && b");
    release(&client, &for_shell, &[]).expect_code(2).expect_words(&["`a && b`", "is for a shell"]);
    // And left out, it stops nobody.
    release(&client, &hanging, &["--skip=before,publish", "--clean"]).expect_code(0);
}

#[test]
fn what_only_shows_once_it_is_packed_is_the_users_mistake_too() {
    let client = Client::shared();
    let of = |name: &str, rest: &str| {
        let config = format!("version: 2\nbuilds: [{{targets: [linux_amd64]}}]\n{rest}\n");
        project(&client.home.path().join(name), &config)
    };
    let nothing = of("no-such-file", "archives: [{files: [none.txt]}]");
    release(&client, &nothing, &[]).expect_code(2).expect_words(&["no file matches \"none.txt\""]);
    let link = of("link-out", "archives: [{files: [out.txt]}]");
    std::os::unix::fs::symlink("/etc/hostname", link.join("out.txt")).expect("a link");
    fs::write(link.join(".git/info/exclude"), "out.txt\n").expect("the link is no source");
    release(&client, &link, &[]).expect_code(2).expect_words(&["outside of the project"]);
    let failing = of("failing-signer", "signs: [{artifacts: checksum, cmd: 'false'}]");
    release(&client, &failing, &[]).expect_code(1).expect_words(&["`false` failed"]);
    let silent = of("silent-signer", "signs: [{artifacts: checksum, cmd: 'true'}]");
    release(&client, &silent, &[]).expect_code(1).expect_words(&["wrote no dist/"]);
}
