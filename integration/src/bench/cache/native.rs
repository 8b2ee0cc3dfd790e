//! What Go does by itself with a cache on its own disk: the measure of everything else.

use std::fs;

use super::{
    bed::{Bed, Program},
    native_cache,
};
use crate::bench::plan::Plan;
use crate::bench::{
    figures::Figures,
    ledger::Ledger,
    timing::{run, seconds},
    world::remove,
};

/// The figures of this part, of each program: from an empty cache and from a full one, and what the cache holds.
pub const KEYS: &[&str] = &[
    "small_native_cold_s",
    "small_native_warm_s",
    "small_cache_entries",
    "small_cache_mib",
    "large_native_cold_s",
    "large_native_warm_s",
    "large_cache_entries",
    "large_cache_mib",
];

/// All of [`KEYS`].
///
/// # Errors
/// When a build fails.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    let makes: [fn(&Bed) -> anyhow::Result<Program>; 2] = [Bed::small, Bed::large];
    for (name, make) in ["small", "large"].into_iter().zip(makes) {
        // What nobody asked for is not even downloaded.
        if !KEYS.iter().any(|key| key.starts_with(name) && plan.wants(key)) {
            continue;
        }
        let program = make(&bed)?;
        for round in 0..plan.rounds {
            if plan.wants(&format!("{name}_native_cold_s")) {
                figures.add(&format!("{name}_native_cold_s"), cold(&bed, &program, round, &mut ledger)?);
            }
            if plan.wants(&format!("{name}_native_warm_s")) {
                figures.add(&format!("{name}_native_warm_s"), warm(&bed, &program, round, &mut ledger)?);
            }
        }
        ensure_built(&bed, &program)?;
        let entries = native_cache::entries(&bed.native_gocache(&program))?;
        let mut bytes = 0;
        for entry in &entries {
            bytes += fs::metadata(&entry.body)?.len();
        }
        figures.add(&format!("{name}_cache_entries"), f64::from(u32::try_from(entries.len())?));
        figures.add(&format!("{name}_cache_mib"), f64::from(u32::try_from(bytes >> 10)?) / 1024.0);
    }
    Ok(())
}

/// Builds a program natively unless that was done before, so that its cache and its artifact are there.
///
/// # Errors
/// When the build fails.
pub fn ensure_built(bed: &Bed, program: &Program) -> anyhow::Result<()> {
    if bed.has_native_cache(program) {
        return Ok(());
    }
    eprintln!("building the {} program natively", program.name);
    build_cold(bed, program).map(drop)
}

/// Seconds of a build with an empty cache.
///
/// # Errors
/// When the build fails.
pub fn cold(bed: &Bed, program: &Program, round: usize, ledger: &mut Ledger) -> anyhow::Result<f64> {
    let key = format!("native/{}/cold/{round}", program.name);
    ledger.get_or_keep(&key, || build_cold(bed, program))
}

/// The same, now, and without a trace.
///
/// # Errors
/// When the build fails, or makes another artifact.
pub fn cold_now(bed: &Bed, program: &Program) -> anyhow::Result<f64> {
    let surroundings = bed.surroundings(bed.emptied("gocache")?);
    let took = seconds(bed.build(&surroundings, program)?)?;
    bed.expect_native_artifact(program)?;
    Ok(took)
}

fn build_cold(bed: &Bed, program: &Program) -> anyhow::Result<f64> {
    let gocache = bed.native_gocache(program);
    remove(&gocache)?;
    fs::create_dir_all(&gocache)?;
    let took = seconds(bed.build(&bed.surroundings(gocache), program)?)?;
    bed.keep_native_digest(program)?;
    Ok(took)
}

/// Seconds of a build with a full cache, which links. Taken once a round, whoever asks.
///
/// # Errors
/// When the build fails, or makes another artifact.
pub fn warm(bed: &Bed, program: &Program, round: usize, ledger: &mut Ledger) -> anyhow::Result<f64> {
    let key = format!("native/{}/warm/{round}", program.name);
    ledger.get_or_keep(&key, || warm_now(bed, program))
}

/// The same, now.
///
/// # Errors
/// When the build fails, or makes another artifact.
pub fn warm_now(bed: &Bed, program: &Program) -> anyhow::Result<f64> {
    ensure_built(bed, program)?;
    let surroundings = bed.surroundings(bed.native_gocache(program));
    // Whatever was written since the last build is on its way to the disk.
    run(&mut bed.build(&surroundings, program)?)?;
    let seconds = seconds(bed.build(&surroundings, program)?)?;
    bed.expect_native_artifact(program)?;
    Ok(seconds)
}
