//! The agent's own builder with its compiles in sandboxes, against one without.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use meridian_agent::{
    gobuild::{
        BuildCache, BuildRequest, BuilderConfig, BuiltTask, CacheAccess, GoBuilder, Run, Sandboxing,
        SourceRef,
    },
    goproxy::{GoEnvironment, Variables},
    sandbox::{Launcher, LauncherConfig, Limits},
};
use meridian_cache::local::{CacheDaemon, CacheFigures, TaskScope};
use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    digest::Digest,
    id::{Fence, TaskId},
    machine::{
        effect::Work,
        input::{Failure, FailureKind},
        record::TaskKind,
    },
    quantity::ByteCount,
    sandbox::Sandbox,
};
use tokio_util::sync::CancellationToken;

use crate::machine::{has_sandbox, sandbox_program};

type Files<'a> = &'a [(&'a str, &'a str)];

const MODULE: (&str, &str) = ("go.mod", "module example.test/hello\n\ngo 1.21\n");
const HELLO: Files<'static> =
    &[MODULE, ("main.go", "package main\n\nvar version = \"dev\"\n\nfunc main() { println(version) }\n")];

struct Agent {
    dir: tempfile::TempDir,
    builder: GoBuilder,
    cache: CacheDaemon,
    log: Mutex<Vec<u8>>,
}

impl Agent {
    fn new(sandboxed: bool) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut variables: Variables = std::env::vars().filter(|(name, _)| name == "PATH").collect();
        variables.insert("GOPROXY".into(), "off".into());
        variables.insert("HOME".into(), dir.path().display().to_string());
        let go = GoEnvironment::discover_in(&variables, &[PathBuf::from("/usr/local/go")]).unwrap();
        let config = BuilderConfig { dir: dir.path().join("go"), source_bytes_max: ByteCount::mib(64) };
        let mut builder = GoBuilder::open(config, go).unwrap();
        if sandboxed {
            let config = LauncherConfig::new(sandbox_program().to_owned(), dir.path().to_owned());
            let launcher = Arc::new(Launcher::open(&config).unwrap());
            builder = builder.sandboxed(Sandboxing {
                launcher,
                limits: Limits::default(),
                has: Sandbox::default(),
            });
        }
        let cache = CacheDaemon::open(&dir.path().join("cache"), ByteCount::gib(1)).unwrap();
        Self { dir, builder, cache, log: Mutex::default() }
    }

    async fn build(&self, files: Files<'_>, work: &Work) -> (Result<BuiltTask, Failure>, CacheFigures) {
        let Source::Tree { root, .. } = &work.spec.source else { panic!("trees only") };
        let owned: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let fill = |dir: PathBuf| std::future::ready(write(&dir, &owned));
        let tree = self.builder.sources().ensure(*root, fill).await.unwrap();
        let scope = TaskScope {
            toolchain: Digest::of(b"go"),
            own: work.task.build.project.team.to_string(),
            also_reads: Vec::new(),
        };
        let task = self.cache.open_task(&scope).unwrap();
        let socket = task.socket_path().to_owned();
        let cache = Some(BuildCache::Program(CacheAccess {
            command: format!("'{}' cacheprog --socket '{}'", sandbox_program().display(), socket.display()),
            program: sandbox_program().to_owned(),
            socket,
            view: task.view_dir().to_owned(),
        }));
        let log =
            |piece: &[u8]| self.log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        let cancel = CancellationToken::new();
        let run = Run { progress: &|_| {}, log: &log, fence: Fence(0), cancel: &cancel };
        let built = self
            .builder
            .build(BuildRequest { work, source: SourceRef::Tree(tree), previous: None, cache }, run)
            .await;
        (built, task.close(Duration::from_secs(10)).await)
    }

    async fn digests(&self, files: Files<'_>, work: &Work) -> (Vec<Digest>, CacheFigures) {
        let (built, figures) = self.build(files, work).await;
        let built = built.unwrap_or_else(|failure| panic!("{failure:?}"));
        let digests = built.files.iter().map(|file| Digest::of(&fs::read(&file.path).unwrap())).collect();
        (digests, figures)
    }
}

fn write(dir: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, content) in files {
        fs::write(dir.join(name), content)?;
    }
    Ok(())
}

fn work(files: Files<'_>, cgo: bool) -> Work {
    work_of("team", files, cgo)
}

