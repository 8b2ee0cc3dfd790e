//! What a command says and how it ends when something around it is not as it should be: a directory that cannot
//! be written, a source that is too large, an answer that nobody takes, a signal in the middle.

use std::{
    collections::BTreeSet,
    fs,
    io::PipeWriter,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use meridian_integration::{
    client::{COMMAND_MAX, Client},
    fixture::{
        git::{Repository, git_in},
        program::Program,
    },
    fleet::Fleet,
    home::Home,
    process::{Run, Running},
    wait::wait_for,
};
use rustix::process::{Signal, geteuid};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const BROKEN: i32 = 4;
const CANCELLED: i32 = 130;

fn write(client: &Client, name: &str, program: &Program) -> PathBuf {
    let directory = client.home.path().join(name);
    program.write(&directory).expect("a fresh directory can be written");
    directory
}

/// Builds `sources` into `out`, which stands as typed in the source's directory.
fn build_there(client: &Client, directory: &Path, out: &str, sources: &[&str]) -> Run {
    let mut command = client.home.meridian(["build", "--local", "--toolchain", "local", "--version", "1"]);
    command.args(["--out", out]).args(sources).current_dir(directory);
    Running::start(command).finish(COMMAND_MAX)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_output_that_is_no_directory_or_is_the_source_is_refused_before_anything_is_built() {
    let client = Client::local(Home::with_proxy("off"));
    let program = Program::saying("example.test/p", "p").file("page/index.html", "<p>");
    let source = write(&client, "source", &program);
    let other = write(&client, "other", &Program::saying("example.test/o", "o"));
    git_in(&source, &["init", "--quiet"]);
    git_in(&source, &["add", "--all"]);
    let before = names(&source);
    let above = client.home.path().display().to_string();
    let other = other.display().to_string();
    for (out, sources, words) in [
        ("main.go", &[][..], ["main.go is not a directory", "--out"]),
        ("main.go/dist", &[], ["main.go is not a directory", "--out"]),
        (".", &[], ["the source", "such as dist"]),
        ("..", &[], ["the source", "such as dist"]),
        (&above, &[], ["the source", "such as dist"]),
        ("page", &[], ["page/index.html", "such as dist"]),
        // Each of several sources has a say.
        (&other, &[".", &other], ["the source", "such as dist"]),
        (".", &[&other, "."], ["the source", "such as dist"]),
    ] {
        let run = build_there(&client, &source, out, sources);
        run.expect_code(USAGE).expect_words(&words);
        assert_eq!(names(&source), before, "{out}");
    }
    for project in ["local/p", "local/o"] {
        client.run(&["builds", "--project", project]).expect_code(0).expect_words(&["no builds of"]);
    }

    // Inside the source it is as good as outside, and what lies there is never built from: twice the same.
    for out in ["dist", "deep/er/dist", "../elsewhere"] {
        for _ in 0..2 {
            build_there(&client, &source, out, &[]).expect_code(0);
        }
        fs::remove_dir_all(source.join(out)).expect("the artifacts");
    }
    let listed = client.run(&["builds", "--project", "local/p"]).expect_code(0);
    let trees: Vec<&str> =
        listed.stdout.lines().filter_map(|line| Some(line.split_once(" tree ")?.1)).collect();
    assert_eq!(trees.len(), 6, "{listed}");
    let trees: BTreeSet<&str> = trees.into_iter().collect();
    assert_eq!(trees.len(), 1, "{listed}");
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_anything_is_built() {
    let mut home = Home::with_proxy("off");
    for name in ["source", "locked"] {
        fs::create_dir(home.path().join(name)).expect("a directory in a fresh home");
    }
    // Root writes everywhere.
    if let Err(why) = home.become_nobody()
        && geteuid().is_root()
    {
        eprintln!("not shown: {why}");
        return;
    }
    let client = Client::local(home);
    let source = write(&client, "source", &Program::saying("example.test/p", "p")).display().to_string();
    let locked = client.home.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("its mode");
    for out in ["locked", "locked/a/b"] {
        client
            .build_into(out, &[&source, "--version", "1"])
            .expect_failure(BROKEN, &["cannot write", "locked", "Permission denied", "--out"]);
    }
    client.run(&["builds", "--project", "local/p"]).expect_code(0).expect_words(&["no builds of"]);
    // Where nothing is written, nothing has to be writable.
    let out = locked.display().to_string();
    client
        .run(&["build", &source, "--version", "1", "--toolchain", "local", "--out", &out, "--detach"])
        .expect_code(0);
}

#[test]
fn a_file_that_no_source_may_hold_is_refused_by_name_before_it_is_read() {
    let client = Client::local(Home::with_proxy("off"));
    let source = write(&client, "source", &Program::saying("example.test/p", "p"));
    let huge = fs::File::create(source.join("huge.bin")).expect("a file can be made");
    huge.set_len(5 << 30).expect("a sparse file");
    client
        .build(&[&source.display().to_string(), "--version", "1"])
        .expect_failure(REFUSED, &["huge.bin", "5.0 GiB", "2.0 GiB", "git ignores"]);
}

#[test]
fn a_build_belongs_to_the_project_that_help_says() {
    let client = Client::local(Home::with_proxy("off"));
    let repository = Repository::with(&Program::saying("example.test/shop/web/v2", "web"));
    let help = client.run(&["build", "--help"]).expect_code(0);
    let help = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains("the last word of the module's path, or of the package's in package@query"),
        "{help}"
    );
    // A clone, its repository and a package at a version, however the directories around them are called.
    let work = repository.work().display().to_string();
    for (source, build) in [
        (work.as_str(), "local/web/1"),
        (&repository.url(), "local/web/2"),
        ("example.test/shop/web/v2@v2.0.0", "local/web/3"),
        ("example.test/shop/web/v2/cmd/till@v2.0.0", "local/till/1"),
    ] {
        let run = client.run(&["build", source, "--toolchain", "local", "--detach"]).expect_code(0);
        assert_eq!(run.stdout.trim(), build, "{source}");
    }
    let mut here = client.home.meridian(["builds", "--local"]);
    here.current_dir(&work);
    Running::start(here).finish(COMMAND_MAX).expect_code(0).expect_words(&["local/web/3"]);
}

/// Carries the first connection to `address` and lets every later one wait, as a network does that has lost it.
struct HalfOpen {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl HalfOpen {
    fn to(address: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ours = listener.local_addr().expect("its address").to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        thread::spawn(move || {
            let mut address = address;
            let mut held = Vec::new();
            for connection in listener.incoming().flatten() {
                match address.take() {
                    Some(address) => {
                        carry(connection, &TcpStream::connect(address).expect("the coordinator"))
                    }
                    None => held.push(connection),
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address: ours, connections }
    }

    #[track_caller]
    fn wait_for_connections(&self, count: usize) {
        wait_for("the command to connect", COMMAND_MAX, || {
            (self.connections.load(Ordering::SeqCst) >= count).then_some(())
        });
    }
}

fn carry(here: TcpStream, there: &TcpStream) {
    for (mut from, mut to) in [(&here, there), (there, &here)].map(|(from, to)| {
        (from.try_clone().expect("a second handle"), to.try_clone().expect("a second handle"))
    }) {
        // Ends with the connection.
        thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
}

#[test]
fn a_signal_between_two_submits_cancels_what_was_submitted_and_says_so() {
    let fleet = Fleet::start();
    let mut client = fleet.member("alice");
    let source = write(&client, "source", &Program::saying("example.test/p", "p")).display().to_string();
    let network = HalfOpen::to(Some(fleet.address()));
    client.coordinator = Some(network.address.clone());
    // The module has nothing to upload and is submitted; the upload of the directory hangs.
    let running = client.start(&["build", "example.test/first@v1.0.0", &source, "--version", "1"]);
    network.wait_for_connections(2);
    running.signal(Signal::INT);
    let run = running.finish(COMMAND_MAX).expect_code(CANCELLED);
    assert!(run.stderr.contains("cancelled: acme/first/1\n"), "{run}");

    let listed = fleet.warden().run(&["builds", "--project", "acme/first"]).expect_code(0);
    assert!(listed.says("acme/first/1") && listed.says("cancelled"), "{listed}");
}

#[test]
fn a_signal_while_a_submit_is_unanswered_claims_nothing() {
    let fleet = Fleet::start();
    let mut client = fleet.member("alice");
    let network = HalfOpen::to(None);
    client.coordinator = Some(network.address.clone());
    measured_a_moment_ago(&client, &network.address);
    let running = client.start(&["build", "example.test/first@v1.0.0"]);
    network.wait_for_connections(1);
    running.signal(Signal::INT);
    running
        .finish(COMMAND_MAX)
        .expect_code(CANCELLED)
        .expect_words(&["did not say whether it has a build of acme/first", "builds --project acme/first"]);
}

/// Has the client know already how far the fleet's regions are, so that the first it asks is to take a build in.
fn measured_a_moment_ago(client: &Client, coordinator: &str) {
    let fleets = fs::read_dir(client.home.state().join("fleets")).expect("a fleet was joined");
    let fleet = fleets.map(|fleet| fleet.expect("its directory").path()).next().expect("a fleet");
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
    let kept = serde_json::json!({
        "coordinator": coordinator, "carried": {},
        "measured": { "acme": { "at_ms": u64::try_from(now_ms).ok(), "rtt_us": {} } },
    });
    fs::write(fleet.join("ways.json"), kept.to_string()).expect("its directory can be written");
}

/// Runs a command whose standard output goes to `stdout`, and says how it ended and what it said beside.
fn run_into(mut command: Command, stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn();
    let output = output.and_then(Child::wait_with_output).expect("the command runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The end of a pipe that nobody reads any more.
fn closed_pipe() -> PipeWriter {
    std::io::pipe().expect("a pipe").1
}

fn full_device() -> fs::File {
    fs::File::options().write(true).open("/dev/full").expect("every Linux has it")
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success_and_one_that_nobody_reads_is_no_failure() {
    let fleet = Fleet::start();
    let client = fleet.member("alice");
    let address = fleet.address();
    let state = fleet.coordinator_state().display().to_string();
    let build = ["build", "example.test/p@v1.0.0", "--project", "acme/p", "--platform"];
    let build = [&build[..], &["linux/amd64,linux/arm64", "--detach", "--coordinator", &address]].concat();
    client.run(&build).expect_code(0).expect_words(&["acme/p/1"]);
    let journal = format!("{state}/journal");

    for (arguments, hint) in [
        (&["--help"][..], ""),
        (&["build", "--help"], ""),
        (&["--version"], ""),
        (&["builds", "--project", "acme/p", "--json"], ""),
        (&["builds", "--project", "acme/p"], ""),
        (&["explain", "acme/p/1"], ""),
        (&["explain", "acme/p/1", "--json"], ""),
        (&["status"], ""),
        (&["status", "--json"], ""),
        (&["agents", "--json"], ""),
        (&["local", "status"], ""),
        (&["local", "status", "--json"], ""),
        (&["journal", "verify", &journal], ""),
        (&build, "submitted all the same, and going on: acme/p/"),
        (&["token", "create", "--agent", "eu/a", "--state", &state, "--coordinator", &address], "is lost"),
        (&["cancel", "acme/p/1"], "all the same"),
    ] {
        let (code, said) = run_into(client.home.meridian(arguments), full_device());
        assert_eq!(code, Some(BROKEN), "{arguments:?}: {said}");
        assert_eq!(said.matches("cannot write to standard output").count(), 1, "{arguments:?}: {said}");
        assert!(said.contains(hint) && !said.contains("mrd1."), "{arguments:?}: {said}");

        let (code, said) = run_into(client.home.meridian(arguments), closed_pipe());
        assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?}");
    }

    // Nobody reads either stream, as in `2>&1 | head -1`: the code still says how it ended.
    for (arguments, expected) in [
        (&["builds", "--project", "acme/none"][..], 0),
        (&["explain", "acme/p/99"], REFUSED),
        (&["explain", "acme/p/99", "--json"], REFUSED),
        (&["biuld"], USAGE),
    ] {
        let mut command = client.home.meridian(arguments);
        let status = command.stdin(Stdio::null()).stdout(closed_pipe()).stderr(closed_pipe()).status();
        assert_eq!(status.ok().and_then(|status| status.code()), Some(expected), "{arguments:?}");
    }
}

#[test]
fn what_a_build_wrote_is_said_where_its_summary_cannot_be() {
    let client = Client::shared();
    let source = write(&client, "full", &Program::saying("example.test/full", "full")).display().to_string();
    for (out, more) in [("full-a", &[][..]), ("full-b", &["--json"])] {
        let at = client.home.path().join(out);
        let mut command = client.home.meridian(["build", "--local", "--toolchain", "local", &source]);
        command.args(["--version", "1", "--out"]).arg(&at).args(more);
        let (code, said) = run_into(command, full_device());
        assert_eq!(code, Some(BROKEN), "{said}");
        let kept = format!("the artifacts are in {} all the same, checked", at.display());
        assert!(said.contains("cannot write to standard output") && said.contains(&kept), "{said}");
        assert!(names(&at).contains(&"checksums.txt".to_owned()), "{said}");
    }
    // What its tools wrote is an answer too.
    let broken =
        Program::module("example.test/bad").file("main.go", "package main\n\nvar wrong int = \"\"\n");
    let broken = write(&client, "bad", &broken).display().to_string();
    client
        .build_into("bad-out", &[&broken, "--version", "1", "--project", "local/bad"])
        .expect_failure(FAILED, &[]);
    for (stdout, expected) in [(Stdio::from(full_device()), BROKEN), (Stdio::from(closed_pipe()), 0)] {
        let (code, said) = run_into(client.home.meridian(["logs", "local/bad/1", "--local"]), stdout);
        assert_eq!(code, Some(expected), "{said}");
        assert_eq!(said.is_empty(), expected == 0, "{said}");
    }
}
