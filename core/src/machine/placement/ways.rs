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
        attached::AttachedAgent, durable::QueueKey, input::PeerFigures, placement::needs::Inputs,
        residency::Residency,
    },
    quantity::ByteCount,
    schedule::{
        cost::{WayFigures, WayTerms},
        peak_ewma::PeakEwma,
        priors,
        roster::Roster,
        sketch::HeldSketch,
    },
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct Way {
    pub(in crate::machine) terms: WayTerms,
    /// What part of them is there, as far as that is known.
    pub(in crate::machine) held_permille: Option<u32>,
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

impl Way {
    const NOTHING: Self = Self {
        terms: WayTerms { rounds_us: 0, transfer_us: 0, hit_permille: 0 },
        held_permille: None,
        from: None,
    };

    fn of(figures: &WayFigures, wire: ByteCount, from: Option<RegionName>) -> Self {
        Self { terms: WayTerms::of(Some(wire), figures), held_permille: figures.held_permille, from }
    }
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
            self.agents.resize(index + 1, (0, Way::NOTHING));
        }
        let held_permille = agent.hit_rate_permille();
        let figures = WayFigures { held_permille, ..WayFigures::default() };
        let usual = Way::of(&figures, ByteCount(0), None);
        self.agents[index] = (self.agents[index].0 + 1, usual);
    }

    /// The ways of a task's inputs, which it needs this much of over the wire. Without inputs that are known, what an agent's
    /// cache had of late for others stands for what it will have.
    pub(in crate::machine) fn of<'w>(
        &'w mut self,
        inputs: Option<(Inputs<'w>, ByteCount)>,
        ground: Ground<'w>,
    ) -> WaysOf<'w> {
        let Self { tables, made, between, agents, measured } = self;
        let known = inputs.map(|(inputs, wire)| {
            let digest = inputs.manifest.digest;
            if !tables.contains_key(&digest) {
                while made.len() >= TABLES_MAX {
                    made.pop_front().and_then(|oldest| tables.remove(&oldest));
                }
                made.push_back(digest);
            }
            let table = tables.entry(digest).or_default();
            let holders = ground.residency.version(&digest);
            if (table.holders, table.measured) != (holders, *measured) {
                *table = Table { holders, measured: *measured, rows: Vec::new() };
            }
            table.rows.resize(agents.len().max(table.rows.len()), (0, Way::NOTHING));
            Known { rows: &mut table.rows, inputs, wire }
        });
        WaysOf { known, between, agents, ground }
    }
}

/// Inputs that are known, and what was worked out of their ways.
struct Known<'w> {
    rows: &'w mut [(u64, Way)],
    inputs: Inputs<'w>,
    wire: ByteCount,
}

/// The ways of one task's inputs.
pub(in crate::machine) struct WaysOf<'w> {
    known: Option<Known<'w>>,
    between: &'w BTreeMap<(RegionName, RegionName), Between>,
    agents: &'w [(u64, Way)],
    ground: Ground<'w>,
}

impl WaysOf<'_> {
    /// The way to the agent of a row.
    pub(in crate::machine) fn to(&mut self, row: u32) -> &Way {
        let index = row as usize;
        let Some((said, usual)) = self.agents.get(index) else { return &NOTHING };
        let Some(Known { rows, inputs, wire }) = &mut self.known else { return usual };
        let known = &mut rows[index];
        if known.0 != *said {
            let agent = self.ground.roster.agent(row);
            let agent = agent.and_then(|id| Some((id, self.ground.agents.get(id)?)));
            let way = agent.map(|(id, agent)| find(self.between, id, agent, *inputs, *wire, self.ground));
            *known = (*said, way.unwrap_or(Way::NOTHING));
        }
        &known.1
    }
}

static NOTHING: Way = Way::NOTHING;

/// Whether a measurement is so different that what was chosen by it is chosen anew: by an eighth.
const fn is_other(before: u64, after: u64) -> bool {
    before.abs_diff(after) > before / 8
}

fn find(
    between: &BTreeMap<(RegionName, RegionName), Between>,
    id: &AgentId,
    agent: &AttachedAgent,
    inputs: Inputs<'_>,
    wire: ByteCount,
    ground: Ground<'_>,
) -> Way {
    let digest = &inputs.manifest.digest;
    if ground.residency.holds(id, digest) {
        let figures = WayFigures { held_permille: Some(1_000), has_holder: true, ..WayFigures::default() };
        return Way::of(&figures, wire, None);
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
        return Way::of(&figures, wire, None);
    };
    let figures = WayFigures {
        held_permille,
        holder_rtt_us: Some(rtt_us),
        bytes_per_s: Some(bytes_per_s),
        has_holder: true,
    };
    Way::of(&figures, wire, (*region != id.region).then(|| region.clone()))
}

/// The way of two agents that never met cannot be longer than over the coordinator.
fn over_here(one: &AttachedAgent, other: &AttachedAgent) -> u64 {
    let rtt = |agent: &AttachedAgent| agent.observation.rtt_us.unwrap_or(priors::RTT_US);
    rtt(one).saturating_add(rtt(other))
}
