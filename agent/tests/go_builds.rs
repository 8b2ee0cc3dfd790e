//! Builds real programs with the Go that is installed here. No module is needed, so no network is used.

#![expect(clippy::unwrap_used, reason = "a test says what failed by where it stops")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use meridian_agent::{
    gobuild::{BuildRequest, BuilderConfig, BuiltTask, GoBuilder, Run, SourceRef},
    goproxy::{GoEnvironment, Variables},
};
use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    digest::Digest,
    id::{Fence, TaskId},
    machine::{
        effect::Work,
        input::{Failure, FailureKind, Phase, Progress},
        record::TaskKind,
    },
    quantity::ByteCount,
};
use tokio_util::sync::CancellationToken;

/// One agent with a directory of its own.
struct Agent {
    _dir: tempfile::TempDir,
    builder: GoBuilder,
    log: Mutex<Vec<u8>>,
    /// How many packages the last build compiled.
    compiled: AtomicU64,
    cancel: CancellationToken,
}

/// A source as files.
type Files<'a> = &'a [(&'a str, &'a str)];

impl Agent {
    fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        let builder = Self::open(dir.path());
        Self {
            _dir: dir,
            builder,
            log: Mutex::default(),
            compiled: AtomicU64::new(0),
            cancel: CancellationToken::new(),
        }
    }

    fn open(dir: &Path) -> GoBuilder {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The places of the machine, but none of its settings: nothing may come from a network.
        let mut variables: Variables = std::env::vars().filter(|(name, _)| name == "PATH").collect();
        variables.insert("GOPROXY".into(), "off".into());
        variables.insert("HOME".into(), dir.display().to_string());
        let go = GoEnvironment::discover_in(&variables, &[PathBuf::from("/usr/local/go")]).unwrap();
        let config = BuilderConfig { dir: dir.join("state"), source_bytes_max: ByteCount::mib(64) };
        GoBuilder::open(config, go).unwrap()
    }

    async fn build(&self, files: Files<'_>, work: &Work) -> Result<BuiltTask, Failure> {
        let Source::Tree { root, .. } = &work.spec.source else { panic!("trees only") };
        let owned: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let fill = |dir: PathBuf| std::future::ready(write(&dir, &owned));
        let tree = self.builder.sources().ensure(*root, fill).await.unwrap();
        let log =
            |piece: &[u8]| self.log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        self.compiled.store(0, Ordering::Relaxed);
        let progress = |progress: Progress| {
            if progress.phase == Phase::Compile {
                self.compiled.fetch_max(progress.done, Ordering::Relaxed);
            }
        };
        let run = Run { progress: &progress, log: &log, fence: Fence(0), cancel: &self.cancel };
        self.builder
            .build(BuildRequest { work, source: SourceRef::Tree(tree), previous: None, cache: None }, run)
            .await
    }

    async fn fail(&self, files: Files<'_>, work: &Work) -> Failure {
        self.build(files, work).await.err().unwrap()
    }
}

fn write(dir: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(path, content)?;
    }
    Ok(())
}

