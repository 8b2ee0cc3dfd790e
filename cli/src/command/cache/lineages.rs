//! The lineages that the coordinator and the agents know, as one list.

use std::collections::BTreeMap;

use meridian_proto::v1::{self, cache_report::Report};
use serde_json::{Value, json};

use super::reports::Reports;
use crate::command::print::SHORT_LEN;

/// A lineage, with what all agents that were asked say of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lineage {
    /// 64 hexadecimal digits.
    pub(super) id: String,
    pub(super) key: Vec<u8>,
    pub(super) name: Option<v1::LineageName>,
    /// Whether it is of go commands that ran beside agents.
    pub(super) is_beside: bool,
    pub(super) builds: u64,
    pub(super) asked: v1::CacheUse,
    pub(super) fetched_bytes: u64,
    pub(super) last_ms: u64,
    /// The newest manifest, which the coordinator remembers.
    pub(super) known: Option<v1::KnownLineage>,
}

impl Lineage {
    /// What people call it.
    pub(super) fn name(&self) -> String {
        match (&self.name, &self.known) {
            (Some(name), _) => format!("{} {} {}", name.project, name.what, name.platform),
            (None, Some(known)) => known.project.clone(),
            (None, None) => String::new(),
        }
    }

    /// As much of the id as tells it apart.
    pub(super) fn short(&self) -> String {
        self.id.chars().take(SHORT_LEN).collect()
    }

    /// Whether somebody who says `text` means it.
    pub(super) fn is_meant(&self, text: &str) -> bool {
        !text.is_empty() && (self.id.starts_with(text) || self.name().contains(text))
    }

    pub(super) fn to_json(&self) -> Value {
        let name = self.name.clone().unwrap_or_default();
        let manifest = self.known.as_ref().and_then(|known| known.manifest.as_ref());
        json!({
            "lineage": self.id,
            "project": name.project,
            "what": name.what,
            "platform": name.platform,
            "beside_agents": self.is_beside,
            "builds": self.builds,
            "lookups": self.asked.lookups,
            "hits": self.asked.hits,
            "hit_bytes": self.asked.hit_bytes,
            "put_bytes": self.asked.put_bytes,
            "fetched_bytes": self.fetched_bytes,
            "last_ms": self.last_ms,
            "manifest": manifest.map(|manifest| json!({
                "digest": hex(&manifest.digest),
                "entries": manifest.entries,
                "bytes": manifest.bytes,
            })),
            "holders": self.known.as_ref().map(|known| known.holders.clone()).unwrap_or_default(),
        })
    }
}

/// All lineages that the reports speak of, the one built last first.
pub(super) fn of(reports: &Reports) -> Vec<Lineage> {
    // Those of go commands may share a key with another project's.
    let mut found: BTreeMap<(Vec<u8>, Option<String>), Lineage> = BTreeMap::new();
    let fresh = |key: &[u8]| Lineage { id: hex(key), key: key.to_vec(), ..Lineage::default() };
    for known in &reports.lineages {
        let lineage = found.entry((known.key.to_vec(), None)).or_insert_with(|| fresh(&known.key));
        lineage.name.clone_from(&known.name);
        lineage.last_ms = known.made_ms;
        lineage.known = Some(known.clone());
    }
    for (_, report) in &reports.said {
        let Report::Stats(stats) = report else { continue };
        for used in &stats.lineages {
            let project = used.name.as_ref().map(|name| name.project.clone()).filter(|_| used.beside);
            let lineage = found.entry((used.key.to_vec(), project)).or_insert_with(|| fresh(&used.key));
            lineage.is_beside = used.beside;
            let asked = used.asked.unwrap_or_default();
            lineage.name = lineage.name.take().or_else(|| used.name.clone());
            lineage.builds += used.builds;
            add(&mut lineage.asked, &asked);
            lineage.fetched_bytes += used.fetched_bytes;
            lineage.last_ms = lineage.last_ms.max(used.last_ms);
        }
    }
    let mut lineages: Vec<Lineage> = found.into_values().collect();
    lineages.sort_by_key(|lineage| std::cmp::Reverse(lineage.last_ms));
    lineages
}

