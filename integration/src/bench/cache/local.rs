//! The cache of one agent's own disk: what a build and a question cost through the shim, as cmd/go speaks to it.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use meridian_cache::prefetch::{Prefetch, PrefetchPlan, Supply};
use meridian_core::digest::Digest;

use super::{
    bed::{Bed, Program},
    driver::Driver,
    go_cacher::GoCacher,
    gocacheprog::Gocacheprog,
    installed::Installed,
    local_daemon::{LocalDaemon, SCOPE},
    meridian::{Meridian, Told, Word, filled_home, manifest},
    native,
    native_cache::{self, Entry},
    side::put_all,
};
use crate::bench::plan::Plan;
use crate::bench::{
    figures::Figures,
    ledger::Ledger,
    timing::{in_turns, seconds},
};

/// The figures of this part.
pub const KEYS: &[&str] = &["warm_local_ratio", "get_p50_us", "get_p50_vs_peer", "get_unlisted_p50_us"];

/// All of [`KEYS`].
///
/// # Errors
/// When a build fails, or a cache does not give back what it was given.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    if plan.wants("warm_local_ratio") {
        let program = bed.large()?;
        native::ensure_built(&bed, &program)?;
        let kept = filled_home(&bed, &program)?;
        for round in 0..plan.rounds {
            let key = format!("local/warm/{round}");
            let [ours, theirs] = ledger.get_or_keep(&key, || warm(&bed, &program, &kept, round))?;
            figures.add("warm_local_ratio", ours / theirs);
            figures.add("warm_local_s", ours);
            figures.add("warm_local_native_s", theirs);
        }
    }
    if ["get_p50_us", "get_p50_vs_peer", "get_unlisted_p50_us"].iter().any(|key| plan.wants(key)) {
        gets(&bed, plan, &mut ledger, figures)?;
    }
    Ok(())
}

/// Seconds of a build with a warm daemon, and of one with Go's own cache.
fn warm(bed: &Bed, program: &Program, kept: &Path, round: usize) -> anyhow::Result<[f64; 2]> {
    // Its task is placed with what the last build of its lineage has left, as an agent's is.
    let daemon = Meridian::told(Told::Manifest).place(kept, manifest(bed, program)?, &[])?.daemon;
    let ours = || {
        let surroundings = bed.surroundings_with(daemon.command_line())?;
        let took = seconds(bed.build(&surroundings, program)?)?;
        bed.expect_native_artifact(program)?;
        Ok(took)
    };
    let theirs = || native::warm_now(bed, program);
    // A daemon checks a body the first time that it gives it out. On an agent that has built the program it has.
    ours()?;
    let (ours, theirs) = in_turns(round, ours, theirs)?;
    Ok([ours, theirs])
}

/// The cache programs that keep what they were given on disk, each with a directory that is filled.
fn gets(bed: &Bed, plan: &Plan, ledger: &mut Ledger, figures: &mut Figures) -> anyhow::Result<()> {
    let program = bed.small()?;
    native::ensure_built(bed, &program)?;
    let entries = native_cache::entries(&bed.native_gocache(&program))?;
    let installed = Installed::install(figures);
    let mut peers: Vec<(&str, String)> = Vec::new();
    if let Some(programs) = installed.go_cacher {
        let directory = bed.emptied("gets-go-cacher")?;
        peers.push(("go_cacher", GoCacher(programs).command_line(&directory, None)));
    }
    if let Some(program) = installed.gocacheprog {
        let directory = bed.emptied("gets-gocacheprog")?;
        let peer = Gocacheprog { program, preloads: false };
        peers.push(("gocacheprog", peer.command_line(&directory, None)));
    }
    // All are given what is there now, in the order in which it is asked for: every build may add an entry to Go's own cache.
    let kept = bed.emptied("gets-meridian")?;
    let daemon = LocalDaemon::open(&kept)?;
    put_all(bed, &program, daemon.shim())?;
    let manifest = daemon.publish("gets", &Word)?.digest;
    drop(daemon);
    for (_, line) in &peers {
        put_all(bed, &program, words(line))?;
    }
    for round in 0..plan.rounds {
        let ours = ledger.get_or_keep(&format!("local/get/listed/{round}"), || {
            p50_us(placed(&kept, manifest)?.shim(), &entries)
        })?;
        figures.add("get_p50_us", ours);
        let unlisted = ledger.get_or_keep(&format!("local/get/unlisted/{round}"), || {
            p50_us(LocalDaemon::open(&kept)?.shim(), &entries)
        })?;
        figures.add("get_unlisted_p50_us", unlisted);
        let mut best = None::<f64>;
        for (name, line) in &peers {
            let theirs =
                ledger.get_or_keep(&format!("local/get/{name}/{round}"), || p50_us(words(line), &entries))?;
            figures.add(&format!("get_p50_{name}_us"), theirs);
            best = Some(best.map_or(theirs, |best| best.min(theirs)));
        }
        if let Some(best) = best {
            figures.add("get_p50_vs_peer", ours / best);
        }
    }
    Ok(())
}

/// A daemon with a task whose lineage was built here before, as most are: it is placed with the manifest of that, which
/// lists what is asked in the order in which it is. An agent has checked by then what the manifest names.
fn placed(kept: &Path, manifest: Digest) -> anyhow::Result<LocalDaemon> {
    let mut begun = None;
    let daemon = LocalDaemon::open_supplied(kept, |store| {
        let plan =
            PrefetchPlan { manifest, scope: SCOPE.to_owned(), holders: Vec::new(), from: 0, is_exact: true };
        let prefetch = Arc::new(Prefetch::begin(Arc::clone(store), Arc::new(Word), plan));
        begun = Some(Arc::clone(&prefetch));
        Some(Supply::new(Some(prefetch), None))
    })?;
    let prefetch = begun.context("nothing was placed")?;
    daemon.runtime().block_on(prefetch.ended());
    ensure!(prefetch.arrivals().is_whole(), "the manifest lists what is not here");
    Ok(daemon)
}

/// The median time of an answer, in microseconds, of a program that has just been started: as cmd/go finds it.
fn p50_us(cacheprog: Command, entries: &[Entry]) -> anyhow::Result<f64> {
    let mut driver = Driver::start(cacheprog)?;
    let mut took = Vec::with_capacity(entries.len());
    for entry in entries {
        let (path, answered) = driver.get(entry)?.context("an entry that was put is missing")?;
        let len = path.metadata()?.len();
        ensure!(len == entry.size, "{} has {len} bytes, not {}", path.display(), entry.size);
        took.push(answered);
    }
    driver.close()?;
    took.sort_unstable();
    Ok(took.get(took.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1e6)
}

/// A command line without quotes as a command.
fn words(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}
