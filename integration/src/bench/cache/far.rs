//! An agent that has built nothing, and a machine that has built the program, far away.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    bed::{Bed, Program},
    go_cacher::GoCacher,
    gocacheprog::{self, Gocacheprog},
    installed::Installed,
    meridian::{Meridian, Told},
    native,
    side::{Serving, Side},
    tarball::Tarball,
};
use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, ledger::Ledger, timing::Timed},
    relay::{Relay, Shape},
};

/// The figures of this part. `plot_s` stands for the small program at every round trip. Besides there is
/// `PROGRAM_SIDE_RTTms_s` for each build, with `_wire_mib` and `_round_trips` for what its link has carried.
pub const KEYS: &[&str] = &[
    "far_cold_ratio",
    "far_cold_vs_best_peer",
    "small_added_ms",
    "blocking_round_trips",
    "plot_s",
    "peers_missing",
];

/// The round trips of the plot, in milliseconds.
pub const ROUND_TRIPS_MS: [u64; 5] = [0, 10, 50, 150, 300];
/// The round trip between two continents.
pub const FAR_MS: u64 = 150;
/// Where a build that goes on and on is ended, and this taken for its figure: longer than one that asks nobody.
pub(super) const CUT_AFTER: Duration = Duration::from_secs(300);

/// A build that took longer is not repeated: it waits for round trips nearly all of its time, and that varies little.
const REPEATED_BELOW_S: f64 = 60.0;

/// What was measured of one build.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// From the start of the build to its artifact.
    pub timed: Timed,
    /// What the link has carried, both ways.
    pub wire_bytes: u64,
    /// How often the link was silent until an answer came, with the handshakes of its connections.
    pub blocking_round_trips: u64,
}

/// Everybody who is here.
#[must_use]
pub fn sides(figures: &mut Figures) -> Vec<Box<dyn Side>> {
    let installed = Installed::install(figures);
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Meridian::told(Told::Manifest)), Box::new(Tarball)];
    if let Some(programs) = installed.go_cacher {
        sides.push(Box::new(GoCacher(programs)));
    }
    if let Some(program) = installed.gocacheprog {
        sides.push(Box::new(Gocacheprog { program: program.clone(), preloads: false }));
        sides.push(Box::new(Gocacheprog { program, preloads: true }));
    }
    sides
}

/// All of [`KEYS`].
///
/// # Errors
/// When there is nothing to compare with. A side that fails is reported as missing, with what it said.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    let sides = sides(figures);
    let small = bed.small()?;
    native::ensure_built(&bed, &small)?;
    if plan.wants("plot_s") {
        for side in &sides {
            let cells = ROUND_TRIPS_MS.map(|round_trip_ms| (round_trip_ms, 0));
            builds(&bed, &small, side.as_ref(), &cells, &mut ledger, figures);
        }
    }
    let mut programs = Vec::new();
    if plan.wants("small_added_ms") {
        programs.push(small);
    }
    if KEYS[..4].iter().any(|key| *key != "small_added_ms" && plan.wants(key)) {
        programs.push(bed.large()?);
    }
    for program in &programs {
        for round in 0..plan.rounds {
            let warm = native::warm(&bed, program, round, &mut ledger)?;
            figures.add(&format!("{}_native_warm_s", program.name), warm);
            for side in &sides {
                builds(&bed, program, side.as_ref(), &[(FAR_MS, round)], &mut ledger, figures);
            }
            compare(program, round, warm, &ledger, figures);
        }
    }
    Ok(())
}

/// The figures that are made of several builds of one round.
fn compare(program: &Program, round: usize, native_warm_s: f64, ledger: &Ledger, figures: &mut Figures) {
    let of = |side: &str| ledger.get::<Cell>(&key(program, side, FAR_MS, round));
    let Some(ours) = of("meridian") else { return };
    if program.name == "small" {
        figures.add("small_added_ms", (ours.timed.seconds - native_warm_s) * 1_000.0);
        return;
    }
    figures.add("far_cold_ratio", ours.timed.seconds / native_warm_s);
    figures.add("blocking_round_trips", count(ours.blocking_round_trips));
    let peers = ["tarball", "go_cacher", "gocacheprog", "gocacheprog_preload"];
    let best = peers.iter().filter_map(|peer| of(peer)).map(|cell| cell.timed.seconds).reduce(f64::min);
    if let Some(best) = best {
        figures.add("far_cold_vs_best_peer", ours.timed.seconds / best);
    }
}

