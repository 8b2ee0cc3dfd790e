//! `sim`: seeds by the thousand, the replay of one that failed, and what each protection is good for.

use std::{
    collections::BTreeMap,
    panic,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{
    lab,
    sim::{
        event_file::Told,
        faults::{self, Fault, FaultKind, Whom},
        mutation::Mutation,
        seed::{self, Plan, Verdict},
    },
};

/// Seeds that a protection gets to show what it is good for.
pub const SEEDS_PER_MUTATION: u64 = 300;

/// Seeds between two lines that say how far it is.
const SEEDS_PER_LINE: u64 = 500;

/// Simulates fleets through disasters, and finds what breaks.
#[derive(Debug, Parser)]
pub struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    seeds: Seeds,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tells a story again, from the event file that a failure left.
    Replay {
        /// The file.
        file: PathBuf,
    },
    /// Takes each protection away and looks for a seed that breaks (debug builds only).
    Mutations {
        /// Only the protections whose name holds this.
        #[arg(long)]
        only: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Replays days of builds under every policy of placement, and says what ours is worth (see docs/SCHEDULING.md).
    Lab(Lab),
}

#[derive(Debug, Args)]
struct Lab {
    #[command(subcommand)]
    what: Option<LabWhat>,
    /// What everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many hours a day has, 4 at least: the first 3 are not counted.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(..=24 * 365))]
    hours: u64,
    /// Only the scenario of this name; again for another one. All when not said.
    #[arg(long = "scenario")]
    scenarios: Vec<String>,
    /// How many small instances the oracle solves.
    #[arg(long, default_value_t = 240)]
    instances: usize,
    /// How many runs at the same time; as many as there are cores when not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write the table and the plots into `SCHEDULING.md` of this directory, and beside it.
    #[arg(long)]
    docs: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum LabWhat {
    /// Builds the recorded versions of real programs again, and writes what they leave in a cache. Needs Go and its proxy.
    Record {
        /// The directory for a file of each program.
        into: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Seeds {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many at the same time; as many as there are cores when not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where a seed that breaks leaves its event file.
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub seeds: u64,
    /// Those that broke, told without the faults that they did not need.
    pub broken: Vec<Verdict>,
    /// Builds that have ended.
    pub builds: u64,
    /// What happened.
    pub events: u64,
    /// How long it took, in virtual time.
    pub virtual_ms: u64,
    /// What went wrong, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn take(&mut self, verdict: Verdict) {
        self.seeds += 1;
        self.builds += verdict.builds;
        self.events += verdict.told.story.len() as u64;
        self.virtual_ms += verdict.virtual_ms;
        for (name, count) in seed::by_kind(std::iter::once(&verdict)) {
            *self.faults.entry(name).or_default() += count;
        }
        if verdict.finding.is_some() {
            self.broken.push(verdict);
        }
    }
}

/// Does what the command line says; whether all is well.
///
/// # Errors
/// When a file cannot be read or written.
pub fn run(arguments: Arguments) -> anyhow::Result<bool> {
    if !matches!(arguments.what, Some(What::Lab(_))) {
        // A panic is a finding, and is told with its seed.
        panic::set_hook(Box::new(|_| {}));
    }
    match arguments.what {
        None => run_seeds(&arguments.seeds),
        Some(What::Replay { file }) => replay(&file),
        Some(What::Mutations { only, json }) => mutations(only.as_deref(), json),
        Some(What::Lab(lab)) => run_lab(lab).map(|()| true),
    }
}

fn run_lab(lab: Lab) -> anyhow::Result<()> {
    let Lab { what, seed, hours, scenarios, instances, threads, json, docs } = lab;
    if let Some(LabWhat::Record { into }) = what {
        return lab::record::record(&into);
    }
    let threads = threads.unwrap_or_else(cores);
    let report = lab::run(&lab::Options { seed, hours, scenarios, instances, threads, docs })?;
    if json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Says now and then how far it is: ten thousand seeds take two cores over twenty minutes.
pub fn tell_progress(so_far: &Tally) {
    if so_far.seeds.is_multiple_of(SEEDS_PER_LINE) {
        eprintln!("{} seeds, {} broken", so_far.seeds, so_far.broken.len());
    }
}

/// Runs seeds on several threads, and tells `progress` after each what has come of all so far.
#[must_use]
pub fn tally(from: u64, seeds: u64, threads: usize, progress: impl Fn(&Tally) + Sync) -> Tally {
    let (next, total) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Behind the last number there is no seed.
                    let Some(seed) = from.checked_add(number).filter(|_| number < seeds) else { return };
                    let verdict = seed::run(seed, &Plan::default());
                    let verdict =
                        if verdict.finding.is_some() { seed::shrink(verdict, None) } else { verdict };
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.take(verdict);
                    progress(&total);
                }
            });
        }
    });
    let mut tally = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.broken.sort_by_key(|verdict| verdict.seed);
    tally
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn run_seeds(arguments: &Seeds) -> anyhow::Result<bool> {
    let Seeds { seeds, from, threads, json, out } = arguments;
    // Seeds take long, so what would only be found at their end is said before.
    ensure!(out.is_dir(), "--out {} is no directory, so no event file could be left there", out.display());
    let last = from.checked_add(seeds.saturating_sub(1));
    ensure!(last.is_some(), "there are no {seeds} seeds from {from} on: the last one is {}", u64::MAX);
    let tally = tally(*from, *seeds, threads.unwrap_or_else(cores), tell_progress);
    for verdict in &tally.broken {
        let file = out.join(format!("sim-{}.jsonl", verdict.seed));
        eprintln!(
            "seed {} broke: {}",
            verdict.seed,
            verdict.finding.iter().map(ToString::to_string).collect::<String>()
        );
        verdict.faults.iter().for_each(|fault| eprintln!("  after {} ms: {:?}", fault.at, fault.kind));
        match verdict.told.write(&file) {
            Ok(()) => eprintln!("  `sim replay {}` tells it again", file.display()),
            Err(error) => eprintln!(
                "  `sim --from {} --seeds 1` tells it again; {} cannot be written: {error}",
                verdict.seed,
                file.display()
            ),
        }
    }
    let broken = tally.broken.len() as u64;
    let hours = tally.virtual_ms / 3_600_000;
    if *json {
        let figures = json!({
            "seeds": tally.seeds, "broken": broken, "builds": tally.builds, "events": tally.events,
            "virtual_hours": hours, "faults_by_kind": tally.faults,
        });
        println!("{figures}");
    } else {
        println!(
            "{} seeds, {broken} broken: {} builds, {} events in {hours} virtual hours",
            tally.seeds, tally.builds, tally.events
        );
        tally.faults.iter().for_each(|(name, count)| println!("{count:>8} {name}"));
    }
    Ok(broken == 0)
}

