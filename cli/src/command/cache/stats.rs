//! `meridian cache stats`.

use std::collections::BTreeMap;

use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{self, cache_report::Report};
use serde_json::{Value, json};

use super::{
    lineages::{self, Lineage, add},
    reports::{Reports, connect, gather, meant},
};
use crate::{
    args::CacheStatsArgs,
    command::{
        context::Context,
        print::{self, ago, now_ms, table},
    },
    trouble::Trouble,
};

/// The holders of a lineage that are named; of others only how many they are.
const HOLDERS_NAMED_MAX: usize = 3;

/// Asks and prints.
///
/// # Errors
/// When the coordinator does not answer, or an agent does not.
pub(super) async fn stats(context: &Context, args: &CacheStatsArgs) -> Result<(), Trouble> {
    let client = connect(context, &args.whose).await?;
    let request = v1::CacheStatsRequest { agents: meant(&args.whose) };
    let reports = gather("ask for the caches' figures", client.caches().stats(request)).await?;
    let mut found = lineages::of(&reports);
    if let Some(text) = &args.lineage {
        found.retain(|lineage| lineage.is_meant(text));
    }
    let as_json = args.whose.fleet.json;
    if as_json {
        print::json(&to_json(&reports, &found))?;
    } else if reports.said.is_empty() && reports.failed.is_empty() {
        print::aside("no agent with a build cache is attached");
    } else {
        print::line(&text(&reports, &found))?;
        if let Some(text) = args.lineage.as_ref().filter(|_| found.is_empty()) {
            print::aside(&format!("no lineage that you may see has \"{text}\" in its name"));
        }
    }
    reports.check(as_json)
}

/// What some agents together hold and did.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    agents: u64,
    bytes: u64,
    capacity: u64,
    bodies: u64,
    frame_bytes: u64,
    manifests: u64,
    evicted_bytes: u64,
    damaged_bodies: u64,
    asked: v1::CacheUse,
    traffic: v1::CacheTraffic,
}

impl Sum {
    fn add(&mut self, stats: &v1::CacheStats) {
        self.agents += 1;
        self.bytes += stats.bytes;
        self.capacity += stats.capacity;
        self.bodies += stats.bodies;
        self.frame_bytes += stats.frame_bytes;
        self.manifests += stats.manifests;
        self.evicted_bytes += stats.evicted_bytes;
        self.damaged_bodies += stats.damaged_bodies;
        add(&mut self.asked, &stats.asked.unwrap_or_default());
        let traffic = stats.traffic.unwrap_or_default();
        self.traffic.fetched_bytes += traffic.fetched_bytes;
        self.traffic.fetched_wire_bytes += traffic.fetched_wire_bytes;
        self.traffic.refused_bodies += traffic.refused_bodies;
        self.traffic.waited_us += traffic.waited_us;
        self.traffic.served_wire_bytes += traffic.served_wire_bytes;
    }

    fn row(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            ByteCount(self.bytes).to_string(),
            ByteCount(self.capacity).to_string(),
            self.bodies.to_string(),
            self.manifests.to_string(),
            ByteCount(self.frame_bytes).to_string(),
            rate(self.asked.hits, self.asked.lookups),
            rate(self.asked.hit_bytes, self.asked.hit_bytes.saturating_add(self.asked.put_bytes)),
            ByteCount(self.traffic.fetched_wire_bytes).to_string(),
            ByteCount(self.traffic.served_wire_bytes).to_string(),
            ByteCount(self.evicted_bytes).to_string(),
            self.damaged_bodies.to_string(),
        ]
    }
}

/// Which part of all, in per cent; `-` when there is nothing.
fn rate(part: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        all => format!("{} %", u128::from(part) * 100 / u128::from(all)),
    }
}

fn stats_of(reports: &Reports) -> impl Iterator<Item = (&str, &v1::CacheStats)> {
    reports.said.iter().filter_map(|(agent, report)| match report {
        Report::Stats(stats) => Some((agent.as_str(), stats)),
        _ => None,
    })
}

fn regions(reports: &Reports) -> BTreeMap<&str, Sum> {
    let mut regions: BTreeMap<&str, Sum> = BTreeMap::new();
    for (agent, stats) in stats_of(reports) {
        let region = agent.split_once('/').map_or(agent, |(region, _)| region);
        regions.entry(region).or_default().add(stats);
    }
    regions
}

