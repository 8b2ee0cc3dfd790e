//! What of a task's inputs each agent holds, and how fast the rest of it comes there.
//!
//! What an agent holds it says itself: whole manifests by name, and a sketch of everything, from which a part of any manifest
//! is estimated. How far agents are from one another they say too, of those that they have fetched from; the coordinator
//! keeps it by pairs of regions. Where nothing was measured, the way over the coordinator is the bound, and
//! [`priors`] the rest.
//!
//! A figure is worked out once and kept until the agent said something new or the holders changed.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    digest::Digest,
    id::{AgentId, RegionName},
    machine::{
        durable::QueueKey, input::PeerFigures, observed::AttachedAgent, placement::needs::Inputs,
        residency::Residency,
    },
    quantity::ByteCount,
    schedule::{cost::WayFigures, peak_ewma::PeakEwma, priors, roster::Roster, sketch::HeldSketch},
    time::Mono,
};

/// Manifests of which figures are kept.
const TABLES_MAX: usize = 256;
/// Holders of a manifest that are looked at for each agent.
const HOLDERS_LOOKED_AT: usize = 32;
/// Pairs of regions of which measurements are kept.
const WAYS_MAX: usize = 4_096;

/// The figures of each manifest at each agent.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Ways {
    tables: BTreeMap<Digest, Table>,
    made: VecDeque<Digest>,
    between: BTreeMap<(RegionName, RegionName), Between>,
    /// By row: how often its agent has said something new, and what stands for a way when the inputs are not known.
    agents: Vec<(u64, Way)>,
    /// Grows with every measurement between regions that says something new.
    measured: u64,
}

#[derive(Debug, Clone, Default)]
struct Table {
    /// The version of who holds it.
    holders: u64,
    measured: u64,
    /// By row, with how often its agent had said something new.
    rows: Vec<(u64, Way)>,
}

/// How a task's inputs come to an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::machine) struct Way {
    pub(in crate::machine) figures: WayFigures,
    /// Where the rest comes from, when that is another region.
    pub(in crate::machine) from: Option<RegionName>,
}

#[derive(Debug, Clone, Copy)]
struct Between {
    rtt: PeakEwma,
    bytes_per_s: ByteCount,
}

/// Everything that a way depends on.
#[derive(Clone, Copy)]
pub(in crate::machine) struct Ground<'o> {
    pub(in crate::machine) residency: &'o Residency,
    pub(in crate::machine) agents: &'o BTreeMap<AgentId, AttachedAgent>,
    pub(in crate::machine) roster: &'o Roster<QueueKey>,
}

impl Ways {
    /// Takes in what an agent measured of another.
    pub(in crate::machine) fn observe(&mut self, agent: &AgentId, peers: &[PeerFigures], now: Mono) {
        for peer in peers {
            let pair = (agent.region.clone(), peer.agent.region.clone());
            if self.between.len() >= WAYS_MAX && !self.between.contains_key(&pair) {
                continue;
            }
            let bytes_per_s = ByteCount(peer.bytes_per_s.0.max(1));
            let fresh = Between { rtt: PeakEwma::new(peer.rtt_us, now), bytes_per_s };
            let between = self.between.entry(pair).or_insert_with(|| {
                self.measured += 1;
                fresh
            });
            let before = (between.rtt.value_us(), between.bytes_per_s.0);
            between.rtt.observe(peer.rtt_us, now);
            // What one transfer got says little, so a new one weighs a quarter.
            between.bytes_per_s.0 = (between.bytes_per_s.0 * 3 + bytes_per_s.0) / 4;
            let after = (between.rtt.value_us(), between.bytes_per_s.0);
            if is_other(before.0, after.0) || is_other(before.1, after.1) {
                self.measured += 1;
            }
        }
    }

    /// What was measured, without what was worked out from it.
    pub(in crate::machine) fn without_tables(&self) -> Self {
        let (between, agents) = (self.between.clone(), self.agents.clone());
        Self { between, agents, measured: self.measured, ..Self::default() }
    }

