//! Bad input and what it gets: a message that says what is wrong, the exit code that is written down, and a
//! fleet that works on.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use meridian_integration::{
    client::{Build, Client},
    fixture::{
        module_proxy::{Misbehaviour, ModuleProxy, module_zip, zip_bomb},
        program::Program,
    },
    home::Home,
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BROKEN: i32 = 4;

fn write(client: &Client, name: &str, program: &Program) -> String {
    let directory = client.home.path().join(name);
    program.write(&directory).expect("a fresh directory can be written");
    directory.display().to_string()
}

/// Builds a program from a directory through a local fleet of its own.
fn build(program: &Program, arguments: &[&str]) -> Build {
    let client = Client::local(Home::with_proxy("off"));
    let source = write(&client, "source", program);
    let mut all = vec![source.as_str(), "--version", "1"];
    all.extend(arguments);
    client.build(&all)
}

#[test]
fn an_unknown_module_fails_with_the_proxys_own_words_and_is_not_retried() {
    let proxy = ModuleProxy::start().with(
        "example.test/known",
        "v1.0.0",
        &Program::saying("example.test/known", "k"),
    );
    let client = Client::local(Home::with_proxy(&proxy.url()));

    client
        .build(&["example.test/absent@v1.0.0"])
        .expect_failure(FAILED, &["example.test/absent", "no such module in this proxy"]);
    assert_eq!(proxy.count("/example.test/absent/@v/v1.0.0.info"), 1, "{:?}", proxy.requests());

    client
        .build(&["example.test/known/cmd/absent@v1.0.0"])
        .expect_failure(FAILED, &["example.test/known/cmd/absent"]);

    // The fleet works on.
    client.build(&["example.test/known@v1.0.0"]).expect_success();
}

#[test]
fn a_compile_error_is_told_once_a_platform_and_the_others_finish() {
    let program = Program::saying("example.test/half", "fine")
        .file("only_windows.go", "package main\n\nvar wrong int = \"text\"\n");
    let build = build(&program, &["--platform", "linux/amd64,windows/amd64,windows/arm64"]);
    let run = build.run.expect_code(FAILED).expect_words(&["only_windows.go:3:17", "windows/amd64"]);
    // Once as each platform fails, and once at the end for both together.
    for line in ["windows/amd64: failed: ", "windows/arm64: failed: ", "  "] {
        let line = format!("\n{line}./only_windows.go:3:17: ");
        assert_eq!(run.stderr.matches(&line).count(), 1, "{line:?}: {run}");
    }
    assert_eq!(run.stderr.matches("only_windows.go:3:17").count(), 3, "{run}");
    assert!(run.says("linux/amd64: done"), "the platform that compiles finishes: {run}");
}

#[test]
fn an_unknown_platform_is_refused_with_its_near_match() {
    let client = Client::local(Home::with_proxy("off"));
    let source = write(&client, "source", &Program::saying("example.test/p", "p"));
    client
        .build(&[&source, "--platform", "linux/amd46"])
        .expect_failure(USAGE, &["linux/amd46", "linux/amd64"]);
    client.build(&[&source, "--platform", "plan10/386"]).expect_failure(USAGE, &["plan9/386"]);
}

#[test]
fn a_library_is_not_a_program() {
    let library = Program::module("example.test/lib").file("lib.go", "package lib\n");
    build(&library, &[]).expect_failure(FAILED, &["main"]);
}

#[test]
fn cgo_that_is_off_is_said_so() {
    let program = Program::module("example.test/c").file(
        "main.go",
        "package main\n\n// int one(void) { return 1; }\nimport \"C\"\n\nfunc main() { println(C.one()) }\n",
    );
    build(&program, &[]).expect_failure(FAILED, &["cgo", "--cgo"]);
}

#[test]
fn a_missing_line_in_go_sum_asks_for_go_mod_tidy() {
    let program = Program::module("example.test/untidy")
        .file("go.mod", "module example.test/untidy\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file("main.go", "package main\n\nimport _ \"example.test/lib\"\n\nfunc main() {}\n");
    let library = Program::module("example.test/lib").file("lib.go", "package lib\n");
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library);
    let client = Client::local(Home::with_proxy(&proxy.url()));
    let source = write(&client, "source", &program);
    client.build(&[&source, "--version", "1"]).expect_failure(FAILED, &["go mod tidy"]);
}

#[test]
fn bytes_that_are_not_what_go_sum_says_are_refused() {
    let library = Program::module("example.test/lib").file("lib.go", "package lib\n");
    let program = Program::module("example.test/p")
        .file("go.mod", "module example.test/p\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file(
            "go.sum",
            "example.test/lib v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nexample.test/lib v1.0.0/go.mod h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        )
        .file("main.go", "package main\n\nimport _ \"example.test/lib\"\n\nfunc main() {}\n");
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library);
    let client = Client::local(Home::with_proxy(&proxy.url()));
    let source = write(&client, "source", &program);
    client
        .build(&[&source, "--version", "1"])
        .expect_failure(FAILED, &["example.test/lib@v1.0.0", "mismatch"]);
}

