//! `bradfitz/go-tool-cache`: a client with a directory on disk, and a server that it asks for each action.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use super::{
    bed::{Bed, Program},
    installed::GoCacherPrograms,
    side::{Serving, Side, filled, put_all},
};
use crate::{
    bench::timing::{Timed, seconds_within},
    fleet::free_address,
    process::Daemon,
    wait::wait_for_port,
};

/// go-cacher with go-cacher-server.
#[derive(Debug)]
pub struct GoCacher(pub GoCacherPrograms);

impl GoCacher {
    /// What cmd/go starts, with a directory alone or with a server besides.
    #[must_use]
    pub fn command_line(&self, directory: &Path, server: Option<SocketAddr>) -> String {
        let mut line = format!("{} --cache-dir={}", self.0.client.display(), directory.display());
        if let Some(server) = server {
            line += &format!(" --cache-server=http://{server}");
        }
        line
    }
}

impl Side for GoCacher {
    fn name(&self) -> &'static str {
        "go_cacher"
    }

    fn serve(&self, bed: &Bed, program: &Program) -> anyhow::Result<Serving> {
        // A server's directory is laid out as a client's.
        let directory = filled(bed, self.name(), program, |directory| {
            let mut client = Command::new(&self.0.client);
            client.arg(format!("--cache-dir={}", directory.display()));
            put_all(bed, program, client)
        })?;
        let address = free_address();
        let mut server = Command::new(&self.0.server);
        server.arg(format!("--listen={address}")).arg(format!("--cache-dir={}", directory.display()));
        let process = Daemon::start("go-cacher-server", server, &bed.kept("go-cacher-server.log"))?;
        wait_for_port(address);
        Ok(Serving::process(address, process))
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
