//! What a run of the laboratory is asked for, and the run.

use std::path::PathBuf;

use meridian_core::schedule::choice::LeastFinish;

use super::{
    document::Report,
    oracle,
    policy::Kind,
    recording,
    scenario::{self, Scenario},
    trial::{self, Extent},
    workload::HOUR_US,
};

/// What is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What everything is drawn from.
    pub seed: u64,
    /// How long a day is.
    pub hours: u64,
    /// Scenarios by their names; all when there is none.
    pub scenarios: Vec<String>,
    /// How many instances the oracle solves.
    pub instances: usize,
    /// How many runs go side by side.
    pub threads: usize,
    /// The directory of the document and its pictures, when they are to be written.
    pub docs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, hours: 24, scenarios: Vec::new(), instances: 240, threads: 2, docs: None }
    }
}

/// Runs the scenarios and the oracle.
///
/// # Errors
/// When a scenario is not known, a record is damaged, or the document cannot be written.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let programs = recording::programs()?;
    let known = |name: &String| {
        let found = scenario::ALL.iter().find(|scenario| scenario.name == name).cloned();
        found.ok_or_else(|| anyhow::anyhow!("no scenario is called {name:?}"))
    };
    let scenarios: Vec<Scenario> = match options.scenarios[..] {
        [] => scenario::ALL.to_vec(),
        _ => options.scenarios.iter().map(known).collect::<anyhow::Result<_>>()?,
    };
    let ours = LeastFinish::default();
    let length_us = options.hours * HOUR_US;
    let extent = Extent { seed: options.seed, length_us, threads: options.threads, ours };
    let trials = trial::run(&scenarios, &programs, extent)?;
    let gaps = oracle::gaps(&Kind::ALL, ours, options.instances, &programs, options.seed)?;
    let report = Report { trials, gaps };
    if let Some(docs) = &options.docs {
        let path = docs.join("SCHEDULING.md");
        let document = std::fs::read_to_string(&path)?;
        std::fs::write(&path, report.put_into(&document))?;
        for (name, picture) in report.charts() {
            std::fs::write(docs.join(name), picture)?;
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{figures::Figures, trial::Trial};

    #[test]
    fn a_short_day_is_done_by_all_policies_and_is_the_same_again() {
        let options = Options {
            hours: 4,
            scenarios: vec!["load 0.50".to_owned(), "region loss 0.50".to_owned()],
            instances: 4,
            ..Options::default()
        };
        let report = run(&options).unwrap();
        for trial in &report.trials {
            assert_eq!(trial.figures.len(), Kind::ALL.len());
            assert!(trial.figures.values().all(|figures| figures.undone == 0), "{trial:?}");
        }
        let keys = report.keys();
        assert!(keys["cross_bytes_vs_least_loaded"] < 1.0 && keys["miss_vs_random"] < 1.0, "{keys:?}");
        let first = Options { scenarios: options.scenarios[..1].to_vec(), instances: 0, ..options.clone() };
        let again = run(&first).unwrap();
        let without_clock = |trial: &Trial| {
            let figures = trial.figures.values().cloned();
            figures.map(|figures| Figures { choice_us: 0.0, ..figures }).collect::<Vec<_>>()
        };
        assert_eq!(without_clock(&again.trials[0]), without_clock(&report.trials[0]));
        let unknown = Options { scenarios: vec!["?".to_owned()], ..options };
        assert!(run(&unknown).is_err());
    }
}
