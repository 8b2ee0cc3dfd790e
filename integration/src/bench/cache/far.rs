//! An agent that has built nothing, and a machine that has built the program, far away.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    bed::{Bed, Program},
    go_cacher::GoCacher,
    gocacheprog::{self, Gocacheprog},
    installed::Installed,
    native,
    parts::Plan,
    side::{Serving, Side},
    tarball::Tarball,
};
use crate::{
    bench::{figures::Figures, ledger::Ledger, timing::Timed},
    relay::{Relay, Shape},
};

/// The figures of this part. Each stands for a family: `PROGRAM_SIDE_RTTms_s`, and with `_wire_mib` and
/// `_round_trips` what the link has carried.
pub const KEYS: &[&str] = &["peers_far_s", "peers_by_rtt_s"];

/// The round trips of the plot, in milliseconds.
pub const ROUND_TRIPS_MS: [u64; 5] = [0, 10, 50, 150, 300];
/// The round trip between two continents.
pub const FAR_MS: u64 = 150;
/// Where a build that goes on and on is ended, and this taken for its figure.
const CUT_AFTER: Duration = Duration::from_secs(600);

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
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Tarball)];
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
    if plan.wants("peers_by_rtt_s") {
        let program = bed.small()?;
        native::ensure_built(&bed, &program)?;
        for side in &sides {
            let cells: Vec<_> = ROUND_TRIPS_MS.iter().map(|round_trip| (*round_trip, 0)).collect();
            builds(&bed, &program, side.as_ref(), &cells, &mut ledger, figures);
        }
    }
    if plan.wants("peers_far_s") {
        for program in [bed.small()?, bed.large()?] {
            for round in 0..plan.rounds {
                let warm = native::warm(&bed, &program, round, &mut ledger)?;
                figures.add(&format!("{}_native_warm_s", program.name), warm);
                for side in &sides {
                    builds(&bed, &program, side.as_ref(), &[(FAR_MS, round)], &mut ledger, figures);
                }
            }
        }
    }
    Ok(())
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
        let cell = ledger.get_or_keep(&key, || {
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
    let relay = Relay::start_on(IpAddr::V4(gocacheprog::HOST), serving.address, shape);
    let timed = side.build_cold(bed, program, relay.address(), CUT_AFTER)?;
    let word = if timed.is_cut { ", where it was ended" } else { "" };
    eprintln!("{} {} at {round_trip_ms} ms: {:.1} s{word}", program.name, side.name(), timed.seconds);
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
    #[expect(clippy::cast_precision_loss, reason = "round trips of a bench are far below 2^52")]
    figures.add(&format!("{name}_round_trips"), cell.blocking_round_trips as f64);
    if cell.timed.is_cut {
        figures.add(&format!("{name}_is_cut"), 1.0);
    }
}

/// Bytes in MiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "bytes of a bench are far below 2^52")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 20)
}
