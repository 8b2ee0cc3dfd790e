//! The far agent once more, each time with one thing different: a narrow link, a near one, a source that has changed,
//! no manifest, a cache that vanishes.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{
    bed::{Bed, Program},
    far::{CUT_AFTER, Cell, FAR_MS, build_through, get_or_build, mib},
    go_cacher::GoCacher,
    gocacheprog::Gocacheprog,
    installed::Installed,
    meridian::{Meridian, Told, manifest, outputs, serve_store},
    native,
    side::Side,
};
use crate::bench::plan::Plan;
use crate::{
    bench::{
        figures::Figures,
        ledger::Ledger,
        timing::{run, seconds},
        world::remove,
    },
    relay::{Relay, Shape},
};

/// The figures of this part. `blackhole_extra_s` is the worse of two: what a cache costs that vanishes when
/// `blackhole_came_mib` of it came, and one that never answers.
pub const KEYS: &[&str] = &[
    "far_vs_near_ratio",
    "far_100mbit_ratio",
    "wire_vs_zstd_ratio",
    "far_changed_ratio",
    "no_manifest_vs_peer",
    "second_agent_wan_ratio",
    "blackhole_extra_s",
];

const NARROW_BITS_PER_S: u64 = 100_000_000;
/// A file of the large program in a package that others of it import.
const CHANGED_FILE: &str = "util/strutil/strconv.go";
/// How much comes of a cache before it vanishes: a twentieth of what the small program needs.
const VANISHES_AFTER_BYTES: u64 = 1 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// All of [`KEYS`], with the large program but for the last.
///
/// # Errors
/// When a build fails.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    if KEYS[..6].iter().any(|key| plan.wants(key)) {
        let program = bed.large()?;
        native::ensure_built(&bed, &program)?;
        for round in 0..plan.rounds {
            links(&bed, &program, plan, round, &mut ledger, figures)?;
            if plan.wants("far_changed_ratio") {
                let key = format!("changed/{round}");
                let [ours, native] = ledger.get_or_keep(&key, || changed(&bed, &program, round))?;
                figures.add("far_changed_ratio", ours / native);
                figures.add("far_changed_s", ours);
                figures.add("far_changed_native_s", native);
            }
            if plan.wants("second_agent_wan_ratio") {
                let key = format!("second-agent/{round}");
                let [first, second] = ledger.get_or_keep(&key, || second_agent(&bed, &program))?;
                figures.add("second_agent_wan_ratio", mib(second) / mib(first));
            }
        }
    }
    if plan.wants("blackhole_extra_s") {
        let program = bed.small()?;
        native::ensure_built(&bed, &program)?;
        for round in 0..plan.rounds {
            let key = format!("blackhole/{round}");
            let seen = ledger.get_or_keep(&key, || blackhole(&bed, &program, round))?;
            figures.add("blackhole_extra_s", seen.within_s.max(seen.at_start_s) - seen.native_s);
            figures.add("blackhole_s", seen.within_s);
            figures.add("blackhole_at_start_s", seen.at_start_s);
            figures.add("blackhole_native_s", seen.native_s);
            figures.add("blackhole_came_mib", mib(seen.came_bytes));
        }
    }
    Ok(())
}

