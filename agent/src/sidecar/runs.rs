//! The go commands that run beside this agent: each begins, is answered, and leaves a manifest.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use meridian_cache::{
    local::{
        CacheDaemon, CacheFigures, LastingViews, RunCache, TaskScope,
        beside::{About, BEGIN_WITHIN, Opened},
    },
    manifest::Listed,
    prefetch::Supply,
};
use meridian_core::{
    cache::{
        hints::ManifestHint,
        lineage::Lineage,
        lineage_name::LineageName,
        sidecar::{SidecarAsk, SidecarHints, SidecarManifest},
    },
    digest::Digest,
    id::{AgentId, ProjectId},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio_util::sync::CancellationToken;

use super::{
    goroot::Goroots,
    lineage::{lineage, lineage_name},
    open_runs::OpenRuns,
    standing::{self, Standing},
};
use crate::{
    config::SidecarSettings,
    fabric::{Counted, Fabric, Placed, wall_now},
};

/// How long the toolchain of a go command is looked at: what is left of a beginning when the coordinator is silent.
const LOOK_WITHIN: Duration = BEGIN_WITHIN.saturating_sub(standing::ANSWER_WITHIN);
const _: () = assert!(!LOOK_WITHIN.is_zero());
/// How long the connections of a go command that has ended may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked for what nobody asks for any more, where no go command ends.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Of what [`Runs`] are made.
pub(crate) struct RunsParts {
    pub(crate) settings: SidecarSettings,
    pub(crate) agent: AgentId,
    pub(crate) daemon: CacheDaemon,
    pub(crate) fabric: Fabric,
    /// To the coordinator.
    pub(crate) channel: tonic::transport::Channel,
}

/// The go commands that run now, and what the next ones need.
pub(crate) struct Runs {
    settings: SidecarSettings,
    agent: AgentId,
    daemon: CacheDaemon,
    fabric: Fabric,
    standing: Standing,
    views: Arc<LastingViews>,
    goroots: Arc<Goroots>,
    open: OpenRuns<Arc<Run>>,
}

/// A go command that runs.
pub(super) struct Run {
    uid: u32,
    cache: RunCache,
    supply: Arc<Supply>,
    placed: Placed,
    toolchain: Digest,
    project: ProjectId,
    lineage: Lineage,
    /// What that is to people.
    name: LineageName,
    /// How near the manifest is that it was told of.
    distance: Option<u32>,
}

impl Runs {
    /// Ready for the first one. Blocks.
    ///
    /// # Errors
    /// When there is no place for what they are given.
    pub(crate) fn open(parts: RunsParts) -> io::Result<Self> {
        let RunsParts { settings, agent, daemon, fabric, channel } = parts;
        let beside = fabric.store().dir().join("beside");
        let views = Arc::new(LastingViews::open(settings.views.as_deref().unwrap_or(&beside))?);
        fabric.shown_in(&views);
        let standing = Standing::new(channel, agent.clone());
        let (goroots, open) = (Arc::default(), OpenRuns::new(settings.runs_max));
        Ok(Self { settings, agent, daemon, fabric, standing, views, goroots, open })
    }

    /// What somebody is told who only asks.
    pub(super) fn about(&self, project: Option<&str>) -> Opened {
        if let Err(why) = self.project(project) {
            return Opened::Refused { why };
        }
        Opened::Here {
            agent: self.agent.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            projects: self.settings.projects.iter().map(ToString::to_string).collect(),
        }
    }

    /// A go command of a user begins; gives the name under which its connections come.
    ///
    /// # Errors
    /// Why it is served nothing, for its user to read.
    pub(super) async fn begin(self: &Arc<Self>, uid: u32, about: About) -> Result<String, String> {
        let project = self.project(about.project.as_deref())?;
        let full = || format!("{} go commands run beside the agent already", self.settings.runs_max);
        let place = self.open.take_place().ok_or_else(full)?;
        let goroot = about.variables.get("GOROOT").filter(|goroot| Path::new(goroot).is_absolute());
        let goroot = goroot.map(PathBuf::from).ok_or("it does not say which toolchain it is of (GOROOT)")?;
        let identity = self.goroots.identity_for(uid, goroot, LOOK_WITHIN).await;
        let toolchain = identity.map_err(|error| error.to_string())?;
        let (lineage, called) = (lineage(&about, &toolchain), lineage_name(&project, &about));
        let wants_trusted = self.settings.is_trusted;
        let ask = SidecarAsk { project: project.clone(), lineage, wants_trusted };
        let told = self.with_own(self.standing.ask(&ask).await?, &ask);
        let distance = told.hints.manifest.as_ref().map(|hint| hint.distance);
        let placed = self.fabric.begin(&Arc::new(told.hints));
        let supply = Arc::new(self.fabric.supply(&placed, toolchain));
        let view = self.views.of_user(uid).map_err(|error| format!("there is no place for it: {error}"))?;
        let scopes = &placed.hints().scopes;
        let others = scopes.reads.iter().filter(|scope| **scope != scopes.writes);
        let scope = TaskScope {
            toolchain,
            own: scopes.writes.to_string(),
            also_reads: others.map(ToString::to_string).collect(),
        };
        let cache = self.daemon.open_run(&scope, Some(Arc::clone(&supply)), &view);
        let name = fresh_name()?;
        let run = Run { uid, cache, supply, placed, toolchain, project, lineage, name: called, distance };
        self.open.insert(name.clone(), Arc::new(run), place);
        Ok(name)
    }

    /// One more connection of a go command. One that names no run of its user is hung up on.
    pub(super) fn join(&self, uid: u32, name: &str, stream: UnixStream) -> io::Result<()> {
        let run = self.open.get(name).filter(|run| run.uid == uid);
        run.ok_or(io::ErrorKind::NotFound)?.cache.serve(stream)
    }

    /// A go command has ended: tells the next ones what it used.
    pub(super) async fn end(&self, name: &str) {
        let Some((run, place)) = self.open.remove(name) else { return };
        let figures = run.cache.close(CLOSE_WITHIN).await;
        drop(place);
        let brought = run.supply.figures();
        tracing::info!(
            project = %run.project, gets = figures.gets, hits = figures.hits, puts = figures.puts,
            brought = brought.bodies, wire_bytes = brought.wire_bytes, waited_ms = brought.waited.as_millis(),
            "a go command beside the agent has ended"
        );
        // One that only listed or formatted something says nothing of the cache.
        if figures.gets + figures.puts > 0 {
            self.fabric.note_use(&Counted {
                lineage: run.lineage.exact,
                name: &run.name,
                is_beside: true,
                figures: &figures,
                fetched_bytes: brought.body_bytes,
            });
        }
        let fabric = self.fabric.clone();
        // A thread of its own makes it: whoever stops the agent now only loses the head start of the next one.
        tokio::task::spawn_blocking(move || run.leave(&fabric, figures));
        self.views.sweep();
    }

    /// Takes from time to time what go commands were given and nobody asks for any more, until told to stop.
    pub(crate) async fn keep_views(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let views = Arc::clone(&self.views);
            // It ends with the process at the latest, and has nothing to say.
            let _ = tokio::task::spawn_blocking(move || views.sweep()).await;
        }
    }

    /// How many run now.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// All are over: the agent ends. What they were given stays for those that go on.
    pub(super) fn drop_all(&self) {
        self.open.clear();
    }

    fn project(&self, asked: Option<&str>) -> Result<ProjectId, String> {
        let projects = &self.settings.projects;
        let found = match asked {
            None => projects.first(),
            Some(asked) => projects.iter().find(|project| project.to_string() == asked),
        };
        found.cloned().ok_or_else(|| {
            let served: Vec<String> = projects.iter().map(ToString::to_string).collect();
            format!(
                "the agent serves go commands of {}, not of {}",
                served.join(", "),
                asked.unwrap_or("no project")
            )
        })
    }

    /// What the coordinator told, or what a go command here has left since.
    fn with_own(&self, mut told: SidecarHints, ask: &SidecarAsk) -> SidecarHints {
        let left = self.fabric.left();
        let mut own = None;
        for scope in &told.hints.scopes.reads {
            own = own.or_else(|| left.last(&ask.project, scope, &ask.lineage));
        }
        let Some(own) = own.filter(|own| self.fabric.holds(&own.manifest.digest)) else { return told };
        let is_exact = told.hints.manifest.as_ref().is_some_and(|hint| hint.distance == 0);
        if !is_exact || told.written.is_none_or(|written| written < own.written) {
            let hint = ManifestHint { manifest: own.manifest, distance: 0, holders: Vec::new() };
            told.hints.manifest = Some(hint);
        }
        told
    }
}

