//! Runs the matrix and counts.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::{
    cells::{self, Cell, Expected},
    judge::{can_cut_off, judge},
    peers::Peers,
    samples::built,
};
use crate::bench::{figures::Figures, plan::Plan};

/// The figures of this part.
pub const KEYS: &[&str] = &["matrix_cells", "matrix_surprises"];

/// What came of the cells that were run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were run.
    pub cells: u32,
    /// Those that came out otherwise than expected, with what the verifier said.
    pub surprises: Vec<String>,
}

/// `matrix_cells`, `matrix_surprises`.
///
/// # Errors
/// When there is nothing to verify, or a verifier cannot be run.
pub fn measure(_plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let peers = Peers::install();
    for _ in 0..peers.missing() {
        figures.peer_is_missing();
    }
    let outcome = run(&peers, |_| true)?;
    figures.add("matrix_cells", f64::from(outcome.cells));
    figures.add("matrix_surprises", f64::from(u32::try_from(outcome.surprises.len())?));
    Ok(())
}

/// Runs every wanted cell that applies and whose verifier is there. Says on standard error what it did.
///
/// # Errors
/// When there is nothing to verify, or a verifier cannot be run.
pub fn run(peers: &Peers, is_wanted: fn(&Cell) -> bool) -> anyhow::Result<Outcome> {
    let samples = built()?;
    let scratch = tempfile::Builder::new().prefix("mrdmatrix").tempdir()?;
    let is_cut_off = can_cut_off();
    if !is_cut_off {
        eprintln!(
            "this user may not cut a process off from the network: that nothing is fetched is not shown"
        );
    }
    let mut outcome = Outcome::default();
    let mut left_out: BTreeMap<String, u32> = BTreeMap::new();
    for (index, cell) in cells::all().into_iter().filter(is_wanted).enumerate() {
        let Some(program) = peers.program(cell.verifier) else { continue };
        let (should_accept, why, saying) = match cell.expected() {
            Expected::Accepts(why) => (true, why, ""),
            Expected::Rejects(why) => (false, why, ""),
            Expected::RejectsSaying(why, saying) => (false, why, saying),
            Expected::DoesNotApply(why) => {
                *left_out.entry(format!("{} / {:?}: {why}", cell.verifier, cell.form)).or_default() += 1;
                continue;
            }
        };
        let sample = samples.get(&cell.algorithm).context("a sample of each algorithm")?;
        let paths = sample
            .altered(cell.form, cell.alteration)?
            .write(&scratch.path().join(index.to_string()), cell.form)?;
        let verdict = judge(program, &cell, &paths, is_cut_off)?;
        outcome.cells += 1;
        if verdict.accepted != should_accept || !verdict.said.contains(saying) {
            outcome.surprises.push(surprise(&cell, should_accept, why, &verdict.said));
        }
    }
    for (what, count) in left_out {
        eprintln!("{count:3} cells do not apply: {what}");
    }
    for surprise in &outcome.surprises {
        eprintln!("a surprise: {surprise}");
    }
    Ok(outcome)
}

fn surprise(cell: &Cell, should_accept: bool, why: &str, said: &str) -> String {
    let expected = if should_accept { "accepted" } else { "refused" };
    format!("{cell}: expected to be {expected}, since {why}; it said: {}", said.trim())
}
