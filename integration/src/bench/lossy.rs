//! The storm in process, on a journal whose unsynced writes vanish with every power cut.

use crate::{
    bench::figures::Figures,
    simulation::world::{Verdict, simulate},
};

/// Power cuts and kills of agents in one round.
const KILLS: u64 = 1_000;

/// `lossy_kills`, `lossy_lost` and `lossy_doubled`.
///
/// # Errors
/// Never for what is found: that is the figure. What it was stands on standard error.
pub fn lossy(round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let seed = u64::try_from(round)?;
    let Verdict { kills, done, lost, doubled, findings } = simulate(seed, KILLS);
    for finding in findings {
        eprintln!("seed {seed}: {finding}");
    }
    for (key, count) in [
        ("lossy_kills", kills),
        ("lossy_builds_done", done),
        ("lossy_lost", lost),
        ("lossy_doubled", doubled),
    ] {
        figures.add(key, f64::from(u32::try_from(count)?));
    }
    Ok(())
}
