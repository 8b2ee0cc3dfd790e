//! Anonymous memory of each role, as the kernel counts it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    bench::{figures::Figures, world::World},
    fixture::program::Program,
    fleet::Fleet,
    home::Home,
};

/// How many tasks wait while the coordinator is measured.
const QUEUED_TASKS: usize = 1_000;
/// Platforms that every Go since 1.21 builds for without cgo.
const MANY_PLATFORMS: &str = "linux/amd64,linux/arm64,linux/386,linux/arm,linux/riscv64,linux/ppc64le,linux/s390x,linux/mips64le,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64,windows/386,freebsd/amd64,freebsd/arm64,netbsd/amd64,openbsd/amd64,dragonfly/amd64,plan9/amd64,solaris/amd64";
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// `mem_coordinator_mib`: a coordinator without an agent, and a thousand tasks that wait for one.
///
/// # Errors
/// When a submit fails or the process cannot be read.
pub fn coordinator(figures: &mut Figures) -> anyhow::Result<()> {
    let mut fleet = Fleet::start();
    let client = fleet.member("bench");
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "p").write(&directory)?;
    let source = directory.display().to_string();
    let platforms = MANY_PLATFORMS.split(',').count();
    for _ in 0..QUEUED_TASKS.div_ceil(platforms) {
        client
            .run(&[
                "build",
                &source,
                "--version",
                "1",
                "--project",
                "acme/p",
                "--platform",
                MANY_PLATFORMS,
                "--detach",
            ])
            .expect_code(0);
    }
    let mib = anonymous_mib(fleet.coordinator().id()).context("the coordinator's memory cannot be read")?;
    figures.add("mem_coordinator_mib", mib);
    Ok(())
}

/// `mem_agent_mib` and `mem_shim_mib`: the highest seen during a cold build of a real program.
///
/// # Errors
/// When nothing could be sampled.
pub fn agent(world: &World, figures: &mut Figures) -> anyhow::Result<()> {
    let mut fleet = Fleet::start();
    let agent = fleet.join_agent("bench/a", 2, Home::with_the_real_proxy());
    let client = fleet.member("bench");
    let id = fleet.agent(agent).id();
    let over = Arc::new(AtomicBool::new(false));
    let sampler = thread::spawn({
        let over = Arc::clone(&over);
        move || sample(id, &over)
    });
    let source = world.ours().display().to_string();
    client
        .build(&[
            &source,
            "--version",
            "1",
            "--project",
            "acme/p",
            "--go",
            "default",
            "--platform",
            "linux/amd64,linux/arm64",
        ])
        .expect_success();
    over.store(true, Ordering::Relaxed);
    let (agent, shim) = sampler.join().ok().flatten().context("the agent's memory could not be sampled")?;
    figures.add("mem_agent_mib", agent);
    figures.add("mem_shim_mib", shim.context("no cacheprog process was seen during the build")?);
    Ok(())
}

/// The peaks of a process and of the cacheprog shims that run meanwhile below it.
fn sample(agent: u32, over: &AtomicBool) -> Option<(f64, Option<f64>)> {
    let (mut most, mut most_of_shims) = (None::<f64>, None::<f64>);
    while !over.load(Ordering::Relaxed) {
        if let Some(now) = anonymous_mib(agent) {
            most = Some(most.map_or(now, |most| most.max(now)));
        }
        for shim in shims() {
            if let Some(now) = anonymous_mib(shim) {
                most_of_shims = Some(most_of_shims.map_or(now, |most| most.max(now)));
            }
        }
        thread::sleep(SAMPLE_EVERY);
    }
    Some((most?, most_of_shims))
}

/// The peak of a process until told to stop.
#[must_use]
pub fn peak_of(id: u32, over: &AtomicBool) -> Option<f64> {
    let mut most = None::<f64>;
    while !over.load(Ordering::Relaxed) {
        if let Some(now) = anonymous_mib(id) {
            most = Some(most.map_or(now, |most| most.max(now)));
        }
        thread::sleep(SAMPLE_EVERY);
    }
    most
}

/// The peak of the cacheprog shim on a socket, while it runs. It is looked for once, since what it serves may be timed.
#[must_use]
pub fn peak_of_shim_on(socket: &str, over: &AtomicBool) -> Option<f64> {
    let is_ours = |shim: &u32| {
        let line = fs::read(format!("/proc/{shim}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == socket.as_bytes())
    };
    let (mut most, mut ours) = (None::<f64>, None);
    while !over.load(Ordering::Relaxed) {
        ours = ours.or_else(|| shims().into_iter().find(is_ours));
        if let Some(now) = ours.and_then(anonymous_mib) {
            most = Some(most.map_or(now, |most| most.max(now)));
        }
        thread::sleep(SAMPLE_EVERY);
    }
    most
}

/// Every running `meridian cacheprog`.
fn shims() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| {
            fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| {
                let mut words = line.split(|byte| *byte == 0);
                words.next().is_some_and(|program| program.ends_with(b"/meridian"))
                    && words.next() == Some(b"cacheprog")
            })
        })
        .collect()
}

/// `RssAnon` of a process in MiB; `None` when it has ended.
#[must_use]
pub fn anonymous_mib(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
