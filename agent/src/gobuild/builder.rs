//! The Go builder of one agent: its directories and what its steps share.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use meridian_core::{
    id::TeamName,
    machine::{
        effect::Work,
        input::{Failure, Phase, Progress},
        record::TaskKind,
    },
    quantity::ByteCount,
};
use tracing::Instrument as _;

use super::{
    classify::{self, Stage},
    command::GoCommand,
    lineage::{self, Places},
    notes::Notes,
    outputs::Outputs,
    request::Run,
    sandboxed::Sandboxing,
};
use crate::{
    goproxy::GoEnvironment,
    keep::KeyedLock,
    process::end_leftovers,
    removal::{OwnDir, remove_tree},
    source::Sources,
    spans::step_span,
    toolchain::{ToolchainRef, Toolchains},
};

/// How long naming and downloading modules may take.
const MODULES_MAX: Duration = Duration::from_secs(20 * 60);
/// How long one compile may take unless the agent's owner says otherwise.
const COMPILE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Where a builder keeps its things.
#[derive(Debug, Clone)]
pub struct BuilderConfig {
    /// A directory of this agent's own. No second process may use it.
    pub dir: PathBuf,
    /// How much of the disk source trees may take; those in use are never removed.
    pub source_bytes_max: ByteCount,
}

/// Resolves and builds. One for each agent; tasks share it.
pub struct GoBuilder {
    pub(super) dir: PathBuf,
    pub(super) go: Arc<GoEnvironment>,
    pub(super) toolchains: Toolchains,
    pub(super) sources: Sources,
    pub(super) outputs: Arc<Outputs>,
    pub(super) notes: Notes,
    pub(super) flights: KeyedLock<meridian_core::digest::Digest>,
    pub(super) sandboxing: Option<Sandboxing>,
    pub(super) compile_max: Duration,
}

/// The private directory of one task or one step, and what its team has beside it.
pub(super) struct Task {
    pub(super) dir: OwnDir,
    pub(super) modules: TeamModules,
}

/// Where the modules of one team are. Apart from every other team's: what was downloaded with the agent's
/// credentials for one may be private, and each compile can read all of its own module cache.
pub(super) struct TeamModules {
    /// Go's module cache.
    pub(super) modcache: PathBuf,
    /// The GOPATH of commands with the network. Shared, so that the head of the checksum database that was
    /// seen last is remembered.
    gopath: PathBuf,
}

impl Task {
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl GoBuilder {
    /// Takes the directory over: ends the processes and removes the task directories that an earlier agent
    /// left behind, and counts what is there.
    ///
    /// # Errors
    /// When the directory cannot be used, or the proxy client cannot be set up.
    pub fn open(config: BuilderConfig, go: GoEnvironment) -> Result<Self, Failure> {
        let failed = |error: io::Error| classify::io("cannot open the builder's directory", &error);
        std::fs::create_dir_all(&config.dir).map_err(failed)?;
        let dir = std::fs::canonicalize(&config.dir).map_err(failed)?;
        end_leftovers(&dir);
        remove_tree(&dir.join("tasks")).map_err(failed)?;
        // An earlier version had one module cache for all teams; nobody can tell whose its modules are.
        for name in ["modules", "modules-gopath"] {
            remove_tree(&dir.join(name)).map_err(failed)?;
        }
        for name in ["tasks", "teams", "gocache"] {
            std::fs::create_dir_all(dir.join(name)).map_err(failed)?;
        }
        for weakness in go.weaknesses() {
            tracing::warn!("{weakness}");
        }
        let go = Arc::new(go);
        let toolchains = Toolchains::open(dir.join("toolchains"), go.clone())
            .map_err(|error| classify::toolchain(&error))?;
        let sources = Sources::open(dir.join("sources"), config.source_bytes_max).map_err(failed)?;
        let outputs = Arc::new(Outputs::open(dir.join("outputs")).map_err(failed)?);
        let notes = Notes::open(dir.join("notes")).map_err(failed)?;
        let flights = KeyedLock::default();
        Ok(Self {
            dir,
            go,
            toolchains,
            sources,
            outputs,
            notes,
            flights,
            sandboxing: None,
            compile_max: COMPILE_MAX,
        })
    }

    /// The same builder with its compiles in sandboxes. What the policy says has been decided by the caller.
    #[must_use]
    pub fn sandboxed(mut self, sandboxing: Sandboxing) -> Self {
        self.sandboxing = Some(sandboxing);
        self
    }

    /// The same builder with another bound on the time of one compile; two hours when nothing is said.
    #[must_use]
    pub fn compiles_within(mut self, compile_max: Duration) -> Self {
        self.compile_max = compile_max;
        self
    }

    /// The last binary of each lineage.
    #[must_use]
    pub(crate) fn outputs(&self) -> Arc<Outputs> {
        Arc::clone(&self.outputs)
    }

    /// The source trees, for whoever fetches them.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Starts what a placed task will need: its toolchain, and for a resolved module its modules. Failures
    /// are not told: the build itself will meet them and tell them.
    pub async fn prefetch(&self, work: &Work, run: Run<'_>) {
        let Ok(toolchain) = self.traced_toolchain(work, run).await else { return };
        let (TaskKind::Compile(platform), Some(resolution)) = (&work.kind, &work.resolution) else { return };
        let span = step_span(Phase::Modules, work, run.fence);
        let _ = self.module_names(&toolchain, work, platform, resolution, run).instrument(span).await;
    }

    /// The toolchain that the work asks for.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn toolchain(&self, work: &Work, run: Run<'_>) -> Result<Arc<ToolchainRef>, Failure> {
        (run.progress)(Progress { phase: Phase::Toolchain, done: 0, total: 0, detail: String::new() });
        self.toolchains.ensure(&work.spec.toolchain, run).await.map_err(|error| classify::toolchain(&error))
    }

