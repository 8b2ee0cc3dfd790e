//! One policy's fleet, and what the builds cost there.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::commits::{Commit, first_versions};
use crate::{
    client::Client,
    fleet::TEAM,
    lab::regions::{bytes_per_s, rtt_us},
    regions::{CENTRE, Plan, REGIONS, World},
    relay::Shape,
};

/// Who builds, by region.
type Clients = BTreeMap<&'static str, Client>;

/// Whose member asks for figures: the one that the coordinator is near to.
const CENTRAL: &str = REGIONS[0];
/// How long a build may take.
const BUILD_MAX: Duration = Duration::from_secs(600);

/// What all builds of a policy cost.
#[derive(Debug)]
pub(super) struct Cost {
    /// How long each took, from its command's start to its end.
    pub(super) seconds: Vec<f64>,
    /// What went over the ways between agents of different regions, or to who had built elsewhere than at home.
    pub(super) crossed_bytes: u64,
    /// What of it agents fetched for their caches from agents of other regions; the rest are artifacts that were fetched where
    /// they were made, and questions.
    pub(super) cache_bytes: u64,
}

/// Has a fleet under a policy build these commits.
///
/// # Errors
/// When a build fails, or this machine makes no network namespaces.
///
/// # Panics
/// When the fleet does not start, or is not whole afterwards.
pub(super) fn build(
    commits: &[Commit],
    goproxy: &str,
    settings: &'static [&'static str],
) -> anyhow::Result<Cost> {
    let plan = Plan { settings, between: Some(between), ..Plan::default() };
    let mut world = World::without_agents(plan).context("regions are made in network namespaces, as root")?;
    world.modules_at(goproxy);
    REGIONS.into_iter().for_each(|region| world.join_region(region));
    warm(&world.clients)?;
    let fetched = || fetched_bytes(&world.clients[CENTRAL]);
    let (crossed_before, fetched_before) = (world.crossed_bytes(), fetched()?);
    let seconds = run(&world.clients, commits)?;
    let crossed_bytes = world.crossed_bytes() - crossed_before;
    let cache_bytes = fetched()? - fetched_before;
    let _evidence = world.expect_whole();
    Ok(Cost { seconds, crossed_bytes, cache_bytes })
}

/// What agents fetched from one another. Each is alone in its region, so all of it came from elsewhere.
fn fetched_bytes(client: &Client) -> anyhow::Result<u64> {
    let told = client.run(&["cache", "stats", "--json"]);
    let told: Value = serde_json::from_str(&told.stdout).with_context(|| format!("cache stats: {told}"))?;
    let agents = told["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(agents.len() == REGIONS.len(), "an agent does not answer: {told}");
    agents.iter().map(|agent| agent["fetched_wire_bytes"].as_u64().context("it says no bytes")).sum()
}

/// Has each agent build the first version of each program. The regions come one after the other, so that what one has built
/// is fetched and not built by the next.
fn warm(clients: &Clients) -> anyhow::Result<()> {
    for region in REGIONS {
        let agent = format!("{region}/a0");
        thread::scope(|scope| {
            let first = first_versions();
            let started: Vec<_> = first
                .into_iter()
                .map(|commit| {
                    let agent = &agent;
                    scope.spawn(move || timed(&clients[region], &commit, &["--agent", agent]))
                })
                .collect();
            started.into_iter().try_for_each(|build| joined(build).map(drop))
        })?;
    }
    Ok(())
}

/// Starts each build when it comes, and returns what each took.
fn run(clients: &Clients, commits: &[Commit]) -> anyhow::Result<Vec<f64>> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let started: Vec<_> = commits
            .iter()
            .map(|commit| {
                let due = begun + Duration::from_millis(commit.at_ms);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                scope.spawn(|| timed(&clients[commit.from], commit, &[]))
            })
            .collect();
        started.into_iter().map(joined).collect()
    })
}

fn joined(build: thread::ScopedJoinHandle<'_, anyhow::Result<f64>>) -> anyhow::Result<f64> {
    build.join().unwrap_or_else(|_| anyhow::bail!("a build's thread has panicked"))
}

fn timed(client: &Client, commit: &Commit, more: &[&str]) -> anyhow::Result<f64> {
    let project = format!("{TEAM}/{}", commit.project);
    let mut arguments = vec![commit.source.as_str(), "--project", &project];
    arguments.extend(more);
    let out = format!("dist-{}", commit.source.replace('/', "-"));
    let begun = Instant::now();
    let build = client.start_build(&out, &arguments).finish_within(BUILD_MAX);
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(build.run.code == Some(0), "{}: {}", commit.source, build.run);
    fs::remove_dir_all(build.dist.path())?;
    Ok(seconds)
}

/// The laboratory's way between two sites.
fn between(one: &str, other: &str) -> Shape {
    let rtt_us = rtt_us(number(one), number(other));
    Shape::with_round_trip(Duration::from_micros(rtt_us)).at_bits_per_s(8 * bytes_per_s(rtt_us))
}

/// A site's number in the laboratory's table: Washington, Frankfurt, Tokyo.
fn number(site: &str) -> usize {
    const EU: &str = REGIONS[0];
    const US: &str = REGIONS[1];
    match site {
        EU | CENTRE => 1,
        US => 0,
        _ => 2,
    }
}
