//! What is true: which agent has what, and how long a build takes on it.
//!
//! Nobody who decides sees this. What an agent lacks comes from the nearest agent that has it; what nobody has is made.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::draws::mixed;

use super::{
    regions,
    workload::{Commit, SECOND_US, Task},
};

/// Round trips to the coordinator before a build begins: the offer and the lease.
pub const ROUNDS_BEFORE: u64 = 2;
/// All of a build's round trips to the coordinator (`meridian_core::schedule::cost`).
pub const ROUNDS: u64 = meridian_core::schedule::cost::ROUNDS;
/// Round trips to whoever has what is missing.
pub const FETCH_ROUNDS: u64 = meridian_core::schedule::cost::FETCH_ROUNDS;

/// Keys are numbers already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mixing(u64);

impl std::hash::Hasher for Mixing {
    fn finish(&self) -> u64 {
        mixed(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Makes those.
pub type BuildMixing = std::hash::BuildHasherDefault<Mixing>;

/// What one agent holds: what was not used for longest goes first.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    held: HashMap<u64, Held, BuildMixing>,
    by_use: BTreeMap<u64, u64>,
    bytes: u64,
    uses: u64,
    /// What went since the last heartbeat, and so is still believed to be there.
    gone: HashSet<u64, BuildMixing>,
    told_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    used: u64,
    bytes: u64,
    since_us: u64,
}

impl Cache {
    /// Whether it has an entry.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.held.contains_key(&key)
    }

    /// Whether it had an entry when the agent last said what it has.
    #[must_use]
    pub fn was_told(&self, key: u64) -> bool {
        self.held.get(&key).is_some_and(|held| held.since_us <= self.told_us) || self.gone.contains(&key)
    }

    /// The agent says what it has.
    pub fn tell(&mut self, now_us: u64) {
        self.gone.clear();
        self.told_us = now_us;
    }

    /// Uses an entry; whether it is new.
    fn put(&mut self, key: u64, bytes: u64, now_us: u64) -> bool {
        self.uses += 1;
        let used = self.uses;
        let before = self.held.get(&key).copied();
        let since_us = before.map_or(now_us, |before| before.since_us);
        match before {
            Some(before) => {
                self.by_use.remove(&before.used);
            }
            None => self.bytes += bytes,
        }
        self.held.insert(key, Held { used, bytes, since_us });
        self.by_use.insert(used, key);
        before.is_none()
    }

    /// Drops the entry that was not used for longest.
    fn drop_oldest(&mut self) -> Option<u64> {
        let (_, key) = self.by_use.pop_first()?;
        let held = self.held.remove(&key)?;
        self.bytes -= held.bytes;
        if held.since_us <= self.told_us {
            self.gone.insert(key);
        }
        Some(key)
    }
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The place of its region among the world's.
    pub region: usize,
    /// How many builds it runs at once.
    pub slots: u32,
    /// How long it takes where others take a thousand.
    pub slowness_permille: u64,
    /// What it holds.
    pub cache: Cache,
    /// Whether it can be reached.
    pub is_up: bool,
}

/// All machines, and the ways between them.
#[derive(Debug, Clone)]
pub struct World {
    /// Which regions there are; the coordinator is in the first.
    pub regions: Vec<usize>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// How much each holds at most.
    pub cache_bytes: u64,
    /// How much slower a region is at the moment, machines and ways.
    pub slowed: Vec<u64>,
    /// How many machines of each region hold an entry.
    holders: HashMap<u64, Vec<u16>, BuildMixing>,
    /// What was ever made.
    made: HashSet<u64, BuildMixing>,
    /// Whether what builds leave counts for nobody but their machine.
    pub is_frozen: bool,
}

/// What a build of a task takes on a machine, in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// From its beginning to its report, in microseconds.
    pub total_us: u64,
    /// Of that, bringing what was missing.
    pub transfer_us: u64,
    /// What part of what it asked for was there or could be brought.
    pub hit_permille: u32,
    /// What was not on the machine and could be brought, on the wire.
    pub fetched_bytes: u64,
    /// What was not on the machine, wherever else it was, on the wire.
    pub missed_bytes: u64,
    /// Of that, what nobody has ever made.
    pub new_bytes: u64,
    /// Of what was brought, what came from other regions.
    pub cross_bytes: u64,
    /// What was made again that somebody had made before.
    pub remade_us: u64,
    /// The longest round trip to where something came from, and what came from there: what the machine learns of the way.
    pub way: Option<Way>,
}

