//! A region is lost: how soon its tasks are under way elsewhere.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::{
    bench::figures::Figures,
    evidence::Evidence,
    regions::{HOME, Held, LEASE, Plan},
};

/// `region_loss_release_s`.
///
/// # Errors
/// When this machine makes no network namespaces.
pub fn region_loss(figures: &mut Figures) -> anyhow::Result<()> {
    let released_s = release_after_loss().context("regions are lost in network namespaces, as root")?;
    figures.add("region_loss_release_s", released_s);
    Ok(())
}

/// How many seconds after the leases of a lost region can be over at the latest the last of its tasks is leased in another
/// region: in a fleet of three regions with two agents of two slots each, half of which are taken. `None` where there are no
/// namespaces, which is said.
///
/// # Panics
/// When the fleet does not start, a build fails, or the fleet is not whole afterwards.
#[must_use]
#[track_caller]
pub fn release_after_loss() -> Option<f64> {
    let mut held = Held::begin_with(Plan { agents: 2, lease: LEASE, ..Plan::default() })?;
    // Two tasks are held, and these four keep as many slots for a while.
    let others = held.world.storm(&["us", "ap"], 2, &[]);
    others.wait_until_acknowledged(&held.world);
    let cut_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    held.world.network.cut(HOME);
    held.wait_until_taken_over();
    others.expect_success(&held.world);
    let lost = held.ids();
    let mut world = held.expect_success();
    world.network.heal(HOME);
    let evidence = world.expect_whole();
    let over_ms = cut_ms + LEASE.as_millis();
    let last_ms = lost.iter().map(|id| leased_elsewhere_ms(&evidence, id)).max().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a few seconds are far below 2^52 ms")]
    let released_s = u128::from(last_ms).saturating_sub(over_ms) as f64 / 1_000.0;
    Some(released_s)
}

/// When a build's task was first leased to an agent of another region than [`HOME`], by the clock of this machine.
fn leased_elsewhere_ms(evidence: &Evidence, build: &str) -> u64 {
    let of_build = |task: &str| task.strip_prefix(build).is_some_and(|rest| rest.starts_with('/'));
    let elsewhere = |agent: &str| !agent.starts_with(&format!("{HOME}/"));
    evidence
        .leases
        .iter()
        .filter(|lease| of_build(&lease.task.to_string()) && elsewhere(&lease.agent.to_string()))
        .map(|lease| lease.granted.0)
        .min()
        .unwrap_or(u64::MAX)
}
