//! Figures for Prometheus.
//!
//! Counters are kept as things happen; the gauges of the machine's state are read when a scrape asks.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    cache_metrics::CacheMetrics,
    handle::{CommandError, Handle},
};

/// The format in which a scrape is answered.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The coordinator's figures.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    step_seconds: Histogram,
    events: Counter,
    builds_running: Gauge,
    tasks_queued: Gauge,
    tasks_placed: Gauge,
    tasks_leased: Gauge,
    agents: Gauge,
    journal_index: Gauge,
    caches: CacheMetrics,
}

impl Metrics {
    /// Registers every figure.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("meridian");
        let step_seconds = Histogram::new(exponential_buckets(1e-6, 4.0, 12));
        registry.register_with_unit(
            "step",
            "Time to decide on one input",
            Unit::Seconds,
            step_seconds.clone(),
        );
        let events = Counter::default();
        registry.register("events", "Events decided by this process", events.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let builds_running = gauge("builds_running", "Builds that have not ended");
        let tasks_queued = gauge("tasks_queued", "Tasks that wait for a placement");
        let tasks_placed = gauge("tasks_placed", "Tasks that are offered to an agent");
        let tasks_leased = gauge("tasks_leased", "Tasks that an agent works on");
        let agents = gauge("agents", "Agents that are attached");
        let journal_index = gauge("journal_index", "The last event decided");
        let caches = CacheMetrics::register(&mut registry);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            step_seconds,
            events,
            builds_running,
            tasks_queued,
            tasks_placed,
            tasks_leased,
            agents,
            journal_index,
            caches,
        }
    }

    /// Notes one step of the machine.
    pub(crate) fn stepped(&self, took: Duration, events: usize) {
        self.step_seconds.observe(took.as_secs_f64());
        self.events.inc_by(events as u64);
    }

    /// All figures in the text format that Prometheus scrapes.
    pub(crate) async fn scrape(&self, handle: &Handle) -> Result<String, CommandError> {
        let read = handle
            .read(|machine| (machine.counts(), machine.durable().last_index(), CacheMetrics::read(machine)));
        let (counts, index, caches) = read.await?;
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.builds_running, counts.builds_running);
        set(&self.tasks_queued, counts.tasks_queued);
        set(&self.tasks_placed, counts.tasks_placed);
        set(&self.tasks_leased, counts.tasks_leased);
        set(&self.agents, counts.agents);
        set(&self.journal_index, index.0);
        let mut text = String::new();
        // Two scrapes at once must not show each other's half.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.caches.set(&caches);
        if encode(&mut text, &registry).is_err() {
            // Writing to a string does not fail; a metric that cannot be encoded must not fail the scrape.
            let _ = writeln!(text, "# the figures could not be encoded");
        }
        Ok(text)
    }
}