/// Measures cells of one side, each a round trip and a round, unless the ledger has them.
fn builds(
    bed: &Bed,
    program: &Program,
    side: &dyn Side,
    cells: &[(u64, usize)],
    ledger: &mut Ledger,
    figures: &mut Figures,
) {
    let mut serving = None;
    for (round_trip_ms, round) in cells.iter().copied() {
        let key = key(program, side.name(), round_trip_ms, round);
        let cell = get_or_build(ledger, &key, || {
            let serving = match &mut serving {
                Some(serving) => serving,
                none => none.insert(side.serve(bed, program)?),
            };
            build(bed, program, side, serving, round_trip_ms)
        });
        match cell {
            Ok(cell) => add(figures, program, side.name(), round_trip_ms, &cell),
            Err(error) => {
                eprintln!("{key} failed: {error:#}");
                figures.peer_is_missing_because(side.name(), &format!("its build failed: {error}"));
            }
        }
    }
}

/// What the ledger has under a key that ends in its round, or what is built now. A build that was ended in the first
/// round would be ended again: it is not repeated, and counts as that, as does one that took long.
///
/// # Errors
/// When the build fails.
pub fn get_or_build(
    ledger: &mut Ledger,
    key: &str,
    build: impl FnOnce() -> anyhow::Result<Cell>,
) -> anyhow::Result<Cell> {
    let first = key.rsplit_once('/').map(|(without_round, _)| format!("{without_round}/0"));
    let first = first.and_then(|first| ledger.get::<Cell>(&first));
    match first.filter(|cell| cell.timed.is_cut || cell.timed.seconds > REPEATED_BELOW_S) {
        Some(cut) => Ok(cut),
        None => ledger.get_or_keep(key, build),
    }
}

fn key(program: &Program, side: &str, round_trip_ms: u64, round: usize) -> String {
    format!("far/{}/{side}/{round_trip_ms}ms/{round}", program.name)
}

fn build(
    bed: &Bed,
    program: &Program,
    side: &dyn Side,
    serving: &Serving,
    round_trip_ms: u64,
) -> anyhow::Result<Cell> {
    let shape = Shape::with_round_trip(Duration::from_millis(round_trip_ms));
    build_through(bed, program, side, serving, shape)
}

/// Builds on an agent that has nothing, through a link.
///
/// # Errors
/// When the build fails, or makes another artifact than a native one.
pub fn build_through(
    bed: &Bed,
    program: &Program,
    side: &dyn Side,
    serving: &Serving,
    shape: Shape,
) -> anyhow::Result<Cell> {
    let relay = Relay::start_on(IpAddr::V4(gocacheprog::HOST), serving.address, shape);
    let timed = side.build_cold(bed, program, relay.address(), CUT_AFTER)?;
    let word = if timed.is_cut { ", where it was ended" } else { "" };
    let (name, round_trip) = (side.name(), shape.round_trip());
    eprintln!("{} {name} at {round_trip:?}: {:.1} s{word}", program.name, timed.seconds);
    if !timed.is_cut {
        bed.expect_native_artifact(program)?;
    }
    let traffic = relay.traffic();
    let blocking_round_trips = traffic.blocking_round_trips + traffic.connections;
    Ok(Cell { timed, wire_bytes: traffic.bytes(), blocking_round_trips })
}

fn add(figures: &mut Figures, program: &Program, side: &str, round_trip_ms: u64, cell: &Cell) {
    let name = format!("{}_{side}_{round_trip_ms}ms", program.name);
    figures.add(&format!("{name}_s"), cell.timed.seconds);
    figures.add(&format!("{name}_wire_mib"), mib(cell.wire_bytes));
    figures.add(&format!("{name}_round_trips"), count(cell.blocking_round_trips));
    if cell.timed.is_cut {
        figures.add(&format!("{name}_is_cut"), 1.0);
    }
}

#[expect(clippy::cast_precision_loss, reason = "what a bench counts is far below 2^52")]
const fn count(count: u64) -> f64 {
    count as f64
}

/// Bytes in MiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "bytes of a bench are far below 2^52")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_ended_in_the_first_round_counts_for_all_and_another_is_built_in_each() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::at(&dir.path().join("ledger"), false).unwrap();
        let cell = |seconds: f64, is_cut| Cell {
            timed: Timed { seconds, is_cut },
            wire_bytes: 1,
            blocking_round_trips: 1,
        };
        let mut built = |key: &str, made| get_or_build(&mut ledger, key, || Ok(made)).unwrap();
        for (round, seconds) in [(0, 3.0), (1, 4.0)] {
            let made = cell(seconds, false);
            assert_eq!(built(&format!("far/large/tarball/150ms/{round}"), made), made);
        }
        let cut = cell(600.0, true);
        assert_eq!(built("far/large/go_cacher/150ms/0", cut), cut);
        assert_eq!(built("far/large/go_cacher/150ms/1", cell(1.0, false)), cut);
    }
}
