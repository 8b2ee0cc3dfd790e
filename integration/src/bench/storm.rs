//! A storm of small builds while coordinator and agents are killed with -9, again and again.
//!
//! Every build must end with its artifact, and the coordinator's own history must show exactly one accepted
//! result for each of its tasks.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};

use crate::{
    bench::figures::Figures, client::Client, evidence::Evidence, fixture::program::Program, fleet::Fleet,
    home::Home,
};

/// Fewest kills and builds of a storm.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// kill -9 of coordinator and agents together.
    pub kills: usize,
    /// Builds that finish.
    pub builds: usize,
}

impl Default for Storm {
    fn default() -> Self {
        Self { kills: 100, builds: 200 }
    }
}

/// Clients that submit at the same time.
const CLIENTS: usize = 6;
/// Between two kills, at least; up to twice as long.
const CALM_MS: u64 = 900;
/// A storm that has not ended by then never will.
const STORM_MAX: Duration = Duration::from_secs(40 * 60);

/// What a client holds after a build: its id, and whether its artifact says what its source said.
#[derive(Debug)]
struct Done {
    build: String,
    right: bool,
}

/// `kills`, `storm_builds_done`, `lost` and `doubled`.
///
/// # Errors
/// When the storm does not end in time or the fleet does not start.
pub fn storm(size: Storm, figures: &mut Figures) -> anyhow::Result<()> {
    // Short leases: work that a killed agent held is placed again in seconds.
    let mut fleet = Fleet::start_with(&["limits.lease_ms=3000"]);
    for name in ["eu/a", "us/b"] {
        fleet.join_agent(name, 2, Home::with_proxy("off"));
    }
    let over = Arc::new(AtomicBool::new(false));
    let started = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = fleet.member(&format!("client-{number}"));
            let (over, started, done) = (Arc::clone(&over), Arc::clone(&started), Arc::clone(&done));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let built = build(&client, started.fetch_add(1, Ordering::Relaxed));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(built);
                }
            })
        })
        .collect();

    let kills = kill_until_enough(&mut fleet, size, &done)?;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        if client.join().is_err() {
            bail!("a client of the storm gave up; its message stands above");
        }
    }
    let done = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    let (lost, doubled) = count(&mut fleet, &done)?;
    figures.add("kills", as_f64(kills));
    figures.add("storm_builds_done", as_f64(done.iter().filter(|done| done.right).count()));
    figures.add("lost", as_f64(lost));
    figures.add("doubled", as_f64(doubled));
    Ok(())
}

fn build(client: &Client, number: usize) -> Done {
    let text = format!("build {number} of the storm");
    let directory = client.home.path().join(format!("source-{number}"));
    Program::saying("example.test/storm", &text).write(&directory).expect("a directory in a temporary one");
    let source = directory.display().to_string();
    let version = number.to_string();
    let out = format!("dist-{number}");
    let built =
        client.build_into(&out, &[&source, "--version", &version, "--project", "acme/storm", "--json"]);
    let id = build_id(&built.run.stdout).unwrap_or_default();
    let succeeded = built.run.code == Some(0);
    if !succeeded {
        eprintln!("build {number} of the storm failed: {}", built.run);
    }
    let right = succeeded && {
        let dist = built.expect_success();
        let name =
            dist.only().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        dist.execute(&name, &[]).trim() == text
    };
    Done { build: id, right }
}

/// The first text in the output that is the id of a build of the storm's project.
fn build_id(output: &str) -> Option<String> {
    output
        .split(|letter: char| letter.is_whitespace() || letter == '"')
        .find(|word| word.strip_prefix("acme/storm/").is_some_and(|rest| rest.parse::<u64>().is_ok()))
        .map(ToOwned::to_owned)
}

fn kill_until_enough(fleet: &mut Fleet, size: Storm, done: &Mutex<Vec<Done>>) -> anyhow::Result<usize> {
    let finished = || done.lock().unwrap_or_else(PoisonError::into_inner).len();
    let begun = Instant::now();
    // The first builds compile the standard library, which takes longer than any calm between two kills.
    while finished() < CLIENTS && begun.elapsed() < STORM_MAX {
        thread::sleep(Duration::from_millis(CALM_MS));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut kills = 0;
    loop {
        let finished = finished();
        if kills >= size.kills && finished >= size.builds {
            return Ok(kills);
        }
        if begun.elapsed() > STORM_MAX {
            bail!("after {STORM_MAX:?} the storm has {kills} kills and {finished} builds");
        }
        thread::sleep(Duration::from_millis(CALM_MS + random.below(CALM_MS)));
        match random.below(3) {
            0 => {
                fleet.kill_coordinator();
                fleet.start_coordinator();
            }
            agent => {
                let agent = if agent == 1 { 0 } else { 1 };
                fleet.kill_agent(agent);
                fleet.restart_agent(agent);
            }
        }
        kills += 1;
    }
}

/// How many acknowledged builds have no right result, and how many tasks have more than one. The journal
/// itself is asked: it holds every result that was ever accepted.
fn count(fleet: &mut Fleet, done: &[Done]) -> anyhow::Result<(usize, usize)> {
    let stopped = fleet.coordinator().terminate(Duration::from_secs(30));
    ensure!(stopped.success(), "the coordinator ended with {stopped}");
    let evidence = Evidence::of(&fleet.coordinator_state())?;
    let mut lost = 0;
    let mut seen = BTreeSet::new();
    let mut shared = 0;
    for done in done {
        if !done.right || evidence.results(&format!("{}/0", done.build)) == 0 {
            lost += 1;
        }
        if !seen.insert(&done.build) {
            shared += 1;
        }
    }
    Ok((lost, shared + evidence.doubled()))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
const fn as_f64(count: usize) -> f64 {
    count as f64
}

/// xorshift64*: the same storm every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}
