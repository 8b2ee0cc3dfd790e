//! What is said of each kind of event: the one place that knows them all. A new kind has one arm in [`of`].
//!
//! The name of a kind is the one that the wire has for it.

use meridian_core::{
    build::{BuildSpec, Resolution, Source},
    cache::{lineage::Lineage, manifest_ref::ManifestRef},
    digest::Digest,
    id::{AgentId, BuildId, Fence, PlacementNumber, TaskId},
    keyring::{CertifiedKey, KeyHolder, KeyId},
    machine::{
        cordon::Cordon,
        event::EventKind,
        input::{Failure, FailureKind, Outcome},
        maintenance::Maintenance,
        record::{Placement, TokenGrant},
    },
    quantity::ByteCount,
    requester::Requester,
    time::Wall,
};
use meridian_proto::v1;
use meridian_trust::timestamp;
use serde_json::{Value, json};

use crate::command::print;

/// An event in words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Words {
    /// The name of its kind.
    pub(super) kind: &'static str,
    /// The build that it is about.
    pub(super) build: Option<BuildId>,
    /// The task that it is about.
    pub(super) task: Option<TaskId>,
    /// The agent that it is about, where the event itself says so.
    pub(super) agent: Option<AgentId>,
    /// The numbers that matter, by name.
    pub(super) facts: Vec<(&'static str, Value)>,
    /// The rest, for people.
    pub(super) text: String,
}

impl Words {
    fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, build: None, task: None, agent: None, facts: Vec::new(), text: text.into() }
    }

    fn build(mut self, build: &BuildId) -> Self {
        self.build = Some(build.clone());
        self
    }

    fn task(mut self, task: &TaskId) -> Self {
        self.task = Some(task.clone());
        self.build(&task.build)
    }

    fn agent(mut self, agent: &AgentId) -> Self {
        self.agent = Some(agent.clone());
        self
    }

    fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    fn fence(self, fence: Fence) -> Self {
        self.fact("fence", fence.0)
    }

    /// What it is about, most exactly.
    pub(super) fn about(&self) -> String {
        let task = self.task.as_ref().map(ToString::to_string);
        let build = self.build.as_ref().map(ToString::to_string);
        task.or(build)
            .or_else(|| self.agent.as_ref().map(ToString::to_string))
            .unwrap_or_else(|| "-".to_owned())
    }
}

/// An event in words.
pub(super) fn of(kind: &EventKind) -> Words {
    match kind {
        EventKind::EpochBegan { epoch } => Words::new("epoch_began", format!("epoch {epoch} begins")),
        EventKind::BuildSubmitted { build, spec, requester, .. } => {
            build_submitted(spec, requester.as_ref()).build(build)
        }
        EventKind::TaskPlaced { task, placement } => task_placed(placement).task(task),
        EventKind::PlacementWithdrawn { task, placement, why } => withdrawn(*placement, why).task(task),
        EventKind::LeaseGranted { task, agent, fence } => lease_granted(agent, *fence).task(task),
        EventKind::AttemptLogKept { task, fence, log } => log_kept(*fence, log).task(task),
        EventKind::AttemptFailed { task, fence, failure, memory, log: _ } => {
            let words = attempt_failed(*fence, failure).task(task);
            memory.map_or(words.clone(), |memory| words.fact("memory", memory.0))
        }
        EventKind::AgentCordoned { .. }
        | EventKind::AgentUncordoned { .. }
        | EventKind::MaintenancePlanned { .. }
        | EventKind::MaintenanceEnded { .. } => upkeep(kind),
        EventKind::SourceResolved { task, fence, resolution } => {
            source_resolved(*fence, resolution).task(task)
        }
        EventKind::TaskSucceeded { task, fence, outcome } => task_succeeded(*fence, outcome).task(task),
        EventKind::TaskFailed { task, failure, .. } => task_failed(failure).task(task),
        EventKind::BuildCancelled { build, superseded_by, by } => {
            let later = superseded_by.as_ref().map(|later| format!(" in favour of {later}"));
            let why = later.or_else(|| by.as_ref().map(|who| format!(" by {who}")));
            let words = format!("given up{}", why.unwrap_or_default());
            Words::new("build_cancelled", words).build(build)
        }
        EventKind::BuildForgotten { build } => Words::new("build_forgotten", "left the state").build(build),
        EventKind::TokenCreated { hash, grant, expires } => token_created(*hash, grant, *expires),
        EventKind::TokenRedeemed { hash } => digest("token_redeemed", "token_sha256", *hash),
        EventKind::TokenExpired { hash } => digest("token_expired", "token_sha256", *hash),
        EventKind::KeyCertified { key } => key_certified(key),
        EventKind::KeyRevoked { key, since } => key_revoked(*key, *since),
        EventKind::KeyForgotten { key } => digest("key_forgotten", "key", key.0),
        EventKind::IdentityRevoked { identity, since } => identity_revoked(identity, *since),
        EventKind::ManifestMade { task, fence, lineage, manifest, sample: _ } => {
            manifest_made(*fence, lineage, manifest).task(task)
        }
        EventKind::ManifestForgotten { lineage } => digest("manifest_forgotten", "lineage", lineage.0),
    }
}