fn work(files: Files<'_>, packages: &[&str], platform: &str) -> Work {
    let platform = platform.parse().unwrap();
    let spec = BuildSpec {
        source: Source::Tree {
            root: Digest::of(format!("{files:?}").as_bytes()),
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        },
        packages: packages.iter().map(|package| (*package).to_owned()).collect(),
        platforms: vec![],
        toolchain: Toolchain::Local,
        flags: BuildFlags::default(),
        name: None,
        version: "1.2.3".into(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    };
    let task = TaskId { build: "team/project/1".parse().unwrap(), ordinal: 0 };
    Work {
        task,
        kind: TaskKind::Compile(platform),
        spec,
        resolution: None,
        traceparent: None,
        requester: None,
    }
}

fn digests(built: &BuiltTask) -> Vec<Digest> {
    built.files.iter().map(|file| Digest::of(&std::fs::read(&file.path).unwrap())).collect()
}

const MODULE: (&str, &str) = ("go.mod", "module example.test/hello\n\ngo 1.21\n");
const HELLO: Files<'static> =
    &[MODULE, ("main.go", "package main\n\nvar version = \"dev\"\n\nfunc main() { println(version) }\n")];

#[tokio::test]
async fn two_agents_with_different_directories_make_the_same_bytes() {
    let (one, two) = (Agent::new("a"), Agent::new("another-and-longer-name"));
    let mut work = work(HELLO, &["."], "linux/arm64");
    work.spec.flags.stamps = vec![("main.version".into(), "v{version} final".into())];
    let first = one.build(HELLO, &work).await.unwrap();
    let second = two.build(HELLO, &work).await.unwrap();
    assert_eq!(digests(&first), digests(&second));
    assert_eq!(first.files[0].name, "hello_1.2.3_linux_arm64");
    assert!(first.go_version.starts_with("go1."));
    let binary = std::fs::read(&first.files[0].path).unwrap();
    assert!(binary.windows(12).any(|bytes| bytes == b"v1.2.3 final"));
}

#[tokio::test]
async fn a_warm_build_gives_the_same_bytes_and_a_changed_source_others() {
    let agent = Agent::new("a");
    let cold = digests(&agent.build(HELLO, &work(HELLO, &["."], "linux/amd64")).await.unwrap());
    let warm = digests(&agent.build(HELLO, &work(HELLO, &["."], "linux/amd64")).await.unwrap());
    assert_eq!(cold, warm);
    let changed: Files<'_> = &[MODULE, ("main.go", "package main\n\nfunc main() { println(\"changed\") }\n")];
    let changed = digests(&agent.build(changed, &work(changed, &["."], "linux/amd64")).await.unwrap());
    assert_ne!(cold, changed);
}

#[tokio::test]
async fn a_build_from_scratch_compiles_everything_again_and_leaves_nothing_behind() {
    let agent = Agent::new("a");
    let usual = work(HELLO, &["."], "linux/amd64");
    let mut scratch = usual.clone();
    scratch.spec.from_scratch = true;
    let all = |agent: &Agent| agent.compiled.load(Ordering::Relaxed);
    let first = digests(&agent.build(HELLO, &scratch).await.unwrap());
    let everything = all(&agent);
    assert!(everything > 5, "{everything} packages are not the standard library's");
    assert_eq!(digests(&agent.build(HELLO, &usual).await.unwrap()), first);
    assert_eq!(all(&agent), everything, "a build from scratch left something that another one took");
    agent.build(HELLO, &usual).await.unwrap();
    assert_eq!(all(&agent), 0, "a warm build compiles nothing");
    assert_eq!(digests(&agent.build(HELLO, &scratch).await.unwrap()), first);
    assert_eq!(all(&agent), everything, "a build from scratch took what was there");
}

#[tokio::test]
async fn several_packages_are_built_each_under_its_own_name() {
    let main = "package main\n\nfunc main() {}\n";
    let files: Files<'_> = &[MODULE, ("cmd/a/main.go", main), ("cmd/b/main.go", main), ("x/a/main.go", main)];
    let work = work(files, &["./cmd/b", "./cmd/a", "./x/a"], "windows/amd64");
    let built = Agent::new("a").build(files, &work).await.unwrap();
    let names: Vec<_> = built.files.iter().map(|file| (file.package.as_str(), file.name.as_str())).collect();
    let (a, b) = ("a_1.2.3_windows_amd64.exe", "b_1.2.3_windows_amd64.exe");
    assert_eq!(names, [("./cmd/b", b), ("./cmd/a", a), ("./x/a", a)]);
    assert_ne!(built.files[1].path, built.files[2].path);
}

#[tokio::test]
async fn a_module_inside_a_workspace_uses_its_neighbour() {
    let files: Files<'_> = &[
        ("go.work", "go 1.21\n\nuse (\n\t./app\n\t./lib\n)\n"),
        ("app/go.mod", "module example.test/app\n\ngo 1.21\n\nrequire example.test/lib v0.0.0\n"),
        ("app/main.go", "package main\n\nimport \"example.test/lib\"\n\nfunc main() { println(lib.Word) }\n"),
        ("lib/go.mod", "module example.test/lib\n\ngo 1.21\n"),
        ("lib/lib.go", "package lib\n\nconst Word = \"neighbour\"\n"),
    ];
    let mut work = work(files, &["."], "linux/amd64");
    if let Source::Tree { work_dir, workspace, .. } = &mut work.spec.source {
        (*work_dir, *workspace) = ("app".into(), true);
    }
    let built = Agent::new("a").build(files, &work).await.unwrap();
    assert_eq!(built.files[0].name, "app_1.2.3_linux_amd64");
}

#[tokio::test]
async fn a_compile_error_names_file_and_line_as_the_compiler_does() {
    let files: Files<'_> = &[MODULE, ("sub/main.go", "package main\n\nfunc main() { undefined() }\n")];
    let agent = Agent::new("a");
    let failure = agent.fail(files, &work(files, &["./sub"], "linux/amd64")).await;
    assert_eq!(failure.kind, FailureKind::Compile);
    assert_eq!(failure.message, "# example.test/hello/sub\nsub/main.go:3:15: undefined: undefined");
    let log = String::from_utf8(agent.log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("sub/main.go:3:15"), "{log}");
}

