//! What a run under a policy was worth.

use meridian_core::schedule::{choice::LeastFinish, queue::HEAD_START_MAX};

use super::{
    outcome::{Ending, Outcome},
    random::real,
    workload::{SECOND_US, TEAMS, Task},
    world::World,
};

/// Slowdowns of builds that are shorter than this are counted as if they took it.
const SLOWDOWN_FROM_US: u64 = 10 * SECOND_US;

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Tasks that were counted.
    pub tasks: u64,
    /// Of those, how many were never done.
    pub undone: u64,
    /// What part of its slots the fleet used until the last task was submitted.
    pub utilisation: f64,
    /// From the first submission to the last end, in hours.
    pub makespan_h: f64,
    /// From submission to the beginning: the median, and beyond it, in seconds.
    pub wait_p50_s: f64,
    /// 99 of 100 wait for no longer.
    pub wait_p99_s: f64,
    /// The longest.
    pub wait_max_s: f64,
    /// From submission to the end.
    pub finish_p50_s: f64,
    /// 99 of 100 are done by then.
    pub finish_p99_s: f64,
    /// From submission to the end ÷ what it would have taken on a usual machine that has everything; the mean.
    pub slowdown: f64,
    /// Bytes between regions, in GiB.
    pub cross_gib: f64,
    /// Bytes that the chosen agents did not have and somebody had, in GiB.
    pub missed_gib: f64,
    /// Bytes that the chosen agents did not have, with those that were new to everybody, in GiB.
    pub missed_or_new_gib: f64,
    /// Part of what builds asked for that was there or could be brought.
    pub hits: f64,
    /// Jain's index over the teams' mean slowdowns.
    pub jain: f64,
    /// Machine time for attempts that came to nothing and for making again what was made before, of all.
    pub wasted: f64,
    /// How long a choice took, in microseconds.
    pub choice_us: f64,
    /// From the end of a lease to the next attempt's beginning, the longest, in seconds; zero when none was lost.
    pub release_max_s: f64,
    /// For no longer than this the task that waited longest can have waited, by the queue's rules.
    pub longest_wait_bound_s: f64,
    /// 99 of 100 tasks of the regions that nothing befell waited for no longer.
    pub others_wait_p99_s: f64,
}

impl Figures {
    /// Of a run; what was submitted earlier is left out.
    #[must_use]
    pub fn of(tasks: &[Task], outcome: &Outcome, world: &World, counted_from_us: u64) -> Self {
        let counted: Vec<(&Task, &Ending)> = tasks
            .iter()
            .zip(&outcome.endings)
            .filter(|(task, _)| task.submitted_us >= counted_from_us)
            .collect();
        let done: Vec<(&Task, &Ending)> =
            counted.iter().copied().filter(|(_, ending)| ending.finished_us > 0).collect();
        let wait = |(task, ending): &(&Task, &Ending)| ending.started_us - task.submitted_us;
        let waits = sorted(done.iter().map(wait));
        let others = sorted(done.iter().filter(|(task, _)| task.region != 1).map(wait));
        let finishes = sorted(done.iter().map(|(task, ending)| ending.finished_us - task.submitted_us));
        let slowdowns: Vec<(usize, f64)> =
            done.iter().map(|(task, ending)| (task.team, slowdown(task, ending))).collect();
        let sum = |of: fn(&Ending) -> u64| real(done.iter().map(|(_, ending)| of(ending)).sum());
        let first = tasks.first().map_or(0, |task| task.submitted_us);
        let begin = counted.first().map_or(first, |(task, _)| task.submitted_us);
        let end = done.iter().map(|(_, ending)| ending.finished_us).max().unwrap_or(begin);
        let slots: u64 = world.machines.iter().map(|machine| u64::from(machine.slots)).sum();
        let released = done.iter().filter(|(_, ending)| ending.lost > 0);
        let release_max = released.map(|(_, ending)| ending.started_us - ending.released_us).max();
        let hit_weight: f64 = done
            .iter()
            .map(|(task, ending)| f64::from(ending.service.hit_permille) / 1_000.0 * real(task.commit.bytes))
            .sum();
        Self {
            tasks: counted.len() as u64,
            undone: (counted.len() - done.len()) as u64,
            // A day of which nothing is counted has no end either.
            utilisation: if done.is_empty() {
                0.0
            } else {
                real(outcome.busy_us) / real(slots * (end - first).max(1))
            },
            makespan_h: seconds(end - begin) / 3_600.0,
            wait_p50_s: percentile(&waits, 500),
            wait_p99_s: percentile(&waits, 990),
            wait_max_s: percentile(&waits, 1_000),
            finish_p50_s: percentile(&finishes, 500),
            finish_p99_s: percentile(&finishes, 990),
            slowdown: mean(slowdowns.iter().map(|(_, slowdown)| *slowdown)),
            cross_gib: gib(sum(|ending| ending.service.cross_bytes)),
            missed_gib: gib(sum(|ending| ending.service.missed_bytes - ending.service.new_bytes)),
            missed_or_new_gib: gib(sum(|ending| ending.service.missed_bytes)),
            hits: hit_weight / real(done.iter().map(|(task, _)| task.commit.bytes).sum::<u64>().max(1)),
            jain: jain(&slowdowns),
            wasted: (real(outcome.lost_us) + sum(|ending| ending.service.remade_us))
                / real(outcome.busy_us.max(1)),
            choice_us: outcome.choosing.as_secs_f64() * 1e6 / real(outcome.choices.max(1)),
            release_max_s: release_max.map_or(0.0, seconds),
            longest_wait_bound_s: seconds(longest_wait_bound_us(tasks, outcome, counted_from_us, slots)),
            others_wait_p99_s: percentile(&others, 990),
        }
    }
}

