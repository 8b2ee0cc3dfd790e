//! Builds that run beside an agent and not as its tasks: a CI job's own `go build` that asks the agent for cache entries.
//!
//! Nobody has ordered such a build and nobody examines it, so what it says of an action is believed by less. **It writes
//! a scope of its agent's own** and reads that and the team's trusted one. Only the coordinator's configuration makes it
//! write what the whole team reads, and only where the agent's own configuration asks for that as well.
//!
//! What such a build used is a manifest like any other. Which one is newest is not kept by the machine: agents say what
//! they hold, again whenever they attach, since a manifest that nobody holds helps nobody.

use std::str::FromStr;

use crate::{
    cache::{
        hints::CacheHints,
        lineage::Lineage,
        manifest_ref::ManifestRef,
        scope::{Scope, TaskScopes, glob},
    },
    id::{AgentId, NAME_LEN_MAX, ProjectId, TeamName},
    time::Wall,
};

/// Most manifests of such builds that one agent is heard of.
pub const SIDECAR_MANIFESTS_MAX: usize = 64;

/// What a build beside an agent used, as the agent says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarManifest {
    /// For whose project it ran.
    pub project: ProjectId,
    /// Where its entries are.
    pub scope: Scope,
    /// What it is like, as the agent tells it: what is built and how, with nothing of the scope or the project.
    pub lineage: Lineage,
    /// The entries.
    pub manifest: ManifestRef,
    /// When it ended, by the agent's clock.
    pub written: Wall,
}

/// What an agent asks when a build beside it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarAsk {
    /// For whose project.
    pub project: ProjectId,
    /// What is built and how; see [`SidecarManifest::lineage`].
    pub lineage: Lineage,
    /// Whether the agent's configuration says that the team may believe what runs there.
    pub wants_trusted: bool,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarHints {
    /// As for a task.
    pub hints: CacheHints,
    /// When the manifest in the hints was written.
    pub written: Option<Wall>,
}

/// Beside which agents builds may use the cache, and how. The defaults stand beside the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarPolicy {
    /// Which may at all. Default all.
    pub allowed: Vec<SidecarPattern>,
    /// Which may write what their whole team reads. Default none.
    pub trusted: Vec<SidecarPattern>,
}

/// `TEAM/REGION/NAME`, in which `*` stands for any part of a name: an agent, in what it does for a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarPattern {
    team: String,
    region: String,
    name: String,
}

/// A text is not a pattern of agents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not TEAM/REGION/NAME, of a-z, 0-9, '.', '_', '-' and '*' for any part of a name")]
pub struct ParseSidecarPatternError(String);

impl Default for SidecarPolicy {
    fn default() -> Self {
        let any = || "*".to_owned();
        let everywhere = SidecarPattern { team: any(), region: any(), name: any() };
        Self { allowed: vec![everywhere], trusted: Vec::new() }
    }
}

impl SidecarPolicy {
    /// Whose entries a build beside `agent` may read and where it writes; `None` when it may do neither.
    #[must_use]
    pub fn scopes(&self, team: &TeamName, agent: &AgentId, wants_trusted: bool) -> Option<TaskScopes> {
        let is_listed = |list: &[SidecarPattern]| list.iter().any(|pattern| pattern.fits(team, agent));
        if !is_listed(&self.allowed) {
            return None;
        }
        let shared = Scope::Trusted(team.clone());
        if wants_trusted && is_listed(&self.trusted) {
            return Some(TaskScopes { writes: shared.clone(), reads: vec![shared] });
        }
        let writes = Scope::Sidecar { team: team.clone(), agent: agent.clone() };
        Some(TaskScopes { reads: vec![writes.clone(), shared], writes })
    }

    /// Whether what `agent` says of a manifest is its to say.
    #[must_use]
    pub fn may_have_written(&self, agent: &AgentId, manifest: &SidecarManifest) -> bool {
        let team = &manifest.project.team;
        [false, true].into_iter().any(|wants_trusted| {
            let scopes = self.scopes(team, agent, wants_trusted);
            scopes.is_some_and(|scopes| scopes.writes == manifest.scope)
        })
    }
}

impl SidecarPattern {
    /// Whether it fits an agent, in what that does for a team.
    #[must_use]
    pub fn fits(&self, team: &TeamName, agent: &AgentId) -> bool {
        glob(&self.team, team.as_str())
            && glob(&self.region, agent.region.as_str())
            && glob(&self.name, agent.name.as_str())
    }
}

impl FromStr for SidecarPattern {
    type Err = ParseSidecarPatternError;

    fn from_str(text: &str) -> Result<Self, ParseSidecarPatternError> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-*".contains(&b);
        let is_part = |part: &&str| {
            let first = part.bytes().next().is_some_and(|b| !b"._-".contains(&b));
            first && part.len() <= 2 * NAME_LEN_MAX && part.bytes().all(is_allowed)
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [team, region, name] if parts.iter().all(is_part) => {
                Ok(Self { team: team.to_owned(), region: region.to_owned(), name: name.to_owned() })
            }
            _ => Err(ParseSidecarPatternError(text.chars().take(120).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(policy: &SidecarPolicy, agent: &str, wants_trusted: bool) -> Option<Vec<String>> {
        let scopes = policy.scopes(&"acme".parse().unwrap(), &agent.parse().unwrap(), wants_trusted)?;
        assert_eq!(scopes.reads[0], scopes.writes);
        Some(scopes.reads.iter().map(ToString::to_string).collect())
    }

    fn listed(patterns: &[&str]) -> Vec<SidecarPattern> {
        patterns.iter().map(|pattern| pattern.parse().unwrap()).collect()
    }

    #[test]
    fn a_build_beside_an_agent_writes_a_scope_of_its_own_unless_both_sides_say_otherwise() {
        let own = Some(vec!["acme/sidecar/eu/ci-1".to_owned(), "acme/trusted".to_owned()]);
        let policy = SidecarPolicy::default();
        assert_eq!(scopes(&policy, "eu/ci-1", false), own);
        assert_eq!(scopes(&policy, "eu/ci-1", true), own, "the coordinator has not said so");
        let policy = SidecarPolicy { trusted: listed(&["acme/eu/ci-*"]), ..policy };
        assert_eq!(scopes(&policy, "eu/ci-1", false), own, "the agent has not said so");
        assert_eq!(scopes(&policy, "eu/ci-1", true), Some(vec!["acme/trusted".to_owned()]));
        assert_eq!(scopes(&policy, "us/ci-1", true).unwrap().len(), 2);
        let policy = SidecarPolicy { allowed: listed(&["web/*/*", "*/us/*"]), ..policy };
        assert_eq!(scopes(&policy, "eu/ci-1", true), None);
        assert!(scopes(&policy, "us/ci-1", false).is_some());
    }

    #[test]
    fn what_no_agent_could_be_called_is_no_pattern() {
        for text in ["", "*", "eu/ci", "acme/eu/", "acme/eu/ci/x", "acme/EU/ci", "-a/eu/ci", "a b/eu/ci"] {
            assert!(text.parse::<SidecarPattern>().is_err(), "{text:?}");
        }
    }
}