fn text(reports: &Reports, found: &[Lineage]) -> String {
    const FIGURES: [&str; 11] = [
        "HELD",
        "OF",
        "BODIES",
        "MANIFESTS",
        "FRAMES",
        "HITS",
        "BYTES",
        "FETCHED",
        "SERVED",
        "EVICTED",
        "DAMAGED",
    ];
    let heading = |first: &str| std::iter::once(first).chain(FIGURES).map(str::to_owned).collect::<Vec<_>>();
    let mut agents = vec![heading("AGENT")];
    for (agent, stats) in stats_of(reports) {
        let mut sum = Sum::default();
        sum.add(stats);
        agents.push(sum.row(agent));
    }
    let mut tables = Vec::new();
    // Those that did not answer are named elsewhere.
    if agents.len() > 1 {
        tables.push(table(&agents));
    }
    let regions = regions(reports);
    if regions.values().any(|sum| sum.agents > 1) || regions.len() > 1 {
        let rows = regions.iter().map(|(region, sum)| sum.row(region));
        tables.push(table(&std::iter::once(heading("REGION")).chain(rows).collect::<Vec<_>>()));
    }
    if !found.is_empty() {
        let heading = ["LINEAGE", "WHAT", "BUILDS", "HITS", "BYTES", "FETCHED", "LAST", "HELD BY"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(found.iter().map(lineage_row));
        tables.push(table(&rows));
    }
    tables.join("\n\n")
}

fn lineage_row(lineage: &Lineage) -> Vec<String> {
    let asked = lineage.asked;
    let holders = lineage.known.as_ref().map_or(&[][..], |known| &known.holders);
    let named = holders.iter().take(HOLDERS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = holders.len().saturating_sub(HOLDERS_NAMED_MAX);
    vec![
        lineage.short(),
        lineage.name(),
        lineage.builds.to_string(),
        rate(asked.hits, asked.lookups),
        rate(asked.hit_bytes, asked.hit_bytes.saturating_add(asked.put_bytes)),
        ByteCount(lineage.fetched_bytes).to_string(),
        ago(lineage.last_ms, now_ms()),
        if more > 0 { format!("{named} and {more} more") } else { named },
    ]
}

fn to_json(reports: &Reports, found: &[Lineage]) -> Value {
    let agents: Vec<Value> = stats_of(reports).map(|(agent, stats)| agent_json(agent, stats)).collect();
    let regions: Vec<Value> = regions(reports)
        .iter()
        .map(|(region, sum)| {
            json!({
                "region": region,
                "agents": sum.agents,
                "bytes": sum.bytes,
                "capacity": sum.capacity,
                "bodies": sum.bodies,
                "frame_bytes": sum.frame_bytes,
                "manifests": sum.manifests,
                "use": use_json(&sum.asked),
                "fetched_bytes": sum.traffic.fetched_bytes,
                "fetched_wire_bytes": sum.traffic.fetched_wire_bytes,
                "served_wire_bytes": sum.traffic.served_wire_bytes,
                "evicted_bytes": sum.evicted_bytes,
                "damaged_bodies": sum.damaged_bodies,
            })
        })
        .collect();
    let lineages: Vec<Value> = found.iter().map(Lineage::to_json).collect();
    json!({ "agents": agents, "regions": regions, "lineages": lineages, "unanswered": reports.failed_json() })
}

fn use_json(asked: &v1::CacheUse) -> Value {
    json!({
        "lookups": asked.lookups,
        "hits": asked.hits,
        "hit_bytes": asked.hit_bytes,
        "put_bytes": asked.put_bytes,
    })
}

fn agent_json(agent: &str, stats: &v1::CacheStats) -> Value {
    let traffic = stats.traffic.unwrap_or_default();
    json!({
        "agent": agent,
        "bytes": stats.bytes,
        "capacity": stats.capacity,
        "bodies": stats.bodies,
        "frame_bytes": stats.frame_bytes,
        "frame_capacity": stats.frame_capacity,
        "entries": stats.entries,
        "manifests": stats.manifests,
        "manifests_in_part": stats.manifests_in_part,
        "max_age_ms": (stats.max_age_ms > 0).then_some(stats.max_age_ms),
        "use": use_json(&stats.asked.unwrap_or_default()),
        "fetched_bodies": traffic.fetched_bodies,
        "fetched_bytes": traffic.fetched_bytes,
        "fetched_wire_bytes": traffic.fetched_wire_bytes,
        "refused_bodies": traffic.refused_bodies,
        "waited_us": traffic.waited_us,
        "served_wire_bytes": traffic.served_wire_bytes,
        "evicted_bodies": stats.evicted_bodies,
        "evicted_bytes": stats.evicted_bytes,
        "damaged_bodies": stats.damaged_bodies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(bytes: u64, hits: u64) -> Report {
        let asked = v1::CacheUse { lookups: 100, hits, hit_bytes: 9 * hits, put_bytes: 100 };
        let traffic = v1::CacheTraffic { fetched_wire_bytes: 2 << 20, ..v1::CacheTraffic::default() };
        Report::Stats(v1::CacheStats {
            bytes,
            capacity: 1 << 30,
            bodies: 3,
            manifests: 1,
            asked: Some(asked),
            traffic: Some(traffic),
            ..v1::CacheStats::default()
        })
    }

    #[test]
    fn agents_are_shown_one_by_one_and_by_region_with_both_rates() {
        let said = [("eu/a", 10), ("eu/b", 50), ("us/c", 0)]
            .map(|(agent, hits)| (agent.to_owned(), stats(4096, hits)));
        let reports = Reports { said: said.to_vec(), ..Reports::default() };
        let told = text(&reports, &[]);
        let rows: Vec<Vec<&str>> = told
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.trim().is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[0][..3], ["AGENT", "HELD", "OF"]);
        assert_eq!((rows[1][0], rows[1][6], rows[1][7]), ("eu/a", "10 %", "47 %"));
        let eu = rows.iter().find(|row| row.first() == Some(&"eu")).unwrap();
        assert_eq!((eu[3], eu[6], eu[7]), ("6", "30 %", "72 %"));
        let value = to_json(&reports, &[]);
        assert_eq!(value["regions"][0]["use"]["hits"], 60);
        assert_eq!(value["agents"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_cache_that_nobody_has_asked_has_no_rate() {
        assert_eq!([rate(0, 0), rate(0, 7), rate(u64::MAX, u64::MAX)], ["-", "0 %", "100 %"]);
    }
}
