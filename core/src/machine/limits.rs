//! The bounds and spans of time that the machine keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cache::{scope::TrustedMembers, sidecar::SidecarPolicy},
    id::{RegionName, TeamName},
    quantity::{ByteCount, Millis},
    sandbox::SandboxDemand,
    schedule::{choice::LeastFinish, shares::WEIGHT_USUAL},
};

/// The bounds and spans of time that the machine keeps. The defaults stand beside the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most tasks that may wait, counting those that an unresolved build will still make. Default 4,096.
    /// A task that comes back from an agent is never turned away, so the queue may exceed this by at most
    /// the fleet's slots.
    pub queued_tasks_max: u64,
    /// How many builds stay in the durable state after they ended. Default 1,000.
    pub builds_kept: usize,
    /// Attempts that may fail by infrastructure trouble before the task fails. Default 4.
    pub attempts_max: u32,
    /// Attempts whose agent may vanish before the task fails. Greater than `attempts_max`, because a lost
    /// agent says little about the task; bounded, because a task can be what kills its agents. Default 12.
    pub losses_max: u32,
    /// Placements of one task before it fails. Default 32.
    pub placements_max: u32,
    /// Most tokens that wait to be used. Default 1,000.
    pub tokens_max: u64,
    /// Most signing keys that are remembered. Default 10,000.
    pub keys_max: u64,
    /// Most signing keys of one holder that may still sign. Default 8.
    pub keys_per_holder_max: u64,
    /// How long a signing key may sign, from its last certification on. Default 90 days.
    pub key_life: Millis,
    /// How long a signing key is remembered after its time. Default 365 days.
    pub key_kept: Millis,
    /// How long a lease lives without renewal, and the grace that a new leader gives to every lease.
    /// Default 30 s.
    pub lease: Millis,
    /// How often agents are told to renew. Default 10 s.
    pub renew_every: Millis,
    /// How long an agent may take to ask for the lease of what was placed there. Default 10 s.
    pub offer: Millis,
    /// The first wait before a task goes back to an agent that failed it; doubles each time. Default 1 s.
    pub retry_first: Millis,
    /// The longest such wait. Default 15 s.
    pub retry_longest: Millis,
    /// What a client whose build was turned away is told to wait. Default 5 s.
    pub queue_full_retry: Millis,
    /// An agent whose clock is off by more gets no work. Default 5 s.
    pub clock_offset_max: Millis,
    /// How long an agent may take to end what it is told to stop before that is said. Default 5 s.
    pub stop_within: Millis,
    /// How many different tasks an agent must fail in a row, for reasons of the fleet's, to be set aside. Default 3.
    pub failures_in_a_row: u32,
    /// For how long it is set aside the first time; doubles each time. Default 1 min.
    pub set_aside_first: Millis,
    /// For how long at most. Default 10 min.
    pub set_aside_longest: Millis,
    /// The same for what no other agent that is up may take; doubles each time, up to the former. Default 10 s: who
    /// supervises a process has started it again by then, and an agent that fails on gets one attempt after 10, 20, 40, 80,
    /// 160 and 320 s and then every 10 min, where the others' tasks would have waited for 1, 2, 4, 8 and 10 min.
    pub set_aside_alone_first: Millis,
    /// How long a task waits for an agent that has not failed it while one is up that has. Default 2 min: a usual build
    /// takes one, so whoever is only busy was free by then.
    pub avoid_longest: Millis,
    /// How long a task waits, while somebody is free, for what a region may not send, before it is built without that.
    /// Default 2 min, as above.
    pub budget_longest: Millis,
    /// How long before its maintenance an agent gets nothing new. Default 10 min.
    pub maintenance_lead: Millis,
    /// Most agents that are cordoned at once. Default 10,000.
    pub cordons_max: u64,
    /// Most windows of maintenance that are planned at once. Default 10,000.
    pub maintenance_max: u64,
    /// What must stand around the compilers of an agent that gets work, and of every result. Default any.
    pub sandbox: SandboxDemand,
    /// Who shares the build cache, and with whom.
    pub cache: CachePolicy,
    /// By which rule tasks are placed, and what each team may have.
    pub schedule: SchedulePolicy,
}

/// By which rule tasks are placed, and what each team may have. The defaults stand beside the fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchedulePolicy {
    /// Which of the agents that may take a task gets it. Default the one that is expected to finish it first.
    pub rule: PlacementRule,
    /// What single teams have. Default the usual share, anywhere.
    pub teams: BTreeMap<TeamName, TeamPolicy>,
    /// How much may leave a region in a day (UTC) for agents elsewhere that lack it. Default no bound.
    pub egress: BTreeMap<RegionName, ByteCount>,
}

