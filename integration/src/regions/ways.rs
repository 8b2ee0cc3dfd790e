//! The ways between sites that are far apart.
//!
//! Who is reached from several sites, the coordinator and each agent's port for others, lies behind a relay at the centre, in
//! which everybody has a link that is as long as the way from there. A way is shared by all connections from one site to one
//! such port.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::world::{CENTRE, REGIONS};
use crate::{
    fleet::Fleet,
    namespaces::Network,
    relay::{Relay, Shape},
};

/// What the way between two sites is like.
pub type Between = fn(&str, &str) -> Shape;

/// The relays.
#[derive(Debug)]
pub(super) struct Ways {
    between: Between,
    coordinator: Relay,
    /// Those of the agents, with the region of each.
    shards: Vec<(&'static str, Relay)>,
}

impl Ways {
    /// The way to the coordinator, from the site in which this thread is.
    pub(super) fn begin(network: &Network, fleet: &Fleet, between: Between) -> Self {
        let address = fleet.address().parse().expect("an address");
        Self { between, coordinator: relay(network, CENTRE, address, between), shards: Vec::new() }
    }

    /// Where the coordinator is found.
    pub(super) const fn to_coordinator(&self) -> SocketAddr {
        self.coordinator.address()
    }

    /// Leads to an agent's port for others, which listens at `listen`, and says where it is found.
    pub(super) fn add_shard(
        &mut self,
        network: &Network,
        region: &'static str,
        listen: SocketAddr,
    ) -> SocketAddr {
        let relay = relay(network, region, listen, self.between);
        let address = relay.address();
        self.shards.push((region, relay));
        address
    }

    /// What went over the ways to agents from other regions, both ways.
    pub(super) fn crossed_bytes(&self, network: &Network) -> u64 {
        let of_shard = |(region, relay): &(&str, Relay)| -> u64 {
            let others = REGIONS.into_iter().filter(|other| other != region);
            others.map(|other| relay.traffic_from(network.address(other).into()).bytes()).sum()
        };
        self.shards.iter().map(of_shard).sum()
    }
}

fn relay(network: &Network, site: &str, target: SocketAddr, between: Between) -> Relay {
    let shape_from = |region: &&str| (IpAddr::V4(network.address(region)), between(region, site));
    let shapes: BTreeMap<IpAddr, Shape> = REGIONS.iter().map(shape_from).collect();
    Relay::start_between(network.address(CENTRE).into(), target, Shape::default(), shapes)
}
