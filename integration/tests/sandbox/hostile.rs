//! A fleet whose agent's installed Go was taken over: whatever runs in its compiles attacks the machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use meridian_integration::{
    client::{Build, Client},
    fixture::program::Program,
    fleet::Fleet,
    home::{Home, go_env},
};

/// What of an installed Go a build needs.
const PARTS: [&str; 5] = ["VERSION", "bin", "go.env", "pkg", "src"];

/// Whether this machine lets the tests' own user make a sandbox. Where it does not, nothing about one can be tested.
pub(crate) fn has_sandbox() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let output = Home::with_proxy("off").meridian(["doctor"]).output().expect("the doctor starts");
        if !output.status.success() {
            eprintln!("NOT CHECKED: no sandbox here\n{}", String::from_utf8_lossy(&output.stdout));
        }
        output.status.success()
    });
    *FOUND
}

/// An installed Go whose `go` is `hostile.go`. Links to the real one where the file systems allow it: nothing in the tests
/// ever writes to a file that is there.
pub(crate) struct HostileGo(tempfile::TempDir);

impl HostileGo {
    fn make() -> Self {
        let dir = tempfile::Builder::new().prefix("mrdgo").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode is set");
        let real = PathBuf::from(go_env("GOROOT"));
        for part in PARTS {
            let copied = ["-rLl", "-rL"].iter().any(|how| {
                let copy = Command::new("cp").arg(how).arg(real.join(part)).arg(dir.path()).output();
                copy.is_ok_and(|output| output.status.success())
            });
            assert!(copied, "{part} of {} cannot be copied", real.display());
        }
        let bin = dir.path().join("bin");
        fs::rename(bin.join("go"), bin.join("real-go")).expect("go gets another name");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        compile(&sources.join("tests/sandbox/hostile.go"), &bin.join("go"));
        compile(&sources.join("../agent/tests/sandbox/attacker.go"), &bin.join("attacker"));
        Self(dir)
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }
}

fn compile(source: &Path, program: &Path) {
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .args([program, source])
        .envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off"), ("GOFLAGS", "")])
        .status()
        .expect("the tests need an installed Go in PATH");
    assert!(built.success(), "{} does not compile", source.display());
}

/// The user that runs the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The user of the tests.
    Own,
    /// One without any right.
    Nobody,
}

impl Who {
    /// Whoever can be had here.
    pub(crate) fn all() -> Vec<Self> {
        if rustix::process::geteuid().is_root() { vec![Self::Own, Self::Nobody] } else { vec![Self::Own] }
    }

    /// Whether an agent of this user may make control groups.
    pub(crate) fn is_root(self) -> bool {
        self == Self::Own && rustix::process::geteuid().is_root()
    }
}

/// A coordinator, one agent with a hostile Go, and a member who sends it sources.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) client: Client,
    pub(crate) agent: usize,
    go: HostileGo,
}

impl Scene {
    pub(crate) fn new(who: Who, settings: &[&str]) -> Self {
        let go = HostileGo::make();
        let mut home = Home::with_proxy("off");
        let path = std::env::var("PATH").unwrap_or_default();
        home.set("PATH", format!("{}:{path}", go.root().join("bin").display()));
        if who == Who::Nobody {
            home.become_nobody().expect("root can become nobody");
        }
        // An attack that makes an attempt fail is made once.
        let mut fleet = Fleet::start_with(&["limits.attempts=1"]);
        let agent = fleet.join_agent_with("eu/a", 1, home, settings);
        let client = fleet.member("alice");
        Self { fleet, client, agent, go }
    }

    pub(crate) fn goroot(&self) -> &Path {
        self.go.root()
    }

    /// A directory of the agent.
    pub(crate) fn of_agent(&self, name: &str) -> PathBuf {
        self.fleet.agent_home(self.agent).path().join(name)
    }

    /// Has a source built whose compile makes these attacks, one after another.
    pub(crate) fn attack(&self, name: &str, attacks: &[&str]) -> Build {
        let source = Program::saying("example.test/hostile", "done").file("attack.txt", &attacks.join("\n"));
        let source = source.write(&self.client.home.path().join(name)).expect("the source is written");
        let (source, project) = (source.display().to_string(), format!("acme/{name}"));
        self.client.build_into(&format!("{name}-out"), &[&source, "--version", "1", "--project", &project])
    }

    /// What the attacks said, from the build's log.
    pub(crate) fn said(&self, name: &str) -> String {
        self.client.run(&["logs", &format!("acme/{name}/1")]).stdout
    }
}
