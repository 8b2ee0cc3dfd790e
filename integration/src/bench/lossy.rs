//! The storm in process, on a journal whose unsynced writes vanish with every power cut.

use crate::{
    bench::figures::Figures,
    sim::{
        audit::Rule,
        seed::{self, Plan, Verdict},
    },
};

/// Power cuts in one round; agents are killed besides.
const POWER_CUTS: u64 = 1_000;
/// Power cuts in one story.
const CUTS_PER_SEED: u64 = 50;

/// `lossy_kills`, `lossy_lost` and `lossy_doubled`.
///
/// # Errors
/// Never for what is found: that is the figure. What it was stands on standard error.
pub fn lossy(round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let stories = POWER_CUTS / CUTS_PER_SEED;
    let first = u64::try_from(round)? * stories;
    let (mut cuts, mut kills, mut builds, mut lost, mut doubled) = (0, 0, 0, 0, 0);
    for seed in first..first + stories {
        let faults = seed::power_cuts(seed, CUTS_PER_SEED);
        kills += faults.iter().filter(|fault| fault.kind.name() == "agent_dies").count() as u64;
        cuts += faults.iter().filter(|fault| fault.kind.name() == "power_cut").count() as u64;
        let Verdict { finding, builds: ended, .. } =
            seed::run(seed, &Plan { mutation: None, faults: Some(faults) });
        builds += ended;
        if let Some(finding) = finding {
            eprintln!("seed {seed}: {finding}");
            match finding.rule {
                Rule::OneResult | Rule::OneHolder => doubled += 1,
                _ => lost += 1,
            }
        }
    }
    for (key, count) in [
        ("lossy_kills", cuts),
        ("lossy_agent_kills", kills),
        ("lossy_builds_done", builds),
        ("lossy_lost", lost),
        ("lossy_doubled", doubled),
    ] {
        figures.add(key, f64::from(u32::try_from(count)?));
    }
    Ok(())
}
