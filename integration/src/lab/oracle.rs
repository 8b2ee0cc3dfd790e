//! How far a policy is from the best that anybody could do who knew everything.
//!
//! Eight builds of four lineages are there at once, and four machines of one slot each, which hold some of what the builds
//! need. The oracle knows what each build takes on each machine after each set of others, and tries all divisions and
//! orders: the least time at which everything is done. So that this can be told exactly, what a build leaves counts on its
//! machine alone; the policy's runs are under the same rule. The policy knows what the coordinator would know of a fleet
//! that has built these lineages before.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::Context;
use meridian_core::schedule::choice::LeastFinish;

use super::{
    engine::Engine,
    policy::Kind,
    random::{Draws, real, whole},
    recording::Program,
    workload::{Day, HOUR_US, Task, Workload},
    world::{BuildMixing, Cache, Machine, ROUNDS_BEFORE, World},
};

/// Builds of an instance.
const TASKS: usize = 8;
/// Of each lineage.
const OF_EACH: usize = 2;
/// In which regions its machines are.
const MACHINES: [usize; 4] = [0, 0, 1, 2];
/// How many commits of each were built before, and how often on each machine: a fleet knows its machines from hundreds of
/// results.
const BEFORE: usize = 5;
/// See [`BEFORE`].
const RESULTS: usize = 8;
/// A machine holds what a lineage used before.
const HOLDS: f64 = 0.4;

/// How far a policy is from the oracle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gap {
    /// Over so many instances.
    pub instances: usize,
    /// The policy's time ÷ the oracle's, in the mean.
    pub mean: f64,
    /// And at worst.
    pub worst: f64,
    /// In the mean, if the policy knew what each build is going to take on each machine.
    pub mean_if_known: f64,
}

/// Something to be done.
struct Instance {
    /// What is to be done now.
    workload: Workload,
    /// What was done before, a lineage's commits after one another.
    before: Vec<Vec<Task>>,
    world: World,
}

/// Measures policies over instances.
///
/// # Errors
/// When an instance cannot be drawn.
pub fn gaps(
    kinds: &[Kind],
    ours: LeastFinish,
    instances: usize,
    programs: &[Arc<Program>],
    seed: u64,
) -> anyhow::Result<BTreeMap<Kind, Gap>> {
    let mut gaps: BTreeMap<Kind, Gap> = BTreeMap::new();
    for number in 0..instances {
        let instance = Instance::draw(seed ^ (number as u64 + 1) << 20, programs)?;
        let best_us = instance.best_us().max(1);
        for kind in kinds {
            let ratio = real(instance.under(*kind, ours, false)?) / real(best_us);
            let if_known = real(instance.under(*kind, ours, true)?) / real(best_us);
            let gap = gaps.entry(*kind).or_default();
            gap.instances += 1;
            gap.mean += ratio / real(instances as u64);
            gap.mean_if_known += if_known / real(instances as u64);
            gap.worst = gap.worst.max(ratio);
        }
    }
    Ok(gaps)
}

impl Instance {
    fn draw(seed: u64, programs: &[Arc<Program>]) -> anyhow::Result<Self> {
        let day =
            Day { seed, regions: vec![0, 1, 2], length_us: 24 * HOUR_US, builds_per_hour: 60.0, crowd: None };
        let mut workload = Workload::draw(&day, programs);
        let mut draws = Draws::new(seed, "instance");
        let (mut now, mut before): (Vec<Task>, Vec<Vec<Task>>) = (Vec::new(), Vec::new());
        let mut lineage = draws.below(workload.lineages.len());
        for _ in 0..workload.lineages.len() {
            let of = workload.tasks.iter().filter(|task| task.lineage == lineage).take(BEFORE + OF_EACH);
            let of: Vec<Task> = of.cloned().collect();
            if of.len() == BEFORE + OF_EACH && now.len() < TASKS {
                before.push(of[..BEFORE].to_vec());
                // One team's, since the oracle need not be fair.
                now.extend(of[BEFORE..].iter().map(|task| Task { submitted_us: 0, team: 0, ..task.clone() }));
            }
            lineage = (lineage + 7) % workload.lineages.len();
        }
        anyhow::ensure!(now.len() == TASKS, "a day has too few lineages");
        workload.tasks = now;
        let is_skewed = draws.happens(0.5);
        let machines = MACHINES.iter().enumerate().map(|(number, region)| {
            let kind = if is_skewed { [1, 2, 1, 4][number] } else { 1 };
            let slowness_permille = whole(1_000.0 * draws.lognormal(0.08)) * kind;
            Machine { region: *region, slots: 1, slowness_permille, cache: Cache::default(), is_up: true }
        });
        let mut world = World::new(vec![0, 1, 2], machines.collect(), 1 << 50);
        for task in before.iter().filter_map(|of| of.last()) {
            let one = draws.below(MACHINES.len());
            for row in 0..MACHINES.len() {
                if row == one || draws.happens(HOLDS) {
                    world.leave(&task.commit, row, 0);
                }
            }
        }
        world.is_frozen = true;
        Ok(Self { workload, before, world })
    }

