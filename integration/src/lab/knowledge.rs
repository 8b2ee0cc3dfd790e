//! What the coordinator knows: what agents last said, what was measured, and what was learned from results.
//!
//! It is late by a heartbeat, and what part of a build an agent holds is known from a sample. Nothing here looks at what is
//! true but through those two.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use meridian_core::{
    cache::lineage::Lineage,
    id::{AgentId, JournalIndex},
    quantity::ByteCount,
    schedule::{
        cost::{AgentFigures, TaskFigures, Terms, WayFigures},
        peak_ewma::PeakEwma,
        run_times::{RunFigures, RunTimes},
    },
    time::Mono,
};

use super::{
    random::{Draws, real, whole},
    regions,
    workload::Commit,
    world::{Service, World},
};

/// How often agents say what they have.
pub const BEAT_US: u64 = 10_000_000;
/// A round trip is measured with this much on top, by chance.
const RTT_NOISE: f64 = 0.05;
/// As many of a build's entries as are in a sample count for knowing what part of it is held: they are not of equal length.
const SAMPLE: f64 = 64.0;
/// Who has at least this part is where the rest is fetched from.
const HOLDER_PERMILLE: u32 = 500;

/// What is known.
#[derive(Debug)]
pub struct Knowledge {
    agents: Vec<AgentId>,
    rtt: Vec<Option<PeakEwma>>,
    /// What came over the way between two regions in a second.
    ways: BTreeMap<(usize, usize), u64>,
    /// Run times.
    pub times: RunTimes,
    lineages: Vec<Lineage>,
    manifests: Vec<Option<Arc<Commit>>>,
    /// How often each agent said something new.
    said: Vec<u32>,
    has_news: Vec<bool>,
    /// Lineage by agent: what part of which manifest it held when it had said something so many times.
    held: Vec<HashMap<usize, (u32, u32, u32)>>,
    results: u64,
    draws: Draws,
}

impl Knowledge {
    /// Nothing is known but who there is.
    ///
    /// # Errors
    /// When there are more agents than names.
    pub fn new(world: &World, lineages: Vec<Lineage>, seed: u64) -> anyhow::Result<Self> {
        let named = |(row, machine): (usize, &super::world::Machine)| {
            Ok(format!("{}/agent-{row}", regions::name(world.regions[machine.region])).parse()?)
        };
        let agents = world.machines.iter().enumerate().map(named).collect::<anyhow::Result<Vec<_>>>()?;
        let count = agents.len();
        Ok(Self {
            agents,
            rtt: vec![None; count],
            ways: BTreeMap::new(),
            times: RunTimes::default(),
            manifests: vec![None; lineages.len()],
            lineages,
            said: vec![0; count],
            has_news: vec![true; count],
            held: vec![HashMap::new(); count],
            results: 0,
            draws: Draws::new(seed, "measurements"),
        })
    }

    /// The agent of a machine.
    #[must_use]
    pub fn agent(&self, row: usize) -> &AgentId {
        &self.agents[row]
    }

    /// A heartbeat: what the agent has, and the round trip to it.
    pub fn beat(&mut self, world: &mut World, row: usize, now_us: u64) {
        let machine = &mut world.machines[row];
        if std::mem::take(&mut self.has_news[row]) {
            machine.cache.tell(now_us);
            self.said[row] += 1;
        }
        let region = machine.region;
        let noise = RTT_NOISE.mul_add(self.draws.exponential(1.0), 1.0);
        let sample = whole(real(world.rtt_us(0, region)) * noise);
        let at = Mono(now_us / 1_000);
        let rtt = self.rtt[row].get_or_insert(PeakEwma::new(sample, at));
        rtt.observe(sample, at);
    }