    /// An agent said something new of what it holds.
    pub(in crate::machine) fn said(&mut self, row: u32, agent: &AttachedAgent) {
        let index = row as usize;
        if self.agents.len() <= index {
            self.agents.resize(index + 1, (0, Way::default()));
        }
        let held_permille = agent.hit_rate_permille();
        let figures = WayFigures { held_permille, ..WayFigures::default() };
        self.agents[index] = (self.agents[index].0 + 1, Way { figures, from: None });
    }

    /// The way of a task's inputs to the agent of a row. Without inputs that are known, what its cache had of late for others
    /// stands for what it will have.
    pub(in crate::machine) fn way(
        &mut self,
        row: u32,
        inputs: Option<Inputs<'_>>,
        ground: Ground<'_>,
    ) -> &Way {
        const NOTHING: &Way = &Way { figures: WayFigures::NOTHING, from: None };
        let index = row as usize;
        let Some((said, usual)) = self.agents.get(index) else { return NOTHING };
        let Some(inputs) = inputs else { return usual };
        let digest = inputs.manifest.digest;
        let holders = ground.residency.version(&digest);
        if !self.tables.contains_key(&digest) {
            while self.made.len() >= TABLES_MAX {
                self.made.pop_front().and_then(|oldest| self.tables.remove(&oldest));
            }
            self.made.push_back(digest);
        }
        let table = self.tables.entry(digest).or_default();
        if (table.holders, table.measured) != (holders, self.measured) {
            *table = Table { holders, measured: self.measured, rows: Vec::new() };
        }
        if table.rows.len() <= index {
            table.rows.resize(index + 1, (0, Way::default()));
        }
        let known = &mut table.rows[index];
        if known.0 != *said {
            let agent = ground.roster.agent(row).and_then(|id| Some((id, ground.agents.get(id)?)));
            let way = agent.map(|(id, agent)| find(&self.between, id, agent, inputs, ground));
            *known = (*said, way.unwrap_or_default());
        }
        &known.1
    }
}

/// Whether a measurement is so different that what was chosen by it is chosen anew: by an eighth.
const fn is_other(before: u64, after: u64) -> bool {
    before.abs_diff(after) > before / 8
}

fn find(
    between: &BTreeMap<(RegionName, RegionName), Between>,
    id: &AgentId,
    agent: &AttachedAgent,
    inputs: Inputs<'_>,
    ground: Ground<'_>,
) -> Way {
    let digest = &inputs.manifest.digest;
    if ground.residency.holds(id, digest) {
        let figures = WayFigures { held_permille: Some(1_000), has_holder: true, ..WayFigures::default() };
        return Way { figures, from: None };
    }
    let sketch: Option<&HeldSketch> = agent.sketch.as_ref();
    let held_permille = sketch.and_then(|sketch| sketch.part_of(inputs.sample));
    let others = ground.residency.holders(digest).filter(|holder| *holder != id);
    let looked_at = others.filter_map(|holder| Some((holder, ground.agents.get(holder)?)));
    let reachable = looked_at.filter(|(_, holder)| !holder.is_barred && holder.is_reachable());
    let nearest = reachable.take(HOLDERS_LOOKED_AT).map(|(holder, attached)| {
        let pair = (id.region.clone(), holder.region.clone());
        let (rtt_us, bytes_per_s) = match between.get(&pair) {
            Some(known) => (known.rtt.value_us(), known.bytes_per_s),
            None if id.region == holder.region => (priors::LAN_RTT_US, priors::LAN_BYTES_PER_S),
            None => (over_here(agent, attached), priors::BYTES_PER_S),
        };
        (rtt_us, bytes_per_s, &holder.region)
    });
    let Some((rtt_us, bytes_per_s, region)) = nearest.min() else {
        let figures = WayFigures { held_permille, ..WayFigures::default() };
        return Way { figures, from: None };
    };
    let figures = WayFigures {
        held_permille,
        holder_rtt_us: Some(rtt_us),
        bytes_per_s: Some(bytes_per_s),
        has_holder: true,
    };
    Way { figures, from: (*region != id.region).then(|| region.clone()) }
}

/// The way of two agents that never met cannot be longer than over the coordinator.
fn over_here(one: &AttachedAgent, other: &AttachedAgent) -> u64 {
    let rtt = |agent: &AttachedAgent| agent.observation.rtt_us.unwrap_or(priors::RTT_US);
    rtt(one).saturating_add(rtt(other))
}
