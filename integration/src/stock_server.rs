//! A server of the remote execution API that nobody here wrote, for what a region keeps outside the fleet: BuildGrid's.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use crate::{fleet::free_address, home::Home, process::Daemon, wait::wait_for};

/// How long it may take until it listens: on a busy machine Python alone takes half a minute to read it.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// The server, with what it keeps on disk. What it remembers of actions it forgets with each end, as a server may.
#[derive(Debug)]
pub struct StockServer {
    // Ends before the home that holds its log goes.
    process: Option<Daemon>,
    program: PathBuf,
    address: SocketAddr,
    home: Home,
}

impl StockServer {
    /// The name of its one instance.
    pub const INSTANCE: &str = "builds";

    /// Starts BuildGrid's `program` on an empty directory, for whoever asks.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    #[track_caller]
    pub fn start(program: PathBuf) -> Self {
        let (home, address) = (Home::with_proxy("off"), free_address());
        fs::write(home.path().join("server.yml"), configuration(address)).expect("a file can be written");
        let mut server = Self { process: None, program, address, home };
        server.start_again();
        server
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it on what it kept, at the same address.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[track_caller]
    pub fn start_again(&mut self) {
        let mut command = self.home.program(&self.program);
        command.args(["server", "start", "server.yml"]);
        let log = self.home.path().join("server.log");
        self.process = Some(Daemon::start("bgd server", command, &log).expect("the server starts"));
        wait_for("bgd server to listen", STARTS_WITHIN, || TcpStream::connect(self.address).ok().map(drop));
    }

    /// How many blobs it has on disk.
    #[must_use]
    pub fn blobs(&self) -> usize {
        let listed = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        let shelves = listed(self.home.path().join("data/cas/objects"));
        shelves.map(|shelf| listed(shelf.path()).count()).sum()
    }
}

fn configuration(address: SocketAddr) -> String {
    format!(
        "server:
  - !channel
    address: \"{address}\"
    insecure-mode: true
authorization:
  method: none
storages:
  - !disk-storage &blobs
    path: data
caches:
  - !lru-action-cache &results
    storage: *blobs
    max-cached-refs: 1024
    allow-updates: true
instances:
  - name: {instance}
    services:
      - !action-cache
        cache: *results
      - !cas
        storage: *blobs
      - !bytestream
        storage: *blobs
",
        instance = StockServer::INSTANCE
    )
}
