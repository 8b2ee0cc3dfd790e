//! Which agents have the artifacts of a build, for whoever is nearer to one of them than to here.

use crate::{
    cache::peer_address::PeerAddress,
    digest::Digest,
    id::{AgentId, BuildId, TaskId},
    machine::{
        record::{TaskRecord, TaskState},
        step::Machine,
    },
};

/// An agent that made artifacts and can be asked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactHolder {
    /// Which.
    pub agent: AgentId,
    /// Where it listens.
    pub address: PeerAddress,
    /// What it made.
    pub artifacts: Vec<Digest>,
}

impl Machine {
    /// The agents whose results of a build's tasks were accepted, as far as they are attached, listen, and their word
    /// counts; none when the build is not known.
    #[must_use]
    pub fn artifact_holders(&self, build: &BuildId) -> Vec<ArtifactHolder> {
        let mut holders: Vec<ArtifactHolder> = Vec::new();
        for task in self.build(build).iter().flat_map(|build| &build.tasks) {
            let TaskState::Succeeded { artifacts, .. } = &task.state else { continue };
            let Some((agent, address)) = self.reachable_maker(task) else { continue };
            let made = artifacts.iter().map(|artifact| artifact.digest);
            match holders.iter_mut().find(|holder| holder.agent == *agent) {
                Some(holder) => holder.artifacts.extend(made),
                None => holders.push(ArtifactHolder {
                    agent: agent.clone(),
                    address: address.clone(),
                    artifacts: made.collect(),
                }),
            }
        }
        holders
    }

    fn reachable_maker(&self, task: &TaskRecord) -> Option<(&AgentId, &PeerAddress)> {
        let agent = self.maker(&task.id)?;
        let attached = self.observed.agents.get(agent).filter(|attached| !attached.is_barred)?;
        Some((agent, attached.offer.cache.as_ref()?.address.as_ref()?))
    }

    fn maker(&self, task: &TaskId) -> Option<&AgentId> {
        let TaskState::Succeeded { fence, .. } = self.durable.task(task)?.state else { return None };
        self.durable.accepted_from(task, fence)
    }
}
