//! The fixtures themselves: a fixture that is wrong makes every test after it lie.

use std::time::Duration;

use meridian_integration::{
    fixture::{
        git::{Repository, git_in},
        module_proxy::{Misbehaviour, ModuleProxy, zip_bomb},
        program::Program,
    },
    home::Home,
    process::Running,
    wait::try_wait_for,
};

#[test]
fn the_installed_go_takes_modules_from_the_fixture() {
    let library = Program::module("example.test/Lib").file("lib.go", "package lib\n\nconst Text = \"lib\"\n");
    let program = Program::module("example.test/hello")
        .file("go.mod", "module example.test/hello\n\ngo 1.22\n\nrequire example.test/Lib v1.2.0\n")
        .file(
            "main.go",
            "package main\n\nimport lib \"example.test/Lib\"\n\nfunc main() { println(lib.Text) }\n",
        );
    let proxy = ModuleProxy::start()
        .with("example.test/Lib", "v1.2.0", &library)
        .with("example.test/hello", "v0.1.0", &Program::saying("example.test/hello", "old"))
        .with("example.test/hello", "v0.2.0", &program);
    let mut home = Home::with_proxy(&proxy.url());
    home.set("GOFLAGS", "-modcacherw");
    home.set("GOTOOLCHAIN", "local");
    let mut command = home.program("go");
    command.args(["install", "example.test/hello@latest"]);
    Running::start(command).finish(Duration::from_secs(120)).expect_code(0);
    assert!(home.path().join("home/go/bin/hello").exists());
    assert_eq!(proxy.count("/example.test/hello/@v/v0.2.0.zip"), 1, "{:?}", proxy.requests());
    assert_eq!(proxy.count("/example.test/!lib/@v/v1.2.0.zip"), 1, "{:?}", proxy.requests());
}

#[test]
fn the_fixture_misbehaves_as_it_is_told() {
    let proxy =
        ModuleProxy::start().with("example.test/a", "v1.0.0", &Program::saying("example.test/a", "a"));
    let mut home = Home::with_proxy(&proxy.url());
    home.set("GOTOOLCHAIN", "local");
    home.set("GOFLAGS", "-modcacherw");
    let download = || {
        let mut command = home.program("go");
        command.args(["mod", "download", "example.test/a@v1.0.0"]);
        Running::start(command)
    };

    proxy.misbehave(".info", Misbehaviour::Status(503, "come back later".to_owned()));
    download().finish(Duration::from_secs(60)).expect_code(1).expect_words(&["503", "come back later"]);
    proxy.behave();

    proxy.misbehave(".zip", Misbehaviour::BreakOff);
    download().finish(Duration::from_secs(60)).expect_code(1).expect_words(&["EOF"]);
    proxy.behave();
}

#[test]
fn what_is_held_is_answered_on_release() {
    let proxy =
        ModuleProxy::start().with("example.test/a", "v1.0.0", &Program::saying("example.test/a", "a"));
    proxy.misbehave(".zip", Misbehaviour::Hold);
    let mut home = Home::with_proxy(&proxy.url());
    home.set("GOTOOLCHAIN", "local");
    home.set("GOFLAGS", "-modcacherw");
    let mut command = home.program("go");
    command.args(["mod", "download", "example.test/a@v1.0.0"]);
    let mut running = Running::start(command);
    proxy.wait_for_request(".zip", 1);
    assert!(try_wait_for(Duration::from_millis(200), || (!running.is_running()).then_some(())).is_none());
    proxy.release();
    running.finish(Duration::from_secs(60)).expect_code(0);
}

#[test]
fn a_repository_has_its_branches_and_tags() {
    let repository = Repository::with(&Program::saying("example.test/r", "one"));
    repository.tag("v1.0.0");
    repository.branch("next");
    let commit = repository.commit(&Program::saying("example.test/r", "two"), "two");
    let listed = git_in(&repository.bare(), &["for-each-ref", "--format", "%(refname)"]);
    assert_eq!(listed, "refs/heads/main\nrefs/heads/next\nrefs/tags/v1.0.0");
    assert_eq!(git_in(&repository.bare(), &["rev-parse", "next"]), commit);
}

#[test]
fn a_bomb_is_small_until_it_unfolds() {
    let bomb = zip_bomb("example.test/bomb@v1.0.0", "module example.test/bomb\n", 64 << 20);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bomb)).expect("a zip");
    assert_eq!(zip.by_name("example.test/bomb@v1.0.0/zeros.txt").expect("a file").size(), 64 << 20);
}
