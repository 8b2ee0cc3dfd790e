//! What is secret on an agent's machine: declared, or used by the agent itself, and shown nowhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meridian_integration::{
    client::{Build, Client},
    fixture::program::Program,
    fleet::Fleet,
    home::Home,
    process::Running,
};
use meridian_store::tree::Directory;

const USAGE: i32 = 2;
const BUILD_FAILED: i32 = 1;
/// A secret that can be the name of a file and of a Go variable, and the same in base64.
const SECRET: &str = "s3cr3tTroubadour";
const IN_BASE64: &str = "czNjcjN0VHJvdWJhZG91cg";

fn agent_home(declared: &str) -> Home {
    let mut home = Home::with_proxy("off");
    home.set("DEPLOY_TOKEN", SECRET);
    fs::write(home.path().join("agent.toml"), format!("[redaction]\n{declared}")).expect("a file in a home");
    home
}

fn source(client: &Client, program: Program) -> PathBuf {
    let directory = client.home.path().join("source");
    program.write(&directory).expect("a directory can be written");
    directory
}

/// Every file below `directory` that holds the secret in either form, but for those that `is_source`.
fn holding(directory: &Path, texts: &[&str], is_source: &dyn Fn(&[u8]) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_default();
            let holds = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if texts.iter().any(holds) && !is_source(&bytes) {
                found.push(path);
            }
        }
    }
    found
}

#[track_caller]
fn expect_hidden(what: &str, text: &str) {
    for form in [SECRET, IN_BASE64] {
        assert!(!text.contains(form), "{what} shows {form}: {text}");
    }
}

/// A program that says the secret in everything that a compiler repeats: a file's name, a line, an identifier.
fn program(with_cgo: bool) -> Program {
    let file = format!("{SECRET}.go");
    let text = format!("package main\n\nvar _ = {SECRET}\nvar _ = {IN_BASE64}\n");
    let program = Program::saying("example.test/p", "hello").file(&file, &text);
    let c = format!(
        "package main\n\n// #warning the token is {SECRET}\n// #warning --token {SECRET}\nimport \"C\"\n\nvar _ C.int\n"
    );
    if with_cgo { program.file("c.go", &c) } else { program }
}

fn has_gcc() -> bool {
    Command::new("gcc").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_declared_secret_shows_in_no_log_watch_journal_or_file_whatever_a_build_says() {
    let mut fleet = Fleet::start();
    let agent = fleet.join_agent("eu/a", 1, agent_home("variables = [\"DEPLOY_TOKEN\"]\n"));
    let client = fleet.member("alice");
    let with_cgo = has_gcc();
    let source = source(&client, program(with_cgo));
    let text = source.display().to_string();
    let mut arguments = vec![text.as_str(), "--version", "1", "--project", "acme/p"];
    if with_cgo {
        arguments.push("--cgo");
    }
    let Build { run, .. } = client.build(&arguments);
    let run = run.expect_code(BUILD_FAILED).expect_words(&["***.go", "undefined: ***"]);
    expect_hidden("the watch", &format!("{}{}", run.stdout, run.stderr));

    let logs = client.run(&["logs", "acme/p/1"]).expect_code(0);
    assert!(logs.says("***"), "{logs}");
    assert!(!with_cgo || logs.says("the token is ***"), "{logs}");
    for command in [
        &["logs", "acme/p/1"][..],
        &["explain", "acme/p/1"],
        &["explain", "acme/p/1", "--json"],
        &["builds", "--project", "acme/p", "--json"],
    ] {
        let run = client.run(command).expect_code(0);
        expect_hidden(&command.join(" "), &format!("{}{}", run.stdout, run.stderr));
    }

    // The source itself says it, and is kept as it is.
    let is_source = |bytes: &[u8]| {
        let files = fs::read_dir(&source).into_iter().flatten().flatten();
        files.map(|file| fs::read(file.path()).unwrap_or_default()).any(|file| file == bytes)
            || Directory::decode(bytes).is_ok()
    };
    let kept = holding(&fleet.coordinator_state(), &[SECRET, IN_BASE64], &is_source);
    assert_eq!(kept, Vec::<PathBuf>::new(), "the coordinator keeps it");
    expect_hidden("the agent's log", &fleet.agent(agent).log());
    expect_hidden("the coordinator's log", &fleet.coordinator().log());
    let spool = fleet.agent_home(agent).path().join("agent/logs");
    assert_eq!(holding(&spool, &[SECRET, IN_BASE64], &|_| false), Vec::<PathBuf>::new());
}

#[test]
fn a_password_in_the_agents_own_settings_is_secret_without_being_declared() {
    let password = "troubadourPass77";
    let mut fleet = Fleet::start();
    let address = meridian_integration::fleet::free_address();
    let mut home = Home::with_proxy(&format!("http://ci:{password}@{address}"));
    // The agent's own log is asked for everything.
    home.set("MERIDIAN_LOG", "debug");
    home.set("GONOSUMDB", format!("https://x:{password}@nowhere.test"));
    let agent = fleet.join_agent("eu/a", 1, home);
    let client = fleet.member("alice");
    let Build { run, .. } = client.build(&["example.test/none@v1.0.0", "--project", "acme/p"]);
    assert_ne!(run.code, Some(0), "{run}");
    assert!(!run.says(password), "{run}");
    let explained = client.run(&["explain", "acme/p/1", "--json"]);
    assert!(!explained.says(password), "{explained}");
    let log = fleet.agent(agent).log();
    assert!(!log.contains(password), "{log}");
    let state = fleet.coordinator_state();
    assert_eq!(holding(&state, &[password], &|_| false), Vec::<PathBuf>::new());
}

#[test]
fn an_agent_does_not_start_on_a_declared_secret_that_it_cannot_mask_and_the_doctor_knows() {
    let fleet = Fleet::start();
    for (declared, words) in [
        ("variables = [\"PIN\"]\n", &["PIN", "4 bytes", "make it longer"][..]),
        ("variables = [\"GONE\"]\n", &["GONE", "not in the agent's environment"]),
        ("files = [\"npm-token\"]\n", &["npm-token", "LoadCredential="]),
    ] {
        let mut home = agent_home(declared);
        home.set("PIN", "4711");
        let mut command = home.meridian(["agent", "--coordinator", &fleet.address(), "--state"]);
        command.arg(home.path().join("agent")).arg("--config").arg(home.path().join("agent.toml"));
        command.env("MERIDIAN_TOKEN", fleet.token("--agent", "eu/b"));
        let run = Running::start(command).finish(Duration::from_secs(30)).expect_code(USAGE);
        let run = run.expect_words(words);
        assert!(!run.says("4711"), "{run}");
        let mut doctor = home.meridian(["doctor", "--config"]);
        doctor.arg(home.path().join("agent.toml"));
        let told = Running::start(doctor).finish(Duration::from_secs(60)).expect_code(USAGE);
        let told = told.expect_words(words).expect_words(&["does not start"]);
        assert!(!told.says("4711"), "{told}");
    }
}
