//! Mistakes in what an agent's configuration says of the caches that only its machine can tell: they end the agent with the
//! code for mistakes, and the doctor finds the same. No token is spent for them.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use meridian_integration::{
    fleet::Fleet,
    home::Home,
    process::{Daemon, Running},
};

const USAGE: i32 = 2;
const BROKEN: i32 = 4;

#[test]
fn an_agent_that_cannot_serve_as_told_ends_with_2_before_its_token_is_spent_and_the_doctor_knows() {
    let fleet = Fleet::start();
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("its address");
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = dir.path().join("tokens");
    fs::write(&tokens, "a-token-of-twenty-and-more acme write\n").expect("a file can be written");
    let open = tokens.display();
    let cases = [
        (format!("[shard]\nlisten = \"{taken}\"\n"), vec!["shard.listen: cannot listen on".to_owned()]),
        ("[shard]\nlisten = \"0.0.0.0:0\"\n".to_owned(), vec!["every address of this machine".to_owned()]),
        (
            format!("[reapi]\nlisten = \"{taken}\"\ntokens = \"{open}\"\n"),
            vec!["chmod 600".to_owned(), format!("reapi: cannot listen on {taken}")],
        ),
        (
            "[reapi]\nlisten = \"0.0.0.0:0\"\ntokens = \"/none/tokens\"\n".to_owned(),
            vec!["/none/tokens".to_owned(), "not of this machine alone".to_owned()],
        ),
        (
            "[sidecar]\nprojects = [\"acme/p\"]\nsocket = \"/none/cache.sock\"\n".to_owned(),
            vec!["sidecar.socket: /none".to_owned()],
        ),
        (
            "[sidecar]\nprojects = [\"acme/p\"]\ngroup = \"no-such-group\"\n".to_owned(),
            vec!["sidecar.group".to_owned(), "no-such-group".to_owned()],
        ),
        (
            "[sidecar]\nprojects = [\"acme/p\"]\nviews = \"/proc/self/exe\"\n".to_owned(),
            vec!["sidecar.views: /proc/self/exe: a symbolic link".to_owned()],
        ),
    ];
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    let token = fleet.token("--agent", "eu/b");
    for (text, words) in cases {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let home = Home::with_proxy("off");
        let config = home.path().join("agent.toml");
        fs::write(&config, format!("sandbox = \"off\"\n{text}")).expect("a configuration can be written");
        let mut command = home.meridian(["agent", "--coordinator", &fleet.address(), "--state"]);
        command.arg(home.path().join("agent")).arg("--config").arg(&config);
        command.env("MERIDIAN_TOKEN", &token);
        Running::start(command).finish(Duration::from_secs(60)).expect_code(USAGE).expect_words(&words);
        let mut doctor = home.meridian(["doctor", "--config"]);
        doctor.arg(&config);
        let told = Running::start(doctor).finish(Duration::from_secs(60)).expect_code(USAGE);
        told.expect_words(&words).expect_words(&["does not start"]);
    }
}

/// The command of an agent, before it has joined.
fn agent(fleet: &Fleet, home: &Home, sandbox: &str, token: &str) -> Command {
    let mut command = home.meridian(["agent", "--coordinator", &fleet.address(), "--state"]);
    command.arg(home.path().join("agent")).args(["--set", sandbox]).env("MERIDIAN_TOKEN", token);
    command
}

/// Lets an agent start, which it does with a token that is still good.
fn start(command: Command, home: &Home) {
    let mut daemon = Daemon::start("agent", command, &home.path().join("log")).expect("it starts");
    daemon.wait_for_log("the agent starts", Duration::from_secs(60));
}

#[test]
fn a_token_is_still_good_after_an_agent_could_not_use_its_directory_or_had_no_sandbox() {
    let fleet = Fleet::start();
    let token = fleet.token("--agent", "eu/b");
    let home = Home::with_proxy("off");
    let cache = home.path().join("agent/cache");
    fs::create_dir(home.path().join("agent")).expect("a directory");
    fs::write(home.path().join("agent/VERSION"), "1\n").expect("a file");
    fs::write(&cache, "").expect("a file");
    let run = Running::start(agent(&fleet, &home, "sandbox=off", &token)).finish(Duration::from_secs(60));
    let words = format!("state: {} is no directory", cache.display());
    run.expect_code(USAGE).expect_words(&[&words, "--state"]);
    fs::remove_file(&cache).expect("it can go");
    start(agent(&fleet, &home, "sandbox=off", &token), &home);

    let token = fleet.token("--agent", "eu/c");
    let mut home = Home::with_proxy("off");
    if let Err(why) = home.forbid_namespaces() {
        eprintln!("not shown here: {why}");
        return;
    }
    let bare = agent(&fleet, &home, "sandbox=required", &token);
    Running::start(bare).finish(Duration::from_secs(60)).expect_code(BROKEN);
    start(agent(&fleet, &home, "sandbox=when-possible", &token), &home);
}
