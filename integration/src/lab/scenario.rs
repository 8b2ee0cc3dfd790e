//! The scenarios: which regions and machines there are, how much is to do, and what befalls them.

use super::{
    engine::Fault,
    random::{Draws, whole},
    workload::{Crowd, Day, HOUR_US, SECOND_US},
    world::{Cache, Machine, World},
};

/// How much an agent's cache holds: what the product has when nothing is said.
const CACHE_BYTES: u64 = 20 << 30;
/// Machines of one kind differ by this.
const SLOWNESS_SIGMA: f64 = 0.08;
/// What is before this is not counted, but where a cold start is what it is about.
pub const WARM_UP_US: u64 = 3 * HOUR_US;

/// A scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// As it stands in tables.
    pub name: &'static str,
    /// Least loaded's utilisation, in parts per hundred.
    pub load_percent: u32,
    /// How many regions.
    pub regions: usize,
    /// How many machines in each, of two slots.
    pub machines: usize,
    /// A half of the machines is as usual, a quarter twice and a quarter four times as slow.
    pub is_skewed: bool,
    /// It is counted from the beginning, when nobody has or knows anything.
    pub is_cold: bool,
    /// What befalls it.
    pub trouble: Trouble,
}

/// What befalls a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Of the second region, ten times as many builds as usual come for ten minutes, all of each team's first project.
    FlashCrowd,
    /// The second region is gone for an hour.
    RegionLoss,
    /// The second region's machines and ways are four times slower for an hour.
    BrownOut,
}

const PLAIN: Scenario = Scenario {
    name: "load 0.80",
    load_percent: 80,
    regions: 3,
    machines: 4,
    is_skewed: false,
    is_cold: false,
    trouble: Trouble::None,
};

/// All of them.
pub const ALL: [Scenario; 12] = [
    Scenario { name: "load 0.50", load_percent: 50, ..PLAIN },
    Scenario { name: "load 0.65", load_percent: 65, ..PLAIN },
    PLAIN,
    Scenario { name: "load 0.95", load_percent: 95, ..PLAIN },
    Scenario { name: "5 regions", regions: 5, machines: 3, ..PLAIN },
    Scenario { name: "8 regions", regions: 8, machines: 2, ..PLAIN },
    Scenario { name: "speed skew", is_skewed: true, ..PLAIN },
    Scenario { name: "cold start", is_cold: true, ..PLAIN },
    Scenario { name: "flash crowd", trouble: Trouble::FlashCrowd, ..PLAIN },
    Scenario { name: "brown-out", trouble: Trouble::BrownOut, ..PLAIN },
    Scenario { name: "region loss 0.50", load_percent: 50, trouble: Trouble::RegionLoss, ..PLAIN },
    Scenario { name: "region loss", trouble: Trouble::RegionLoss, ..PLAIN },
];

impl Scenario {
    /// Its day.
    #[must_use]
    pub fn day(&self, seed: u64, length_us: u64, builds_per_hour: f64) -> Day {
        let middle_us = WARM_UP_US.max(length_us / 2);
        let crowd = (self.trouble == Trouble::FlashCrowd).then_some(Crowd {
            region: 1,
            from_us: middle_us,
            to_us: middle_us + 600 * SECOND_US,
            times: 10.0,
        });
        Day { seed, regions: (0..self.regions).collect(), length_us, builds_per_hour, crowd }
    }

    /// From when it is counted.
    #[must_use]
    pub const fn counted_from_us(&self) -> u64 {
        if self.is_cold { 0 } else { WARM_UP_US }
    }

    /// How much of a day it needs.
    #[must_use]
    pub const fn length_us(&self, length_us: u64) -> u64 {
        if self.is_cold { WARM_UP_US } else { length_us }
    }

    /// Its machines.
    #[must_use]
    pub fn world(&self, seed: u64) -> World {
        let mut draws = Draws::new(seed, "machines");
        let mut machines = Vec::new();
        for region in 0..self.regions {
            for number in 0..self.machines {
                // Which of them are slow goes round, so that no region has all of those.
                let kind = if self.is_skewed { [1, 2, 1, 4][(number + region) % 4] } else { 1 };
                let slowness_permille = whole(1_000.0 * draws.lognormal(SLOWNESS_SIGMA)) * kind;
                machines.push(Machine {
                    region,
                    slots: 2,
                    slowness_permille,
                    cache: Cache::default(),
                    is_up: true,
                });
            }
        }
        World::new((0..self.regions).collect(), machines, CACHE_BYTES)
    }

    /// What befalls it.
    #[must_use]
    pub fn faults(&self, length_us: u64) -> Vec<Fault> {
        let from_us = WARM_UP_US.max(length_us / 2);
        let fault = |slower| vec![Fault { region: 1, from_us, to_us: from_us + HOUR_US, slower }];
        match self.trouble {
            Trouble::None | Trouble::FlashCrowd => Vec::new(),
            Trouble::RegionLoss => fault(None),
            Trouble::BrownOut => fault(Some(4)),
        }
    }

    /// The same without what befalls it: what the load is set by.
    #[must_use]
    pub fn untroubled(&self) -> Self {
        Self { trouble: Trouble::None, is_cold: false, ..self.clone() }
    }
}
