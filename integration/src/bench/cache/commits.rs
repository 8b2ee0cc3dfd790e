//! Fifty successive versions of one program, each built by an agent that has nothing, over a link that is long and
//! loses segments. What each has made stays at the other end of the link for the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{bed::Bed, commits_incumbent, commits_meridian, far::mib};
use crate::{
    bench::{figures::Figures, ledger::Ledger, plan::Plan},
    relay::Shape,
};

/// The figures of this part, ours divided by the incumbent's. Besides there are the seconds of both and what went over
/// their links.
pub const KEYS: &[&str] = &["commits_p50_ratio", "commits_p95_ratio", "commits_bytes_ratio"];

/// From one end of the world to the other.
const ROUND_TRIP: Duration = Duration::from_millis(330);
/// 0.5 %.
const LOST_PER_MILLION: u32 = 5_000;

/// What the build of one version took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// From the start to the artifact.
    pub seconds: f64,
    /// What went over the link, both ways.
    pub wire_bytes: u64,
}

/// All of [`KEYS`], in one round.
///
/// # Errors
/// When a build fails.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    let theirs = Summary::of(&commits_incumbent::builds(&bed, &mut ledger)?);
    let ours = Summary::of(&commits_meridian::builds(&bed, &mut ledger)?);
    for (side, summary) in [("tarball", &theirs), ("meridian", &ours)] {
        figures.add(&format!("commits_{side}_p50_s"), summary.p50_s);
        figures.add(&format!("commits_{side}_p95_s"), summary.p95_s);
        figures.add(&format!("commits_{side}_mib"), summary.mib);
    }
    figures.add("commits_p50_ratio", ours.p50_s / theirs.p50_s);
    figures.add("commits_p95_ratio", ours.p95_s / theirs.p95_s);
    figures.add("commits_bytes_ratio", ours.mib / theirs.mib);
    Ok(())
}

/// All builds of one side.
struct Summary {
    p50_s: f64,
    p95_s: f64,
    mib: f64,
}

impl Summary {
    fn of(builds: &[Build]) -> Self {
        let seconds: Vec<f64> = builds.iter().map(|build| build.seconds).collect();
        Self {
            p50_s: percentile(&seconds, 50),
            p95_s: percentile(&seconds, 95),
            mib: mib(builds.iter().map(|build| build.wire_bytes).sum()),
        }
    }
}

/// The key under which the ledger has the digest of a version's artifact.
#[must_use]
pub fn artifact_key(version: &str) -> String {
    format!("commits/artifact/{version}")
}

/// The link between the agents and where their caches are kept.
#[must_use]
pub fn link() -> Shape {
    Shape::with_round_trip(ROUND_TRIP).losing_per_million(LOST_PER_MILLION)
}

/// The value below which so many percent of the values are, or that is the last of them.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cache::commit_versions::{BEFORE, VERSIONS};

    #[test]
    fn fifty_versions_are_in_order_and_each_is_there_once() {
        let numbers = |version: &str| {
            let parts = version.trim_start_matches('v').split('.').map(|part| part.parse().unwrap());
            parts.collect::<Vec<u32>>()
        };
        let all: Vec<_> = [BEFORE].iter().chain(&VERSIONS).map(|version| numbers(version)).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=50).rev().map(f64::from).collect();
        assert_eq!([50, 95, 100].map(|percent| percentile(&values, percent)), [25.0, 48.0, 50.0]);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