impl Run {
    /// Leaves a manifest, where the next one would have more of it than of what is known. Blocks.
    fn leave(&self, fabric: &Fabric, figures: CacheFigures) {
        let listed = self.cache.listed();
        if listed.is_empty() || !self.is_news(&listed, figures) {
            return;
        }
        let note = |manifest| {
            let made = SidecarManifest {
                project: self.project.clone(),
                scope: self.placed.hints().scopes.writes.clone(),
                lineage: self.lineage,
                manifest,
                written: wall_now(),
            };
            fabric.left().note(made, |error| fabric.store().is_full(error));
        };
        fabric.publish(&self.placed, self.toolchain, self.lineage.exact.0, listed, Vec::new(), note);
    }

    /// Whether what was used is worth more than the manifest that is known of this very lineage. A go command that failed
    /// early used little.
    fn is_news(&self, listed: &[Listed], figures: CacheFigures) -> bool {
        let Some(known) = self.placed.manifest().filter(|_| self.distance == Some(0)) else { return true };
        let known: HashMap<_, _> =
            known.manifest.entries.iter().map(|one| (one.action, one.entry.output)).collect();
        let is_known = |one: &Listed| known.get(&one.action) == Some(&one.entry.output);
        let is_same = figures.puts == 0 && listed.iter().all(is_known);
        !is_same && listed.len() * 2 >= known.len()
    }
}

/// A name that nobody can guess.
fn fresh_name() -> Result<String, String> {
    let mut name = [0; 16];
    SystemRandom::new().fill(&mut name).map_err(|_| "the system gives no randomness".to_owned())?;
    Ok(name.iter().map(|byte| format!("{byte:02x}")).collect())
}
