//! What a compile sees of the machine, and how it is run there.
//!
//! A build without cgo sees its toolchain, its modules, its sources and its own directory, and of the machine
//! nothing but what starts the cache's shim. One with cgo sees the machine's programs and libraries as well.
//! Where it lies there is the same on every agent ([`super::seen`]).

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use meridian_core::{
    machine::input::{Failure, FailureKind},
    quantity::ByteCount,
    sandbox::Sandbox,
};
use tokio_util::sync::CancellationToken;

use super::{classify, request::CacheAccess, seen::Seen};
use crate::{
    process::{Exit, Invocation, Output},
    sandbox::{
        Access, Around, DiskLimit, Launcher, LauncherConfig, Limits, Mount, Network, NoSandbox, Outcome,
        Plan, SandboxError, SandboxPolicy, State, Verdict, loader_mounts, system_mounts,
    },
};

/// Room in cmd/go's own cache directory where another cache answers: for empty directories and two notes.
const OWN_CACHE_BYTES: u64 = 16 << 20;

/// Runs compiles in sandboxes with given limits. The wall limit is the command's own deadline.
#[derive(Debug, Clone)]
pub struct Sandboxing {
    /// Starts them.
    pub launcher: Arc<Launcher>,
    /// What each may use.
    pub limits: Limits,
    /// What was found to stand around a program when the agent started.
    pub has: Sandbox,
}

/// What one compile sees beside its own directory.
pub(super) struct View<'a> {
    /// Where it sees what it reads.
    pub(super) seen: &'a Seen,
    pub(super) goroot: &'a Path,
    pub(super) modcache: &'a Path,
    /// The root of the source tree, for a build that has one.
    pub(super) source: Option<&'a Path>,
    /// The task's own directory, which it may write.
    pub(super) task: &'a Path,
    /// Go's own cache directory, below the task's.
    pub(super) gocache: &'a Path,
    pub(super) cache: Option<&'a CacheAccess>,
    pub(super) cgo: bool,
}

/// A sandbox for one command.
pub(crate) struct CommandSandbox {
    sandboxing: Sandboxing,
    mounts: Vec<Mount>,
}

impl Sandboxing {
    /// Decides how this agent builds: asks the machine, unless the policy needs no answer. `None` builds bare,
    /// after a warning where the policy wants one.
    ///
    /// # Errors
    /// When the policy requires a sandbox and the machine has none.
    pub async fn by_policy(
        policy: SandboxPolicy,
        config: &LauncherConfig,
        limits: Limits,
    ) -> Result<Option<Self>, NoSandbox> {
        if policy == SandboxPolicy::Off {
            return Ok(None);
        }
        let launcher = Launcher::open(config).map_err(|error| NoSandbox {
            reason: error.to_string(),
            remedy: "give the agent a state directory that it can use".to_owned(),
        })?;
        let (findings, around) = launcher.assess().await;
        for finding in findings.iter().filter(|finding| finding.state == State::Weaker) {
            tracing::warn!(name = finding.name, remedy = finding.remedy, "{}", finding.meaning);
        }
        match policy.decide(&findings)? {
            Verdict::Sandboxed => {
                let memory = around.memory && limits.memory_bytes_max.is_some();
                let has = Around { memory, ..around }.described();
                Ok(Some(Self { launcher: Arc::new(launcher), limits, has }))
            }
            Verdict::Bare(warning) => {
                tracing::warn!("{warning}");
                Ok(None)
            }
        }
    }

