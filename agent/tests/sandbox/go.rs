//! The installed Go in the first sandbox, and the tests that it builds in the second.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meridian_agent::sandbox::{Access, Limits, Mount, Network, Plan};
use serde_json::{Value, json};

use crate::machine::{Job, Place, Who, attacker, has_sandbox, processes_with, sandbox_program, shared};

/// Where the second sandbox is asked for, in the first one.
const EXEC_SOCKET: &str = "/run/meridian/exec";

/// A test that looks around, and one that goes wrong in a way of its own for each name.
const TEST: &str = r#"package demo

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSurroundings(t *testing.T) {
	if os.Getenv("DEMO_CHILD") != "" {
		os.Exit(7)
	}
	for _, path := range strings.Split(os.Getenv("DEMO_SOCKETS"), ":") {
		if _, err := net.Dial("unix", path); err == nil {
			t.Errorf("%s can be reached", path)
		}
	}
	for _, path := range strings.Split(os.Getenv("DEMO_HIDDEN"), ":") {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	if err := os.WriteFile("new", nil, 0o644); !strings.Contains(err.Error(), "read-only") {
		t.Errorf("the source can be written: %v", err)
	}
	if value := os.Getenv("GOCACHEPROG"); value != "" {
		t.Errorf("GOCACHEPROG is %q", value)
	}
	if content, err := os.ReadFile("testdata/golden"); err != nil || string(content) != "golden" {
		t.Errorf("no test data: %v", err)
	}
	if err := os.WriteFile(os.TempDir()+"/scratch", []byte("x"), 0o644); err != nil {
		t.Error(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Error(err)
	}
	child := exec.Command(os.Args[0], "-test.run=TestSurroundings")
	child.Env = append(os.Environ(), "DEMO_CHILD=1")
	if err := child.Run(); child.ProcessState.ExitCode() != 7 {
		t.Errorf("the test cannot start itself: %v", err)
	}
	if err := syscall.Unshare(syscall.CLONE_NEWUSER); err != syscall.EPERM {
		t.Errorf("a namespace can be made: %v", err)
	}
	if parent := os.Getppid(); parent != 1 {
		t.Errorf("the parent is %d", parent)
	}
}

func TestEnds(t *testing.T) {
	switch os.Getenv("DEMO_END") {
	case "exit":
		os.Exit(3)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "sleep":
		time.Sleep(time.Hour)
	case "memory":
		var held [][]byte
		for len(held) < 96 {
			piece := make([]byte, 16<<20)
			for i := range piece {
				piece[i] = 1
			}
			held = append(held, piece)
		}
	}
}
"#;

fn goroot() -> PathBuf {
    let said = Command::new("go").args(["env", "GOROOT"]).env("GOTOOLCHAIN", "local").output().unwrap();
    PathBuf::from(String::from_utf8(said.stdout).unwrap().trim()).canonicalize().unwrap()
}

/// A cache that later runs of these tests find warm, for each user one.
fn cache(who: Who) -> PathBuf {
    let dir = shared().join(format!("go-cache-of-{who:?}"));
    fs::create_dir_all(&dir).unwrap();
    if who == Who::Nobody {
        std::os::unix::fs::chown(&dir, Some(65_534), Some(65_534)).unwrap();
    }
    dir
}

struct Demo {
    place: Place,
    _listener: UnixListener,
}

impl Demo {
    fn new(who: Who) -> Self {
        let place = Place::new(who);
        fs::create_dir(place.path("source/testdata")).unwrap();
        place.make_file("source/go.mod", "module example.test/demo\n\ngo 1.21\n");
        place.make_file("source/demo.go", "package demo\n");
        place.make_file("source/demo_test.go", TEST);
        place.make_file("source/testdata/golden", "golden");
        let listener = UnixListener::bind(place.path("cache-socket")).unwrap();
        if who == Who::Nobody {
            std::os::unix::fs::chown(place.path("cache-socket"), Some(65_534), Some(65_534)).unwrap();
        }
        Self { place, _listener: listener }
    }

    /// cmd/go in the first sandbox, whose tests run in the second.
    fn go(&self, args: &[&str], env: &[(&str, &str)], limits: Limits) -> Job {
        let place = &self.place;
        for name in ["tmp", "home", "gopath"] {
            fs::create_dir(place.path("task").join(name)).unwrap();
            if place.who == Who::Nobody {
                std::os::unix::fs::chown(place.path("task").join(name), Some(65_534), Some(65_534)).unwrap();
            }
        }
        let (goroot, cache, task) = (goroot(), cache(place.who), place.path("task"));
        let of_both =
            vec![Mount::same(&goroot, Access::Run), Mount::same(place.path("source"), Access::Read)];
        let mut mounts = of_both.clone();
        mounts.extend([
            Mount::same(&task, Access::Write),
            Mount::same(&cache, Access::Write),
            Mount::same(place.path("cache-socket"), Access::Connect),
        ]);
        let text = |path: &Path| path.display().to_string();
        let mut variables = vec![
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), text(&task.join("home"))),
            ("TMPDIR".to_owned(), text(&task.join("tmp"))),
            ("GOPATH".to_owned(), text(&task.join("gopath"))),
            ("GOCACHE".to_owned(), text(&cache)),
            ("DEMO_SOCKETS".to_owned(), format!("{}:{EXEC_SOCKET}", text(&place.path("cache-socket")))),
            ("DEMO_HIDDEN".to_owned(), format!("{}:{}:/etc/shadow", text(&cache), text(&task.join("home")))),
        ];
        for (name, value) in [
            ("GOTOOLCHAIN", "local"),
            ("GOENV", "off"),
            ("GOFLAGS", ""),
            ("GOPROXY", "off"),
            ("GOTELEMETRY", "off"),
            ("CGO_ENABLED", "0"),
        ] {
            variables.push((name.to_owned(), value.to_owned()));
        }
        variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut job = place.job(Plan {
            mounts,
            program: goroot.join("bin/go"),
            args: args.iter().map(Into::into).collect(),
            env: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            dir: place.path("source"),
            network: Network::None,
            limits: Limits { wall: Duration::from_secs(300), ..Limits::default() },
        });
        job.exec = Some(self.second(of_both, &limits));
        job
    }

    /// The second sandbox.
    fn second(&self, mut mounts: Vec<Mount>, limits: &Limits) -> Value {
        mounts.insert(0, Mount::Scratch { target: "/tmp".into(), bytes_max: 64 << 20, run: true });
        json!({
            "mounts": mounts,
            "programs_below": self.place.path("task/tmp"),
            "socket": EXEC_SOCKET,
            "limits": limits,
        })
    }

    fn test(&self, which: &str, env: &[(&str, &str)], limits: Limits) -> (String, String) {
        let helper = format!("{} sandbox-exec --socket {EXEC_SOCKET}", sandbox_program().display());
        let args = ["test", "-vet=off", "-count=1", "-exec", &helper, "-run", which, "-timeout=20s", "."];
        let done = self.go(&args, env, limits).run();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.outcome, said)
    }
}

