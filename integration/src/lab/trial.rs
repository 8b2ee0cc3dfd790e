//! Runs the scenarios, each under all policies with the same arrivals.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context;
use meridian_core::schedule::choice::LeastFinish;

use super::{
    engine::Engine, figures::Figures, policy::Kind, recording::Program, scenario::Scenario,
    workload::Workload,
};

/// How often the rate is put right until least loaded is as busy as it should be.
const CORRECTIONS: usize = 12;
/// The rate is never corrected to more than so many times what is guessed first, or to less than that part of it.
const CORRECTION_MAX: f64 = 16.0;
/// It is busy enough within this.
const NEAR_ENOUGH: f64 = 0.005;

/// A scenario's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Which.
    pub scenario: Scenario,
    /// Builds an hour that make least loaded as busy as the scenario says.
    pub builds_per_hour: f64,
    /// By policy.
    pub figures: BTreeMap<Kind, Figures>,
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// What everything is drawn from.
    pub seed: u64,
    /// How long a day is.
    pub length_us: u64,
    /// How many run side by side.
    pub threads: usize,
    /// How ours is set.
    pub ours: LeastFinish,
}

/// Runs scenarios under all policies.
///
/// # Errors
/// When a run cannot begin.
pub fn run(scenarios: &[Scenario], programs: &[Arc<Program>], extent: Extent) -> anyhow::Result<Vec<Trial>> {
    // Days of the same fleet and load are set by the same run of least loaded.
    let mut plain: Vec<Scenario> = Vec::new();
    for scenario in scenarios.iter().map(Scenario::untroubled) {
        if !plain.iter().any(|other| is_same_fleet(other, &scenario)) {
            plain.push(scenario);
        }
    }
    let rates = side_by_side(&plain, extent.threads, |scenario| rate(scenario, programs, extent))?;
    let rate_of = |scenario: &Scenario| {
        let same = plain.iter().position(|other| is_same_fleet(other, scenario));
        same.map(|at| rates[at]).context("each fleet has its rate")
    };
    let mut jobs = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let builds_per_hour = rate_of(scenario)?;
        jobs.extend(Kind::ALL.map(|kind| (number, kind, builds_per_hour)));
    }
    let figures = side_by_side(&jobs, extent.threads, |(number, kind, builds_per_hour)| {
        figures(&scenarios[*number], *kind, *builds_per_hour, programs, extent)
    })?;
    let mut trials = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let of = jobs.iter().zip(&figures).filter(|((of, _, _), _)| *of == number);
        trials.push(Trial {
            scenario: scenario.clone(),
            builds_per_hour: rate_of(scenario)?,
            figures: of.map(|((_, kind, _), figures)| (*kind, figures.clone())).collect(),
        });
    }
    Ok(trials)
}

fn is_same_fleet(one: &Scenario, other: &Scenario) -> bool {
    let fleet = |of: &Scenario| (of.load_percent, of.regions, of.machines, of.is_skewed);
    fleet(one) == fleet(other)
}

fn figures(
    scenario: &Scenario,
    kind: Kind,
    builds_per_hour: f64,
    programs: &[Arc<Program>],
    extent: Extent,
) -> anyhow::Result<Figures> {
    let length_us = scenario.length_us(extent.length_us);
    let workload = Workload::draw(&scenario.day(extent.seed, length_us, builds_per_hour), programs);
    let world = scenario.world(extent.seed);
    let policy = kind.begin(extent.ours, extent.seed);
    let engine = Engine::new(&workload, world.clone(), scenario.faults(length_us), policy, extent.seed)?;
    Ok(Figures::of(&workload.tasks, &engine.run(), &world, scenario.counted_from_us()))
}

/// The builds an hour that make least loaded as busy as a scenario says.
fn rate(scenario: &Scenario, programs: &[Arc<Program>], extent: Extent) -> anyhow::Result<f64> {
    let wanted = f64::from(scenario.load_percent) / 100.0;
    let slots = f64::from(u32::try_from(scenario.regions * scenario.machines * 2)?);
    let guess = slots * wanted * 40.0;
    let mut rate = guess;
    let mut nearest = (f64::INFINITY, rate);
    for _ in 0..CORRECTIONS {
        let found = figures(scenario, Kind::LeastLoaded, rate, programs, extent)?.utilisation;
        let off = (found - wanted).abs();
        if off < nearest.0 {
            nearest = (off, rate);
        }
        if off < NEAR_ENOUGH {
            break;
        }
        let Some(next) = corrected((guess, rate), wanted, found) else { break };
        rate = next;
    }
    Ok(nearest.1)
}

/// The rate to try after one with which it was as busy as was found. Another rate is another day, so each step is a guess;
/// and where nothing was measured, nothing says that more builds would be.
fn corrected((guess, rate): (f64, f64), wanted: f64, found: f64) -> Option<f64> {
    let next = rate * (wanted / found.max(0.01)).clamp(0.25, 4.0);
    (found > 0.0).then(|| next.clamp(guess / CORRECTION_MAX, guess * CORRECTION_MAX))
}

/// Does jobs on several threads; the results are in the order of the jobs.
fn side_by_side<J: Sync, R: Send>(
    jobs: &[J],
    threads: usize,
    run: impl Fn(&J) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, anyhow::Result<R>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let result = run(job);
                    if let Ok(mut results) = results.lock() {
                        results.insert(number, result);
                    }
                }
            });
        }
    });
    let results = results.into_inner().map_err(|_| anyhow::anyhow!("a run panicked"))?;
    results.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{recording, scenario, workload::HOUR_US};

    #[test]
    fn a_rate_of_which_nothing_is_measured_is_not_corrected_and_none_without_bounds() {
        assert_eq!(corrected((100.0, 100.0), 0.5, 0.0), None);
        let mut rate = 100.0;
        for _ in 0..CORRECTIONS {
            rate = corrected((100.0, rate), 0.5, 0.001).unwrap();
        }
        assert!((rate - 1_600.0).abs() < 1e-6, "{rate}");
        assert!((corrected((100.0, 100.0), 0.5, 0.4).unwrap() - 125.0).abs() < 1e-6);
    }

    #[test]
    fn a_day_of_which_nothing_is_counted_has_a_rate_all_the_same() {
        let programs = recording::programs().unwrap();
        let extent = Extent { seed: 1, length_us: HOUR_US, threads: 1, ours: LeastFinish::default() };
        let scenario = &scenario::ALL[0];
        let slots = f64::from(u32::try_from(scenario.regions * scenario.machines * 2).unwrap());
        let guess = slots * f64::from(scenario.load_percent) / 100.0 * 40.0;
        let found = rate(scenario, &programs, extent).unwrap();
        assert!((found - guess).abs() < 1e-6, "{found} builds an hour, {guess} guessed");
    }
}
