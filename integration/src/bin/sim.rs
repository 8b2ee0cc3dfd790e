//! `cargo run --release -p meridian-integration --bin sim -- --seeds 10000`

use std::process::ExitCode;

use clap::Parser as _;
use meridian_integration::sim::command::{self, Arguments};

fn main() -> anyhow::Result<ExitCode> {
    let is_well = command::run(Arguments::parse())?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