    /// A result: how long it took, what came over which way, and what such builds use.
    pub fn result(
        &mut self,
        world: &World,
        row: usize,
        lineage: usize,
        commit: &Arc<Commit>,
        service: &Service,
        run_us: u64,
    ) {
        self.has_news[row] = true;
        self.results += 1;
        let figures = RunFigures { run_ms: run_us / 1_000, hit_permille: service.hit_permille };
        self.times.learn(&self.lineages[lineage], &self.agents[row], figures, JournalIndex(self.results));
        self.manifests[lineage] = Some(Arc::clone(commit));
        if let Some(way) = service.way {
            let between = (world.machines[row].region, way.region);
            let seen = whole(real(way.bytes_per_s) * self.draws.lognormal(0.1));
            self.ways.entry(between).and_modify(|known| *known = (*known + seen) / 2).or_insert(seen);
        }
    }

    /// How long builds of a lineage take that find everything, in microseconds.
    #[must_use]
    pub fn usual_us(&self, lineage: usize) -> u64 {
        self.times.line(&self.lineages[lineage]).at(1_000) * 1_000
    }

    /// The round trip to an agent.
    #[must_use]
    pub fn rtt_us(&self, row: usize) -> Option<u64> {
        self.rtt[row].map(|rtt| rtt.value_us())
    }

    /// What part of a lineage's last manifest an agent holds, as far as it has said.
    fn held_permille(&mut self, world: &World, row: usize, lineage: usize) -> Option<u32> {
        let manifest = self.manifests[lineage].as_ref()?;
        let said = self.said[row];
        if said == 0 {
            return None;
        }
        let known = self.held[row].get(&lineage);
        if let Some((_, _, permille)) = known.filter(|(at, of, _)| (*at, *of) == (said, manifest.number)) {
            return Some(*permille);
        }
        let cache = &world.machines[row].cache;
        let held: u64 =
            manifest.entries.iter().filter(|entry| cache.was_told(entry.key)).map(|entry| entry.bytes).sum();
        let part = real(held) / real(manifest.bytes.max(1));
        let off = (part * (1.0 - part) / SAMPLE).sqrt();
        let seed = (row as u64) << 48 ^ u64::from(said) << 24 ^ u64::from(manifest.number);
        let seen = off.mul_add(Draws::new(seed, "sample").normal(), part).clamp(0.0, 1.0);
        let permille = u32::try_from(whole(seen * 1_000.0)).unwrap_or(1_000);
        self.held[row].insert(lineage, (said, manifest.number, permille));
        Some(permille)
    }

    /// What is expected of a build of a lineage on each of the agents that can be reached, by their rows, when the agents are
    /// free at once; with what part they hold.
    pub fn expect(&mut self, world: &World, lineage: usize, reachable: &[bool]) -> Vec<(Terms, Option<u32>)> {
        let line = self.times.line(&self.lineages[lineage]);
        let inputs = self.manifests[lineage].as_ref().map(|manifest| ByteCount(manifest.wire_bytes));
        let task = TaskFigures { line, inputs };
        let rows = 0..world.machines.len();
        let held: Vec<Option<u32>> = rows
            .clone()
            .map(|row| reachable[row].then(|| self.held_permille(world, row, lineage)).flatten())
            .collect();
        rows.map(|row| {
            let way = self.way(world, row, &held);
            let agent = AgentFigures {
                wait_us: 0,
                rtt_us: self.rtt_us(row),
                slowness_permille: self.times.slowness(&self.agents[row]),
            };
            (Terms::expect(&agent, &task, &way), held[row])
        })
        .collect()
    }

    fn way(&self, world: &World, row: usize, held: &[Option<u32>]) -> WayFigures {
        let region = world.machines[row].region;
        let is_holder = |other: &usize| {
            *other != row
                && held[*other].is_some_and(|part| part >= HOLDER_PERMILLE && Some(part) > held[row])
        };
        let rtt_us = |other: usize| world.rtt_us(region, world.machines[other].region);
        let holder = (0..held.len()).filter(is_holder).min_by_key(|other| (rtt_us(*other), *other));
        let from = holder.map(|holder| world.machines[holder].region);
        WayFigures {
            held_permille: held[row],
            holder_rtt_us: holder.map(rtt_us),
            bytes_per_s: from.and_then(|from| self.ways.get(&(region, from))).map(|bytes| ByteCount(*bytes)),
            has_holder: holder.is_some(),
        }
    }
}
