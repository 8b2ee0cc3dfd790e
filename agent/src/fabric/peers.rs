//! Other agents: the ways to them, and how long these are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use meridian_cache::shard::{Holder, Membership};
use meridian_core::{
    cache::{peer_address::PeerAddress, shards::ShardMember},
    id::{AgentId, FleetName},
    machine::{PEERS_MAX, input::PeerFigures},
    quantity::ByteCount,
};
use meridian_runtime::{
    identity::{LiveIdentity, SpiffeId},
    tls::{self, ChannelOptions, ClientTls, Profile},
};
use tonic::transport::Channel;

/// How many ways are kept open.
const CHANNELS_MAX: usize = 64;
/// How long a peer may take to answer when it is measured. One that takes longer is far enough to come last.
const PING_WITHIN: Duration = Duration::from_secs(2);
/// Ways are compared by how long they take for this much: what a small program needs, compressed.
const COMPARED_BYTES: u64 = 16 << 20;
/// How many peers are measured each time.
const MEASURED_MAX: usize = 16;

struct Way {
    holder: Holder,
    used: Instant,
}

/// The ways to other agents. They connect when they are first used, and stay open.
pub(crate) struct Peers {
    fleet: FleetName,
    authority: Vec<u8>,
    identity: LiveIdentity,
    membership: Arc<dyn Membership>,
    ways: Mutex<HashMap<(AgentId, PeerAddress), Way>>,
    round_trips: Mutex<BTreeMap<AgentId, Option<Duration>>>,
}

impl Peers {
    /// Ways that show `identity`, to agents that `authority` vouches for.
    pub(crate) fn new(
        fleet: FleetName,
        authority: Vec<u8>,
        identity: LiveIdentity,
        membership: Arc<dyn Membership>,
    ) -> Self {
        let (ways, round_trips) = Default::default();
        Self { fleet, authority, identity, membership, ways, round_trips }
    }

    /// The way to an agent; nothing when its address is none. Must be called within a tokio runtime.
    pub(crate) fn holder(&self, agent: &AgentId, address: &PeerAddress) -> Option<Holder> {
        let key = (agent.clone(), address.clone());
        let mut ways = lock(&self.ways);
        if let Some(way) = ways.get_mut(&key) {
            way.used = Instant::now();
            return Some(way.holder.clone());
        }
        let channel = match self.dial(agent, address) {
            Ok(channel) => channel,
            Err(why) => {
                tracing::warn!(%agent, %address, why, "another agent's cache cannot be reached");
                return None;
            }
        };
        if ways.len() >= CHANNELS_MAX {
            let oldest = ways.iter().min_by_key(|(_, way)| way.used).map(|(key, _)| key.clone());
            oldest.map(|key| ways.remove(&key));
        }
        let holder = Holder::new(agent.to_string(), channel).within(Arc::clone(&self.membership));
        ways.insert(key, Way { holder: holder.clone(), used: Instant::now() });
        Some(holder)
    }

    /// Sorts by how long they take, by how far they were when they were last measured and how wide the way was lately;
    /// those that do not answer last, and those that were never measured as they came, after the ones that answer.
    pub(crate) fn nearest_first<T>(&self, peers: &mut [T], agent: impl Fn(&T) -> &AgentId) {
        let rates: HashMap<AgentId, u64> = {
            let ways = lock(&self.ways);
            let known = |(key, way): (&(AgentId, PeerAddress), &Way)| {
                Some((key.0.clone(), way.holder.bytes_per_s()?))
            };
            ways.iter().filter_map(known).collect()
        };
        let round_trips = lock(&self.round_trips);
        peers.sort_by_key(|peer| match round_trips.get(agent(peer)) {
            Some(Some(round_trip)) => (0, *round_trip + wire_time(rates.get(agent(peer)))),
            None => (1, Duration::ZERO),
            Some(None) => (2, Duration::ZERO),
        });
    }

    /// What was measured of others of late.
    pub(crate) fn measured(&self) -> Vec<PeerFigures> {
        let round_trips = lock(&self.round_trips).clone();
        let ways = lock(&self.ways);
        let figures = ways.iter().filter_map(|((agent, _), way)| {
            let rtt_us = u64::try_from(round_trips.get(agent)?.as_ref()?.as_micros()).unwrap_or(u64::MAX);
            let bytes_per_s = ByteCount(way.holder.bytes_per_s()?);
            Some(PeerFigures { agent: agent.clone(), rtt_us, bytes_per_s })
        });
        figures.take(PEERS_MAX).collect()
    }

    /// Measures how far these are, and keeps the ways to them open. Whether all have answered.
    pub(crate) async fn measure(&self, members: &[ShardMember]) -> bool {
        let mut asking = tokio::task::JoinSet::new();
        for member in members.iter().take(MEASURED_MAX) {
            let Some(holder) = self.holder(&member.agent, &member.address) else { continue };
            let agent = member.agent.clone();
            asking.spawn(async move { (agent, holder.ping(PING_WITHIN).await) });
        }
        let mut all_answered = true;
        while let Some(measured) = asking.join_next().await {
            let Ok((agent, round_trip)) = measured else { continue };
            all_answered &= round_trip.is_some();
            lock(&self.round_trips).insert(agent, round_trip);
        }
        let known = |agent: &AgentId| members.iter().any(|member| member.agent == *agent);
        lock(&self.round_trips).retain(|agent, _| known(agent));
        all_answered
    }