/// Adds up what builds asked and got.
pub(super) fn add(sum: &mut v1::CacheUse, more: &v1::CacheUse) {
    sum.lookups += more.lookups;
    sum.hits += more.hits;
    sum.hit_bytes += more.hit_bytes;
    sum.put_bytes += more.put_bytes;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(key: u8, hits: u64, last_ms: u64) -> v1::LineageUse {
        let name = v1::LineageName {
            project: "acme/web".to_owned(),
            what: format!("./cmd/{key}"),
            platform: "linux/amd64".to_owned(),
        };
        let asked = v1::CacheUse { lookups: 10, hits, hit_bytes: 100 * hits, put_bytes: 7 };
        v1::LineageUse {
            key: vec![key; 32].into(),
            name: Some(name),
            builds: 1,
            asked: Some(asked),
            fetched_bytes: 5,
            last_ms,
            beside: false,
        }
    }

    #[test]
    fn go_commands_beside_agents_are_told_by_project_also_where_they_share_a_key() {
        let beside = |project: &str, hits| {
            let mut used = used(1, hits, 1);
            used.beside = true;
            used.name = used.name.map(|name| v1::LineageName { project: project.to_owned(), ..name });
            used
        };
        let lineages = vec![beside("acme/api", 4), beside("acme/web", 5)];
        let said = Report::Stats(v1::CacheStats { lineages, ..v1::CacheStats::default() });
        let again = v1::CacheStats { lineages: vec![beside("acme/api", 2)], ..v1::CacheStats::default() };
        let said = vec![("eu/a".to_owned(), said), ("us/b".to_owned(), Report::Stats(again))];
        let lineages = of(&Reports { lineages: Vec::new(), said, failed: Vec::new() });
        let told: Vec<_> = lineages.iter().map(|one| (one.name(), one.asked.hits)).collect();
        let name = |project: &str| format!("{project} ./cmd/1 linux/amd64");
        assert_eq!(told, [(name("acme/api"), 6), (name("acme/web"), 5)]);
        assert_eq!(lineages[0].to_json()["beside_agents"], true);
    }

    #[test]
    fn what_agents_say_of_a_lineage_adds_up_and_what_nobody_built_lately_is_told_too() {
        let stats = |lineages| Report::Stats(v1::CacheStats { lineages, ..v1::CacheStats::default() });
        let known = v1::KnownLineage {
            key: vec![3; 32].into(),
            project: "acme/old".to_owned(),
            holders: vec!["eu/a".to_owned()],
            made_ms: 1,
            ..v1::KnownLineage::default()
        };
        let reports = Reports {
            lineages: vec![known],
            said: vec![
                ("eu/a".to_owned(), stats(vec![used(1, 4, 10), used(2, 0, 30)])),
                ("us/b".to_owned(), stats(vec![used(1, 9, 20)])),
            ],
            failed: Vec::new(),
        };
        let lineages = of(&reports);
        let told: Vec<_> =
            lineages.iter().map(|one| (one.name(), one.builds, one.asked.hits, one.fetched_bytes)).collect();
        let name = |key: u8| format!("acme/web ./cmd/{key} linux/amd64");
        assert_eq!(told, [(name(2), 1, 0, 5), (name(1), 2, 13, 10), ("acme/old".to_owned(), 0, 0, 0)]);
        assert_eq!(lineages[1].asked.hit_bytes, 1_300);
        assert!(lineages[1].is_meant("010101") && lineages[1].is_meant("./cmd/1"));
        assert!(!lineages[1].is_meant("0202") && !lineages[1].is_meant("") && lineages[2].is_meant("acme"));
        assert_eq!(lineages[2].to_json()["holders"], json!(["eu/a"]));
    }
}
