//! `eval "$(meridian ci-env)"`: a runner's own go commands with the cache of the agent beside them, as real processes.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use meridian_integration::{
    binary,
    fixture::{
        go_copy::GoCopy,
        program::{GO, Program},
    },
    fleet::Fleet,
    home::{Home, go_env},
    process::{Run, Running},
    wait::wait_for,
};

const PATIENCE: Duration = Duration::from_secs(180);
/// What a job says first.
const EVAL: &str = r#"set -e; eval "$("$MERIDIAN" ci-env --socket "$SOCKET")"; test -n "$GOCACHEPROG"; "#;

/// A CI runner: a shell with Go, and the socket of an agent.
struct Runner {
    home: Home,
    socket: PathBuf,
}

impl Runner {
    fn new(socket: PathBuf) -> Self {
        Self { home: Home::with_proxy("off"), socket }
    }

    fn script(&self, directory: &Path, script: &str) -> Command {
        let mut command = self.home.program("sh");
        command.args(["-c", script]).current_dir(directory).env("SOCKET", &self.socket);
        command.env("MERIDIAN", binary::meridian()).env("GOFLAGS", "-trimpath -buildvcs=false");
        command
    }

    fn run(&self, directory: &Path, script: &str) -> Run {
        Running::start(self.script(directory, script)).finish(PATIENCE)
    }
}

/// The home of an agent with such a table, and where its socket is.
fn home_with(table: &str) -> (Home, PathBuf) {
    let home = Home::with_proxy("off");
    let text = format!("[shard]\nlisten = \"127.0.0.1:0\"\n[sidecar]\nprojects = [\"acme/p\"]\n{table}");
    fs::write(home.path().join("agent.toml"), text).expect("a configuration can be written");
    let socket = home.path().join("agent/sidecar.sock");
    (home, socket)
}

/// The lines that an agent logged of go commands that have ended.
fn ended(fleet: &Fleet, agent: usize) -> Vec<String> {
    let log = fs::read_to_string(fleet.agent_home(agent).path().join("agent.log")).expect("a log");
    let of_runs = log.lines().filter(|line| line.contains("a go command beside the agent has ended"));
    of_runs.map(str::to_owned).collect()
}

/// What the last of so many says of itself.
fn figures(fleet: &Fleet, agent: usize, count: usize) -> impl Fn(&str) -> u64 + use<> {
    let lines = wait_for("the go command's end is logged", Duration::from_secs(20), || {
        Some(ended(fleet, agent)).filter(|lines| lines.len() >= count)
    });
    let line = lines[count - 1].clone();
    move |name| {
        let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    }
}

fn wait_for_manifests(fleet: &Fleet, agent: &str, count: u64) {
    wait_for("the agent tells what it holds", Duration::from_secs(30), || {
        let answer = fleet.warden().run(&["agents", "--json"]).expect_code(0).json_values();
        let agents = answer.iter().flat_map(|value| value["agents"].as_array().cloned().unwrap_or_default());
        let mut found = agents.filter(|one| one["agent"] == agent);
        found.any(|one| one["cache"]["manifests"].as_u64() >= Some(count)).then_some(())
    });
}

#[test]
fn go_commands_beside_an_agent_of_another_region_find_what_the_first_ones_left() {
    let mut home = Home::with_proxy("off");
    home.set("MERIDIAN_CACHE_TRUSTED_SIDECARS", "acme/ap-southeast/*,acme/eu-*/a1");
    let mut fleet = Fleet::start_in(home, &[]);
    let (home, socket) = home_with("trusted = true\n");
    let sg = fleet.join_agent_with("ap-southeast/a1", 1, home, &[]);
    let first = Runner::new(socket);
    let (home, socket) = home_with("trusted = true\n");
    let fra = fleet.join_agent_with("eu-central/a1", 1, home, &[]);
    let second = Runner::new(socket);
    let source = tempfile::tempdir().expect("a directory");
    Program::service("example.test/p").write(source.path()).expect("a program can be written");
    let script =
        format!("{EVAL} go build -o \"$HOME/out\" . && sha256sum <\"$HOME/out\" && go test ./greeting");

    let built = first.run(source.path(), &script).expect_code(0);
    assert!(!built.stdout.contains("(cached)"), "{built}");
    let cold = figures(&fleet, sg, 1);
    assert!(cold("hits") == 0 && cold("puts") > 100, "{:?}", ended(&fleet, sg));
    wait_for_manifests(&fleet, "ap-southeast/a1", 2);

    let again = second.run(source.path(), &script).expect_code(0);
    assert_eq!(again.stdout.lines().next(), built.stdout.lines().next(), "the same bytes");
    assert!(again.stdout.contains("(cached)"), "{again}");
    let warm = figures(&fleet, fra, 1);
    assert!(warm("brought") > 100 && warm("gets") - warm("hits") <= 3, "{:?}", ended(&fleet, fra));
    // A third time nothing has to be brought.
    second.run(source.path(), &script).expect_code(0);
    let warm = figures(&fleet, fra, 3);
    assert!(warm("brought") == 0 && warm("gets") - warm("hits") <= 3, "{:?}", ended(&fleet, fra));
}

