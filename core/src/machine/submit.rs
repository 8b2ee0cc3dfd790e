//! Admits builds: idempotent by key, bounded by the queue.

use std::collections::BTreeSet;

use crate::{
    build::{BuildSpec, PACKAGES_MAX, PLATFORMS_MAX, Source, SpecError, Wishes},
    id::{BuildId, IdempotencyKey, ProjectId, RegionName, RequestId},
    machine::{
        Protection,
        cancel::GivenUp,
        effect::{Refusal, Reply},
        event::EventKind,
        placement::demand::listed,
        request::request_digest,
        step::Turn,
    },
    requester::Requester,
    schedule::delivery::ClientWays,
    trace::Traceparent,
};

/// What a client asks for.
pub(super) struct Submission {
    pub(super) project: ProjectId,
    pub(super) requester: Requester,
    pub(super) key: IdempotencyKey,
    pub(super) spec: Box<BuildSpec>,
    pub(super) traceparent: Option<Traceparent>,
    pub(super) ways: Option<Box<ClientWays>>,
}

impl Turn<'_> {
    /// Admits a build, or says which build the key stands for, or refuses.
    pub(super) fn submit(&mut self, request: RequestId, asked: Submission) {
        let Submission { project, requester, key, spec, traceparent, ways } = asked;
        let digest = request_digest(&spec);
        let known =
            self.known_build(&project, &key).filter(|_| self.protections.keeps(Protection::IdempotencyKey));
        let reply = match known {
            Some((build, known)) if known == digest => {
                // A leader that has just begun knows the build and not who waits for it.
                if let Some(deliveries) = ways.and_then(|ways| ways.deliveries()) {
                    self.observed.note_client(self.durable, &build, deliveries);
                }
                Reply::Submitted { build }
            }
            Some((build, _)) => Reply::Refused(Refusal::KeyReused { build }),
            None => match self.admission(&project, &spec) {
                Err(refusal) => Reply::Refused(refusal),
                Ok(()) => {
                    let number = self.durable.projects.get(&project).copied().unwrap_or(0).saturating_add(1);
                    let build = BuildId { project: project.clone(), number };
                    let superseded = self.superseded(&project, &spec);
                    // Before its tasks look for a place.
                    if let Some(deliveries) = ways.and_then(|ways| ways.deliveries()) {
                        self.observed.clients.insert(build.clone(), deliveries);
                    }
                    self.emit(EventKind::BuildSubmitted {
                        build: build.clone(),
                        key,
                        request_digest: digest,
                        spec,
                        traceparent,
                        requester: Some(requester),
                    });
                    for older in superseded {
                        self.end_build(&older, GivenUp::For(&build));
                    }
                    Reply::Submitted { build }
                }
            },
        };
        self.reply(request, reply);
    }

    /// The builds that a new one of their concurrency group ends.
    fn superseded(&self, project: &ProjectId, spec: &BuildSpec) -> Vec<BuildId> {
        let Some(group) = spec.wishes.group.as_ref().filter(|group| group.cancels) else { return Vec::new() };
        if !self.protections.keeps(Protection::Supersede) {
            return Vec::new();
        }
        let running = self.durable.index.groups.get(&(project.clone(), group.name.clone()));
        running.into_iter().flat_map(|running| running.values().cloned()).collect()
    }

    fn known_build(
        &self,
        project: &ProjectId,
        key: &IdempotencyKey,
    ) -> Option<(BuildId, crate::digest::Digest)> {
        let id = self.durable.index.keys.get(&(project.clone(), key.clone()))?;
        Some((id.clone(), self.durable.build(id)?.request_digest))
    }

    /// Whether the build may enter. The tasks that a module source makes once it is resolved count already,
    /// so that the bound holds then too.
    fn admission(&self, project: &ProjectId, spec: &BuildSpec) -> Result<(), Refusal> {
        for (what, len, max) in [
            ("platforms", spec.platforms.len(), PLATFORMS_MAX),
            ("packages", spec.packages.len(), PACKAGES_MAX),
        ] {
            if len == 0 {
                return Err(Refusal::Spec(SpecError::Empty(what)));
            }
            if len > max {
                return Err(Refusal::Spec(SpecError::TooMany { what, max }));
            }
        }
        let (team, wished) = (&project.team, wished_regions(&spec.wishes));
        let policy = self.limits.schedule.team(team).regions;
        if !wished.is_empty() && !policy.is_empty() && wished.is_disjoint(&policy) {
            let (team, wished, policy) = (team.clone(), listed(&wished), listed(&policy));
            return Err(Refusal::NoRegionLeft { wished, team, policy });
        }
        let is_resolved = spec.rebuild.as_ref().is_some_and(|rebuild| rebuild.resolution.is_some());
        let resolve_tasks = u64::from(matches!(spec.source, Source::Module { .. }) && !is_resolved);
        let more = spec.platforms.len() as u64 + resolve_tasks;
        let limit = self.limits.queued_tasks_max;
        if more > limit {
            return Err(Refusal::TooManyTasks { tasks: more, limit });
        }
        let queued = self.durable.index.queue.len() as u64 + self.durable.index.promised;
        if queued + more > limit {
            let retry_after = self.limits.queue_full_retry;
            return Err(Refusal::QueueFull { queued, limit, retry_after });
        }
        Ok(())
    }
}

/// Where its user lets a build be: the one region that is asked for, also by an agent's name, or those that it may not leave;
/// with none, anywhere.
fn wished_regions(wishes: &Wishes) -> BTreeSet<RegionName> {
    let one = wishes.agent.as_ref().map(|agent| &agent.region).or(wishes.region.as_ref());
    one.map_or_else(|| wishes.regions.clone(), |region| BTreeSet::from([region.clone()]))
}
