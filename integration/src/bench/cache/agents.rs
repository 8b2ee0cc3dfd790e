//! The large program through real agents: their memory, and what a kept binary is worth.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    bed::{Bed, Program},
    far::FAR_MS,
    native,
};
use crate::{
    bench::{
        figures::Figures,
        ledger::Ledger,
        memory::{anonymous_mib, peak_of},
        plan::Plan,
        timing::run,
    },
    fabric::FabricUnderTest,
    relay::Shape,
};

/// The figures of this part.
pub const KEYS: &[&str] = &["mem_daemon_extra_mib", "restore_ratio"];

const HOME: &str = "sg/one";
const FAR: &str = "fra/one";
/// Longer than the large program takes from nothing on any machine that a bench is run on.
const BUILD_MAX: Duration = Duration::from_secs(30 * 60);

/// All of [`KEYS`]. Besides there are `agents_far_s`, from the offer to the end of the compile of an agent that has
/// built nothing, and `agents_cold_s`, the compile before it that had nobody to ask.
///
/// # Errors
/// When a build fails or a process cannot be read.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    let program = bed.large()?;
    native::ensure_built(&bed, &program)?;
    let measured: Measured = ledger.get_or_keep("agents/all", || through_agents(&program, plan.rounds))?;
    figures.add("agents_cold_s", measured.cold_s);
    figures.add("agents_far_s", measured.far_s);
    figures.add("mem_daemon_extra_mib", measured.extra_mib);
    for (round, restored) in measured.restored_s.into_iter().enumerate() {
        let native = native::warm(&bed, &program, round, &mut ledger)?;
        figures.add("restore_ratio", restored / native);
        figures.add("restored_s", restored);
    }
    Ok(())
}

/// What agents were seen to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    cold_s: f64,
    far_s: f64,
    extra_mib: f64,
    restored_s: Vec<f64>,
}

fn through_agents(program: &Program, rounds: usize) -> anyhow::Result<Measured> {
    let mut fabric = start();
    // Where the bench keeps it, it belongs to the repository around, which ignores it.
    let directory = fabric.client.home.path().join("source");
    run(Command::new("cp").arg("-r").arg(&program.directory).arg(&directory))?;
    let program = &Program { directory, ..program.clone() };
    // Toolchains and modules come to both, which is not measured; what they built is taken away.
    for (agent, name) in [HOME, FAR].into_iter().enumerate() {
        fabric.build(name, &program.directory, &program.package);
        fabric.cool(agent);
    }
    let (cold_s, extra) = watched(&mut fabric, 0, HOME, program)?;
    let (far_s, more) = watched(&mut fabric, 1, FAR, program)?;
    // The binary of the build before lies where this one's will.
    let again = |_| fabric.build(FAR, &program.directory, &program.package).compiled.as_secs_f64();
    let restored_s = (0..rounds).map(again).collect();
    Ok(Measured { cold_s, far_s, extra_mib: extra.max(more), restored_s })
}

/// Seconds of a build, and how much anonymous memory its agent took beyond what it has when nothing is to be done.
fn watched(
    fabric: &mut FabricUnderTest,
    agent: usize,
    name: &str,
    program: &Program,
) -> anyhow::Result<(f64, f64)> {
    let id = fabric.fleet.agent(agent).id();
    let idle = anonymous_mib(id).context("an agent's memory cannot be read")?;
    let over = Arc::new(AtomicBool::new(false));
    let sampler = thread::spawn({
        let over = Arc::clone(&over);
        move || peak_of(id, &over)
    });
    let built = fabric.build(name, &program.directory, &program.package);
    over.store(true, Ordering::Relaxed);
    let peak = sampler.join().ok().flatten().context("an agent's memory cannot be read")?;
    Ok((built.took.as_secs_f64(), peak - idle))
}

fn start() -> FabricUnderTest {
    let mut fabric = FabricUnderTest::start();
    fabric.build_max = BUILD_MAX;
    fabric.join(HOME, Shape::with_round_trip(Duration::from_millis(FAR_MS)));
    fabric.join(FAR, Shape::default());
    fabric
}
