//! What a run of the laboratory is asked for, and the run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use meridian_core::schedule::choice::LeastFinish;

use super::{
    document::Report,
    oracle,
    policy::Kind,
    recording,
    scenario::{self, Scenario, WARM_UP_US},
    trial::{self, Extent},
    workload::HOUR_US,
};

/// The shortest day of which anything is counted.
pub const HOURS_MIN: u64 = WARM_UP_US / HOUR_US + 1;
/// What the document is called.
const DOCUMENT: &str = "SCHEDULING.md";

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
/// When a day is too short, a scenario is not known, a record is damaged, or the document cannot be written.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    ensure!(
        options.hours >= HOURS_MIN,
        "a day has {HOURS_MIN} hours at least, not {}: in its first {} the caches fill, and nothing is counted",
        options.hours,
        HOURS_MIN - 1
    );
    let scenarios = scenarios(&options.scenarios)?;
    // A day takes long, so whether its result can be written is asked before.
    let document = options.docs.as_ref().map(|docs| docs.join(DOCUMENT)).map(read_document).transpose()?;
    let programs = recording::programs()?;
    let ours = LeastFinish::default();
    let length_us = options.hours * HOUR_US;
    let extent = Extent { seed: options.seed, length_us, threads: options.threads, ours };
    let trials = trial::run(&scenarios, &programs, extent)?;
    let gaps = oracle::gaps(&Kind::ALL, ours, options.instances, &programs, options.seed)?;
    let report = Report { trials, gaps };
    if let Some((path, document)) = document {
        write(&path, &report.put_into(&document))?;
        for (name, picture) in report.charts() {
            write(&path.with_file_name(name), &picture)?;
        }
    }
    Ok(report)
}

fn scenarios(named: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if named.is_empty() {
        return Ok(scenario::ALL.to_vec());
    }
    let known = |name: &String| {
        let found = scenario::ALL.iter().find(|scenario| scenario.name == name).cloned();
        found.with_context(|| {
            let names: Vec<String> = scenario::ALL.iter().map(|one| format!("{:?}", one.name)).collect();
            format!("no scenario is called {name:?}; there are {}", names.join(", "))
        })
    };
    named.iter().map(known).collect()
}

fn read_document(path: PathBuf) -> anyhow::Result<(PathBuf, String)> {
    let document = std::fs::read_to_string(&path);
    let document = document.with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path, document))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
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
    }

    #[test]
    fn what_cannot_be_run_or_written_is_said_before_anything_is() {
        let refused = |options: Options| format!("{:#}", run(&options).unwrap_err());
        for hours in 0..HOURS_MIN {
            let told = refused(Options { hours, ..Options::default() });
            assert!(told.contains("4 hours at least"), "{told}");
        }
        let told = refused(Options { scenarios: vec!["?".to_owned()], ..Options::default() });
        assert!(told.contains("\"?\"; there are") && told.contains("\"cold start\""), "{told}");
        let told = refused(Options { docs: Some(PathBuf::from("/nonexistent")), ..Options::default() });
        assert!(told.contains("/nonexistent/SCHEDULING.md"), "{told}");
    }
}
