//! `bench main-job`: the corridor from the command line to `dist/`, measured against what people use today.

use crate::bench::{figures::Figures, journal, lossy, matrix, memory, speed, storm, world::World};

/// Every figure that can be asked for by `--only`, in the order in which they are taken.
pub const KEYS: &[&str] = &[
    "journal_commit_vs_fdatasync",
    "mem_coordinator_mib",
    "mem_agent_mib",
    "mem_shim_mib",
    "cold_ratio",
    "warm_ratio",
    "warm_overhead_s",
    "changed_ratio",
    "matrix_vs_shell_ratio",
    "matrix_vs_goreleaser_ratio",
    "kills",
    "storm_builds_done",
    "lost",
    "doubled",
    "lossy_kills",
    "lossy_lost",
    "lossy_doubled",
];

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds; the figure is their median.
    pub rounds: usize,
    /// Only these keys; all when empty.
    pub only: Vec<String>,
}

impl Plan {
    fn wants(&self, keys: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|key| keys.contains(&key.as_str()))
    }
}

/// Measures.
///
/// # Errors
/// When something that is measured does not work. A peer that cannot be installed is no error.
pub fn measure(plan: &Plan) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let speed = plan.wants(&["cold_ratio", "warm_ratio", "warm_overhead_s", "changed_ratio"]);
    let matrix = plan.wants(&["matrix_vs_shell_ratio", "matrix_vs_goreleaser_ratio"]);
    let agent = plan.wants(&["mem_agent_mib", "mem_shim_mib"]);
    if speed || matrix || agent {
        let world = World::prepare()?;
        let goreleaser = if plan.wants(&["matrix_vs_goreleaser_ratio"]) {
            matrix::install_goreleaser()
                .inspect_err(|error| {
                    eprintln!("GoReleaser cannot be installed: {error:#}");
                    figures.peer_is_missing();
                })
                .ok()
        } else {
            None
        };
        for round in 0..plan.rounds {
            say(round, plan.rounds);
            if agent {
                memory::agent(&world, &mut figures)?;
            }
            if plan.wants(&["cold_ratio"]) {
                speed::cold(&world, round, &mut figures)?;
            }
            if plan.wants(&["warm_ratio", "warm_overhead_s"]) {
                speed::warm(&world, round, &mut figures)?;
            }
            if plan.wants(&["changed_ratio"]) {
                speed::changed(&world, round, &mut figures)?;
            }
            if matrix {
                matrix::matrix(&world, goreleaser.as_deref(), round, &mut figures)?;
            }
        }
    }
    if plan.wants(&["journal_commit_vs_fdatasync"]) {
        journal::journal(plan.rounds, &mut figures)?;
    }
    if plan.wants(&["mem_coordinator_mib"]) {
        for _ in 0..plan.rounds {
            memory::coordinator(&mut figures)?;
        }
    }
    if plan.wants(&["kills", "storm_builds_done", "lost", "doubled"]) {
        storm::storm(storm::Storm::default(), &mut figures)?;
    }
    if plan.wants(&["lossy_kills", "lossy_lost", "lossy_doubled"]) {
        for round in 0..plan.rounds {
            lossy::lossy(round, &mut figures)?;
        }
    }
    Ok(figures)
}

fn say(round: usize, rounds: usize) {
    eprintln!("round {} of {rounds}", round + 1);
}
