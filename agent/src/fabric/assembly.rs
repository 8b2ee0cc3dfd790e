//! Puts the agent's part in the shared cache together, and runs what runs beside the builds.

use std::{sync::Arc, time::Duration};

use meridian_cache::{
    disk::CacheStore,
    outside::Outside,
    reapi::{GrantAuthority, Reapi},
    write_back::Queue,
};
use meridian_core::{
    cache::{offer::CacheOffer, peer_address::PeerAddress},
    id::{AgentId, FleetName},
    quantity::ByteCount,
};
use meridian_runtime::identity::{LiveIdentity, public_key_spki};
use meridian_trust::{keyring::Root, keys::VerifyingKey};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    listener::{ShardListener, agent_name},
    membership::KnownMembership,
    outside_watch::OutsideWatch,
    peers::Peers,
    placed::{Fabric, FabricParts},
    told::LastSketch,
    usage::LineageUsage,
    vouching::FleetVouching,
};
use crate::{
    config::{OutsideSettings, ShardSettings},
    sidecar::Left,
};

/// Who this agent is, and whom it believes.
pub(crate) struct Membership {
    /// The fleet.
    pub(crate) fleet: FleetName,
    /// The fleet's authority, DER.
    pub(crate) authority: Vec<u8>,
    /// What this agent shows.
    pub(crate) identity: LiveIdentity,
    /// Its name.
    pub(crate) agent: AgentId,
}

/// The agent's part in the shared cache, before it runs.
pub(crate) struct Assembly {
    /// What workers use.
    pub(crate) fabric: Fabric,
    /// Who this is.
    pub(crate) agent: AgentId,
    /// What the coordinator is told.
    pub(crate) offer: CacheOffer,
    store: Arc<CacheStore>,
    vouching: Arc<FleetVouching>,
    membership: Arc<KnownMembership>,
    listener: Option<ShardListener>,
    reapi: Option<Reapi>,
    watch: Option<OutsideWatch>,
}

impl Assembly {
    /// Binds the port for other agents, where one is asked for, and puts the rest together over `store`, whose capacity
    /// decides how much of a region's cache lies here. What nobody uses for `max_age` goes.
    ///
    /// # Errors
    /// When the port is taken, or the fleet's authority has no usable key.
    pub(crate) async fn new(
        member: Membership,
        store: Arc<CacheStore>,
        (capacity, max_age): (ByteCount, Option<Duration>),
        shard: Option<&ShardSettings>,
        outside: Option<(Arc<Outside>, OutsideSettings)>,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let listener = match shard {
            Some(settings) => {
                let bound = ShardListener::bind(&settings.listen, member.identity.clone()).await;
                Some(bound.map_err(|error| format!("the build cache's port: {error}"))?)
            }
            None => None,
        };
        let address = match (shard.and_then(|settings| settings.address.clone()), &listener) {
            (Some(address), _) => Some(address),
            (None, Some(listener)) => Some(own_address(listener)?),
            (None, None) => None,
        };
        let spki = public_key_spki(&member.authority).map_err(|error| text(&error))?;
        let root = VerifyingKey::from_spki(&spki).map_err(|error| text(&error))?;
        let root = Root::new(root, Some(member.fleet.clone())).map_err(|error| text(&error))?;
        let vouching = Arc::new(FleetVouching::new(root, member.agent.clone())?);
        let membership = Arc::new(KnownMembership::new(Arc::clone(&vouching)));
        let queue = Queue::open(&store.dir().join("write-back"))
            .map_err(|error| format!("what waits to be brought to other shards: {error}"))?;
        let weight = if address.is_some() { u32::try_from(capacity.0 >> 30).unwrap_or(u32::MAX) } else { 0 };
        let is_reachable = address.is_some();
        let offer = CacheOffer { address, key: vouching.public(), weight };
        let agent = member.agent.clone();
        let shared = outside.as_ref().map(|(outside, _)| Arc::clone(outside));
        let watch = outside.map(|(outside, settings)| OutsideWatch::new(outside, settings));
        let usage = LineageUsage::open(&store.dir().join("lineages"));
        let fabric = Fabric::new(FabricParts {
            usage: Arc::new(usage),
            max_age,
            store: Arc::clone(&store),
            vouching: Arc::clone(&vouching),
            peers: Arc::new(Peers::new(
                member.fleet,
                member.authority,
                member.identity,
                Arc::clone(&membership) as _,
            )),
            agent: member.agent,
            is_reachable,
            queue: Arc::new(queue),
            outside: shared,
            left: Left::open(&store.dir().join("beside.json")),
            sketch: LastSketch::default(),
        });
        Ok(Self { fabric, agent, offer, store, vouching, membership, listener, reapi: None, watch })
    }

    /// Has other agents served by a cache for the remote execution API, too, by their grants.
    pub(crate) fn serves(&mut self, reapi: &Reapi) {
        let vouching = Arc::clone(&self.vouching) as _;
        let authority = GrantAuthority::new(vouching, Arc::new(agent_name));
        self.reapi = Some(reapi.with_authority(Arc::new(authority)));
    }

    /// Runs beside the builds until `stop`: answers other agents, measures them, brings things to them, looks at the server
    /// outside, and keeps at hand the fleet's keyring and who shares the cache.
    pub(crate) async fn run(self, coordinator: Channel, stop: CancellationToken) {
        let keyring = Arc::clone(&self.vouching).keep_keyring(coordinator.clone(), stop.clone());
        let current = Arc::clone(&self.membership).keep_current(coordinator, stop.clone());
        let measuring = self.fabric.clone().keep_measured(stop.clone());
        let tidying = self.fabric.clone().keep_tidy(stop.clone());
        let writing_back = self.fabric.keep_writing_back(stop.clone());
        let watching = async {
            if let Some(watch) = self.watch {
                watch.run(stop.clone()).await;
            }
        };
        let serving = async {
            match self.listener {
                Some(listener) => {
                    let (vouching, membership) = (self.vouching, self.membership);
                    listener.serve(self.store, vouching, membership, self.reapi, stop.clone()).await;
                }
                None => stop.cancelled().await,
            }
        };
        tokio::join!(keyring, current, measuring, tidying, writing_back, watching, serving);
    }
}

/// Where it listens, as others reach it: not where that is every address of the machine.
fn own_address(listener: &ShardListener) -> Result<PeerAddress, String> {
    let address = listener.address();
    if address.ip().is_unspecified() {
        return Err(format!(
            "shard.listen = \"{address}\" is every address of this machine: say with shard.address at which of them, or under which name, other agents reach it"
        ));
    }
    address
        .to_string()
        .parse()
        .map_err(|error: meridian_core::cache::peer_address::ParsePeerAddressError| error.to_string())
}
