//! A way to bring what one machine has built to an agent that has built nothing.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use super::{
    bed::{Bed, Program},
    driver::Driver,
    native_cache,
};
use crate::{bench::timing::Timed, fixture::file_server::FileServer, process::Daemon};

/// Whoever brings it.
pub trait Side {
    /// What it is called in keys of figures.
    fn name(&self) -> &'static str;

    /// Serves all that a build of the program needs, from the machine that has built it.
    ///
    /// # Errors
    /// When it cannot be filled or started.
    fn serve(&self, bed: &Bed, program: &Program) -> anyhow::Result<Serving>;

    /// Builds the program on an agent that has nothing, and reaches the machine that has built it `via` an address
    /// alone. Emptying directories is not timed.
    ///
    /// # Errors
    /// When the build fails.
    fn build_cold(
        &self,
        bed: &Bed,
        program: &Program,
        via: SocketAddr,
        at_most: Duration,
    ) -> anyhow::Result<Timed>;
}

/// A server that runs.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    _server: Server,
}

/// Kept only to run.
#[derive(Debug)]
#[expect(dead_code, reason = "it runs until it is dropped")]
enum Server {
    Process(Daemon),
    Files(FileServer),
    Runtime(tokio::runtime::Runtime),
}

impl Serving {
    /// A process that serves at an address.
    #[must_use]
    pub const fn process(address: SocketAddr, process: Daemon) -> Self {
        Self { address, _server: Server::Process(process) }
    }

    /// A server of this process, on a runtime of its own.
    #[must_use]
    pub const fn runtime(address: SocketAddr, runtime: tokio::runtime::Runtime) -> Self {
        Self { address, _server: Server::Runtime(runtime) }
    }

    /// A directory of files.
    #[must_use]
    pub const fn files(server: FileServer) -> Self {
        Self { address: server.address(), _server: Server::Files(server) }
    }
}

/// The directory that a peer's server keeps for a program, once it is filled from the program's native build.
///
/// # Errors
/// When `fill` fails; what it left is thrown away by the next try.
pub fn filled(
    bed: &Bed,
    peer: &str,
    program: &Program,
    fill: impl FnOnce(&PathBuf) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let directory = bed.kept("served").join(format!("{peer}-{}", program.name));
    let marker = directory.with_extension("filled");
    let origin = bed.origin(program)?;
    if fs::read_to_string(&marker).is_ok_and(|from| from == origin) {
        return Ok(directory);
    }
    crate::bench::world::remove(&directory)?;
    fs::create_dir_all(&directory)?;
    eprintln!("filling {peer} with the {} program", program.name);
    fill(&directory)?;
    fs::write(marker, origin)?;
    Ok(directory)
}

/// Gives a cache program all that a native build of the program has left.
///
/// # Errors
/// When it does not take it.
pub fn put_all(bed: &Bed, program: &Program, cacheprog: Command) -> anyhow::Result<()> {
    let mut driver = Driver::start(cacheprog)?;
    for entry in native_cache::entries(&bed.native_gocache(program))? {
        driver.put(&entry)?;
    }
    driver.close()
}
