//! What a task needs wherever it runs: how long it takes, what its inputs are, and whether somebody makes the same just now.

use std::sync::Arc;

use crate::{
    cache::{lineage::Lineage, manifest_ref::ManifestRef, scope::TaskScopes},
    digest::{Digest, DigestHasher},
    id::BuildId,
    machine::{
        durable::Durable,
        limits::Limits,
        observed::Observed,
        placement::{clients::Clients, patience::returns},
        record::{BuildRecord, TaskKind, TaskRecord},
        request::{content_digest, of_platform},
    },
    quantity::ByteCount,
    schedule::{cost::TaskFigures, delivery::Deliveries, priors, run_times::RunLine, sketch::Sample},
    time::Wall,
};

/// What of a task's needs does not change while it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct Needs {
    /// Its lineage in each scope that it reads; the last one is its team's own. None for what compiles nothing.
    lineages: Vec<Lineage>,
    /// Whether the cache is of any use to it.
    reads_cache: bool,
    /// What it makes, when two that make it may wait for each other.
    pub(in crate::machine) work: Option<Digest>,
    /// Whether an attempt came to nothing before.
    pub(in crate::machine) has_come_back: bool,
    /// How far whoever asked for it is, when they said so and it makes something for them.
    pub(in crate::machine) client: Option<Arc<Deliveries>>,
}

/// A manifest from which a task's inputs are guessed.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) struct Inputs<'d> {
    pub(in crate::machine) manifest: &'d ManifestRef,
    pub(in crate::machine) sample: &'d Sample,
}

impl Needs {
    /// What a task of a build needs.
    pub(in crate::machine) fn of(
        build: &BuildRecord,
        task: &TaskRecord,
        limits: &Limits,
        clients: &Clients,
    ) -> Self {
        let has_come_back = returns(task) > 0;
        let TaskKind::Compile(platform) = &task.kind else {
            return Self {
                lineages: Vec::new(),
                reads_cache: false,
                work: None,
                has_come_back,
                client: None,
            };
        };
        let project = &build.id.project;
        let scopes = TaskScopes::of(&project.team, build.requester.as_ref(), &limits.cache.trusted);
        let lineage = |scope| Lineage::of(scope, project, &build.spec, platform);
        let lineages: Vec<Lineage> = scopes.reads.iter().map(lineage).collect();
        let reads_cache = !build.spec.from_scratch;
        let work = reads_cache.then(|| {
            let mut work = DigestHasher::new();
            work.update(content_digest(&build.spec, build.resolution.as_ref()).as_bytes());
            work.update(of_platform(platform).as_bytes());
            // What is written to another scope is not found by who may not read that.
            work.update(project.to_string().as_bytes());
            work.update(scopes.writes.to_string().as_bytes());
            work.finish()
        });
        Self { lineages, reads_cache, work, has_come_back, client: clients.of(&build.id) }
    }

    /// Its team's own lineage, by name; the same for all that compiles nothing.
    pub(in crate::machine) fn lineage(&self) -> Digest {
        self.lineages.last().map_or(Digest::of(b""), |lineage| lineage.exact.0)
    }

    /// How long it takes, by what its like took.
    pub(in crate::machine) fn run_line(&self, durable: &Durable) -> RunLine {
        match self.lineages.last() {
            Some(lineage) => durable.run_times.line(lineage),
            None => RunLine { cold_ms: priors::RESOLVE_RUN_MS, warm_ms: priors::RESOLVE_RUN_MS },
        }
    }

    /// The manifest from which its inputs are guessed: of the nearest lineage of which somebody holds it.
    pub(in crate::machine) fn inputs<'d>(
        &'d self,
        durable: &'d Durable,
        observed: &Observed,
        at: Wall,
    ) -> Option<Inputs<'d>> {
        if !self.reads_cache {
            return None;
        }
        let near = durable.manifests_near(&self.lineages, at);
        let mut held = near.filter(|(_, record)| observed.residency.is_held(&record.manifest.digest));
        held.next().map(|(_, record)| Inputs { manifest: &record.manifest, sample: &record.sample })
    }

    /// Whether there is a manifest from which its inputs would be guessed if somebody held it.
    pub(in crate::machine) fn has_manifest(&self, durable: &Durable, at: Wall) -> bool {
        self.reads_cache && durable.manifests_near(&self.lineages, at).next().is_some()
    }

    /// What it needs, in numbers.
    pub(in crate::machine) fn figures(&self, durable: &Durable, inputs: Option<Inputs<'_>>) -> TaskFigures {
        let line = self.run_line(durable);
        if !self.reads_cache {
            // It asks nobody, and so it runs as long as with an empty cache.
            let line = RunLine { warm_ms: line.cold_ms, ..line };
            return TaskFigures { line, inputs: Some(ByteCount(0)) };
        }
        let wire = |bytes: ByteCount| ByteCount(bytes.0 / 1_000 * priors::WIRE_PERMILLE);
        TaskFigures { line, inputs: inputs.map(|inputs| wire(inputs.manifest.bytes)) }
    }

    /// How long it is expected to run, before it is known where: with what it needs at hand when somebody has it.
    pub(in crate::machine) fn expected_us(&self, durable: &Durable, inputs: Option<Inputs<'_>>) -> u64 {
        let figures = self.figures(durable, inputs);
        figures.line.at(if inputs.is_some() { 1_000 } else { 0 }).saturating_mul(1_000)
    }
}

impl Durable {
    /// The build of its concurrency group that a build has to wait for.
    pub(in crate::machine) fn older_in_group(&self, build: &BuildRecord) -> Option<&BuildId> {
        let group = build.spec.wishes.group.as_ref()?;
        let running = self.index.groups.get(&(build.id.project.clone(), group.name.clone()))?;
        let (submission, oldest) = running.first_key_value()?;
        (*submission < build.submission).then_some(oldest)
    }

    /// How many of a build's tasks are at work, when that is limited.
    pub(in crate::machine) fn at_work_of(&self, build: &BuildRecord) -> u64 {
        if build.spec.wishes.at_once.is_none() {
            return 0;
        }
        build.tasks.iter().filter(|task| task.state.is_assigned()).count() as u64
    }
}
