//! What is said of each kind of record: the one place that knows them all. A new kind has one arm in [`of`].

use meridian_core::{
    digest::{Digest, DigestHasher},
    keyring::CertifiedKey,
    machine::{
        Durable,
        record::{BuildRecord, Counters, ManifestRecord, Record, RevokedIdentity, TokenRecord},
        views::TaskExplanation,
    },
    schedule::run_times::Learned,
};
use meridian_proto::{convert::journal::encode_record, v1};
use meridian_trust::timestamp;
use serde_json::{Value, json};

use crate::command::{ask::explanation_to_json, build_ref};

/// A record in words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RecordWords {
    /// The name of its kind.
    pub(super) kind: &'static str,
    /// Which of its kind; empty where there is only one.
    pub(super) id: String,
    /// All that it holds.
    pub(super) json: Value,
}

impl RecordWords {
    fn new(kind: &'static str, id: impl ToString, json: Value) -> Self {
        Self { kind, id: id.to_string(), json }
    }

    /// How it is called.
    pub(super) fn name(&self) -> String {
        if self.id.is_empty() { self.kind.to_owned() } else { format!("{} {}", self.kind, self.id) }
    }
}

/// A record in words.
pub(super) fn of(record: &Record) -> RecordWords {
    match record {
        Record::Counters(counters) => RecordWords::new("counters", "", counters_json(counters)),
        Record::Project(project) => {
            RecordWords::new("project", &project.id, json!({ "last_build": project.last_build }))
        }
        Record::Build(build) => RecordWords::new("build", &build.id, build_json(build)),
        Record::Token(token) => RecordWords::new("token", token.hash, token_json(token)),
        Record::Key(key) => RecordWords::new("key", key.id(), key_json(key)),
        Record::Revoked(RevokedIdentity { identity, since }) => {
            RecordWords::new("revoked", identity, json!({ "since_ms": since.0 }))
        }
        Record::Manifest(manifest) => {
            RecordWords::new("manifest", manifest.lineage.exact.0, manifest_json(manifest))
        }
        Record::Learned(learned) => learned_words(learned),
        Record::Cordon(cordon) => RecordWords::new(
            "cordon",
            &cordon.agent,
            json!({
                "by": cordon.by.to_string(),
                "why": cordon.why,
                "at_ms": cordon.at.0,
                "drained": cordon.drain.is_some(),
                "moves_ms": cordon.drain.and_then(|drain| drain.moves).map(|moves| moves.0),
            }),
        ),
        Record::Maintenance(window) => RecordWords::new(
            "maintenance",
            format!("{} {}", window.agent, timestamp::display(window.from)),
            json!({
                "from_ms": window.from.0,
                "until_ms": window.until.0,
                "by": window.by.to_string(),
                "why": window.why,
            }),
        ),
        Record::Egress(egress) => {
            let json = json!({ "day": egress.day, "bytes": egress.bytes.0 });
            RecordWords::new("egress", &egress.region, json)
        }
    }
}

fn learned_words(learned: &Learned) -> RecordWords {
    match learned {
        Learned::Lineage { key, sums, heard } => {
            let json = json!({
                "weight": sums.weight,
                "hits": sums.hits,
                "hits_squared": sums.hits_squared,
                "run_ms": sums.run_ms,
                "hits_by_run": sums.hits_by_run,
                "heard": heard.0,
            });
            RecordWords::new("learned_lineage", key.0, json)
        }
        Learned::Agent { agent, slowness_permille, heard } => {
            let json = json!({ "slowness_permille": slowness_permille, "heard": heard.0 });
            RecordWords::new("learned_agent", agent, json)
        }
    }
}

fn counters_json(counters: &Counters) -> Value {
    json!({
        "epoch": counters.epoch.0,
        "index": counters.index.0,
        "fence": counters.fence.0,
        "placement": counters.placement.0,
    })
}

/// A build as `builds --json` has it, with what `explain --json` says of its tasks.
pub(super) fn build_json(build: &BuildRecord) -> Value {
    let wire = v1::Build::from(build);
    let mut value = build_ref::to_json(&wire);
    let explained: Vec<Value> =
        explanations(build).iter().map(|task| explanation_to_json(&build.id, task)).collect();
    if let Value::Object(object) = &mut value {
        object.insert("submission".to_owned(), build.submission.0.into());
        object.insert("source".to_owned(), super::words::source_words(&build.spec.source).into());
        object.insert("requester".to_owned(), build.requester.as_ref().map(ToString::to_string).into());
        object.insert("explained".to_owned(), explained.into());
    }
    value
}

/// What a build's record tells of its tasks.
pub(super) fn explanations(build: &BuildRecord) -> Vec<v1::TaskExplanation> {
    build.tasks.iter().map(|task| (&TaskExplanation::of_record(build, task)).into()).collect()
}

fn token_json(token: &TokenRecord) -> Value {
    json!({ "identity": token.grant.to_string(), "expires_ms": token.expires.0 })
}

fn key_json(key: &CertifiedKey) -> Value {
    json!({
        "algorithm": key.claim.algorithm.name(),
        "use": key.claim.usage.to_string(),
        "holder": key.claim.holder.to_string(),
        "grade": key.claim.grade.to_string(),
        "not_before": timestamp::display(key.not_before),
        "not_after": timestamp::display(key.not_after),
        "revoked": key.revoked.map(timestamp::display),
    })
}

fn manifest_json(manifest: &ManifestRecord) -> Value {
    json!({
        "manifest": manifest.manifest.digest.to_hex(),
        "entries": manifest.manifest.entries,
        "bytes": manifest.manifest.bytes.0,
        "task": manifest.task.to_string(),
        "agent": manifest.agent.to_string(),
        "made": manifest.made.0,
        "at_ms": manifest.at.0,
    })
}

/// One digest for a whole state: equal exactly when every record is, byte for byte.
pub(super) fn digest(durable: &Durable) -> Digest {
    let mut hasher = DigestHasher::new();
    for record in durable.records() {
        let bytes = encode_record(&record);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use meridian_proto::convert::journal::decode_record;

    use super::*;

    #[test]
    fn every_kind_of_record_is_called_as_its_golden_file_and_shows_what_it_holds() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden");
        let mut seen = 0;
        for entry in fs::read_dir(golden).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Some(sample) = name.strip_prefix("record.") else { continue };
            let words = of(&decode_record(&fs::read(&path).unwrap()).unwrap());
            assert!(sample.starts_with(words.kind), "{sample} is called {}", words.kind);
            assert!(words.json.as_object().is_some_and(|object| !object.is_empty()), "{sample}: {words:?}");
            assert_eq!(words.id.is_empty(), words.kind == "counters", "{sample}");
            seen += 1;
        }
        assert!(seen >= 17, "{seen} samples");
    }
}
