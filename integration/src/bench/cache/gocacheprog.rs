//! `vearutop/gocacheprog`: a client that fetches all that an earlier build used before it answers, or asks for each
//! batch of actions.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use super::{
    bed::{Bed, Program},
    side::{Serving, Side, filled, put_all},
};
use crate::{
    bench::timing::{Timed, seconds_within},
    fleet::free_address,
    process::Daemon,
    wait::wait_for_port,
};

/// Where its server listens and it is reached: the client takes 127.0.0.1 for its own daemon's address.
pub const HOST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 2);
/// Objects beyond a megabyte are left out otherwise.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// vearutop/gocacheprog.
#[derive(Debug)]
pub struct Gocacheprog {
    /// The program.
    pub program: std::path::PathBuf,
    /// Whether it fetches everything first.
    pub preloads: bool,
}

impl Gocacheprog {
    /// What cmd/go starts, with a directory alone or with a server besides.
    #[must_use]
    pub fn command_line(&self, directory: &Path, server: Option<SocketAddr>) -> String {
        let words = self.words(directory, server, "second");
        format!("{} {}", self.program.display(), words.join(" "))
    }

    fn words(&self, directory: &Path, server: Option<SocketAddr>, commit: &str) -> Vec<String> {
        let mut words = vec!["-quiet".to_owned(), "-cache-dir".to_owned(), directory.display().to_string()];
        if let Some(server) = server {
            words.extend([
                format!("-remote-url=http://{server}"),
                format!("-max-file-bytes={FILE_BYTES_MAX}"),
                format!("-commit={commit}"),
                "-changes-id=main".to_owned(),
                "-base-commit=first".to_owned(),
                if self.preloads { "-preload" } else { "-skip-preload" }.to_owned(),
            ]);
        }
        words
    }

    fn start_server(&self, bed: &Bed, directory: &Path) -> anyhow::Result<Serving> {
        let address = SocketAddr::new(HOST.into(), free_address().port());
        let mut server = Command::new(&self.program);
        server
            .arg(format!("-http={address}"))
            .arg(format!("-cache-dir={}", directory.display()))
            .arg(format!("-max-file-bytes={FILE_BYTES_MAX}"));
        let process = Daemon::start("gocacheprog", server, &bed.kept("gocacheprog-server.log"))?;
        wait_for_port(address);
        Ok(Serving::process(address, process))
    }
}

impl Side for Gocacheprog {
    fn name(&self) -> &'static str {
        if self.preloads { "gocacheprog_preload" } else { "gocacheprog" }
    }

    fn serve(&self, bed: &Bed, program: &Program) -> anyhow::Result<Serving> {
        let directory = filled(bed, "gocacheprog", program, |directory| {
            // Through its server, which notes what the commit has used.
            let serving = self.start_server(bed, directory)?;
            let mut client = Command::new(&self.program);
            client.args(self.words(&bed.emptied("filler")?, Some(serving.address), "first"));
            put_all(bed, program, client)
        })?;
        self.start_server(bed, &directory)
    }

    fn build_cold(
        &self,
        bed: &Bed,
        program: &Program,
        via: SocketAddr,
        at_most: Duration,
    ) -> anyhow::Result<Timed> {
        let directory = bed.emptied("agent")?;
        let surroundings = bed.surroundings_with(self.command_line(&directory, Some(via)))?;
        seconds_within(bed.build(&surroundings, program)?, at_most)
    }
}
