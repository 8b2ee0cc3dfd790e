//! What goes wrong in a story: drawn before it begins, so that one can be left out and the others stay.

use serde::{Deserialize, Serialize};

use crate::{
    draws::Draws,
    sim::{
        setup::{LABELS, REGIONS},
        world::HOSTS,
    },
};

/// Faults begin in this span, and are over soon after it.
pub const FAULTS_FROM_MS: u64 = 30_000;
/// See [`FAULTS_FROM_MS`].
pub const FAULTS_UNTIL_MS: u64 = 45 * 60_000;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub at: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// Whom a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// One agent.
    Agent(u8),
    /// All agents of a region.
    Region(u8),
    /// All agents.
    All,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Agents die and start again after a while. A region is lost that way.
    AgentsDie(Whom, u64),
    /// The leader's process dies between two steps, or in the middle of an append or of performing what it decided.
    LeaderDies {
        /// Whether the append that is under way is carried out.
        appends: bool,
        /// How many effects leave after it.
        performs: u32,
    },
    /// The journal's disk loses its power in the middle of the leader's append.
    PowerCut {
        /// After how many writes and syncs.
        changes: u32,
        /// What is left of the rest.
        seed: u64,
    },
    /// The journal refuses an append.
    AppendFails,
    /// The leader stops for a while, another takes over, and the first wakes up.
    LeaderSleeps(u64),
    /// A second leader takes over while the first goes on.
    TwoLeaders(u64),
    /// Nothing arrives from the agents, at the agents, or either.
    Partition {
        /// Which agents.
        whom: Whom,
        /// Whether nothing arrives from them.
        up: bool,
        /// Whether nothing arrives at them.
        down: bool,
        /// For how long.
        lasts: u64,
    },
    /// Streams break, and lose the end of what was under way.
    Breaks(Whom),
    /// Streams break again and again.
    Flaps(Whom, u32),
    /// A host's wall clock is set.
    ClockSet(u8, i64),
    /// An agent's clock is off for a while.
    AgentClock(u8, i32, u64),
    /// Runs take so many times as long.
    Slow(Whom, u64, u64),
    /// Messages take so many times as long.
    Delays(Whom, u64, u64),
    /// Agents are drained and started again, one after the other.
    Rolls(Whom),
    /// An administrator cordons agents for a while.
    Cordons(Whom, u64),
    /// An administrator drains agents for a while.
    Drains {
        /// Which agents.
        whom: Whom,
        /// After how long what they run is moved; never when not said.
        grace: Option<u64>,
        /// For how long.
        lasts: u64,
    },
    /// An administrator plans maintenance of agents.
    Maintains {
        /// Which agents.
        whom: Whom,
        /// When it begins.
        starts_in: u64,
        /// For how long.
        lasts: u64,
    },
    /// Those that have one of the labels start again without it, and after a while with it.
    Relabels(u8, u64),
}

impl FaultKind {
    /// Its name, for counting.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AgentsDie(Whom::Agent(_), _) => "agent_dies",
            Self::AgentsDie(..) => "region_lost",
            Self::LeaderDies { .. } => "leader_dies",
            Self::PowerCut { .. } => "power_cut",
            Self::AppendFails => "append_fails",
            Self::LeaderSleeps(_) => "leader_sleeps",
            Self::TwoLeaders(_) => "two_leaders",
            Self::Partition { up: true, down: true, .. } => "partition",
            Self::Partition { .. } => "one_way_partition",
            Self::Breaks(_) => "stream_breaks",
            Self::Flaps(..) => "flapping",
            Self::ClockSet(..) => "clock_step",
            Self::AgentClock(..) => "agent_clock_off",
            Self::Slow(..) => "slow_agents",
            Self::Delays(..) => "delays",
            Self::Rolls(_) => "rolling_restart",
            Self::Cordons(..) => "cordon",
            Self::Drains { grace: None, .. } => "drain",
            Self::Drains { .. } => "drain_with_grace",
            Self::Maintains { .. } => "maintenance",
            Self::Relabels(..) => "labels_change",
        }
    }

    fn draw(draws: &mut Draws, agents: u8) -> Self {
        let whom = |draws: &mut Draws| match draws.below(3) {
            0 => Whom::Region(byte(draws.below(REGIONS.len() as u64))),
            _ => Whom::Agent(byte(draws.below(u64::from(agents)))),
        };
        let lasts = |draws: &mut Draws| 1_000 << draws.below(8);
        match draws.below(22) {
            0 => Self::AgentsDie(Whom::Agent(byte(draws.below(u64::from(agents)))), lasts(draws)),
            1 => {
                Self::AgentsDie(Whom::Region(byte(draws.below(REGIONS.len() as u64))), lasts(draws) + 20_000)
            }
            2 | 3 => Self::LeaderDies { appends: draws.chance(500), performs: small(draws.below(6)) },
            4 => Self::PowerCut { changes: small(draws.below(6)), seed: draws.number() },
            5 => Self::AppendFails,
            6 => Self::LeaderSleeps(lasts(draws) + 5_000),
            7 => Self::TwoLeaders(lasts(draws) + 2_000),
            8 => Self::Partition { whom: whom(draws), up: true, down: true, lasts: lasts(draws) },
            // Long enough that offers and leases end, and mostly short enough that the stream does not.
            9 | 15 => {
                let up = draws.chance(600);
                let whom = if draws.chance(500) { Whom::All } else { whom(draws) };
                Self::Partition { whom, up, down: !up, lasts: 10_000 + draws.below(30_000) }
            }
            10 => Self::Breaks(if draws.chance(300) { Whom::All } else { whom(draws) }),
            11 => Self::Flaps(
                if draws.chance(200) { Whom::All } else { whom(draws) },
                5 + small(draws.below(30)),
            ),
            12 => {
                let step = i64::try_from(draws.below(7_200_000)).unwrap_or(0) - 3_600_000;
                Self::ClockSet(byte(draws.below(u64::from(HOSTS))), step)
            }
            16 => Self::AgentClock(byte(draws.below(u64::from(agents))), 9_000, lasts(draws)),
            13 if draws.chance(500) => Self::Slow(whom(draws), 2 + draws.below(20), lasts(draws) + 30_000),
            13 => Self::Delays(whom(draws), 5 + draws.below(100), lasts(draws) + 10_000),
            14 => Self::Rolls(whom(draws)),
            _ => Self::draw_upkeep(draws, whom),
        }
    }

    /// What people do to agents.
    fn draw_upkeep(draws: &mut Draws, whom: impl Fn(&mut Draws) -> Whom) -> Self {
        // Now and then all of them, so that nothing is left that would take anything.
        let whom = if draws.chance(150) { Whom::All } else { whom(draws) };
        let lasts = 20_000 << draws.below(5);
        match draws.below(5) {
            0 => Self::Cordons(whom, lasts),
            1 | 2 => {
                let grace = draws.chance(700).then(|| draws.below(60_000));
                Self::Drains { whom, grace, lasts }
            }
            3 => {
                let starts_in = if draws.chance(300) { 0 } else { draws.below(300_000) };
                Self::Maintains { whom, starts_in, lasts }
            }
            _ => Self::Relabels(byte(draws.below(LABELS.len() as u64 - 1)), lasts),
        }
    }
}