    /// The same as a step of the trace. A build asks for its toolchain again; only the first time tells anything.
    pub(crate) async fn traced_toolchain(
        &self,
        work: &Work,
        run: Run<'_>,
    ) -> Result<Arc<ToolchainRef>, Failure> {
        let span = step_span(Phase::Toolchain, work, run.fence);
        self.toolchain(work, run).instrument(span).await
    }

    pub(super) fn task(&self, team: &TeamName) -> Result<Task, Failure> {
        let modules = self.modules_of(team)?;
        let make = || {
            let dir = OwnDir::new_in(&self.dir.join("tasks"), "t")?;
            for name in ["home", "tmp", "gopath"] {
                std::fs::create_dir(dir.path().join(name))?;
            }
            Ok(Task { dir, modules })
        };
        make().map_err(|error| classify::io("cannot make the task's directory", &error))
    }

    fn modules_of(&self, team: &TeamName) -> Result<TeamModules, Failure> {
        let dir = self.dir.join("teams").join(team.as_str());
        let modules = TeamModules { modcache: dir.join("modules"), gopath: dir.join("gopath") };
        let made = [&modules.modcache, &modules.gopath].into_iter().try_for_each(std::fs::create_dir_all);
        made.map_err(|error| classify::io("cannot make the directory of the team's modules", &error))?;
        Ok(modules)
    }

    /// Go's own cache directory: must be writable even where another cache answers. Apart for each toolchain.
    pub(super) fn gocache(&self, toolchain: &ToolchainRef) -> PathBuf {
        self.dir.join("gocache").join(&toolchain.identity().to_hex()[..16])
    }

    /// A command that may use the network and runs outside any module.
    pub(super) fn network_command<'a>(
        &'a self,
        toolchain: &'a ToolchainRef,
        task: &'a Task,
        stage: Stage,
        args: Vec<OsString>,
    ) -> GoCommand<'a> {
        let env = lineage::network_env(
            &Places {
                modcache: &task.modules.modcache,
                gopath: &task.modules.gopath,
                gocache: &self.gocache(toolchain),
                home: &task.place("home"),
                tmp: &task.place("tmp"),
            },
            &self.go,
        );
        GoCommand {
            program: toolchain.go(),
            stage,
            args,
            env,
            // Not below the agent's directory: a go.mod in one of its parents would be taken for the build's.
            dir: PathBuf::from("/"),
            owner: &self.dir,
            deadline: MODULES_MAX,
            shown_as: shown_as(toolchain.goroot(), &task.modules.modcache, task.dir.path()),
            downloads_to: Some(task.modules.modcache.clone()),
            sandbox: None,
        }
    }
}

/// This agent's paths, longest first, and what the user sees instead.
pub(super) fn shown_as(goroot: &Path, modcache: &Path, work_dir: &Path) -> Vec<(String, String)> {
    vec![
        (format!("{}/", work_dir.display()), String::new()),
        (work_dir.display().to_string(), ".".into()),
        (modcache.display().to_string(), "$GOMODCACHE".into()),
        (goroot.display().to_string(), "$GOROOT".into()),
    ]
}