    /// The sandbox of one compile.
    ///
    /// # Errors
    /// When the programs that it needs cannot be read.
    pub(super) fn of(&self, view: &View<'_>) -> Result<CommandSandbox, Failure> {
        let read = |error: std::io::Error| classify::io("cannot read what the sandbox needs", &error);
        // A toolchain of the system's may need its libraries.
        let dynamic_go = needs_loader(&view.goroot.join("bin/go")).map_err(read)?;
        let mut mounts = match view.cache {
            _ if view.cgo || dynamic_go => system_mounts(),
            Some(cache) => loader_mounts(&cache.program).map_err(read)?,
            None => Vec::new(),
        };
        let seen = view.seen;
        mounts.push(Mount::at(view.goroot, &seen.goroot, Access::Run));
        mounts.push(Mount::at(view.modcache, &seen.modcache, Access::Read));
        if let (Some(source), Some(site)) = (view.source, &seen.site) {
            mounts.push(Mount::at(source, &site.root, Access::Read));
        }
        mounts.push(Mount::same(view.task, Access::Write));
        if let Some(cache) = view.cache {
            mounts.push(Mount::same(&cache.program, Access::Run));
            mounts.push(Mount::same(&cache.socket, Access::Connect));
            // Nothing but what this task was given; cmd/go knows each by its name.
            mounts.push(Mount::same(&cache.view, Access::ReadByName));
            // Where a cache answers, cmd/go keeps nothing in its own, but makes 256 directories for it at each start: in
            // memory that takes a tenth of the time.
            let target = view.gocache.to_owned();
            mounts.push(Mount::Scratch { target, bytes_max: OWN_CACHE_BYTES, run: false });
        }
        Ok(CommandSandbox { sandboxing: self.clone(), mounts })
    }
}

impl CommandSandbox {
    /// Runs a command as [`crate::process::run`] does, but for what it sees and may use. Tells what stood around it.
    ///
    /// # Errors
    /// When there is no sandbox for it, when it is stopped, and when it passes one of its limits.
    pub(crate) async fn run(
        &self,
        invocation: &Invocation,
        cancel: &CancellationToken,
        on_output: &mut (dyn FnMut(Output, &[u8]) + Send),
    ) -> Result<(Exit, Sandbox), Failure> {
        if cancel.is_cancelled() {
            return Err(classify::lost());
        }
        let limits = Limits { wall: invocation.deadline, ..self.sandboxing.limits.clone() };
        let plan = Plan {
            mounts: self.mounts.clone(),
            program: invocation.program.clone(),
            args: invocation.args.clone(),
            env: invocation.env.clone(),
            dir: invocation.dir.clone(),
            network: Network::None,
            limits,
        };
        let ended = self.sandboxing.launcher.run(&plan, cancel, on_output).await;
        let ended = ended.map_err(|error| unusable(&error))?;
        let around = ended.around.described();
        match ended.outcome {
            Outcome::Exited(code) => Ok((Exit::Code(code), around)),
            Outcome::Signal(signal) => Ok((Exit::Signal(signal), around)),
            Outcome::Killed if cancel.is_cancelled() => Err(classify::lost()),
            outcome => Err(beyond(outcome, &plan.limits)),
        }
    }
}

/// A limit that was passed, as a failure.
fn beyond(outcome: Outcome, limits: &Limits) -> Failure {
    let failure = |kind, message: String, hint: &str| Failure { kind, message, hint: hint.to_owned() };
    match outcome {
        Outcome::OutOfMemory => {
            let bytes = ByteCount(limits.memory_bytes_max.unwrap_or_default());
            failure(
                FailureKind::OutOfMemory,
                format!("the build used more memory than it may ({bytes})"),
                "an agent of the fleet must let a build use more: `limits.memory_mib` in its agent.toml",
            )
        }
        Outcome::TimedOut(after) => classify::timed_out(after),
        Outcome::DiskFull(DiskLimit::Machine) => failure(
            FailureKind::DiskFull,
            "the agent's disk is full".into(),
            "free space in the agent's state directory",
        ),
        Outcome::DiskFull(limit) => {
            let what = match limit {
                DiskLimit::FileSize => "a file larger than it may",
                DiskLimit::Scratch => "more temporary files than it may",
                DiskLimit::Task | DiskLimit::Machine => "more than it may",
            };
            let message = format!("the build wrote {what}");
            let key = match limit {
                DiskLimit::FileSize => "limits.file_mib",
                _ => "limits.disk_mib",
            };
            let hint =
                format!("an agent of the fleet must let a build write more: `{key}` in its agent.toml");
            failure(FailureKind::DiskFull, message, &hint)
        }
        Outcome::Killed | Outcome::Exited(_) | Outcome::Signal(_) => failure(
            FailureKind::Infrastructure,
            "the build was ended from outside".into(),
            "the agent's machine may have run out of memory: its kernel's log says so",
        ),
    }
}