fn work_of(team: &str, files: Files<'_>, cgo: bool) -> Work {
    let spec = BuildSpec {
        source: Source::Tree {
            root: Digest::of(format!("{files:?}").as_bytes()),
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        },
        packages: vec![".".into()],
        platforms: vec![],
        toolchain: Toolchain::Local,
        flags: BuildFlags { cgo, ..BuildFlags::default() },
        name: None,
        version: "1.2.3".into(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    };
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let task = TaskId { build: format!("{team}/project/1").parse().unwrap(), ordinal: 0 };
    Work {
        task,
        kind: TaskKind::Compile(host.parse().unwrap()),
        spec,
        resolution: None,
        traceparent: None,
        requester: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_gives_the_same_bytes_with_and_without_a_sandbox_and_finds_what_is_cached() {
    if !has_sandbox() {
        return;
    }
    let (bare, sandboxed) = (Agent::new(false), Agent::new(true));
    let work = work(HELLO, false);
    let (expected, _) = bare.digests(HELLO, &work).await;
    let (cold, first) = sandboxed.digests(HELLO, &work).await;
    assert_eq!(cold, expected);
    assert!(first.puts > 5, "{first:?}");
    // Another source, so that the linked program is not simply there.
    let changed: Files<'_> = &[MODULE, ("main.go", "package main\n\nfunc main() { println(\"changed\") }\n")];
    let changed_work = self::work(changed, false);
    let (warm, second) = sandboxed.digests(changed, &changed_work).await;
    assert_eq!(warm, bare.digests(changed, &changed_work).await.0);
    assert!(second.hits > 5 && second.puts < first.puts, "{first:?} {second:?}");
    // What the build says of its places is cleaned as ever, and its directory is gone with it.
    let log = String::from_utf8(sandboxed.log.lock().unwrap().clone()).unwrap();
    assert!(!log.contains(sandboxed.dir.path().to_str().unwrap()), "{log}");
    assert_eq!(fs::read_dir(sandboxed.dir.path().join("go/tasks")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_error_is_still_the_compilers_own() {
    if !has_sandbox() {
        return;
    }
    let files: Files<'_> = &[MODULE, ("main.go", "package main\n\nfunc main() { undefined() }\n")];
    let (built, _) = Agent::new(true).build(files, &work(files, false)).await;
    let failure = built.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Compile);
    assert!(failure.message.contains("./main.go:3:15: undefined: undefined"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_cannot_have_the_assembler_read_a_key_of_the_machine() {
    if !has_sandbox() {
        return;
    }
    let agent = Agent::new(true);
    let key = agent.dir.path().join("key.pem");
    fs::write(&key, "-----BEGIN PRIVATE KEY-----").unwrap();
    let honest = "package main\n\n// int answer(void) { return 42; }\nimport \"C\"\n\nfunc main() { println(C.answer()) }\n";
    let files: Files<'_> = &[MODULE, ("main.go", honest)];
    let (built, _) = agent.build(files, &work(files, true)).await;
    assert!(built.is_ok(), "{:?}", built.err());
    let theft = theft_of(&key);
    let files: Files<'_> = &[MODULE, ("main.go", &theft)];
    let (built, _) = agent.build(files, &work(files, true)).await;
    let failure = built.err().unwrap();
    assert!(failure.message.contains("file not found") || failure.message.contains("key.pem"), "{failure:?}");
    // The same source on an agent without a sandbox gets it, or this test would prove nothing.
    let bare = Agent::new(false);
    let (built, _) = bare.build(files, &work(files, true)).await;
    let binary = fs::read(&built.unwrap().files[0].path).unwrap();
    assert!(binary.windows(11).any(|bytes| bytes == b"PRIVATE KEY"));
}

/// A program that has the assembler put a file of the machine into it.
fn theft_of(file: &Path) -> String {
    let assembly = format!(".incbin \\\"{}\\\"", file.display());
    format!(
        "package main\n\n// __asm__(\".globl stolen\\nstolen: {assembly}\");\n// extern char stolen[];\n\
         // static char first(void) {{ return stolen[0]; }}\nimport \"C\"\n\nfunc main() {{ println(C.first()) }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_cannot_have_the_assembler_read_a_module_of_another_team() {
    if !has_sandbox() {
        return;
    }
    let agent = Agent::new(true);
    let (built, _) = agent.build(HELLO, &work_of("one", HELLO, false)).await;
    assert!(built.is_ok(), "{:?}", built.err());
    let module = agent.dir.path().join("go/teams/one/modules/example.test/private@v1.0.0");
    fs::create_dir_all(&module).unwrap();
    fs::write(module.join("private.go"), "package private // of team one").unwrap();
    // Where a team's own modules lie in a sandbox, whatever the agent's paths are.
    let theft = theft_of(Path::new("/meridian-build/modules/example.test/private@v1.0.0/private.go"));
    let files: Files<'_> = &[MODULE, ("main.go", &theft)];
    let (built, _) = agent.build(files, &work_of("two", files, true)).await;
    let failure = built.err().unwrap();
    assert!(
        failure.message.contains("file not found") || failure.message.contains("private.go"),
        "{failure:?}"
    );
    // The team itself may read it, or this test would prove nothing.
    let (built, _) = agent.build(files, &work_of("one", files, true)).await;
    let binary = fs::read(&built.unwrap().files[0].path).unwrap();
    assert!(binary.windows(11).any(|bytes| bytes == b"of team one"));
}

#[test]
fn the_module_cache_that_an_earlier_version_shared_is_removed() {
    let agent = Agent::new(false);
    let go = agent.dir.path().join("go");
    drop(agent.builder);
    let old = go.join("modules/example.test/private@v1.0.0");
    fs::create_dir_all(&old).unwrap();
    fs::create_dir_all(go.join("modules-gopath/pkg")).unwrap();
    // As cmd/go leaves modules.
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let variables: Variables = std::env::vars().filter(|(name, _)| name == "PATH").collect();
    let environment = GoEnvironment::discover_in(&variables, &[PathBuf::from("/usr/local/go")]).unwrap();
    let config = BuilderConfig { dir: go.clone(), source_bytes_max: ByteCount::mib(64) };
    GoBuilder::open(config, environment).unwrap();
    assert!(!go.join("modules").exists() && !go.join("modules-gopath").exists());
}