/// What was seen of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// From which region.
    pub region: usize,
    /// What came in a second.
    pub bytes_per_s: u64,
}

impl World {
    /// Machines without anything.
    #[must_use]
    pub fn new(regions: Vec<usize>, machines: Vec<Machine>, cache_bytes: u64) -> Self {
        let slowed = vec![1; regions.len()];
        Self {
            regions,
            machines,
            cache_bytes,
            slowed,
            holders: HashMap::default(),
            made: HashSet::default(),
            is_frozen: false,
        }
    }

    /// The round trip between two regions now.
    #[must_use]
    pub fn rtt_us(&self, one: usize, other: usize) -> u64 {
        let slowed = self.slowed[one].max(self.slowed[other]);
        regions::rtt_us(self.regions[one], self.regions[other]) * slowed
    }

    /// What a connection between two regions carries now.
    #[must_use]
    pub fn bytes_per_s(&self, one: usize, other: usize) -> u64 {
        let slowed = self.slowed[one].max(self.slowed[other]);
        let usual = regions::rtt_us(self.regions[one], self.regions[other]);
        (regions::bytes_per_s(usual) / slowed).max(1)
    }

    /// The nearest region in which somebody who can be reached has an entry.
    fn nearest(&self, region: usize, key: u64) -> Option<usize> {
        let holders = self.holders.get(&key)?;
        let has = |other: &usize| holders[*other] > 0;
        (0..self.regions.len()).filter(has).min_by_key(|other| (self.rtt_us(region, *other), *other))
    }

    /// What a build of a task would take on a machine, begun now.
    #[must_use]
    pub fn service(&self, task: &Task, row: usize) -> Service {
        self.service_with(task, row, |_| false)
    }

