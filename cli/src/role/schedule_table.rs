//! The `[schedule]` table of `coordinator.toml`: by which rule tasks are placed, and what each team may have.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    id::{ParseIdError, RegionName, TeamName},
    machine::limits::{PlacementRule, SchedulePolicy, TeamPolicy},
    quantity::{ByteCount, Millis},
    schedule::choice::LeastFinish,
};
use meridian_runtime::config::{Key, Kind, Problem};
use serde::Deserialize;

use crate::{role::coordinator::REGION, trouble::Trouble};

/// The greatest weight of a team.
const WEIGHT_MAX: i64 = 1_000_000;

/// The `[schedule]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScheduleTable {
    policy: PolicyWord,
    /// The region that is used when no agent is near and warm.
    fallback: Option<String>,
    /// For how long a task may be kept back for a better agent.
    held_back_ms: Option<u64>,
    /// The shares of single teams; 100 is the usual one.
    weights: BTreeMap<String, u32>,
    /// The only regions of single teams' builds.
    regions: BTreeMap<String, Vec<String>>,
    /// What may leave single regions in a day.
    egress_gib: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PolicyWord {
    #[default]
    LeastFinish,
    NearAndWarm,
    RoundRobin,
}

const TEAM: Kind = Kind::Parsed {
    expected: "a team's name",
    check: |text| TeamName::new(text).map(|_| ()).map_err(|error| error.to_string()),
};

/// The keys of the table.
pub(super) const KEYS: &[Key] = &[
    Key::optional("policy", Kind::OneOf(&["least-finish", "near-and-warm", "round-robin"])),
    Key::optional("fallback", REGION),
    Key::optional("held_back_ms", Kind::Integer { min: 0, max: 3_600_000 }),
    Key::optional("weights", Kind::Map { keys: &TEAM, values: &Kind::Integer { min: 1, max: WEIGHT_MAX } }),
    Key::optional("regions", Kind::Map { keys: &TEAM, values: &Kind::List(&REGION) }),
    Key::optional(
        "egress_gib",
        Kind::Map { keys: &REGION, values: &Kind::Integer { min: 0, max: 1_000_000_000 } },
    ),
];

impl ScheduleTable {
    /// What is wrong with the table as a whole.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.fallback.is_some() && self.policy != PolicyWord::NearAndWarm {
            let advice = "only the policy \"near-and-warm\" has a fallback region";
            problems.push(Problem::new(&["schedule.fallback", "schedule.policy"], advice));
        }
        if self.held_back_ms.is_some() && self.policy != PolicyWord::LeastFinish {
            let advice = "only the policy \"least-finish\" keeps tasks back";
            problems.push(Problem::new(&["schedule.held_back_ms", "schedule.policy"], advice));
        }
        for (team, _) in self.regions.iter().filter(|(_, regions)| regions.is_empty()) {
            let advice = "a list of no region would let the team's builds be nowhere; leave the team out to let them be \
                          anywhere";
            problems.push(Problem::new(&[&format!("schedule.regions.{team}")], advice));
        }
        problems
    }

    /// The policy. Each text was checked by its form before.
    pub(super) fn policy(self) -> Result<SchedulePolicy, Trouble> {
        self.parsed().map_err(Trouble::usage)
    }

    fn parsed(self) -> Result<SchedulePolicy, ParseIdError> {
        let usual = LeastFinish::default();
        let rule = match self.policy {
            PolicyWord::LeastFinish => PlacementRule::LeastFinish(LeastFinish {
                held_back_max: self.held_back_ms.map_or(usual.held_back_max, Millis),
                ..usual
            }),
            PolicyWord::NearAndWarm => PlacementRule::NearAndWarm {
                fallback: self.fallback.as_deref().map(RegionName::new).transpose()?,
            },
            PolicyWord::RoundRobin => PlacementRule::RoundRobin,
        };
        let mut teams: BTreeMap<TeamName, TeamPolicy> = BTreeMap::new();
        for (team, weight) in self.weights {
            teams.entry(TeamName::new(&team)?).or_default().weight = weight;
        }
        for (team, regions) in self.regions {
            let regions = regions.iter().map(|region| RegionName::new(region));
            let regions = regions.collect::<Result<BTreeSet<_>, _>>()?;
            teams.entry(TeamName::new(&team)?).or_default().regions = regions;
        }
        let mut egress = BTreeMap::new();
        for (region, gib) in self.egress_gib {
            egress.insert(RegionName::new(&region)?, ByteCount::gib(gib));
        }
        Ok(SchedulePolicy { rule, teams, egress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_whose_builds_may_be_nowhere_is_a_mistake_and_not_a_team_without_bounds() {
        let regions = |names: &[&str]| {
            let names = names.iter().map(|region| (*region).to_owned()).collect();
            ScheduleTable { regions: [("acme".to_owned(), names)].into(), ..ScheduleTable::default() }
        };
        assert_eq!(regions(&["eu"]).problems().len(), 0);
        let problems = format!("{:?}", regions(&[]).problems());
        assert!(problems.contains("acme") && problems.contains("no region"), "{problems}");
    }
}