fn unusable(error: &SandboxError) -> Failure {
    let hint = "run `meridian doctor` on the agent";
    Failure { kind: FailureKind::Infrastructure, message: error.to_string(), hint: hint.to_owned() }
}

#[cfg(target_os = "linux")]
fn needs_loader(program: &Path) -> std::io::Result<bool> {
    Ok(crate::sandbox::interpreter(program)?.is_some())
}

#[cfg(not(target_os = "linux"))]
fn needs_loader(_program: &Path) -> std::io::Result<bool> {
    Ok(false)
}

/// Whether a build left a plain file at `path`, with no link on the way from its directory. Nothing runs there
/// any more when this is asked, so the answer stays true.
pub(super) fn is_plain_output(task: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(task) else { return false };
    let mut place = PathBuf::from(task);
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return false };
        place.push(name);
        let Ok(found) = std::fs::symlink_metadata(&place) else { return false };
        let fits = if parts.peek().is_some() { found.is_dir() } else { found.is_file() };
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_output_that_is_a_link_or_lies_behind_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("task");
        std::fs::create_dir_all(task.join("out")).unwrap();
        std::fs::write(task.join("out/program"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), task.join("out/link")).unwrap();
        std::os::unix::fs::symlink("out", task.join("behind")).unwrap();
        assert!(is_plain_output(&task, &task.join("out/program")));
        for wrong in ["out/link", "behind/program", "out", "out/missing", "../secret"] {
            assert!(!is_plain_output(&task, &task.join(wrong)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_agent_whose_sandbox_cannot_be_entered_builds_bare_only_if_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let config = LauncherConfig::new("/nonexistent/meridian".into(), dir.path().to_owned());
        let by = |policy| Sandboxing::by_policy(policy, &config, Limits::default());
        assert!(by(SandboxPolicy::Off).await.unwrap().is_none());
        assert!(by(SandboxPolicy::WhenPossible).await.unwrap().is_none());
        let refusal = by(SandboxPolicy::Required).await.unwrap_err().to_string();
        assert!(refusal.contains("/nonexistent/meridian"), "{refusal}");
    }

    #[test]
    fn each_limit_is_told_with_what_to_do() {
        let limits = Limits { memory_bytes_max: Some(1 << 30), ..Limits::default() };
        let failure = beyond(Outcome::OutOfMemory, &limits);
        assert_eq!(failure.kind, FailureKind::OutOfMemory);
        assert!(failure.message.contains("1.0 GiB") && failure.hint.contains("memory"), "{failure:?}");
        for limit in [DiskLimit::FileSize, DiskLimit::Scratch, DiskLimit::Task, DiskLimit::Machine] {
            assert_eq!(beyond(Outcome::DiskFull(limit), &limits).kind, FailureKind::DiskFull);
        }
        let late = beyond(Outcome::TimedOut(Duration::from_secs(90)), &limits);
        assert_eq!((late.kind, late.kind.is_retried()), (FailureKind::TimedOut, false));
        assert!(late.message.contains("90") && late.hint.contains("wall_seconds"), "{late:?}");
        let killed = beyond(Outcome::Killed, &limits);
        assert!(killed.kind.is_retried() && !killed.hint.is_empty(), "{killed:?}");
    }
}
