//! What a story begins with: the agents that there are, what the fleet's policy is, and the builds that clients will wish for.
//!
//! It stands at the head of an event file in plain words.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    id::{AgentId, Label},
    machine::{
        CachePolicy, Limits,
        limits::{SchedulePolicy, TeamPolicy},
    },
    quantity::{ByteCount, Millis},
};
use serde::{Deserialize, Serialize};

use crate::{draws::Draws, sim::wish::Wish};

/// The regions, whose agents are faulty together.
pub const REGIONS: [&str; 3] = ["ap", "eu", "us"];
/// What agents may have that others have not, from what many have to what nobody ever has.
pub const LABELS: [&str; 4] = ["fast", "kvm", "hsm", "darwin-signing"];
const AGENTS_PER_REGION: u64 = 4;
/// Which agent has the only `hsm` of the fleet.
const ONLY_HSM: u64 = 6;

/// What a story begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The agents, by number.
    pub agents: Vec<AgentSetup>,
    /// The clients' wishes, by number.
    pub wishes: Vec<Wish>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSetup {
    /// `REGION/NAME`.
    pub name: String,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// What it has that others have not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Whether it is of an earlier release, which knows of no drain and does not say when it has stopped something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_old: bool,
}

impl Setup {
    /// Draws `wishes` wishes and the agents.
    #[must_use]
    pub fn draw(draws: &mut Draws, wishes: u32) -> Self {
        let agents: Vec<_> = (0..REGIONS.len() as u64 * AGENTS_PER_REGION)
            .map(|number| AgentSetup::draw(number, draws))
            .collect();
        let wishes = (0..wishes).map(|_| Wish::draw(draws, &agents)).collect();
        Self { agents, wishes }
    }

    /// The limits that the fleet keeps: those of a real one, but that builds are forgotten sooner and maintenance is
    /// prepared for in less time, with teams that have unlike shares, one that may not leave two regions, and a region
    /// that may send little.
    ///
    /// # Panics
    /// Never: the names are constants.
    #[must_use]
    pub fn limits() -> Limits {
        let team = |weight, regions: &[&str]| TeamPolicy {
            weight,
            regions: regions.iter().filter_map(|region| region.parse().ok()).collect(),
        };
        let teams = [("beta", team(300, &[])), ("corp", team(50, &["ap", "eu"]))];
        let egress = [("ap", ByteCount(EGRESS_BYTES))];
        Limits {
            builds_kept: 150,
            cache: CachePolicy { manifests_max: 20, ..CachePolicy::default() },
            lease: Millis::seconds(30),
            maintenance_lead: Millis::minutes(2),
            schedule: SchedulePolicy {
                teams: teams
                    .into_iter()
                    .filter_map(|(name, team)| Some((name.parse().ok()?, team)))
                    .collect(),
                egress: egress
                    .into_iter()
                    .filter_map(|(name, bytes)| Some((name.parse().ok()?, bytes)))
                    .collect::<BTreeMap<_, _>>(),
                ..SchedulePolicy::default()
            },
            ..Limits::default()
        }
    }
}

/// What may leave the one region in a day that has a budget: a few dozen tasks' inputs.
pub const EGRESS_BYTES: u64 = 1_000_000;

impl AgentSetup {
    fn draw(number: u64, draws: &mut Draws) -> Self {
        let mut labels = Vec::new();
        for (label, permille) in LABELS.iter().zip([500, 250]) {
            if draws.chance(permille) {
                labels.push((*label).to_owned());
            }
        }
        if number == ONLY_HSM {
            labels.push(LABELS[2].to_owned());
        }
        Self {
            name: format!("{}/a{}", REGIONS[index(number / AGENTS_PER_REGION)], number % AGENTS_PER_REGION),
            slots: small(1 + draws.below(4)),
            labels,
            is_old: draws.chance(150),
        }
    }

    /// Its id.
    ///
    /// # Panics
    /// When an event file was edited and the name is none.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.name.parse().unwrap_or_else(|error| panic!("agent {:?}: {error}", self.name))
    }

    /// What it has that others have not.
    ///
    /// # Panics
    /// When an event file was edited and a label is none.
    #[must_use]
    pub fn labels(&self) -> BTreeSet<Label> {
        let label = |text: &String| text.parse().unwrap_or_else(|error| panic!("label {text:?}: {error}"));
        self.labels.iter().map(label).collect()
    }
}

pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

pub(super) fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
