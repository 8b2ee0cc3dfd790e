//! What the sandbox costs a compile: the same program by the same builder, in a sandbox and bare, each time from an empty
//! build cache.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use meridian_agent::{
    gobuild::{BuildCache, BuildRequest, BuilderConfig, CacheAccess, GoBuilder, Run, Sandboxing, SourceRef},
    goproxy::{GoEnvironment, Variables},
    sandbox::{LauncherConfig, Limits, SandboxPolicy},
};
use meridian_cache::local::{CacheDaemon, TaskScope};
use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    digest::Digest,
    id::{Fence, TaskId},
    machine::{effect::Work, record::TaskKind},
    quantity::ByteCount,
};
use tokio_util::sync::CancellationToken;

use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, timing::in_turns},
    binary,
    fixture::program::Program,
    home::{go_env, host_platform},
};

/// The figures of this part.
pub const KEYS: &[&str] = &["sandbox_ratio"];

/// How long the shims of a finished compile may take to hang up.
const CACHE_CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// `sandbox_ratio`: the seconds of a compile in the sandbox, divided by those of a bare one.
///
/// # Errors
/// When a build fails, or this machine has no sandbox.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    meridian_runtime::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seconds = |policy| runtime.block_on(compile(policy));
    // The first one reads the toolchain from the disk, which no later one does.
    seconds(SandboxPolicy::Off)?;
    for round in 0..plan.rounds {
        let sandboxed = || seconds(SandboxPolicy::Required);
        let (sandboxed, bare) = in_turns(round, sandboxed, || seconds(SandboxPolicy::Off))?;
        eprintln!("in the sandbox {sandboxed:.2} s, bare {bare:.2} s");
        figures.add("sandbox_ratio", sandboxed / bare);
    }
    Ok(())
}

/// Compiles a small HTTP service and all that it needs, as an agent that has just been installed does. Seconds.
async fn compile(policy: SandboxPolicy) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let builder = builder(policy, dir.path()).await?;
    let cache = CacheDaemon::open(&dir.path().join("cache"), ByteCount::gib(2))?;
    let work = work()?;
    let Source::Tree { root, .. } = &work.spec.source else { return Err(anyhow!("the source is a tree")) };
    let write = |dest: PathBuf| std::future::ready(program().write(&dest).map(drop));
    let tree = builder.sources().ensure(*root, write).await.map_err(|error| anyhow!("{error:?}"))?;
    let scope = TaskScope { toolchain: Digest::of(b"go"), own: "team".into(), also_reads: Vec::new() };
    let task = cache.open_task(&scope)?;
    let (shim, socket) = (binary::meridian().to_owned(), task.socket_path().to_owned());
    let access = CacheAccess {
        command: format!("'{}' cacheprog --socket '{}'", shim.display(), socket.display()),
        program: shim,
        socket,
        view: task.view_dir().to_owned(),
    };
    let cancel = CancellationToken::new();
    let run = Run { progress: &|_| {}, log: &|_| {}, fence: Fence(0), cancel: &cancel };
    let request = BuildRequest {
        work: &work,
        source: SourceRef::Tree(tree),
        previous: None,
        cache: Some(BuildCache::Program(access)),
    };
    let started = Instant::now();
    let built = builder.build(request, run).await.map_err(|failure| anyhow!("{}", failure.message))?;
    let seconds = started.elapsed().as_secs_f64();
    anyhow::ensure!(built.sandbox.is_none() == (policy == SandboxPolicy::Off), "it ran in {}", built.sandbox);
    task.close(CACHE_CLOSE_WITHIN).await;
    Ok(seconds)
}

async fn builder(policy: SandboxPolicy, dir: &Path) -> anyhow::Result<GoBuilder> {
    let mut variables: Variables = std::env::vars().filter(|(name, _)| name == "PATH").collect();
    variables.insert("GOPROXY".into(), "off".into());
    variables.insert("HOME".into(), dir.display().to_string());
    let go = GoEnvironment::discover_in(&variables, &[PathBuf::from(go_env("GOROOT"))])?;
    let config = BuilderConfig { dir: dir.join("go"), source_bytes_max: ByteCount::mib(64) };
    let builder = GoBuilder::open(config, go).map_err(|failure| anyhow!("{}", failure.message))?;
    let launcher = LauncherConfig::new(binary::meridian().to_owned(), dir.to_owned());
    Ok(match Sandboxing::by_policy(policy, &launcher, Limits::of_machine()).await? {
        Some(sandboxing) => builder.sandboxed(sandboxing),
        None => builder,
    })
}

fn program() -> Program {
    Program::service("example.test/service")
}

fn work() -> anyhow::Result<Work> {
    let spec = BuildSpec {
        source: Source::Tree {
            root: Digest::of(format!("{:?}", program().files()).as_bytes()),
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        },
        packages: vec![".".into()],
        platforms: Vec::new(),
        toolchain: Toolchain::Local,
        flags: BuildFlags::default(),
        name: None,
        version: "1.0.0".into(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    };
    let task = TaskId { build: "team/service/1".parse().context("a build's id")?, ordinal: 0 };
    let kind = TaskKind::Compile(host_platform().parse().context("this machine's platform")?);
    Ok(Work { task, kind, spec, resolution: None, traceparent: None, requester: None })
}