    /// The same if the machine had some more entries.
    #[must_use]
    pub fn service_with(&self, task: &Task, row: usize, also: impl Fn(u64) -> bool) -> Service {
        let machine = &self.machines[row];
        let mut found = Service::default();
        let mut from = vec![0_u64; self.regions.len()];
        let (mut hit_bytes, mut made_bytes, mut remade_bytes) = (0, 0, 0);
        for entry in &task.commit.entries {
            if machine.cache.has(entry.key) || also(entry.key) {
                hit_bytes += entry.bytes;
                continue;
            }
            found.missed_bytes += entry.wire_bytes;
            if let Some(region) = self.nearest(machine.region, entry.key) {
                from[region] += entry.wire_bytes;
                hit_bytes += entry.bytes;
                continue;
            }
            made_bytes += entry.bytes;
            if self.made.contains(&entry.key) {
                remade_bytes += entry.bytes;
            } else {
                found.new_bytes += entry.wire_bytes;
            }
        }
        let mut fetch_rtt_us = 0;
        for (region, bytes) in from.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
            let bytes_per_s = self.bytes_per_s(machine.region, region);
            // From several regions at once.
            found.transfer_us = found.transfer_us.max(bytes * SECOND_US / bytes_per_s);
            fetch_rtt_us = fetch_rtt_us.max(self.rtt_us(machine.region, region));
            found.fetched_bytes += bytes;
            if region != machine.region {
                found.cross_bytes += bytes;
            }
            found.way = Some(Way { region, bytes_per_s });
        }
        let slowness = machine.slowness_permille * self.slowed[machine.region];
        let make_us = |bytes: u64| bytes / 1_000 * task.us_per_mb / 1_000;
        let run_us = (task.warm_us + make_us(made_bytes)) * slowness / 1_000;
        found.remade_us = make_us(remade_bytes) * slowness / 1_000;
        found.hit_permille = u32::try_from(hit_bytes * 1_000 / task.commit.bytes.max(1)).unwrap_or(1_000);
        let rounds_us =
            (ROUNDS - ROUNDS_BEFORE) * self.rtt_us(0, machine.region) + FETCH_ROUNDS * fetch_rtt_us;
        found.total_us = rounds_us + found.transfer_us + run_us;
        found
    }

    /// A build left its entries on a machine.
    pub fn leave(&mut self, commit: &Commit, row: usize, now_us: u64) {
        let region = self.machines[row].region;
        let regions = self.regions.len();
        for entry in &commit.entries {
            let is_new = self.machines[row].cache.put(entry.key, entry.bytes, now_us);
            if is_new && !self.is_frozen {
                self.holders.entry(entry.key).or_insert_with(|| vec![0; regions])[region] += 1;
                self.made.insert(entry.key);
            }
        }
        while self.machines[row].cache.bytes > self.cache_bytes {
            let Some(key) = self.machines[row].cache.drop_oldest() else { return };
            self.forget(key, region);
        }
    }

    fn forget(&mut self, key: u64, region: usize) {
        let Some(holders) = self.holders.get_mut(&key) else { return };
        holders[region] = holders[region].saturating_sub(1);
        if holders.iter().all(|machines| *machines == 0) {
            self.holders.remove(&key);
        }
    }

    /// A region goes or comes back, with what its machines hold.
    pub fn set_up(&mut self, region: usize, is_up: bool) {
        for row in 0..self.machines.len() {
            if self.machines[row].region != region || self.machines[row].is_up == is_up {
                continue;
            }
            self.machines[row].is_up = is_up;
            let keys: Vec<u64> = self.machines[row].cache.held.keys().copied().collect();
            let regions = self.regions.len();
            for key in keys {
                if is_up {
                    self.holders.entry(key).or_insert_with(|| vec![0; regions])[region] += 1;
                } else {
                    self.forget(key, region);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lab::workload::Entry;

    fn commit(keys: &[u64]) -> Arc<Commit> {
        let entries: Vec<Entry> =
            keys.iter().map(|key| Entry { key: *key, bytes: 4_000_000, wire_bytes: 1_000_000 }).collect();
        let count = entries.len() as u64;
        Arc::new(Commit {
            number: 1,
            entries,
            entry_count: 1,
            bytes: 4_000_000 * count,
            wire_bytes: 1_000_000 * count,
        })
    }

    fn task(keys: &[u64]) -> Task {
        let (warm_us, us_per_mb) = (1_000_000, 500_000);
        Task { submitted_us: 0, team: 0, region: 0, lineage: 0, commit: commit(keys), warm_us, us_per_mb }
    }

    fn world() -> World {
        let machine = |region| Machine {
            region,
            slots: 1,
            slowness_permille: 1_000,
            cache: Cache::default(),
            is_up: true,
        };
        World::new(vec![0, 1, 2], [0, 1, 1, 2].map(machine).to_vec(), 40_000_000)
    }

    #[test]
    fn what_nobody_has_is_made_and_what_somebody_has_comes_from_the_nearest() {
        let mut world = world();
        let cold = world.service(&task(&[1, 2]), 1);
        assert_eq!((cold.hit_permille, cold.cross_bytes, cold.missed_bytes), (0, 0, 2_000_000));
        assert_eq!(cold.total_us, 6 * 91_000 + 1_000_000 + 4_000_000);
        world.leave(&commit(&[1]), 3, 0);
        let far = world.service(&task(&[1, 2]), 1);
        assert_eq!((far.hit_permille, far.cross_bytes, far.fetched_bytes), (500, 1_000_000, 1_000_000));
        world.leave(&commit(&[1]), 2, 0);
        let near = world.service(&task(&[1, 2]), 1);
        assert_eq!((near.cross_bytes, near.fetched_bytes), (0, 1_000_000));
        world.leave(&commit(&[1]), 1, 0);
        assert_eq!(world.service(&task(&[1, 2]), 1).missed_bytes, 1_000_000);
        world.set_up(1, false);
        assert_eq!(world.service(&task(&[1]), 0).way.map(|way| way.region), Some(2));
        world.set_up(1, true);
        assert_eq!(world.service(&task(&[1]), 0).way.map(|way| way.region), Some(1));
    }

    #[test]
    fn a_cache_forgets_what_was_not_used_for_longest_and_the_agent_says_so_later() {
        let mut world = world();
        world.leave(&commit(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 0, 1);
        world.machines[0].cache.tell(1);
        world.leave(&commit(&[1, 11]), 0, 2);
        let cache = &world.machines[0].cache;
        assert!(cache.has(1) && !cache.has(2) && cache.has(11));
        assert!(cache.was_told(2) && !cache.was_told(11));
        assert_eq!(world.service(&task(&[2]), 0).remade_us, 2_000_000, "it was made before");
        world.machines[0].cache.tell(3);
        assert!(!world.machines[0].cache.was_told(2) && world.machines[0].cache.was_told(11));
    }
}