    fn dial(&self, agent: &AgentId, address: &PeerAddress) -> Result<Channel, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let segments = ["agent", agent.region.as_str(), agent.name.as_str()];
        let server = SpiffeId::new(self.fleet.as_str(), &segments).map_err(|e| text(&e))?;
        let tls =
            ClientTls { authority: self.authority.clone(), identity: Some(self.identity.clone()), server };
        tls::channel(address.as_str(), tls, &ChannelOptions::from_env(Profile::Bulk)).map_err(|e| text(&e))
    }
}

/// How long a way of this many bytes a second takes for what a small build needs; nothing as long as that is unknown.
fn wire_time(bytes_per_s: Option<&u64>) -> Duration {
    bytes_per_s
        .map_or(Duration::ZERO, |rate| Duration::from_micros(COMPARED_BYTES * 1_000_000 / (*rate).max(1)))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed by whole steps, so a panic elsewhere leaves it usable.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use meridian_cache::shard::NoMembership;
    use meridian_runtime::{
        identity::{Authority, Identity, new_key_and_csr},
        tls::install_crypto,
    };

    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId { region: "eu".parse().unwrap(), name: name.parse().unwrap() }
    }

    /// Where nobody listens: the port is privileged, and no service has it.
    fn nowhere() -> PeerAddress {
        "127.0.0.1:1".parse().unwrap()
    }

    fn peers() -> Peers {
        install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "acme").unwrap();
        let (key, csr) = new_key_and_csr().unwrap();
        let id = SpiffeId::new("acme", &["agent", "eu", "own"]).unwrap();
        let chain = authority.issue(&csr, &id, Duration::from_secs(3600), &[]).unwrap();
        let identity = Identity::new(key, &chain, authority.certificate_der()).unwrap();
        let live = LiveIdentity::new(identity).unwrap();
        let der = authority.certificate_der().to_vec();
        Peers::new(FleetName::new("acme").unwrap(), der, live, Arc::new(NoMembership))
    }

    impl Peers {
        fn with(self, name: &str, round_trip_ms: Option<u64>) -> Self {
            lock(&self.round_trips).insert(agent(name), round_trip_ms.map(Duration::from_millis));
            self
        }

        /// So much came from it in a second.
        fn with_transfer(self, name: &str, bytes_per_s: u64) -> Self {
            let holder = self.holder(&agent(name), &nowhere()).unwrap();
            holder.transferred(bytes_per_s, Duration::from_secs(1));
            self
        }

        fn order(&self, names: &[&str]) -> String {
            let mut all: Vec<AgentId> = names.iter().map(|name| agent(name)).collect();
            self.nearest_first(&mut all, |agent| agent);
            all.iter().map(|agent| agent.name.as_str().to_owned()).collect::<Vec<_>>().join(" ")
        }
    }

    #[tokio::test]
    async fn the_nearest_comes_first_those_never_measured_as_they_came_and_the_silent_last() {
        let peers = peers().with("city", Some(5)).with("ocean", Some(150)).with("gone", None);
        let order = peers.order(&["gone", "new", "ocean", "fresh", "city"]);
        assert_eq!(order, "city ocean new fresh gone");
        let order = peers.order(&["fresh", "city", "gone", "ocean", "new"]);
        assert_eq!(order, "city ocean fresh new gone");
    }

    #[tokio::test]
    async fn a_narrow_way_is_longer_than_a_wide_one_across_an_ocean() {
        let peers = peers().with("city", Some(5)).with("ocean", Some(150)).with("unknown", Some(20));
        let peers = peers.with_transfer("city", 1 << 20).with_transfer("ocean", 100 << 20);
        // Sixteen seconds, a third of one, and nothing that is known but the round trip.
        assert_eq!(peers.order(&["city", "ocean", "unknown"]), "unknown ocean city");
        // Both as wide as it is far.
        let peers = peers.with_transfer("near", 100 << 20).with("near", Some(5));
        assert_eq!(peers.order(&["ocean", "near"]), "near ocean");
    }

    #[test]
    fn the_width_of_a_way_counts_as_the_time_of_what_a_small_build_needs() {
        assert_eq!(wire_time(None), Duration::ZERO);
        assert_eq!(wire_time(Some(&COMPARED_BYTES)), Duration::from_secs(1));
        assert_eq!(wire_time(Some(&(COMPARED_BYTES * 10))), Duration::from_millis(100));
        assert_eq!(wire_time(Some(&0)), wire_time(Some(&1)), "a way of no width is a very narrow one");
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_measured_as_silent_and_one_that_left_is_forgotten() {
        let peers = peers().with("left", Some(1));
        let member = ShardMember { agent: agent("gone"), address: nowhere(), weight: 1 };
        assert_eq!(peers.order(&["left", "gone", "new"]), "left gone new");
        assert!(!peers.measure(&[member]).await, "it is silent");
        assert_eq!(peers.order(&["left", "gone", "new"]), "left new gone");
        assert!(!lock(&peers.round_trips).contains_key(&agent("left")), "it is no member");
        assert!(peers.measure(&[]).await, "nobody is silent");
    }
}
