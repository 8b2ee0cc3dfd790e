//! What the tests run with: agents of two kinds of user, the attacker, and places of their own.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use meridian_agent::sandbox::{Access, Limits, Mount, Network, Plan};
use serde_json::{Value, json};

/// The user that stands for everybody without rights.
const NOBODY: u32 = 65_534;

/// Who runs an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The user who runs the tests.
    Own,
    /// Somebody without rights, which takes tests that are run by root.
    Nobody,
}

impl Who {
    /// Everybody who can be had here; nobody where there is no sandbox.
    pub(crate) fn all() -> Vec<Self> {
        if !has_sandbox() {
            return Vec::new();
        }
        if rustix::process::geteuid().is_root() { vec![Self::Own, Self::Nobody] } else { vec![Self::Own] }
    }

    /// Whether an agent of this user has root's rights.
    pub(crate) fn is_root(self) -> bool {
        self == Self::Own && rustix::process::geteuid().is_root()
    }

    fn command(self, program: &Path) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Nobody => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
                command
            }
        }
    }

    fn owns(self, path: &Path) {
        if self == Self::Nobody {
            std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

/// The program that holds the stages and an agent.
pub(crate) fn sandbox_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().unwrap().parent().unwrap().join("examples/sandbox");
        // Cargo builds examples beside tests only when it is asked for neither. Built anew whenever the library
        // that this test was linked with is newer.
        let stamp = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
        once("sandbox-example", &format!("{:?}", stamp(&test)), || {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--example", "sandbox"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(built.success());
        });
        program
    });
    &PROGRAM
}

/// Whether this machine lets anybody make a sandbox at all. Where it does not, nothing about one can be tested.
pub(crate) fn has_sandbox() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let state = tempfile::tempdir().unwrap();
        let doctor = Command::new(sandbox_program()).arg("doctor").arg(state.path()).output().unwrap();
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let found = doctor.status.success() && !text.lines().any(|line| line.starts_with("MISSING"));
        if !found {
            eprintln!("NOT CHECKED: this machine has no sandbox\n{text}");
        }
        found
    });
    *FOUND
}

/// The attacker, a static program.
pub(crate) fn attacker() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/attacker.go");
        let program = shared().join("attacker");
        once("attacker", &fs::read_to_string(&source).unwrap(), || {
            let built = Command::new("go")
                .args(["build", "-trimpath", "-o"])
                .args([&program, &source])
                .current_dir(shared())
                .envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off"), ("GOFLAGS", "")])
                .env("GOCACHE", shared().join("go-cache"))
                .status()
                .unwrap();
            assert!(built.success());
        });
        program
    });
    &PROGRAM
}

/// A directory that the tests of one target directory share.
pub(crate) fn shared() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Does something once for all test processes, and again when `version` changes.
pub(crate) fn once(name: &str, version: &str, make: impl FnOnce()) {
    let lock = fs::File::create(shared().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let stamp = shared().join(format!("{name}.version"));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == version) {
        return;
    }
    make();
    fs::write(stamp, version).unwrap();
}

/// The places of one agent and one task of its.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) who: Who,
}

impl Place {
    pub(crate) fn new(who: Who) -> Self {
        let dir = tempfile::Builder::new().prefix("sandbox-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        who.owns(dir.path());
        let place = Self { dir, who };
        place.make_dir("state");
        place.make_dir("task");
        let source = place.make_dir("source");
        // Sources, modules and toolchains may be read by everybody, or a build user could not.
        fs::set_permissions(source, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        // As an agent keeps its own.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        self.who.owns(&path);
        path
    }

    pub(crate) fn make_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.who.owns(&path);
        path
    }

    /// A plan that runs the attacker with a writable task directory.
    pub(crate) fn attack(&self, args: &[&str]) -> Job {
        let mounts = vec![
            Mount::Scratch { target: "/tmp".into(), bytes_max: 64 << 20, run: false },
            Mount::same(attacker(), Access::Run),
            Mount::same(self.path("task"), Access::Write),
        ];
        self.job(Plan {
            mounts,
            program: attacker().to_owned(),
            args: args.iter().map(Into::into).collect(),
            env: vec![("HOME".into(), "/tmp".into())],
            dir: "/".into(),
            network: Network::None,
            limits: Limits { wall: Duration::from_secs(60), ..Limits::default() },
        })
    }

    pub(crate) fn job(&self, plan: Plan) -> Job {
        Job { state: self.path("state"), who: self.who, plan, system: false, cancel_after: None, exec: None }
    }
}

/// Something for an agent to run.
pub(crate) struct Job {
    pub(crate) state: PathBuf,
    pub(crate) who: Who,
    pub(crate) plan: Plan,
    pub(crate) system: bool,
    pub(crate) cancel_after: Option<Duration>,
    pub(crate) exec: Option<Value>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// The outcome as `Debug` writes it, or an error's text.
    pub(crate) outcome: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) told: Value,
}

impl Job {
    pub(crate) fn with(mut self, mount: Mount) -> Self {
        self.plan.mounts.push(mount);
        self
    }

    pub(crate) fn limited(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.plan.limits);
        self
    }

    /// Starts an agent that runs this.
    pub(crate) fn start(&self) -> Child {
        let job = json!({
            "plan": self.plan,
            "system": self.system,
            "cancel_after_ms": self.cancel_after.map(|after| u64::try_from(after.as_millis()).unwrap()),
            "exec": self.exec,
        });
        let mut agent = self
            .who
            .command(sandbox_program())
            .arg("agent")
            .arg(&self.state)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        agent.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
        agent
    }

    pub(crate) fn run(&self) -> Done {
        let done = self.start().wait_with_output().unwrap();
        assert!(done.status.success(), "the agent failed");
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        let bytes = |name: &str| -> Vec<u8> { serde_json::from_value(told[name].clone()).unwrap() };
        Done {
            outcome: told["outcome"].as_str().unwrap().to_owned(),
            stdout: bytes("stdout"),
            stderr: bytes("stderr"),
            told,
        }
    }

    /// What a run says that ends well.
    #[track_caller]
    pub(crate) fn says(&self) -> String {
        let done = self.run();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.outcome, "Exited(0)", "{text}\n{}", String::from_utf8_lossy(&done.stderr));
        text
    }
}

/// The processes of the machine with `mark` among their arguments, without zombies.
pub(crate) fn processes_with(mark: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
        })
        .collect()
}

/// Waits until `done`, and fails when that takes longer than a slow machine needs.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
