//! `cargo run --release -p meridian-integration --bin bench -- main-job --json`

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use meridian_integration::bench::{
    cache::{parts as cache, report, shard},
    main_job,
    plan::Plan,
    scheduler::parts as scheduler,
    trust::parts as trust,
};

/// Measures Meridian against what people use today. Figures go to standard output, progress to standard error.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which bench.
    bench: Bench,
    /// Print one flat JSON object with the values of every round under `raw`.
    #[arg(long)]
    json: bool,
    /// How many rounds; each figure is the median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only these keys.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Throw away what an earlier run kept, and measure all of it again.
    #[arg(long)]
    fresh: bool,
    /// Write the tables and the plot into docs/BENCHMARKS.md (cache).
    #[arg(long)]
    publish: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// One command builds a real Go program through coordinator and agent.
    MainJob,
    /// Signed artifacts: sandbox, signer, verifiers, reproducibility, redaction.
    Trust,
    /// The build cache: agents that have built nothing, over a link that is long, narrow or lossy.
    Cache,
    /// Placements: what the choice is worth, what it costs, and what it survives.
    Scheduler,
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, directory, addr] = &words[..]
        && word == shard::SERVE
    {
        return shard::serve(directory.as_ref(), addr.parse()?);
    }
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing: run it with `cargo run --release`");
    }
    if arguments.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    let keys = match arguments.bench {
        Bench::MainJob => main_job::KEYS.to_vec(),
        Bench::Trust => trust::keys(),
        Bench::Cache => cache::keys(),
        Bench::Scheduler => scheduler::keys(),
    };
    if let Some(unknown) = arguments.only.iter().find(|key| !keys.contains(&key.as_str())) {
        bail!("there is no figure {unknown:?}; there are: {}", keys.join(", "));
    }
    let Arguments { bench, rounds, only, fresh, json, publish } = arguments;
    if publish && !matches!(bench, Bench::Cache) {
        bail!("only the bench `cache` has something to publish");
    }
    let figures = match bench {
        Bench::MainJob => main_job::measure(&main_job::Plan { rounds, only }),
        Bench::Trust => trust::measure(&Plan { rounds, only, fresh }),
        Bench::Cache => cache::measure(&Plan { rounds, only, fresh }),
        Bench::Scheduler => scheduler::measure(&Plan { rounds, only, fresh }),
    }
    .context("the bench could not be completed")?;
    if publish {
        report::publish(&figures, rounds)?;
    }
    if json {
        println!("{}", figures.to_json());
    } else {
        print!("{}", figures.to_text());
    }
    Ok(())
}