#[test]
fn without_the_coordinators_word_a_runners_entries_stay_beside_their_agent() {
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("trusted = true\n");
    let one = fleet.join_agent_with("eu/a1", 1, home, &[]);
    let first = Runner::new(socket);
    let (home, socket) = home_with("trusted = true\n");
    let two = fleet.join_agent_with("eu/a2", 1, home, &[]);
    let second = Runner::new(socket);
    let source = tempfile::tempdir().expect("a directory");
    Program::saying("example.test/p", "hello").write(source.path()).expect("a program can be written");
    let script = format!("{EVAL} go build -o \"$HOME/out\" .");
    first.run(source.path(), &script).expect_code(0);
    wait_for_manifests(&fleet, "eu/a1", 1);
    second.run(source.path(), &script).expect_code(0);
    assert_eq!(figures(&fleet, two, 1)("hits"), 0);
    first.run(source.path(), &script).expect_code(0);
    let own = figures(&fleet, one, 2);
    assert!(own("gets") - own("hits") <= 3, "{:?}", ended(&fleet, one));
    // What they got is told by lineage, too, which is called by the command.
    let told = fleet.administer(&["cache", "stats", "--lineage", "go build", "--json"]).expect_code(0);
    let told = &told.json_values()[0]["lineages"];
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    let lineage = &told[0];
    assert_eq!((&lineage["project"], &lineage["builds"]), (&"acme/p".into(), &3.into()), "{told}");
    assert!(lineage["what"].as_str().is_some_and(|what| what.starts_with("go build . in example.test/p")));
    assert!(lineage["hits"].as_u64() > Some(20) && lineage["beside_agents"] == true, "{told}");
}

#[test]
fn a_patched_go_that_says_the_same_of_itself_finds_nothing_of_what_the_other_made() {
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("");
    let agent = fleet.join_agent_with("eu/a1", 1, home, &[]);
    let runner = Runner::new(socket);
    let source = runner.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&source).expect("a program can be written");
    let go = GoCopy::at(&runner.home.path().join("go"));
    let script = format!(
        "PATH=\"{root}/bin:$PATH\"; {EVAL} go build -o \"$HOME/out\" . && {root}/pkg/tool/*/compile -V=full",
        root = go.root().display()
    );
    let build = || runner.run(&source, &script).expect_code(0);
    let told = build().stdout;
    assert!(told.starts_with("compile version go"), "{told}");
    let cold = figures(&fleet, agent, 1);
    assert!(cold("hits") == 0 && cold("puts") > 20, "{:?}", ended(&fleet, agent));
    build();
    let again = figures(&fleet, agent, 2);
    assert!(again("gets") - again("hits") <= 3, "{:?}", ended(&fleet, agent));

    go.patch_compiler();
    assert_eq!(build().stdout, told, "cmd/go sees no difference");
    let patched = figures(&fleet, agent, 3);
    assert!(patched("hits") == 0 && patched("puts") > 20, "{:?}", ended(&fleet, agent));
    // What it made itself it finds.
    build();
    let again = figures(&fleet, agent, 4);
    assert!(again("gets") - again("hits") <= 3, "{:?}", ended(&fleet, agent));
}

