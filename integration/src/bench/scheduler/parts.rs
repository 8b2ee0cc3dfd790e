//! The parts, and the figures of each.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{decisions, real::part as real};
use crate::bench::{
    figures::Figures,
    plan::{Part, Plan, keys_of},
    region_loss,
};
use crate::{
    lab::{self, Options},
    sim::command::{tally, tell_progress},
};

/// Seeds of a run.
const SEEDS: u64 = 10_000;

const PARTS: [Part; 7] = [
    // Memory is weighed first: what others give back would be taken again unseen.
    Part { keys: &["bytes_per_queued_task", "bytes_per_queued_build"], measure: decisions::memory },
    Part { keys: &["decision_p99_ms", "dispatches_per_s", "decision_growth"], measure: decisions::measure },
    Part {
        keys: &[
            "wait_p99_vs_least_loaded",
            "wait_p99_vs_best",
            "cross_bytes_vs_least_loaded",
            "makespan_vs_oracle",
            "makespan_vs_oracle_if_known",
            "miss_vs_random",
            "miss_or_new_vs_random",
            "jain",
            "longest_wait_s",
            "longest_wait_bound_s",
            "others_p99_ratio",
        ],
        measure: laboratory,
    },
    Part { keys: &["seeds", "broken"], measure: seeds },
    Part { keys: &["mutations", "mutations_caught"], measure: mutations },
    Part { keys: real::KEYS, measure: real::measure },
    Part { keys: &["region_loss_release_s"], measure: |_, figures| region_loss::region_loss(figures) },
];

/// Every figure that can be asked for by `--only`.
#[must_use]
pub fn keys() -> Vec<&'static str> {
    keys_of(&PARTS)
}

/// Measures.
///
/// # Errors
/// When a part cannot be run here.
pub fn measure(plan: &Plan) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for part in PARTS.iter().filter(|part| part.is_wanted(plan)) {
        eprintln!("{}", part.keys.join(", "));
        (part.measure)(plan, &mut figures)?;
    }
    Ok(figures)
}

fn laboratory(_: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    for (key, value) in lab::run(&Options::default())?.keys() {
        // The release of a lost region's tasks is measured with real processes.
        if key != "region_loss_release_s" {
            figures.add(key, value);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn seeds(_: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let tally = tally(0, SEEDS, std::thread::available_parallelism().map_or(1, usize::from), tell_progress);
    figures.add("seeds", tally.seeds as f64);
    figures.add("broken", tally.broken.len() as f64);
    Ok(())
}

fn mutations(_: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let run = Command::new(cargo)
        .args(["run", "--quiet", "--manifest-path"])
        .arg(manifest)
        .args(["--bin", "sim", "--", "mutations", "--json"])
        .output()
        .context("cargo builds the simulator with debug assertions")?;
    let said = String::from_utf8_lossy(&run.stdout);
    let told: Value = serde_json::from_str(said.trim())
        .with_context(|| format!("`sim mutations`: {}", String::from_utf8_lossy(&run.stderr)))?;
    for key in ["mutations", "mutations_caught"] {
        let count = told[key].as_f64();
        ensure!(count.is_some(), "`sim mutations` says no {key}: {told}");
        figures.add(key, count.unwrap_or_default());
    }
    Ok(())
}
