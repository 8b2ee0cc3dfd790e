//! The large program through real agents: a far one that has built nothing, their memory, and what a kept binary is
//! worth.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
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
    fabric::{FabricBuild, FabricUnderTest, PROJECT},
    relay::Shape,
};

/// The figures of this part. Besides there are `agents_far_s`, from the offer to the end of the compile of an agent that
/// has built nothing and links; `agents_far_restored_s`, where the binary came as well; `agents_cold_s`, where nobody
/// could be asked; and the parts of the memory, `mem_daemon_cold_mib` and `mem_daemon_far_mib`.
pub const KEYS: &[&str] = &["agents_far_ratio", "restore_ratio", "mem_daemon_extra_mib"];

const HOME: &str = "sg/one";
const FAR: &str = "fra/one";
/// Longer than the large program takes from nothing on any machine that a bench is run on.
const BUILD_MAX: Duration = Duration::from_secs(30 * 60);
/// A file that no package has. A tree with it is another one, so no binary was made of the very same, and all that a
/// build of it asks for but the link is known.
const OF_NO_PACKAGE: &str = "of-no-package";
/// The project of that tree, so that what its builds used is not remembered as the newest of the other's.
const OTHER_PROJECT: &str = "acme/other";

/// All of [`KEYS`]. The cold build is made once, and each round's memory is the worse of that and the round's own.
///
/// # Errors
/// When a build fails, makes another artifact, or links where it should not or the other way round, or when a process
/// cannot be read.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    let program = bed.large()?;
    native::ensure_built(&bed, &program)?;
    let mut agents = None;
    let cold: Cold = ledger.get_or_keep("agents/cold", || Ok(ready(&mut agents, &program)?.cold.clone()))?;
    figures.add("agents_cold_s", cold.seconds);
    figures.add("mem_daemon_cold_mib", cold.extra_mib);
    for round in 0..plan.rounds {
        let key = format!("agents/round/{round}");
        let seen: Round = ledger.get_or_keep(&key, || ready(&mut agents, &program)?.round())?;
        let native = native::warm(&bed, &program, round, &mut ledger)?;
        figures.add("agents_far_ratio", seen.far_s / native);
        figures.add("agents_far_s", seen.far_s);
        figures.add("agents_far_restored_s", seen.far_restored_s);
        figures.add("restore_ratio", seen.restored_s / native);
        figures.add("restored_s", seen.restored_s);
        figures.add("mem_daemon_extra_mib", seen.extra_mib.max(cold.extra_mib));
        figures.add("mem_daemon_far_mib", seen.extra_mib);
    }
    Ok(())
}

/// A build of an agent that had nobody to ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cold {
    seconds: f64,
    extra_mib: f64,
    artifact: String,
}

/// What the far agent was seen to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Round {
    far_s: f64,
    far_restored_s: f64,
    restored_s: f64,
    extra_mib: f64,
}

/// Two agents that have all but what builds leave; the one at home has built the program since.
struct Agents {
    fabric: FabricUnderTest,
    far: usize,
    program: Program,
    /// The same with a file more.
    other: Program,
    cold: Cold,
}

/// Starts them when they are first needed.
fn ready<'a>(agents: &'a mut Option<Agents>, program: &Program) -> anyhow::Result<&'a mut Agents> {
    match agents {
        Some(agents) => Ok(agents),
        none => Ok(none.insert(Agents::start(program)?)),
    }
}

impl Agents {
    fn start(program: &Program) -> anyhow::Result<Self> {
        let mut fabric = FabricUnderTest::start();
        fabric.build_max = BUILD_MAX;
        let home = fabric.join(HOME, Shape::with_round_trip(Duration::from_millis(FAR_MS)));
        let far = fabric.join(FAR, Shape::default());
        // Where the bench keeps it, it belongs to the repository around, which ignores it.
        let client = fabric.client.home.path().to_owned();
        let copy = |name: &str| {
            let directory = client.join(name);
            run(Command::new("cp").arg("-r").arg(&program.directory).arg(&directory))?;
            anyhow::Ok(Program { directory, ..program.clone() })
        };
        let (program, other) = (copy("source")?, copy("other")?);
        fs::write(other.directory.join(OF_NO_PACKAGE), "")?;
        let cold = Cold { seconds: 0.0, extra_mib: 0.0, artifact: String::new() };
        let mut agents = Self { fabric, far, program, other, cold };
        // Toolchains, modules and sources come to both, which is not measured; what they built is taken away.
        agents.fabric.build(HOME, &agents.program.directory, &agents.program.package);
        agents.fabric.cool(home);
        for program in [&agents.program, &agents.other] {
            agents.fabric.build(FAR, &program.directory, &program.package);
        }
        agents.fabric.cool(far);
        let (built, extra_mib) = agents.watched(home, HOME, &agents.program.clone())?;
        agents.cold = Cold { seconds: built.took.as_secs_f64(), extra_mib, artifact: built.artifact };
        Ok(agents)
    }

    /// Builds on the far agent: with nothing; with nothing, where a binary of the very same was made; and once more.
    fn round(&mut self) -> anyhow::Result<Round> {
        let (program, other) = (self.program.clone(), self.other.clone());
        self.fabric.cool(self.far);
        self.fabric.project = OTHER_PROJECT;
        let (linked, extra) = self.watched(self.far, FAR, &other)?;
        self.fabric.project = PROJECT;
        self.expect(&linked, true)?;
        self.fabric.cool(self.far);
        let (came, more) = self.watched(self.far, FAR, &program)?;
        self.expect(&came, false)?;
        let restored = self.fabric.build(FAR, &program.directory, &program.package);
        self.expect(&restored, false)?;
        let [far_s, far_restored_s, restored_s] =
            [linked, came, restored].map(|built| built.took.as_secs_f64());
        Ok(Round { far_s, far_restored_s, restored_s, extra_mib: extra.max(more) })
    }

    /// Looks at the far agent's last build: it has compiled next to nothing, and linked or not.
    fn expect(&mut self, built: &FabricBuild, links: bool) -> anyhow::Result<()> {
        let (artifact, cold) = (&built.artifact, &self.cold.artifact);
        ensure!(artifact == cold, "the far agent made {artifact}, not {cold}");
        let [gets, hits, puts] =
            ["gets", "hits", "puts"].map(|name| self.fabric.cache_figure(self.far, name));
        ensure!(hits * 10 >= gets * 9, "the far agent found {hits} of {gets}");
        // A link is put with what it said.
        ensure!(
            links == (puts > 0),
            "the far agent put {puts}, and {}",
            if links { "should link" } else { "should not" }
        );
        Ok(())
    }

    /// A build, and how much anonymous memory its agent took beyond what it has when nothing is to be done, in MiB.
    fn watched(&mut self, agent: usize, name: &str, program: &Program) -> anyhow::Result<(FabricBuild, f64)> {
        let id = self.fabric.fleet.agent(agent).id();
        let idle = anonymous_mib(id).context("an agent's memory cannot be read")?;
        let over = Arc::new(AtomicBool::new(false));
        let sampler = thread::spawn({
            let over = Arc::clone(&over);
            move || peak_of(id, &over)
        });
        let built = self.fabric.build(name, &program.directory, &program.package);
        over.store(true, Ordering::Relaxed);
        let peak = sampler.join().ok().flatten().context("an agent's memory cannot be read")?;
        Ok((built, peak - idle))
    }
}
