//! What can be read of the lineages whose manifests are remembered, and what an agent is told that is to have one of them
//! before any build.

use crate::{
    build::BuildSpec,
    cache::{hints::CacheHints, lineage_name::LineageName, scope::TaskScopes},
    golang::platform::Platform,
    id::{AgentId, ProjectId},
    machine::{
        manifests::Wanted,
        record::{ManifestRecord, TaskKind},
        step::Machine,
    },
    requester::Requester,
    time::Wall,
};

/// A lineage whose last manifest is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageView<'m> {
    /// Its manifest.
    pub record: &'m ManifestRecord,
    /// What it is to people; `None` when the build that left the manifest is forgotten.
    pub name: Option<LineageName>,
    /// The attached agents that hold all of the manifest.
    pub holders: Vec<&'m AgentId>,
}

impl Machine {
    /// The lineages whose manifests are remembered, the one built last first.
    #[must_use]
    pub fn lineages<'m>(&'m self) -> Vec<LineageView<'m>> {
        let mut records: Vec<&ManifestRecord> = self.durable.manifests().collect();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.made));
        let view = |record: &'m ManifestRecord| LineageView {
            record,
            name: self.lineage_name(record),
            holders: self.observed.residency.holders(&record.manifest.digest).collect(),
        };
        records.into_iter().map(view).collect()
    }

    fn lineage_name(&self, record: &ManifestRecord) -> Option<LineageName> {
        let (build, task) = (self.build(&record.task.build)?, self.task(&record.task)?);
        let TaskKind::Compile(platform) = &task.kind else { return None };
        Some(LineageName::of(&build.id.project, &build.spec, platform))
    }

    /// What an agent is told that should have what a build of this kind will need, asked for by `requester`; `None` when
    /// no build that is like it has left a manifest. The grant is left empty, as in an offer.
    #[must_use]
    pub fn warming(
        &self,
        agent: &AgentId,
        (project, requester): (&ProjectId, &Requester),
        (spec, platform): (&BuildSpec, &Platform),
        at: Wall,
    ) -> Option<CacheHints> {
        let scopes = TaskScopes::of(&project.team, Some(requester), &self.limits.cache.trusted);
        let wanted = Wanted { project, spec, platform, scopes: &scopes };
        let manifest = Some(wanted.hint(&self.durable, &self.observed, agent, at)?);
        Some(CacheHints { scopes, manifest, grant: Vec::new() })
    }
}
