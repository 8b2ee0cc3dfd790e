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
    let name = dist.artifacts().pop().expect("an artifact");
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

/// An ssh that writes down how it was called, then runs here what was meant for the other end.
fn recording_ssh(home: &Home, name: &str) -> String {
    let record = home.path().join("ssh.log").display().to_string();
    let lines = [
        // Git asks a program that it does not know whether it takes OpenSSH's options.
        "case \" $* \" in *\" -G \"*) exit 1 ;; esac",
        &format!("echo \"$0 $* agent=$SSH_AUTH_SOCK\" >> {record}"),
        "for command; do :; done",
        "exec sh -c \"$command\"",
    ];
    script(home, name, &lines.join("\n"))
}

/// How ssh was called, one line a call.
fn ssh_calls(home: &Home) -> Vec<String> {
    let text = fs::read_to_string(home.path().join("ssh.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A user whose git knows nothing but what the test tells it, and a repository behind ssh.
fn behind_ssh() -> (Client, Repository, String) {
    let repository = Repository::with(&Program::saying("example.test/r", "over ssh"));
    repository.tag("v1.0.0");
    let source = format!("ssh://git@host.example{}@v1.0.0", repository.bare().display());
    let mut client = Client::local(Home::with_proxy("off"));
    client.home.set("GIT_CONFIG_NOSYSTEM", "1");
    client.home.set("SSH_AUTH_SOCK", "/nowhere/agent.sock");
    (client, repository, source)
}

#[track_caller]
fn expect_built_over_ssh(client: &Client, source: &str) -> Vec<String> {
    let dist = client.build(&[source]).expect_success();
    let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
    assert_eq!(dist.execute(&name, &[]).trim(), "over ssh");
    let calls = ssh_calls(&client.home);
    assert!(!calls.is_empty(), "ssh was never called");
    for call in &calls {
        assert!(call.contains(" git@host.example git-upload-pack '/"), "{call}");
        assert!(call.ends_with(" agent=/nowhere/agent.sock"), "{call}");
    }
    calls
}

#[test]
fn the_users_own_ssh_command_reaches_a_repository() {
    let (mut client, _repository, source) = behind_ssh();
    let ssh = recording_ssh(&client.home, "my-ssh");
    client.home.set("GIT_SSH_COMMAND", format!("{ssh} -i my-key"));
    for call in expect_built_over_ssh(&client, &source) {
        assert!(call.starts_with(&format!("{ssh} -i my-key ")) && !call.contains("BatchMode"), "{call}");
    }
}

#[test]
fn ssh_asks_nothing_where_nobody_is_there_to_answer() {
    let (mut client, _repository, source) = behind_ssh();
    fs::create_dir(client.home.path().join("bin")).expect("a directory in a fresh home");
    let ssh = recording_ssh(&client.home, "bin/ssh");
    let path = client.home.get("PATH").expect("it is passed on").to_string_lossy().into_owned();
    let bin = Path::new(&ssh).parent().expect("its directory").display().to_string();
    client.home.set("PATH", format!("{bin}:{path}"));
    for call in expect_built_over_ssh(&client, &source) {
        assert!(call.starts_with(&format!("{ssh} -oBatchMode=yes ")), "{call}");
    }
}

#[test]
fn an_ssh_command_in_the_users_git_configuration_is_the_one_that_runs() {
    let (client, _repository, source) = behind_ssh();
    let ssh = recording_ssh(&client.home, "configured-ssh");
    let configuration = client.home.path().join("home/.gitconfig");
    fs::write(&configuration, format!("[core]\n\tsshCommand = {ssh} -i my-key\n")).expect("a configuration");
    for call in expect_built_over_ssh(&client, &source) {
        assert!(call.starts_with(&format!("{ssh} -i my-key ")), "{call}");
    }
}