#[tokio::test]
async fn what_cannot_be_met_is_the_requests_own_trouble() {
    let library: Files<'_> = &[MODULE, ("lib.go", "package lib\n")];
    let cgo: Files<'_> = &[MODULE, ("main.go", "package main\n\nimport \"C\"\n\nfunc main() {}\n")];
    let newer: Files<'_> =
        &[("go.mod", "module m\n\ngo 1.999.0\n"), ("main.go", "package main\n\nfunc main() {}\n")];
    let bare: Files<'_> = &[("main.go", "package main\n\nfunc main() {}\n")];
    let agent = Agent::new("a");
    for (files, words, hint) in [
        (library, "not a main package", "package main"),
        (cgo, "build constraints", "needs cgo"),
        (newer, "requires go >= 1.999.0", "newer Go"),
        (bare, "no go.mod", "go mod init"),
    ] {
        let failure = agent.fail(files, &work(files, &["."], "linux/amd64")).await;
        assert_eq!(failure.kind, FailureKind::Request, "{failure:?}");
        assert!(failure.message.contains(words) && failure.hint.contains(hint), "{failure:?}");
    }
}

#[tokio::test]
async fn a_missing_line_in_go_sum_says_how_to_get_it() {
    let files: Files<'_> = &[
        ("go.mod", "module m\n\ngo 1.21\n\nrequire example.test/lib v1.0.0\n"),
        ("main.go", "package main\n\nimport _ \"example.test/lib\"\n\nfunc main() {}\n"),
    ];
    let failure = Agent::new("a").fail(files, &work(files, &["."], "linux/amd64")).await;
    assert_eq!(failure.kind, FailureKind::Modules);
    assert!(failure.hint.contains("go mod tidy"), "{failure:?}");
}

#[tokio::test]
async fn a_package_that_stops_being_a_program_is_noticed_on_a_warm_agent() {
    let agent = Agent::new("a");
    agent.build(HELLO, &work(HELLO, &["."], "linux/amd64")).await.unwrap();
    let library: Files<'_> = &[MODULE, ("main.go", "package hello\n")];
    let failure = agent.fail(library, &work(library, &["."], "linux/amd64")).await;
    assert_eq!(failure.kind, FailureKind::Request, "{failure:?}");
}

/// Runs the tests of the module that lies at `source`, as it is called there, with the cache in `gocache`.
fn go_test(source: &Path, gocache: &Path) -> String {
    let done = std::process::Command::new("go")
        .args(["test", "."])
        .current_dir(source)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PWD", source)
        .env("HOME", gocache)
        .env("GOCACHE", gocache)
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("CGO_ENABLED", "0")])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn the_result_of_a_test_that_reads_files_is_known_in_a_tree_that_was_laid_out_elsewhere_and_later() {
    let test = "package hello\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestRead(t *testing.T) {\n\t\
                if _, err := os.ReadFile(\"testdata/input\"); err != nil {\n\t\tt.Fatal(err)\n\t}\n\t\
                if _, err := os.ReadDir(\"testdata\"); err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n";
    let files: Files<'_> = &[
        MODULE,
        ("hello.go", "package hello\n"),
        ("hello_test.go", test),
        ("testdata/input", "what is read"),
    ];
    let owned: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let dir = tempfile::tempdir().unwrap();
    let (seen, gocache) = (dir.path().join("source"), dir.path().join("gocache"));
    let mut said = Vec::new();
    for name in ["one", "another-and-longer-name"] {
        let agent = Agent::new(name);
        let fill = |dir: PathBuf| std::future::ready(write(&dir, &owned));
        let tree = agent.builder.sources().ensure(Digest::of(b"tree"), fill).await.unwrap();
        // A sandbox has every source at the same place.
        let _ = std::fs::remove_file(&seen);
        std::os::unix::fs::symlink(tree.path(), &seen).unwrap();
        said.push(go_test(&seen, &gocache));
    }
    assert!(!said[0].contains("(cached)") && said[1].contains("(cached)"), "{said:?}");
}

#[tokio::test]
async fn a_cancelled_task_is_lost_and_leaves_nothing() {
    let agent = Agent::new("a");
    agent.cancel.cancel();
    let failure = agent.fail(HELLO, &work(HELLO, &["."], "linux/amd64")).await;
    assert_eq!(failure.kind, FailureKind::Lost);
}

#[tokio::test]
async fn what_an_earlier_agent_left_behind_is_ended_and_removed_before_anything_begins() {
    use std::os::unix::process::ExitStatusExt as _;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().canonicalize().unwrap().join("state");
    let left = state.join("tasks/acme-web-1-0");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("main.go"), "package main").unwrap();
    // As a run marks its processes; another agent's, whose directory only begins alike, is none of ours.
    let sleeping = |owner: &Path| {
        let mark = format!("{}/7-0.", owner.display());
        std::process::Command::new("sleep").arg("20").env("MERIDIAN_RUN", mark).spawn().unwrap()
    };
    let (mut ours, mut theirs) = (sleeping(&left), sleeping(&dir.path().join("state-of-another")));
    Agent::open(dir.path());
    assert_eq!(ours.wait().unwrap().signal(), Some(9));
    assert!(!left.exists());
    assert!(theirs.try_wait().unwrap().is_none(), "it is left alone");
    theirs.kill().unwrap();
    theirs.wait().unwrap();
}
