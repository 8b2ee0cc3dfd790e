//! What it takes to build the same again.
//!
//! A rebuild repeats what decided the first build's bytes: the source as it was resolved, the Go that was really
//! used, flags, names and platforms. What made that build quick is left out (it starts from scratch), and what made
//! it one machine's word is changed (another agent, where there is one).
//!
//! Not here: whether source and artifacts are still held, which their holder knows, and the comparison of what comes
//! out, which is the client's.

use crate::{
    build::{BuildSpec, Rebuild, Source, Toolchain, Wishes},
    golang::platform::Platform,
    id::{AgentId, BuildId},
    machine::record::{BuildRecord, BuildState, TaskKind, TaskRecord, TaskState, TaskStep},
};

/// Why a build cannot be repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildRefusal {
    /// There is nothing to compare with yet.
    #[error("build {0} is still running; rebuild it when it has ended")]
    Running(BuildId),
    /// There never will be anything to compare with.
    #[error("build {build} {ended}, so there is nothing to compare a rebuild with")]
    Unsuccessful {
        /// Which build.
        build: BuildId,
        /// How it ended.
        ended: &'static str,
    },
    /// It made nothing for a platform.
    #[error("build {build} was not for {platform}, but for {built}")]
    Platform {
        /// Which build.
        build: BuildId,
        /// What was asked for.
        platform: String,
        /// What it was for.
        built: String,
    },
    /// A platform twice.
    #[error("platform {0} is given twice")]
    Twice(String),
    /// The coordinator's memory of it lacks something.
    #[error("the record of build {build} does not say {what}")]
    Record {
        /// Which build.
        build: BuildId,
        /// What is not known.
        what: &'static str,
    },
    /// Its default Go was not one version.
    #[error(
        "the platforms of build {build} were built by different Go versions, {versions}; \
         rebuild those of each version by themselves, with --platform"
    )]
    GoVersions {
        /// Which build.
        build: BuildId,
        /// The versions.
        versions: String,
    },
}

/// A compile task that succeeded, as far as a rebuild asks.
struct Done<'r> {
    platform: &'r Platform,
    agent: &'r AgentId,
    go_version: &'r str,
}

impl BuildRecord {
    /// The request that builds the same again for `platforms`, or for all when that is empty.
    ///
    /// # Errors
    /// When the build did not succeed, or made nothing for one of the platforms.
    pub fn rebuild(&self, platforms: &[Platform], wishes: Wishes) -> Result<BuildSpec, RebuildRefusal> {
        let build = || self.id.clone();
        match self.state {
            BuildState::Succeeded => {}
            BuildState::Running => return Err(RebuildRefusal::Running(build())),
            BuildState::Failed => {
                return Err(RebuildRefusal::Unsuccessful { build: build(), ended: "failed" });
            }
            BuildState::Cancelled => {
                return Err(RebuildRefusal::Unsuccessful { build: build(), ended: "was cancelled" });
            }
        }
        let resolution = match self.spec.source {
            Source::Module { .. } => {
                let what = "what its source resolved to";
                Some(self.resolution.clone().ok_or_else(|| RebuildRefusal::Record { build: build(), what })?)
            }
            Source::Tree { .. } => None,
        };
        let done = self.done(platforms)?;
        let wishes = self.within_bounds(wishes);
        let builders = done.iter().map(|task| (task.platform.clone(), task.agent.clone())).collect();
        Ok(BuildSpec {
            platforms: done.iter().map(|task| task.platform.clone()).collect(),
            toolchain: self.toolchain_used(&done)?,
            wishes,
            from_scratch: true,
            rebuild: Some(Rebuild { of: build(), resolution, builders }),
            ..self.spec.clone()
        })
    }

    /// What the one who repeats wishes, within what the first one demanded: what may not leave a region still may not.
    fn within_bounds(&self, mut wishes: Wishes) -> Wishes {
        let Wishes { regions, labels, .. } = &self.spec.wishes;
        let both = regions & &wishes.regions;
        if !regions.is_empty() {
            wishes.regions = if both.is_empty() { regions.clone() } else { both };
        }
        wishes.labels.extend(labels.iter().cloned());
        wishes
    }

    /// The tasks to repeat, in the order in which they are wanted.
    fn done(&self, platforms: &[Platform]) -> Result<Vec<Done<'_>>, RebuildRefusal> {
        let all: Vec<Done<'_>> = self.tasks.iter().filter_map(Done::of).collect();
        let missing =
            |task: &TaskRecord| matches!(task.kind, TaskKind::Compile(_)) && Done::of(task).is_none();
        if self.tasks.iter().any(missing) {
            return Err(RebuildRefusal::Record { build: self.id.clone(), what: "who built it" });
        }
        if platforms.is_empty() {
            return Ok(all);
        }
        let mut wanted: Vec<Done<'_>> = Vec::with_capacity(platforms.len());
        for platform in platforms {
            if wanted.iter().any(|task| task.platform == platform) {
                return Err(RebuildRefusal::Twice(platform.to_string()));
            }
            let Some(task) = all.iter().find(|task| task.platform == platform) else {
                let built: Vec<String> = all.iter().map(|task| task.platform.to_string()).collect();
                return Err(RebuildRefusal::Platform {
                    build: self.id.clone(),
                    platform: platform.to_string(),
                    built: built.join(", "),
                });
            };
            wanted.push(Done { ..*task });
        }
        Ok(wanted)
    }

    /// The toolchain as it turned out. The default is another one in another release of Meridian, so the version that
    /// it meant is named; an installed Go has no version that could be fetched, so it is asked for again and a
    /// difference shows in the comparison.
    fn toolchain_used(&self, done: &[Done<'_>]) -> Result<Toolchain, RebuildRefusal> {
        if self.spec.toolchain != Toolchain::Default {
            return Ok(self.spec.toolchain.clone());
        }
        let mut versions: Vec<&str> = done.iter().map(|task| task.go_version).collect();
        versions.sort_unstable();
        versions.dedup();
        let [version] = versions[..] else {
            let versions = versions.join(", ");
            return Err(RebuildRefusal::GoVersions { build: self.id.clone(), versions });
        };
        // Experiments follow the version after a blank.
        let release = version.split(' ').next().and_then(|release| release.strip_prefix("go"));
        let what = "which Go built it";
        let release = release.ok_or_else(|| RebuildRefusal::Record { build: self.id.clone(), what })?;
        Ok(Toolchain::Version { version: release.to_owned(), pins: Vec::new() })
    }
}

impl<'r> Done<'r> {
    fn of(task: &'r TaskRecord) -> Option<Self> {
        let (TaskKind::Compile(platform), TaskState::Succeeded { go_version, .. }) =
            (&task.kind, &task.state)
        else {
            return None;
        };
        let leased = |step: &'r TaskStep| match step {
            TaskStep::Leased { agent, .. } => Some(agent),
            _ => None,
        };
        let agent = task.history.iter().rev().find_map(leased)?;
        Some(Self { platform, agent, go_version })
    }
}
