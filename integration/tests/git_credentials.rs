//! A private repository: whatever lets the user's own git in lets the build in, and stays with git.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use meridian_integration::{
    client::Client,
    fixture::{git::Repository, git_server::GitServer, program::Program},
    home::Home,
};

const USER: &str = "alice";
const PASSWORD: &str = "open-sesame-4711";
const USAGE: i32 = 2;

/// A program that speaks for the user when git asks.
fn script(home: &Home, name: &str, lines: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file in a temporary directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}

/// Fails the test if a file below `directory` has the password in it.
#[track_caller]
fn expect_no_password(directory: &Path) {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_default();
            let found = bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
            assert!(!found, "the password lies in {}", path.display());
        }
    }
}

#[test]
fn the_users_own_credentials_open_a_private_repository_and_are_kept_nowhere() {
    let repository = Repository::with(&Program::saying("example.test/r", "private"));
    repository.tag("v1.0.0");
    let commit = repository.commit(&Program::saying("example.test/r", "newer"), "newer");
    let server = GitServer::of(&repository, USER, PASSWORD);
    let mut client = Client::local(Home::with_proxy("off"));
    client.home.set("GIT_CONFIG_NOSYSTEM", "1");

    // Nobody is there to type a password: git's own words, and no waiting for ever.
    client
        .build_into("a", &[&format!("{}@v1.0.0", server.url(""))])
        .expect_failure(USAGE, &["could not read Username for 'http://127.0.0.1:"]);

    // A credential helper in the user's git configuration.
    let helper = format!("test \"$1\" = get && echo username={USER} && echo password={PASSWORD}");
    let helper = script(&client.home, "helper", &helper);
    let configuration = client.home.path().join("home/.gitconfig");
    fs::write(&configuration, format!("[credential]\n\thelper = {helper}\n")).expect("a git configuration");
    let dist = client.build_into("b", &[&format!("{}@v1.0.0", server.url(""))]).expect_success();
    let name = dist.names().pop().expect("an artifact");
    assert_eq!(dist.execute(&name, &[]).trim(), "private");
    fs::remove_file(&configuration).expect("it was there");

    // A program that answers for the user.
    let answers = format!("case \"$1\" in Username*) echo {USER} ;; *) echo {PASSWORD} ;; esac");
    let askpass = script(&client.home, "askpass", &answers);
    let mut asked = client.home.meridian(["build", "--local", "--toolchain", "local", "--out"]);
    asked.arg(client.home.path().join("c")).arg(format!("{}@{commit}", server.url("")));
    asked.env("GIT_ASKPASS", askpass);
    meridian_integration::process::Running::start(asked)
        .finish(meridian_integration::client::COMMAND_MAX)
        .expect_code(0);

    // In the address itself; and wrong ones there, whose refusal must not repeat them.
    let inside = server.url(&format!("{USER}:{PASSWORD}@"));
    let build = client.build_into("d", &[&format!("{inside}@v1.0.0")]);
    assert!(!build.run.says(PASSWORD), "{}", build.run);
    build.expect_success();
    let wrong = server.url(&format!("{USER}:not-{PASSWORD}@"));
    let refused = client.build_into("e", &[&format!("{wrong}@v1.0.0")]);
    assert!(!refused.run.says(PASSWORD), "{}", refused.run);
    refused.expect_failure(USAGE, &["Authentication failed"]);

    let slashed = server.url(&format!("{USER}:not/{PASSWORD}@"));
    let refused = client.build_into("f", &[&format!("{slashed}@v1.0.0")]);
    assert!(!refused.run.says(PASSWORD), "{}", refused.run);
    refused.expect_failure(USAGE, &["http://127.0.0.1:", "%2F"]);

    let told = client.run(&["builds", "--project", "local/r", "--json"]).expect_words(&["local/r/1"]);
    assert!(!told.says(PASSWORD), "{told}");
    for below in ["state", "cache", "data", "config", "tmp"] {
        expect_no_password(&client.home.path().join(below));
    }
}