fn replay(file: &std::path::Path) -> anyhow::Result<bool> {
    let (told, mutation) = Told::read(file)?;
    if mutation.is_some() && !cfg!(debug_assertions) {
        bail!("the story is told without a protection, which needs a build with debug assertions");
    }
    let Told { header, story } = told;
    match seed::replay(&header.setup, mutation, &story) {
        Some((at, finding)) => {
            println!("after {at} ms: {finding}");
            Ok(false)
        }
        None => {
            println!("nothing is wrong with these {} events", story.len());
            Ok(true)
        }
    }
}

/// The first seed that breaks without a protection, told with the faults that it needs.
#[must_use]
pub fn catch(mutation: Mutation, seeds: u64) -> Option<Verdict> {
    let tell = |seed: u64| {
        // What is drawn has hardly ever a region fall silent for just longer than a lease while much is run there, an agent
        // go out of service or lose a label for which it has just been offered something, or two leaders at the right
        // moment; so three of four seeds have.
        let region = u8::try_from(seed / 4 % 3).unwrap_or(0);
        let faults = match seed % 4 {
            1 => {
                let mut faults = faults::silences(Whom::Region(region), (true, false), 35_000);
                let slow = FaultKind::Slow(Whom::All, 8, faults::FAULTS_UNTIL_MS);
                faults.insert(0, Fault { at: faults::FAULTS_FROM_MS, kind: slow });
                Some(faults)
            }
            2 => Some(faults::upheavals()),
            3 => Some(faults::leaders()),
            _ => None,
        };
        seed::run(seed, &Plan { mutation: Some(mutation), faults })
    };
    (0..seeds).map(tell).find(|verdict| verdict.finding.is_some())
}

fn mutations(only: Option<&str>, json: bool) -> anyhow::Result<bool> {
    if !cfg!(debug_assertions) {
        bail!(
            "a release build has no protection that could be taken away: run it with `cargo run`, in a debug build"
        );
    }
    let wanted = |mutation: &Mutation| only.is_none_or(|part| mutation.name().contains(part));
    let (mut all, mut caught) = (0, 0);
    for mutation in Mutation::all().into_iter().filter(wanted) {
        all += 1;
        match catch(mutation, SEEDS_PER_MUTATION) {
            Some(Verdict { seed, finding: Some(finding), .. }) => {
                caught += 1;
                if !json {
                    println!("without {}: seed {seed} breaks: {finding}", mutation.name());
                }
            }
            _ => eprintln!("without {}: none of {SEEDS_PER_MUTATION} seeds breaks", mutation.name()),
        }
    }
    if json {
        println!("{}", json!({ "mutations": all, "mutations_caught": caught }));
    } else {
        println!("{caught} of {all} protections are missed when they are gone");
    }
    Ok(all == caught)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> String {
        let words = ["sim"].into_iter().chain(words.iter().copied());
        match Arguments::try_parse_from(words) {
            Ok(arguments) => format!("{:#}", run_seeds(&arguments.seeds).unwrap_err()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn seeds_that_are_not_there_or_could_not_be_told_of_are_refused_before_any_is_run() {
        let nowhere = told(&["--seeds", "1", "--out", "/nonexistent/place"]);
        assert!(nowhere.contains("/nonexistent/place is no directory"), "{nowhere}");
        let beyond = told(&["--seeds", "2", "--from", "18446744073709551615"]);
        assert!(beyond.contains("the last one is 18446744073709551615"), "{beyond}");
        assert!(told(&["--seeds", "0"]).contains("0 is not in 1.."));
    }

    #[test]
    fn the_last_seed_of_all_is_the_last() {
        assert_eq!(tally(u64::MAX, 1, 2, |_| {}).seeds, 1);
    }
}
