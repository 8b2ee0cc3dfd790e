//! `cargo run --release -p meridian-integration --bin bench -- main-job --json`

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use meridian_integration::bench::main_job::{self, Plan};

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
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// One command builds a real Go program through coordinator and agent.
    MainJob,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing: run it with `cargo run --release`");
    }
    if arguments.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    if let Some(unknown) = arguments.only.iter().find(|key| !main_job::KEYS.contains(&key.as_str())) {
        bail!("there is no figure {unknown:?}; there are: {}", main_job::KEYS.join(", "));
    }
    let figures = match arguments.bench {
        Bench::MainJob => main_job::measure(&Plan { rounds: arguments.rounds, only: arguments.only }),
    }
    .context("the bench could not be completed")?;
    if arguments.json {
        println!("{}", figures.to_json());
    } else {
        print!("{}", figures.to_text());
    }
    Ok(())
}