#[test]
fn a_test_runs_in_a_second_sandbox_that_has_nothing_of_the_first() {
    for who in Who::all() {
        let (outcome, said) = Demo::new(who).test("TestSurroundings", &[], Limits::default());
        assert!(said.starts_with("ok  \texample.test/demo"), "{said}");
        assert_eq!(outcome, "Exited(0)", "{said}");
    }
}

#[test]
fn codes_and_signals_of_a_test_reach_the_go_command() {
    if !has_sandbox() {
        return;
    }
    let ends = |end: &str| Demo::new(Who::Own).test("TestEnds", &[("DEMO_END", end)], Limits::default());
    let (outcome, said) = ends("exit");
    assert!(said.contains("exit status 3"), "{said}");
    assert_eq!(outcome, "Exited(1)");
    let (_, said) = ends("signal");
    assert!(said.contains("signal: killed"), "{said}");
}

/// cmd/go sends SIGQUIT to a test that takes too long, and kills it a while later.
#[test]
fn signals_to_the_helper_reach_the_test_and_its_end_comes_back() {
    if !has_sandbox() {
        return;
    }
    let demo = Demo::new(Who::Own);
    let mut job = demo.go(&[], &[], Limits::default());
    let binary = demo.place.path("task/tmp/go-build1/b001/demo.test");
    fs::create_dir_all(binary.parent().unwrap()).unwrap();
    fs::copy(attacker(), &binary).unwrap();
    job.plan.mounts.push(Mount::same(attacker(), Access::Run));
    job.plan.program = attacker().to_owned();
    let helper = sandbox_program().display().to_string();
    let binary = binary.display().to_string();
    let run = |signal: i32| {
        let mut job = Job { exec: job.exec.clone(), ..demo.place.job(job.plan.clone()) };
        let signal = signal.to_string();
        let args = ["relay", &signal, &helper, "sandbox-exec", "--socket", EXEC_SOCKET, &binary, "ready"];
        job.plan.args = args.map(Into::into).to_vec();
        job.says()
    };
    assert_eq!(run(libc::SIGTERM), "ok: ready\nsignal: terminated\n");
    // Go answers this one with its stacks and a code.
    assert_eq!(run(libc::SIGQUIT), "ok: ready\nexit status 2\n");
    assert_eq!(run(libc::SIGKILL), "ok: ready\nsignal: killed\n");
    assert_eq!(processes_with(&binary), Vec::<u32>::new());
}

#[test]
fn a_test_has_limits_of_its_own() {
    if !has_sandbox() {
        return;
    }
    let wall = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    let (_, said) = Demo::new(Who::Own).test("TestEnds", &[("DEMO_END", "sleep")], wall);
    assert!(said.contains("the test was still running after 1s"), "{said}");
    if Who::Own.is_root() {
        let memory = Limits { memory_bytes_max: Some(256 << 20), ..Limits::default() };
        let (_, said) = Demo::new(Who::Own).test("TestEnds", &[("DEMO_END", "memory")], memory);
        assert!(said.contains("the test used more memory than it may"), "{said}");
    }
}

#[test]
fn the_helper_runs_nothing_from_elsewhere() {
    if !has_sandbox() {
        return;
    }
    let demo = Demo::new(Who::Own);
    let mut job = demo.go(&[], &[], Limits::default());
    job.plan.program = sandbox_program().to_owned();
    job.plan.args = ["sandbox-exec", "--socket", EXEC_SOCKET].map(Into::into).to_vec();
    job.plan.args.push(goroot().join("bin/go").into());
    let done = job.run();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("does not lie below"), "{said}");
    assert_eq!(done.outcome, "Exited(125)");
}
