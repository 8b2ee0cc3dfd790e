//! The shim as a program of its own, and a daemon to go with it, for tests and for timing by hand.
//!
//! `cacheprog --socket PATH` is what cmd/go starts. `cacheprog daemon DIR` opens the cache in DIR, prints its
//! socket, and serves until its standard input ends.

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use meridian_cache::local::{CacheDaemon, TaskScope, shim};
use meridian_core::{digest::Digest, quantity::ByteCount};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--socket", socket] => shim::run(Path::new(socket)),
        ["daemon", dir] => serve(Path::new(dir)).map_or_else(
            |error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ),
        _ => {
            eprintln!("usage: cacheprog --socket PATH | cacheprog daemon DIR");
            ExitCode::FAILURE
        }
    }
}

fn serve(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let daemon = CacheDaemon::open(dir, ByteCount::gib(20))?;
    let scope = TaskScope { toolchain: Digest::of(b"by hand"), own: "own".into(), also_reads: Vec::new() };
    let task = {
        let _within = runtime.enter();
        daemon.open_task(&scope)?
    };
    println!("{}", task.socket_path().display());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let figures = runtime.block_on(task.close(Duration::from_secs(5)));
    eprintln!("{figures:?}");
    Ok(())
}