/// Which of the agents that may take a task gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementRule {
    /// The one that is expected to finish it first.
    LeastFinish(LeastFinish),
    /// Those that are near and warm by turns, then those of the fallback region, then any.
    NearAndWarm {
        /// The fallback region.
        fallback: Option<RegionName>,
    },
    /// One after the other, whatever they hold: to compare with.
    RoundRobin,
}

/// What a team has of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamPolicy {
    /// Its share beside those of others that have something waiting. Default 100.
    pub weight: u32,
    /// The only regions in which its builds may be. Default all.
    pub regions: BTreeSet<RegionName>,
}

impl Default for PlacementRule {
    fn default() -> Self {
        Self::LeastFinish(LeastFinish::default())
    }
}

impl Default for TeamPolicy {
    fn default() -> Self {
        Self { weight: WEIGHT_USUAL, regions: BTreeSet::new() }
    }
}

impl PlacementRule {
    /// The region that is used when no agent is near and warm.
    #[must_use]
    pub const fn fallback(&self) -> Option<&RegionName> {
        match self {
            Self::NearAndWarm { fallback } => fallback.as_ref(),
            Self::LeastFinish(_) | Self::RoundRobin => None,
        }
    }
}

impl SchedulePolicy {
    /// What a team has.
    #[must_use]
    pub fn team(&self, team: &TeamName) -> TeamPolicy {
        self.teams.get(team).cloned().unwrap_or_default()
    }
}

/// Who shares the build cache, and with whom. The defaults stand beside the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// Whose builds write what their whole team reads. Default every member's.
    pub trusted: TrustedMembers,
    /// Beside which agents other builds may use the cache. Default all, each in a scope of its own.
    pub sidecars: SidecarPolicy,
    /// How many agents of a region keep each key. Default 2, so that one may be away.
    pub replicas: u32,
    /// The same for single regions. Default none.
    pub region_replicas: BTreeMap<RegionName, u32>,
    /// How long a change of the members must last before it is told. Default 2 s.
    pub shards_settle: Millis,
    /// Most lineages whose last manifest is remembered. Default 4,096.
    pub manifests_max: usize,
    /// The same for one team. Default 1,024.
    pub team_manifests_max: usize,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            trusted: TrustedMembers::Everybody,
            sidecars: SidecarPolicy::default(),
            replicas: 2,
            region_replicas: BTreeMap::new(),
            shards_settle: Millis::seconds(2),
            manifests_max: 4_096,
            team_manifests_max: 1_024,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued_tasks_max: 4_096,
            builds_kept: 1_000,
            attempts_max: 4,
            losses_max: 12,
            placements_max: 32,
            tokens_max: 1_000,
            keys_max: 10_000,
            keys_per_holder_max: 8,
            key_life: Millis::days(90),
            key_kept: Millis::days(365),
            lease: Millis::seconds(30),
            renew_every: Millis::seconds(10),
            offer: Millis::seconds(10),
            retry_first: Millis::seconds(1),
            retry_longest: Millis::seconds(15),
            queue_full_retry: Millis::seconds(5),
            clock_offset_max: Millis::seconds(5),
            stop_within: Millis::seconds(5),
            failures_in_a_row: 3,
            set_aside_first: Millis::minutes(1),
            set_aside_longest: Millis::minutes(10),
            set_aside_alone_first: Millis::seconds(10),
            avoid_longest: Millis::minutes(2),
            budget_longest: Millis::minutes(2),
            maintenance_lead: Millis::minutes(10),
            cordons_max: 10_000,
            maintenance_max: 10_000,
            sandbox: SandboxDemand::Any,
            cache: CachePolicy::default(),
            schedule: SchedulePolicy::default(),
        }
    }
}

impl Limits {
    /// The wait before a task that came back `times` times goes to an agent that failed it.
    #[must_use]
    pub fn retry_after(&self, times: u32) -> Millis {
        doubled(self.retry_first, times, self.retry_longest)
    }
}

/// A span that doubles each time after the first, up to the longest one.
pub(super) fn doubled(first: Millis, times: u32, longest: Millis) -> Millis {
    let span = first.0.saturating_mul(1u64 << times.saturating_sub(1).min(32));
    Millis(span.min(longest.0).max(1))
}