/// How agents were looked after.
fn upkeep(kind: &EventKind) -> Words {
    match kind {
        EventKind::AgentCordoned { cordon } => {
            Words::new("agent_cordoned", cordon_words(cordon)).agent(&cordon.agent)
        }
        EventKind::AgentUncordoned { agent, by } => {
            Words::new("agent_uncordoned", format!("let back in by {by}")).agent(agent)
        }
        EventKind::MaintenancePlanned { window } => {
            Words::new("maintenance_planned", window_words(window)).agent(&window.agent)
        }
        EventKind::MaintenanceEnded { agent, from, by } => {
            let what = by.as_ref().map_or("over".to_owned(), |by| format!("taken back by {by}"));
            let text = format!("of {}: {what}", timestamp::display(*from));
            Words::new("maintenance_ended", text).agent(agent)
        }
        _ => unknown("no upkeep".to_owned()),
    }
}

/// How an agent was taken out of service, by whom and why.
pub(super) fn cordon_words(cordon: &Cordon) -> String {
    let what = if cordon.drain.is_some() { "drained" } else { "cordoned" };
    format!("{what} by {}{}", cordon.by, reason(&cordon.why))
}

/// From when until when an agent is out of service, who says so and why.
pub(super) fn window_words(window: &Maintenance) -> String {
    let (from, until) = (timestamp::display(window.from), timestamp::display(window.until));
    format!("from {from} until {until}, by {}{}", window.by, reason(&window.why))
}