#[test]
fn a_tree_that_leaves_itself_is_refused_and_nothing_is_read_outside() {
    let client = Client::local(Home::with_proxy("off"));
    let secret = client.home.path().join("secret.txt");
    fs::write(&secret, "secret").expect("a file can be written");
    let tree = |name: &str| PathBuf::from(write(&client, name, &Program::saying("example.test/t", "t")));

    let outside = tree("outside");
    symlink("../secret.txt", outside.join("link.txt")).expect("a link can be made");
    let absolute = tree("absolute");
    symlink(&secret, absolute.join("link.txt")).expect("a link can be made");
    let looping = tree("looping");
    symlink("b", looping.join("a")).expect("a link can be made");
    symlink("a", looping.join("b")).expect("a link can be made");
    let device = tree("device");
    let made = std::process::Command::new("mkfifo").arg(device.join("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is part of every system");

    for (directory, name) in [(outside, "link.txt"), (absolute, "link.txt"), (looping, "a"), (device, "pipe")]
    {
        let source = directory.display().to_string();
        client.build(&[&source, "--version", "1"]).expect_failure(USAGE, &[name]);
    }
}

#[test]
fn a_damaged_module_is_refused() {
    let program = Program::saying("example.test/bad", "bad");
    let proxy = ModuleProxy::start().with("example.test/bad", "v1.0.0", &program);
    let client = Client::local(Home::with_proxy(&proxy.url()));

    proxy.misbehave(".zip", Misbehaviour::Replace(b"<html>log in first</html>".to_vec()));
    client.build(&["example.test/bad@v1.0.0"]).expect_failure(FAILED, &["example.test/bad", "zip"]);
    proxy.behave();

    let elsewhere = module_zip("example.test/bad@v1.0.0/../../../escape", &program);
    proxy.misbehave(".zip", Misbehaviour::Replace(elsewhere));
    client.build(&["example.test/bad@v1.0.0"]).expect_failure(FAILED, &["example.test/bad"]);
    proxy.behave();

    client.build(&["example.test/bad@v1.0.0"]).expect_success();
}

#[test]
fn a_zip_bomb_is_refused_before_it_unfolds() {
    let program = Program::saying("example.test/bomb", "bomb");
    let proxy = ModuleProxy::start().with("example.test/bomb", "v1.0.0", &program);
    let bomb = zip_bomb("example.test/bomb@v1.0.0", "module example.test/bomb\n", 600 << 20);
    assert!(bomb.len() < 2 << 20, "not much of a bomb: {} bytes", bomb.len());
    proxy.misbehave(".zip", Misbehaviour::Replace(bomb));
    let client = Client::local(Home::with_proxy(&proxy.url()));
    client.build(&["example.test/bomb@v1.0.0"]).expect_failure(FAILED, &["example.test/bomb", "large"]);
}

#[test]
fn a_module_proxy_that_cannot_be_reached_is_named() {
    // Port 1 of loopback: nobody listens there.
    let client = Client::local(Home::with_proxy("http://127.0.0.1:1"));
    client.build(&["example.test/x@v1.0.0"]).expect_failure(BROKEN, &["127.0.0.1:1", "refused"]);
}

#[test]
fn without_a_module_proxy_the_message_says_what_to_set() {
    // Neither has a toolchain: what `direct` asks are the origins of modules.
    for proxy in ["off", "direct"] {
        let client = Client::local(Home::with_proxy(proxy));
        let source = write(&client, "source", &Program::saying("example.test/x", "x"));
        client
            .build(&[&source, "--version", "1", "--go", "default"])
            .expect_failure(FAILED, &["golang.org/toolchain", &format!("GOPROXY={proxy}"), "set GOPROXY"]);
    }
}

#[test]
fn unknown_settings_are_refused_all_at_once_with_a_near_match() {
    let client = Client::local(Home::with_proxy("off"));
    let program = Program::saying("example.test/x", "x")
        .file("meridian.toml", "platfroms = [\"linux/amd64\"]\nunheard-of = 1\ngo.version = \"latest\"\n");
    let source = write(&client, "source", &program);
    client.build(&[&source]).expect_failure(
        USAGE,
        &["meridian.toml:1:1", "platfroms", "platforms", "unheard-of", "meridian.toml:3:14", "\"latest\""],
    );
}

#[test]
fn a_mistyped_command_line_is_a_usage_error() {
    let client = Client::local(Home::with_proxy("off"));
    client.run(&["biuld"]).expect_code(USAGE).expect_words(&["build"]);
    client.run(&["build", "./nowhere"]).expect_code(USAGE).expect_words(&["nowhere", "does not exist"]);
    client
        .run(&["build", "example.test/tool"])
        .expect_code(USAGE)
        .expect_words(&["example.test/tool@latest"]);
}
