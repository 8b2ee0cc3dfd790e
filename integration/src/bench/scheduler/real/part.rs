//! The figures of real processes.

use super::{
    commits::{download, later_versions},
    fleet::{Cost, build},
};
use crate::bench::{
    cache::{bed::Bed, commits::percentile, far::mib},
    figures::Figures,
    plan::Plan,
};

/// The figures of this part, ours divided by round robin's. Besides there are the seconds and the bytes of both.
pub(in crate::bench::scheduler) const KEYS: &[&str] =
    &["real_cross_bytes_vs_rr", "real_p95_vs_rr", "real_p50_vs_rr"];

/// How many drawn days are built at most, each by both.
const DAYS_MAX: usize = 2;

/// All of [`KEYS`].
///
/// # Errors
/// When a program cannot be had, a build fails, or this machine makes no network namespaces.
pub(in crate::bench::scheduler) fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let goproxy = download(&Bed::open()?)?;
    for day in 0..plan.rounds.clamp(1, DAYS_MAX) {
        let commits = later_versions(1 + day as u64);
        let theirs = || build(&commits, &goproxy, &["schedule.policy=round-robin"]);
        let ours = || build(&commits, &goproxy, &[]);
        // By turns, so that neither always comes first.
        let (theirs, ours) = if day % 2 == 0 {
            let theirs = theirs()?;
            (theirs, ours()?)
        } else {
            let ours = ours()?;
            (theirs()?, ours)
        };
        for (name, cost) in [("rr", &theirs), ("ours", &ours)] {
            let Cost { seconds, crossed_bytes, cache_bytes } = cost;
            eprintln!(
                "{name}: {seconds:.1?} s, {crossed_bytes} bytes between regions, {cache_bytes} of caches"
            );
            figures.add(&format!("real_{name}_p50_s"), percentile(&cost.seconds, 50));
            figures.add(&format!("real_{name}_p95_s"), percentile(&cost.seconds, 95));
            figures.add(&format!("real_{name}_cross_mib"), mib(cost.crossed_bytes));
            figures.add(&format!("real_{name}_cache_mib"), mib(cost.cache_bytes));
        }
        let ratio = |percent| percentile(&ours.seconds, percent) / percentile(&theirs.seconds, percent);
        figures.add("real_cross_bytes_vs_rr", mib(ours.crossed_bytes) / mib(theirs.crossed_bytes));
        figures.add("real_p95_vs_rr", ratio(95));
        figures.add("real_p50_vs_rr", ratio(50));
    }
    Ok(())
}