/// Draws what goes wrong, in the order in which it does.
#[must_use]
pub fn draw(draws: &mut Draws, agents: u8) -> Vec<Fault> {
    let count = 5 + draws.below(8);
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let at = FAULTS_FROM_MS + draws.below(FAULTS_UNTIL_MS - FAULTS_FROM_MS);
            Fault { at, kind: FaultKind::draw(draws, agents) }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Power cuts by the dozen, and agents that die besides: the storm of the bench.
#[must_use]
pub fn power_cuts(draws: &mut Draws, agents: u8, cuts: u64) -> Vec<Fault> {
    let span = FAULTS_UNTIL_MS - FAULTS_FROM_MS;
    let mut faults: Vec<Fault> = (0..cuts + cuts / 3)
        .map(|number| {
            let at = FAULTS_FROM_MS + draws.below(span);
            let kind = if number < cuts {
                FaultKind::PowerCut { changes: small(draws.below(6)), seed: draws.number() }
            } else {
                FaultKind::AgentsDie(Whom::Agent(byte(draws.below(u64::from(agents)))), draws.below(5_000))
            };
            Fault { at, kind }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Nothing arrives from some agents, at them, or either, for as long each time and again and again: leases end of which the
/// agents know nothing yet.
#[must_use]
pub fn silences(whom: Whom, (up, down): (bool, bool), lasts: u64) -> Vec<Fault> {
    let kind = FaultKind::Partition { whom, up, down, lasts };
    let every = 2 * lasts + 50_000;
    let times = (FAULTS_UNTIL_MS - FAULTS_FROM_MS) / every;
    (0..times).map(|time| Fault { at: FAULTS_FROM_MS + time * every, kind }).collect()
}

/// Agents start again without a label and then with it, and are cordoned and let in again, while all that they are told
/// takes long.
#[must_use]
pub fn upheavals() -> Vec<Fault> {
    let slow = FaultKind::Delays(Whom::All, 30, FAULTS_UNTIL_MS);
    let times = (FAULTS_UNTIL_MS - FAULTS_FROM_MS) / 40_000;
    let mut faults = vec![Fault { at: FAULTS_FROM_MS, kind: slow }];
    for at in (0..times).map(|time| FAULTS_FROM_MS + time * 40_000) {
        faults.push(Fault { at, kind: FaultKind::Relabels(0, 20_000) });
        faults.push(Fault { at: at + 30_000, kind: FaultKind::Cordons(Whom::All, 5_000) });
    }
    faults
}

/// Two lead at once, or one sleeps through another's rule, again and again.
#[must_use]
pub fn leaders() -> Vec<Fault> {
    let times = (FAULTS_UNTIL_MS - FAULTS_FROM_MS) / 120_000;
    let storm = (0..times).map(|time| Fault {
        at: FAULTS_FROM_MS + time * 120_000,
        kind: if time % 2 == 0 { FaultKind::TwoLeaders(20_000) } else { FaultKind::LeaderSleeps(40_000) },
    });
    storm.collect()
}

fn byte(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