/// What differs by the link or by what the agent was told.
fn links(
    bed: &Bed,
    program: &Program,
    plan: &Plan,
    round: usize,
    ledger: &mut Ledger,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let far = Shape::with_round_trip(Duration::from_millis(FAR_MS));
    let ours = Meridian::told(Told::Manifest);
    let base = variant(bed, program, &ours, (far, "150ms"), round, ledger)?;
    if plan.wants("far_vs_near_ratio") {
        let near = variant(bed, program, &ours, (Shape::default(), "0ms"), round, ledger)?;
        figures.add("far_vs_near_ratio", base.timed.seconds / near.timed.seconds);
    }
    if plan.wants("far_100mbit_ratio") {
        let native = native::warm(bed, program, round, ledger)?;
        let shape = far.at_bits_per_s(NARROW_BITS_PER_S);
        let narrow = variant(bed, program, &ours, (shape, "100mbit"), round, ledger)?;
        let wire_s = mib(narrow.wire_bytes) * f64::from(8 << 20) / 1e8;
        figures.add("far_100mbit_ratio", narrow.timed.seconds / native.max(wire_s));
        figures.add("far_100mbit_s", narrow.timed.seconds);
        figures.add("far_100mbit_wire_s", wire_s);
    }
    if plan.wants("wire_vs_zstd_ratio") {
        let solid = ledger.get_or_keep("solid-zstd", || solid_zstd_len(bed, program))?;
        figures.add("wire_vs_zstd_ratio", mib(base.wire_bytes) / mib(solid));
    }
    if plan.wants("no_manifest_vs_peer") {
        let ours = Meridian::told(Told::Shards);
        let found = variant(bed, program, &ours, (far, "150ms"), round, ledger)?;
        figures.add("no_manifest_s", found.timed.seconds);
        let mut best = None::<f64>;
        for peer in askers(figures) {
            let cell = variant(bed, program, peer.as_ref(), (far, "150ms"), round, ledger)?;
            best = Some(best.map_or(cell.timed.seconds, |best| best.min(cell.timed.seconds)));
        }
        if let Some(best) = best {
            figures.add("no_manifest_vs_peer", found.timed.seconds / best);
        }
    }
    Ok(())
}

/// The peers that ask as the build asks.
fn askers(figures: &mut Figures) -> Vec<Box<dyn Side>> {
    let installed = Installed::install(figures);
    let mut askers: Vec<Box<dyn Side>> = Vec::new();
    askers.extend(installed.go_cacher.map(|programs| Box::new(GoCacher(programs)) as Box<dyn Side>));
    let gocacheprog = installed.gocacheprog.map(|program| Gocacheprog { program, preloads: false });
    askers.extend(gocacheprog.map(|peer| Box::new(peer) as Box<dyn Side>));
    askers
}

fn variant(
    bed: &Bed,
    program: &Program,
    side: &dyn Side,
    (shape, word): (Shape, &str),
    round: usize,
    ledger: &mut Ledger,
) -> anyhow::Result<Cell> {
    // The same key as elsewhere: what was measured once is not measured again.
    let key = format!("far/{}/{}/{word}/{round}", program.name, side.name());
    get_or_build(ledger, &key, || {
        let serving = side.serve(bed, program)?;
        build_through(bed, program, side, &serving, shape)
    })
}

/// How long all bodies of the manifest are when they are compressed as one.
fn solid_zstd_len(bed: &Bed, program: &Program) -> anyhow::Result<u64> {
    let native = bed.native_gocache(program);
    let archive = bed.kept("scratch/solid.zst");
    let mut zstd = Command::new("zstd");
    zstd.args(["-3", "-q", "-f", "-o"]).arg(&archive).stdin(Stdio::piped());
    let mut zstd = zstd.spawn().context("zstd cannot be started")?;
    let mut input = zstd.stdin.take().context("a pipe")?;
    for output in outputs(bed, program)? {
        let name = output.to_hex();
        let body = native.join(&name[..2]).join(format!("{name}-d"));
        input.write_all(&fs::read(&body).with_context(|| format!("cannot read {}", body.display()))?)?;
    }
    drop(input);
    let status = zstd.wait()?;
    ensure!(status.success(), "zstd ended with {status}");
    Ok(fs::metadata(archive)?.len())
}

/// Seconds of a far agent with the parent's manifest, and of a native build with the parent's cache, of a source in
/// which one package has changed.
fn changed(bed: &Bed, program: &Program, round: usize) -> anyhow::Result<[f64; 2]> {
    let side = Meridian::told(Told::Manifest);
    let serving = side.serve(bed, program)?;
    let relay = Relay::start(serving.address, Shape::with_round_trip(Duration::from_millis(FAR_MS)));
    let file = program.directory.join(CHANGED_FILE);
    let original = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = format!(
        "{original}\n// Round{round} is there for the bench.\nfunc Round{round}() int {{ return {round} }}\n"
    );
    fs::write(&file, text)?;
    let both = (|| {
        let gocache = bed.kept("scratch/changed");
        remove(&gocache)?;
        run(Command::new("cp").arg("-rl").arg(bed.native_gocache(program)).arg(&gocache))?;
        let native = seconds(bed.build(&bed.surroundings(gocache), program)?)?;
        let artifact = bed.artifact_digest(program)?;
        let ours = side.build_cold(bed, program, relay.address(), CUT_AFTER)?;
        ensure!(bed.artifact_digest(program)? == artifact, "the far agent built something else");
        Ok([ours.seconds, native])
    })();
    fs::write(file, original)?;
    both
}