/// Whoever says something need not say why.
fn reason(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// An event of which there is nothing to say but which thing it was about.
fn digest(kind: &'static str, fact: &'static str, of: Digest) -> Words {
    Words::new(kind, print::short(&of.to_hex())).fact(fact, of.to_hex())
}

/// An event that this release cannot read.
pub(super) fn unknown(why: String) -> Words {
    Words::new("?", why)
}

fn lease_granted(agent: &AgentId, fence: Fence) -> Words {
    Words::new("lease_granted", format!("to {agent} under fence {fence}")).agent(agent).fence(fence)
}

fn attempt_failed(fence: Fence, failure: &Failure) -> Words {
    let text = format!("under fence {fence}, will be repeated: {}", failure_words(failure));
    failed("attempt_failed", text, failure).fence(fence)
}

fn log_kept(fence: Fence, log: &[Digest]) -> Words {
    let text = format!("of what was written under fence {fence}: {}", print::count(log.len(), "segment"));
    Words::new("attempt_log_kept", text).fence(fence)
}

fn task_failed(failure: &Failure) -> Words {
    failed("task_failed", format!("for good: {}", failure_words(failure)), failure)
}

fn token_created(hash: Digest, grant: &TokenGrant, expires: Wall) -> Words {
    let text = format!("for {grant}, until {}", timestamp::display(expires));
    granted("token_created", text, grant).fact("token_sha256", hash.to_hex())
}

fn key_revoked(key: KeyId, since: Wall) -> Words {
    let id = key.to_string();
    let text = format!("{} counts no more since {}", print::short(&id), timestamp::display(since));
    Words::new("key_revoked", text).fact("key", id).fact("since_ms", since.0)
}

fn manifest_made(fence: Fence, lineage: &Lineage, manifest: &ManifestRef) -> Words {
    let lineage = lineage.exact.0.to_hex();
    let entries = match manifest.entries {
        1 => "1 entry".to_owned(),
        number => format!("{number} entries"),
    };
    let text = format!("lineage {}: {entries}, {} of cache", print::short(&lineage), manifest.bytes);
    Words::new("manifest_made", text).fence(fence).fact("lineage", lineage).fact("entries", manifest.entries)
}

fn build_submitted(spec: &BuildSpec, requester: Option<&Requester>) -> Words {
    let platforms: Vec<String> = spec.platforms.iter().map(ToString::to_string).collect();
    let by = requester.map(|requester| format!(" by {requester}")).unwrap_or_default();
    let again = spec.rebuild.as_ref().map(|rebuild| format!(", {} again", rebuild.of)).unwrap_or_default();
    let text = format!("{} for {}{again}{by}", source_words(&spec.source), platforms.join(", "));
    Words::new("build_submitted", text)
        .fact("platforms", platforms)
        .fact("requester", requester.map(ToString::to_string))
}

/// What is built, in a few words.
pub(super) fn source_words(source: &Source) -> String {
    match source {
        Source::Module { package, query } => format!("{package}@{query}"),
        Source::Tree { origin: Some(origin), .. } => {
            format!("{}@{}", origin.url, print::short(&origin.commit))
        }
        Source::Tree { root, .. } => format!("tree {}", print::short(&root.to_hex())),
    }
}

fn task_placed(placement: &Placement) -> Words {
    let considered = print::count(placement.candidates.len() as u64, "agent");
    let Placement { number, agent, because, .. } = placement;
    let text = format!("on {agent}, placement {number}, of {considered} considered: {because}");
    Words::new("task_placed", text)
        .agent(agent)
        .fact("placement", number.0)
        .fact("because", because.as_str())
        .fact("considered", placement.candidates.len())
}

fn withdrawn(placement: PlacementNumber, why: &str) -> Words {
    Words::new("placement_withdrawn", format!("placement {placement}: {why}"))
        .fact("placement", placement.0)
        .fact("why", why)
}

fn source_resolved(fence: Fence, resolution: &Resolution) -> Words {
    let found = format!("{}@{}", resolution.module, resolution.version);
    Words::new("source_resolved", format!("under fence {fence}: {found}"))
        .fence(fence)
        .fact("resolved", found)
}

fn task_succeeded(fence: Fence, outcome: &Outcome) -> Words {
    let Outcome::Built { artifacts, go_version, .. } = outcome else {
        return Words::new("task_succeeded", format!("under fence {fence}")).fence(fence);
    };
    let bytes = artifacts.iter().fold(0u64, |sum, artifact| sum.saturating_add(artifact.size.0));
    let count = print::count(artifacts.len() as u64, "artifact");
    Words::new("task_succeeded", format!("under fence {fence}: {count}, {}, {go_version}", ByteCount(bytes)))
        .fence(fence)
        .fact("artifacts", artifacts.len())
        .fact("artifact_bytes", bytes)
}

fn failed(kind: &'static str, text: String, failure: &Failure) -> Words {
    Words::new(kind, text)
        .fact("failure", failure_name(failure.kind))
        .fact("message", failure.message.as_str())
}

/// The wire's name for whose trouble a failure is.
pub(super) fn failure_name(kind: FailureKind) -> String {
    v1::FailureKind::from(kind).as_str_name().trim_start_matches("FAILURE_KIND_").to_ascii_lowercase()
}

fn failure_words(failure: &Failure) -> String {
    let first = failure.message.lines().next().unwrap_or_default();
    format!("{}: {first}", failure_name(failure.kind))
}

fn granted(kind: &'static str, text: String, grant: &TokenGrant) -> Words {
    let words = Words::new(kind, text).fact("identity", grant.to_string());
    match grant {
        TokenGrant::Agent(agent) => words.agent(agent),
        TokenGrant::Member { .. } => words,
    }
}

fn identity_revoked(identity: &TokenGrant, since: Wall) -> Words {
    let text = format!("{identity}, since {}", timestamp::display(since));
    granted("identity_revoked", text, identity).fact("since_ms", since.0)
}

fn key_certified(key: &CertifiedKey) -> Words {
    let claim = &key.claim;
    let text = format!(
        "{} of {} for {}, until {}",
        print::short(&key.id().to_string()),
        claim.holder,
        claim.usage,
        timestamp::display(key.not_after)
    );
    let words = Words::new("key_certified", text).fact("key", key.id().to_string());
    let words = words.fact("not_after_ms", key.not_after.0);
    match &claim.holder {
        KeyHolder::Agent(agent) => words.agent(agent),
        KeyHolder::Coordinator => words,
    }
}

/// The names of an event's facts and their values, as one object.
pub(super) fn facts_json(words: &Words) -> Value {
    let mut object = json!({});
    if let Value::Object(object) = &mut object {
        object.extend(words.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    object
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use meridian_proto::convert::journal::decode_event;

    use super::*;

    /// Every event of which bytes are kept for ever, by its golden file's name.
    fn samples() -> Vec<(String, EventKind)> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden");
        let mut samples = Vec::new();
        for entry in fs::read_dir(golden).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(sample) = name.strip_prefix("event.") {
                let event = decode_event(&fs::read(&path).unwrap()).unwrap();
                samples.push((sample.to_owned(), event.kind));
            }
        }
        samples
    }

    #[test]
    fn every_kind_is_called_as_the_wire_calls_it_and_says_something() {
        let samples = samples();
        let kinds: BTreeSet<_> = samples.iter().map(|(_, kind)| of(kind).kind).collect();
        assert!(kinds.len() >= 20, "{kinds:?}");
        for (sample, kind) in &samples {
            let words = of(kind);
            assert!(sample.starts_with(words.kind), "{sample} is called {}", words.kind);
            assert!(!words.text.is_empty() && !words.text.contains('\n'), "{sample}: {words:?}");
            assert!(words.build.as_ref() == kind.build() || kind.build().is_none(), "{sample}: {words:?}");
        }
    }

    #[test]
    fn who_says_no_reason_is_told_without_one() {
        let cordon = |why: &str| Cordon {
            agent: "eu/a1".parse().unwrap(),
            by: "spiffe://demo/admin".parse().unwrap(),
            why: why.to_owned(),
            at: Wall(0),
            drain: None,
        };
        assert_eq!(cordon_words(&cordon("")), "cordoned by spiffe://demo/admin");
        assert_eq!(cordon_words(&cordon("new disks")), "cordoned by spiffe://demo/admin: new disks");
    }

    #[test]
    fn a_placement_says_where_and_because_of_what() {
        let (_, placed) = samples().into_iter().find(|(name, _)| name.starts_with("task_placed")).unwrap();
        let EventKind::TaskPlaced { placement, task } = &placed else { panic!("{placed:?}") };
        let words = of(&placed);
        assert!(words.text.contains(&placement.because) && words.text.contains(&placement.agent.to_string()));
        assert_eq!(words.about(), task.to_string());
        assert_eq!(facts_json(&words)["because"], placement.because);
    }
}
