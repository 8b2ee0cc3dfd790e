//! The storm in process, on a journal whose unsynced writes vanish with every power cut.

use crate::{
    bench::figures::Figures,
    simulation::world::{Verdict, simulate},
};

/// Power cuts in one round; agents are killed besides.
const POWER_CUTS: u64 = 1_000;

/// `lossy_kills`, `lossy_lost` and `lossy_doubled`.
///
/// # Errors
/// Never for what is found: that is the figure. What it was stands on standard error.
pub fn lossy(round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let seed = u64::try_from(round)?;
    let Verdict { power_cuts, agent_kills, done, lost, doubled, findings } = simulate(seed, POWER_CUTS);
    for finding in findings {
        eprintln!("seed {seed}: {finding}");
    }
    for (key, count) in [
        ("lossy_kills", power_cuts),
        ("lossy_agent_kills", agent_kills),
        ("lossy_builds_done", done),
        ("lossy_lost", lost),
        ("lossy_doubled", doubled),
    ] {
        figures.add(key, f64::from(u32::try_from(count)?));
    }
    Ok(())
}