#[test]
fn a_build_whose_agent_is_killed_or_restarted_in_its_midst_succeeds() {
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("");
    let views = home.path().join("agent/cache/beside");
    let agent = fleet.join_agent_with("eu/a1", 1, home, &[]);
    let runner = Runner::new(socket.clone());
    let source = tempfile::tempdir().expect("a directory");
    let dir = source.path();
    Program::module("example.test/p")
        .file("main.go", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n")
        .write(dir)
        .expect("a program can be written");
    let script = format!("{EVAL} go build -o \"$HOME/out\" . && \"$HOME/out\"");
    runner.run(dir, &script).expect_code(0);
    let _first_ended = figures(&fleet, agent, 1);
    for (functions, restarts) in [(40, false), (41, true)] {
        // The library is given from the cache; the program itself takes the compiler seconds.
        Program::heavy("example.test/p", functions).write(dir).expect("a program can be written");
        let given =
            || fs::read_dir(&views).map_or(0, |views| views.flatten().map(|v| count(&v.path())).sum());
        // So that what is given from now on can be seen.
        remove_all(&views);
        if !socket.exists() || restarts {
            fleet.restart_agent(agent);
            fleet.wait_until_attached(agent);
        }
        let building = Running::start(runner.script(dir, &script));
        wait_for("the library was given", Duration::from_secs(60), || (given() > 20).then_some(()));
        fleet.kill_agent(agent);
        if restarts {
            fleet.restart_agent(agent);
            fleet.wait_until_attached(agent);
        }
        building.finish(PATIENCE).expect_code(0);
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn remove_all(views: &Path) {
    for view in fs::read_dir(views).into_iter().flatten().flatten() {
        fs::remove_dir_all(view.path()).expect("a view can be removed");
    }
}

#[test]
fn what_is_in_the_way_is_told_and_nothing_is_set() {
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("");
    let agent = fleet.join_agent_with("eu/a1", 1, home, &[]);
    let runner = Runner::new(socket);
    let dir = runner.home.path().to_owned();
    let told = |script: &str, code: i32, words: &[&str]| {
        let run = runner.run(&dir, script).expect_code(code).expect_words(words);
        assert_eq!(run.stdout, "", "{run}");
    };
    let ask = r#""$MERIDIAN" ci-env --socket "$SOCKET""#;
    let is_set = runner.run(&dir, ask).expect_code(0).stdout;
    assert!(is_set.starts_with("export GOCACHEPROG='") && is_set.contains("cacheprog --beside"), "{is_set}");
    told(
        r#""$MERIDIAN" ci-env --socket /nowhere/at.all"#,
        4,
        &["no agent is at /nowhere/at.all", "[sidecar]"],
    );
    told(r#""$MERIDIAN" ci-env --socket "$HOME""#, 2, &["is no socket"]);
    told(&format!("{ask} --owner 99999999999"), 2, &["--owner", "no user has that number"]);
    told(&format!("{ask} --github-env"), 2, &["GITHUB_ENV is not set"]);
    told(&format!("GITHUB_ENV=/none/at-all {ask} --github-env"), 4, &["/none/at-all", "GITHUB_ENV"]);
    let without = runner.run(&dir, &format!("PATH=/none {ask}")).expect_code(0);
    assert_eq!(without.stdout, is_set);
    without.expect_words(&["no go command in PATH", "is set all the same", "Go 1.24 or newer"]);
    told(&format!("{ask} --project web/other"), 3, &["serves go commands of acme/p, not of web/other"]);
    told(&format!("GOCACHEPROG='other prog' {ask}"), 3, &["set already, to \"other prog\""]);
    let old = dir.join("old");
    fs::create_dir(&old).expect("a directory");
    fs::write(old.join("go"), "#!/bin/sh\necho go1.23.12\necho\n").expect("a program");
    fs::set_permissions(old.join("go"), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    told(&format!("PATH=\"{}:$PATH\"; {ask}", old.display()), 0, &["go1.23.12 does not know GOCACHEPROG"]);
    let file = dir.join("github-env");
    let script = format!(": >{0}; GITHUB_ENV={0} {ask} --github-env", file.display());
    told(&script, 0, &[]);
    let written = fs::read_to_string(&file).expect("the file");
    assert!(written.starts_with("GOCACHEPROG='") && written.lines().count() == 1, "{written}");

    fleet.kill_agent(agent);
    told(ask, 4, &["nobody answers there"]);
    // What was set before the agent went is no hindrance.
    Program::saying("example.test/p", "hello").write(&dir).expect("a program can be written");
    let script = format!("{}go build -o out . && ./out", is_set.replace('\n', "; "));
    let run = runner.run(&dir, &script).expect_code(0).expect_words(&["hello"]);
    assert_eq!(run.stderr.matches("does without the agent's cache").count(), 1, "{run}");
    assert!(GO < "1.24", "the language version of the program is not what decides");
}

#[test]
fn callers_that_hang_and_too_many_go_commands_cost_others_their_cache_for_a_while_and_no_build() {
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("runs = 1\n");
    let agent = fleet.join_agent_with("eu/a1", 1, home, &[]);
    let runner = Runner::new(socket.clone());
    let dir = runner.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&dir).expect("a program can be written");
    let silent: Vec<_> = (0..200).map_while(|_| UnixStream::connect(&socket).ok()).collect();
    assert!(silent.len() > 100, "{}", silent.len());
    let script = format!("{EVAL} go build -o \"$HOME/out\" . && \"$HOME/out\"");
    let served = || Some(runner.run(&dir, &script)).filter(|run| run.code == Some(0));
    // Nobody is waited for who says nothing for five seconds.
    wait_for("a go command is served again", Duration::from_secs(60), served);
    drop(silent);
    let count = ended(&fleet, agent).len();

    // A go command that goes on for ever, as far as the agent can see.
    let mut holding = runner.script(&dir, "exec \"$MERIDIAN\" cacheprog --beside \"$SOCKET\"");
    holding.env("GOROOT", go_env("GOROOT")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holding = holding.spawn().expect("it starts");
    let full = || {
        let run = runner.run(&dir, &script).expect_code(0);
        run.says("1 go commands run beside the agent already").then_some(())
    };
    wait_for("the agent has its fill", Duration::from_secs(60), full);
    holding.kill().expect("it can be killed");
    holding.wait().expect("it ends");
    let free = || {
        let run = runner.run(&dir, &script).expect_code(0);
        (!run.says("does without the agent's cache")).then_some(())
    };
    wait_for("its place is free", Duration::from_secs(60), free);
    assert!(ended(&fleet, agent).len() > count, "the one that was killed has ended for the agent, too");
}

#[test]
fn another_unix_user_is_refused_unless_the_agent_names_it() {
    let mut other = Runner::new(PathBuf::new());
    if let Err(why) = other.home.become_nobody() {
        eprintln!("not shown here: {why}");
        return;
    }
    let mut fleet = Fleet::start();
    let (home, socket) = home_with("");
    fleet.join_agent_with("eu/a1", 1, home, &[]);
    let ask = |home: &Home, socket: &Path| {
        let mut command = home.meridian(["ci-env", "--socket"]);
        command.arg(socket);
        Running::start(command).finish(PATIENCE)
    };
    let refused = ask(&other.home, &socket).expect_code(3).expect_words(&["user 65534 may not use"]);
    assert_eq!(refused.stdout, "");

    let open = tempfile::tempdir().expect("a directory");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    let named = |name: &str, users: &str| {
        let (socket, views) = (open.path().join(format!("{name}.sock")), open.path().join(name));
        let said = format!("socket = {socket:?}\nviews = {views:?}\nusers = [{users}]\n");
        (home_with(&said).0, socket)
    };
    let (home, stranger) = named("stranger", "\"12345\"");
    fleet.join_agent_with("eu/a2", 1, home, &[]);
    ask(&other.home, &stranger).expect_code(3).expect_words(&["user 65534 may not use", "[sidecar] users"]);

    let (home, socket) = named("named", "\"65534\"");
    let agent = fleet.join_agent_with("eu/a3", 1, home, &[]);
    let set = ask(&other.home, &socket).expect_code(0).stdout;
    let dir = other.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&dir).expect("a program can be written");
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(&dir).status();
    assert!(given.is_ok_and(|status| status.success()));
    for count in 1..=2 {
        let mut command = other.home.program("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c"]);
        command.arg(format!("{}go build -buildvcs=false -o out . && ./out", set.replace('\n', "; ")));
        command.current_dir(&dir);
        Running::start(command).finish(PATIENCE).expect_code(0).expect_words(&["hello"]);
        let run = figures(&fleet, agent, count);
        assert_eq!(run("hits") > 20, count == 2, "{:?}", ended(&fleet, agent));
    }
}