/// What the link between the regions carries for the first agent of a region, and for the second, which is told that
/// the first is nearer.
fn second_agent(bed: &Bed, program: &Program) -> anyhow::Result<[u64; 2]> {
    let side = Meridian { told: Told::Manifest, measures: true };
    let home = side.serve(bed, program)?;
    let relay = Relay::start(home.address, Shape::with_round_trip(Duration::from_millis(FAR_MS)));
    let (first, second) = (bed.emptied("agent")?, bed.emptied("second-agent")?);
    side.build_on(&first, bed, program, &[relay.address()], CUT_AFTER)?;
    bed.expect_native_artifact(program)?;
    let before = relay.traffic();
    let neighbour = serve_store(&first)?;
    side.build_on(&second, bed, program, &[neighbour.address, relay.address()], CUT_AFTER)?;
    bed.expect_native_artifact(program)?;
    Ok([before.bytes(), relay.traffic().since(&before).bytes()])
}

/// Builds of one round: two with a cache that is lost, and a native one with nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Blackhole {
    /// Of a cache that vanished when some of it had come.
    within_s: f64,
    /// How much that was.
    came_bytes: u64,
    /// Of one that has never answered.
    at_start_s: f64,
    native_s: f64,
}

/// Each of them, in an order that turns with the round, so that none has the better place.
fn blackhole(bed: &Bed, program: &Program, round: usize) -> anyhow::Result<Blackhole> {
    let mut seen = Blackhole { within_s: 0.0, came_bytes: 0, at_start_s: 0.0, native_s: 0.0 };
    for turn in 0..3 {
        match (round + turn) % 3 {
            0 => (seen.within_s, seen.came_bytes) = without_an_answer(bed, program, VANISHES_AFTER_BYTES)?,
            1 => (seen.at_start_s, _) = without_an_answer(bed, program, 0)?,
            _ => seen.native_s = native::cold_now(bed, program)?,
        }
    }
    Ok(seen)
}

/// Seconds of a build whose shard goes on accepting connections, and answers nobody once so many bytes of it came; and
/// how many came in all.
fn without_an_answer(bed: &Bed, program: &Program, after_bytes: u64) -> anyhow::Result<(f64, u64)> {
    let side = Meridian::told(Told::Manifest);
    let serving = side.serve(bed, program)?;
    // What has left a wide link would still arrive from this machine's buffers.
    let shape = Shape::with_round_trip(Duration::from_millis(FAR_MS)).at_bits_per_s(NARROW_BITS_PER_S);
    let relay = Relay::start_on(IpAddr::V4(super::gocacheprog::HOST), serving.address, shape);
    if after_bytes == 0 {
        relay.blackhole();
    }
    let placed = side.place(&bed.emptied("agent")?, manifest(bed, program)?, &[relay.address()])?;
    let is_over = AtomicBool::new(false);
    let (timed, has_vanished) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // What the relay still holds then does not arrive either.
                if placed.daemon.brought().wire_bytes >= after_bytes {
                    relay.blackhole();
                    return true;
                }
                thread::sleep(LOOK_EVERY);
            }
            false
        });
        let timed = placed.build(bed, program, CUT_AFTER);
        is_over.store(true, Ordering::Relaxed);
        (timed, watcher.join())
    });
    let timed = timed?;
    ensure!(has_vanished.unwrap_or(false), "the build ended before its cache vanished");
    bed.expect_native_artifact(program)?;
    Ok((timed.seconds, placed.daemon.brought().wire_bytes))
}