    /// When a policy is done.
    fn under(&self, kind: Kind, ours: LeastFinish, knows_all: bool) -> anyhow::Result<u64> {
        let mut engine = Engine::new(&self.workload, self.world.clone(), Vec::new(), kind.begin(ours, 1), 1)?;
        if knows_all {
            engine.know_all();
        }
        let (knowledge, world) = engine.knowledge();
        let pairs = || self.before.iter().flat_map(|of| of.windows(2));
        for pair in (0..RESULTS).flat_map(|_| pairs()) {
            let [last, task] = pair else { continue };
            // Where the last one was built, too.
            let left: HashSet<u64, BuildMixing> = last.commit.entries.iter().map(|entry| entry.key).collect();
            for row in 0..MACHINES.len() {
                let service = world.service_with(task, row, |key| left.contains(&key));
                knowledge.result(world, row, task.lineage, &task.commit, &service, service.total_us);
            }
        }
        (0..MACHINES.len()).for_each(|row| knowledge.beat(world, row, 0));
        let outcome = engine.run();
        let ends = outcome.endings.iter().map(|ending| ending.finished_us);
        anyhow::ensure!(ends.clone().all(|end| end > 0), "a build was never done");
        ends.max().context("there are builds")
    }

    /// When all can be done at best.
    fn best_us(&self) -> u64 {
        let sets = 1 << TASKS;
        let all = sets - 1;
        let mut best: Vec<u64> = vec![u64::MAX; sets];
        best[0] = 0;
        for row in 0..MACHINES.len() {
            let alone = self.alone_us(row);
            let mut next = vec![u64::MAX; sets];
            for set in 0..sets {
                // All subsets of the set, the empty one last.
                let mut part = set;
                loop {
                    let before = best[set & !part];
                    next[set] = next[set].min(before.max(alone[part]));
                    if part == 0 {
                        break;
                    }
                    part = (part - 1) & set;
                }
            }
            best = next;
        }
        best[all]
    }

    /// How long a machine takes for each set of builds, in the best order.
    fn alone_us(&self, row: usize) -> Vec<u64> {
        let tasks = &self.workload.tasks;
        let before_us = ROUNDS_BEFORE * self.world.rtt_us(0, self.world.machines[row].region);
        let mut least = vec![u64::MAX; 1 << TASKS];
        least[0] = 0;
        for set in 0..1_usize << TASKS {
            let is_in = |task: &usize| set >> *task & 1 == 1;
            let left = (0..TASKS).filter(is_in).flat_map(|task| &tasks[task].commit.entries);
            let left: HashSet<u64, BuildMixing> = left.map(|entry| entry.key).collect();
            for task in (0..TASKS).filter(|task| !is_in(task)) {
                let service = self.world.service_with(&tasks[task], row, |key| left.contains(&key));
                let end = least[set] + before_us + service.total_us;
                let with = set | 1 << task;
                least[with] = least[with].min(end);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::recording;

    #[test]
    fn nobody_is_better_than_the_oracle_and_ours_is_nearer_to_it_than_who_looks_at_load_alone() {
        let programs = recording::programs().unwrap();
        for number in 0..8 {
            let instance = Instance::draw(number << 20, &programs).unwrap();
            let best = instance.best_us();
            for kind in Kind::ALL {
                assert!(
                    instance.under(kind, LeastFinish::default(), false).unwrap() >= best,
                    "{kind:?} of instance {number}"
                );
            }
        }
        let kinds = [Kind::LeastFinish, Kind::LeastLoaded];
        let gaps = gaps(&kinds, LeastFinish::default(), 16, &programs, 1).unwrap();
        assert!(gaps[&Kind::LeastFinish].mean < gaps[&Kind::LeastLoaded].mean, "{gaps:?}");
    }
}
