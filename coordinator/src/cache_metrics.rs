//! Figures of agents' build caches for Prometheus.
//!
//! Every series has the agent and its region as labels, for the agents that are attached at the scrape; sums over a region
//! are a query's business, since an agent that goes takes its counts along. **Nothing of a lineage is a label**: there are
//! thousands of them, they are named after teams' projects, and `meridian cache stats` tells of them.

use std::sync::atomic::AtomicU64;

use meridian_core::machine::{Machine, input::CacheFigures};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The agent and its region.
type Labels = [(&'static str, String); 2];
type Counts = Family<Labels, Counter>;
type Levels = Family<Labels, Gauge>;
type Seconds = Family<Labels, Counter<f64, AtomicU64>>;

/// Which of an agent's figures a series shows.
type Figure = fn(&AgentCache) -> u64;

/// The counters: their names, what they say, and which figures they show.
const COUNTERS: &[(&str, &str, Figure)] = &[
    ("cache_lookups", "Questions that builds asked the build cache", |one| one.lookups),
    ("cache_hits", "Questions that were answered from the build cache", |one| one.hits),
    ("cache_hit_bytes", "Bytes of the bodies that builds were answered with", |one| one.cache.hit_bytes.0),
    ("cache_put_bytes", "Bytes of the bodies that builds made themselves", |one| one.cache.put_bytes.0),
    ("cache_evicted_bodies", "Bodies evicted for room, for their age or by command", |one| {
        one.cache.evicted_bodies
    }),
    ("cache_evicted_bytes", "Bytes of the bodies that were evicted", |one| one.cache.evicted_bytes.0),
    ("cache_damaged_bodies", "Bodies that were not what their names say, and were dropped", |one| {
        one.cache.damaged_bodies
    }),
    ("cache_refused_bodies", "Bodies of other agents that were refused", |one| {
        one.cache.traffic.refused_bodies
    }),
    ("cache_fetched_bodies", "Bodies that came from other agents", |one| one.cache.traffic.fetched_bodies),
    ("cache_fetched_bytes", "Bytes of the bodies that came from other agents", |one| {
        one.cache.traffic.fetched_bytes.0
    }),
    ("cache_fetched_wire_bytes", "Bytes that came from other agents, compressed", |one| {
        one.cache.traffic.fetched_wire_bytes.0
    }),
    ("cache_served_wire_bytes", "Bytes that went to other agents, compressed", |one| {
        one.cache.traffic.served_wire_bytes.0
    }),
];

/// The same for gauges.
const GAUGES: &[(&str, &str, Figure)] = &[
    ("cache_held_bytes", "Bytes of bodies in the build cache", |one| one.cache.held.0),
    ("cache_capacity_bytes", "Bytes of bodies that the build cache may hold", |one| one.cache.capacity.0),
    ("cache_manifests", "Manifests that are held with all that they list", |one| one.manifests),
];

/// What an attached agent said last.
pub(crate) struct AgentCache {
    labels: Labels,
    lookups: u64,
    hits: u64,
    manifests: u64,
    cache: CacheFigures,
}

/// The figures of agents' build caches.
#[derive(Clone)]
pub(crate) struct CacheMetrics {
    counters: Vec<(Counts, Figure)>,
    gauges: Vec<(Levels, Figure)>,
    waited: Seconds,
    lineages: Gauge,
}

impl CacheMetrics {
    /// Registers every figure.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let mut counters = Vec::new();
        for (name, help, figure) in COUNTERS {
            let counts = Counts::default();
            registry.register(*name, *help, counts.clone());
            counters.push((counts, *figure));
        }
        let mut gauges = Vec::new();
        for (name, help, figure) in GAUGES {
            let levels = Levels::default();
            registry.register(*name, *help, levels.clone());
            gauges.push((levels, *figure));
        }
        let waited = Seconds::default();
        let help = "Time that builds waited for bodies on their way";
        registry.register_with_unit("cache_waited", help, Unit::Seconds, waited.clone());
        let lineages = Gauge::default();
        let help = "Lineages whose newest manifest is remembered";
        registry.register("cache_lineages", help, lineages.clone());
        Self { counters, gauges, waited, lineages }
    }

    /// What the attached agents said last, and how many lineages are remembered.
    pub(crate) fn read(machine: &Machine) -> (Vec<AgentCache>, usize) {
        let told = machine.agents().filter_map(|status| {
            let observation = status.observation;
            let region = status.agent.region.to_string();
            Some(AgentCache {
                labels: [("agent", status.agent.to_string()), ("region", region)],
                lookups: observation.cache_lookups,
                hits: observation.cache_hits,
                manifests: observation.residency.len() as u64,
                cache: observation.cache?,
            })
        });
        (told.collect(), machine.durable().manifests().len())
    }

    /// Shows what was read, in place of what was shown before.
    pub(crate) fn set(&self, (agents, lineages): &(Vec<AgentCache>, usize)) {
        for (counts, figure) in &self.counters {
            counts.clear();
            for agent in agents {
                counts.get_or_create(&agent.labels).inc_by(figure(agent));
            }
        }
        for (levels, figure) in &self.gauges {
            levels.clear();
            for agent in agents {
                levels.get_or_create(&agent.labels).set(i64::try_from(figure(agent)).unwrap_or(i64::MAX));
            }
        }
        self.waited.clear();
        for agent in agents {
            let waited = std::time::Duration::from_micros(agent.cache.traffic.waited_us);
            self.waited.get_or_create(&agent.labels).inc_by(waited.as_secs_f64());
        }
        self.lineages.set(i64::try_from(*lineages).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::quantity::ByteCount;
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn agent(name: &str, hits: u64) -> AgentCache {
        AgentCache {
            labels: [("agent", format!("eu/{name}")), ("region", "eu".to_owned())],
            lookups: 10,
            hits,
            manifests: 2,
            cache: CacheFigures { hit_bytes: ByteCount(700), ..CacheFigures::default() },
        }
    }

    #[test]
    fn only_agents_that_are_attached_have_series_and_each_shows_its_last_word() {
        let mut registry = Registry::with_prefix("meridian");
        let metrics = CacheMetrics::register(&mut registry);
        let scrape = |told: &[AgentCache]| {
            // A set that is shown twice is not added up.
            let told: Vec<AgentCache> =
                told.iter().map(|one| AgentCache { labels: one.labels.clone(), ..*one }).collect();
            metrics.set(&(told, 3));
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        scrape(&[agent("a", 4), agent("b", 1)]);
        let text = scrape(&[agent("a", 5)]);
        assert!(text.contains("meridian_cache_hits_total{agent=\"eu/a\",region=\"eu\"} 5\n"), "{text}");
        assert!(
            text.contains("meridian_cache_hit_bytes_total{agent=\"eu/a\",region=\"eu\"} 700\n"),
            "{text}"
        );
        assert!(text.contains("meridian_cache_manifests{agent=\"eu/a\",region=\"eu\"} 2\n"), "{text}");
        assert!(
            text.contains("meridian_cache_waited_seconds_total{agent=\"eu/a\",region=\"eu\"} 0"),
            "{text}"
        );
        assert!(text.contains("meridian_cache_lineages 3\n") && !text.contains("eu/b"), "{text}");
    }
}
