//! `cargo run --release -p meridian-integration --bin stock_clients -- remotetool casd`

use std::process::ExitCode;

use clap::Parser;
use meridian_integration::stock_trial::StockTrial;

/// Has clients of the remote execution API that nobody here wrote bring bytes to a cache of ours and take them from there.
/// Installs them first.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which clients.
    #[arg(required = true)]
    clients: Vec<StockTrial>,
}

fn main() -> ExitCode {
    let mut ended = ExitCode::SUCCESS;
    for trial in Arguments::parse().clients {
        match trial.run() {
            Ok(()) => println!("{trial}: passed"),
            Err(error) => {
                println!("{trial}: failed: {error:#}");
                ended = ExitCode::FAILURE;
            }
        }
    }
    ended
}
