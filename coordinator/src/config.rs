//! The coordinator's configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use meridian_core::{id::FleetName, machine::Limits, quantity::ByteCount};

/// What a coordinator needs to know.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// The fleet's name, the trust domain of every identity.
    pub fleet: FleetName,
    /// Where journal, blobs, indexes and the authority are kept.
    pub state_dir: PathBuf,
    /// `HOST:PORT` for agents and clients; port 0 takes a free one.
    pub listen: String,
    /// Host names and addresses that stand in the coordinator's certificate, for stock clients.
    pub names: Vec<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; nowhere when `None`.
    pub http_listen: Option<SocketAddr>,
    /// How much the blob store may hold.
    pub blob_capacity: ByteCount,
    /// How much of the blob store's file system is left free: for the journal, and for others.
    pub free_min: ByteCount,
    /// Whether this is a local fleet, which its own user may stop.
    pub local: bool,
    /// How long a connection is used. A peer shows its certificate only when it connects, so this is far below the life of an
    /// identity; whoever is in the middle of something finishes it, and an agent's stream is opened anew.
    pub connection_age_max: Duration,
    /// Bounds on the machine's state.
    pub limits: Limits,
}

impl CoordinatorConfig {
    /// The defaults for a fleet and a state directory: loopback, any port, 20 GiB of blobs, 1 GiB left free.
    #[must_use]
    pub fn new(fleet: FleetName, state_dir: PathBuf) -> Self {
        Self {
            fleet,
            state_dir,
            listen: "127.0.0.1:0".to_owned(),
            names: Vec::new(),
            http_listen: None,
            blob_capacity: ByteCount::gib(20),
            free_min: ByteCount::gib(1),
            local: false,
            connection_age_max: Duration::from_secs(24 * 3600),
            limits: Limits::default(),
        }
    }
}