/// A bound of the longest wait. Who waits has only those of his own team before him that were there when he came or came in
/// the [`HEAD_START_MAX`] after, and his team has at least its part of the slots while it waits for any; then come the
/// longest build, which cannot be interrupted, and the time for which a policy may hold a task back.
fn longest_wait_bound_us(tasks: &[Task], outcome: &Outcome, counted_from_us: u64, slots: u64) -> u64 {
    let runs = || tasks.iter().zip(&outcome.endings);
    let counted = runs().filter(|(task, _)| task.submitted_us >= counted_from_us);
    let waited = |(task, ending): &(&Task, &Ending)| ending.started_us.saturating_sub(task.submitted_us);
    let Some((longest, _)) = counted.max_by_key(waited) else { return 0 };
    let came_us = longest.submitted_us;
    let took = |(task, ending): (&Task, &Ending)| {
        ending.finished_us.saturating_sub(ending.started_us.max(task.submitted_us))
    };
    let is_before = |(task, ending): &(&Task, &Ending)| {
        task.team == longest.team
            && task.submitted_us <= came_us + HEAD_START_MAX.0 * 1_000
            && ending.finished_us > came_us
    };
    let work_us: u64 = runs().filter(is_before).map(took).sum();
    let one_us = runs().map(took).max().unwrap_or(0);
    work_us * TEAMS as u64 / slots.max(1) + one_us + LeastFinish::default().held_back_max.0 * 1_000
}

fn slowdown(task: &Task, ending: &Ending) -> f64 {
    let took = ending.finished_us - task.submitted_us;
    (real(took) / real(task.warm_us.max(SLOWDOWN_FROM_US))).max(1.0)
}

/// Jain's fairness index: one when all have the same, and less the more they differ.
fn jain(slowdowns: &[(usize, f64)]) -> f64 {
    let of = |team| mean(slowdowns.iter().filter(|(of, _)| *of == team).map(|(_, slowdown)| *slowdown));
    let means: Vec<f64> = (0..TEAMS).map(of).collect();
    let sum: f64 = means.iter().sum();
    let squares: f64 = means.iter().map(|mean| mean * mean).sum();
    sum * sum / (real(TEAMS as u64) * squares).max(f64::MIN_POSITIVE)
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

/// Of sorted times, the one that so many in a thousand do not exceed.
fn percentile(sorted: &[u64], permille: usize) -> f64 {
    let rank = (sorted.len() * permille).div_ceil(1_000).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().map_or(0.0, seconds)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    sum / real(count.max(1))
}

fn seconds(us: u64) -> f64 {
    real(us) / 1e6
}

fn gib(bytes: f64) -> f64 {
    bytes / real(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_and_fairness_is_one_among_equals() {
        let times = sorted((1..=100).rev().map(|second| second * SECOND_US));
        assert_eq!([500, 990, 1_000].map(|permille| percentile(&times, permille)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[], 500), 0.0);
        let equal: Vec<(usize, f64)> = (0..TEAMS).map(|team| (team, 3.0)).collect();
        assert!((jain(&equal) - 1.0).abs() < 1e-9);
        let one_has_all: Vec<(usize, f64)> =
            (0..TEAMS).map(|team| (team, if team == 0 { 1.0 } else { 0.0 })).collect();
        assert!((jain(&one_has_all) - 1.0 / 6.0).abs() < 1e-9);
    }
}
