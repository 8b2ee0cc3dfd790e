//! What nobody has all of any more comes from its homes, whatever becomes of one of them.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use meridian_cache::{
    manifest::SignedManifest,
    prefetch::{Beyond, HomeRegion, HomeRegions, Prefetch, PrefetchPlan},
    shard::Holder,
    write_back::{Home, Homes, Queue, Uploader},
};
use meridian_core::{
    cache::{
        peer_address::PeerAddress,
        shards::{RegionShards, ShardMember},
    },
    digest::Digest,
    id::{AgentId, RegionName},
    quantity::ByteCount,
};

use crate::{
    pair::{Place, SCOPE, Serving, bodies, holder, noise},
    several::serve_liar,
    write_back::until_empty,
};

/// Three shards of a region, of which each body has two homes.
#[derive(Clone)]
struct Region {
    shards: Arc<RegionShards>,
    addresses: Vec<SocketAddr>,
}

impl Region {
    fn of(addresses: Vec<SocketAddr>) -> Self {
        let region = RegionName::new("eu").unwrap();
        let member = |(n, address): (usize, &SocketAddr)| ShardMember {
            agent: format!("eu/agent-{n}").parse::<AgentId>().unwrap(),
            address: address.to_string().parse::<PeerAddress>().unwrap(),
            weight: 1,
        };
        let members = addresses.iter().enumerate().map(member).collect();
        let shards = Arc::new(RegionShards::new(region, 2, members).unwrap());
        Self { shards, addresses }
    }

    /// With another at the place of one.
    fn with(&self, home: usize, address: SocketAddr) -> Self {
        let mut other = self.clone();
        other.addresses[home] = address;
        other
    }
}

impl Homes for Region {
    fn homes(&self) -> Option<Vec<Home>> {
        let home = |(member, address): (&ShardMember, &SocketAddr)| {
            let (shards, agent) = (Arc::clone(&self.shards), member.agent.clone());
            let takes = move |body: &Digest| shards.is_home(&agent, body.as_bytes());
            Home { holder: holder(address), takes: Arc::new(takes) }
        };
        Some(self.shards.members().iter().zip(&self.addresses).map(home).collect())
    }
}

impl HomeRegion for Region {
    fn count(&self) -> usize {
        self.addresses.len()
    }

    fn homes(&self, body: &Digest) -> Vec<usize> {
        let homes = self.shards.homes(body.as_bytes());
        let place = |home: &ShardMember| {
            self.shards.members().iter().position(|one| one.agent == home.agent).unwrap()
        };
        homes.into_iter().map(place).collect()
    }

    fn holder(&self, home: usize) -> Option<Holder> {
        Some(holder(&self.addresses[home]))
    }
}

struct Regions(Vec<Region>);

impl HomeRegions for Regions {
    fn regions(&self) -> Vec<Box<dyn HomeRegion>> {
        self.0.iter().map(|region| Box::new(region.clone()) as Box<dyn HomeRegion>).collect()
    }
}

/// A region to which a maker, who is gone, has brought what it made.
struct Kept {
    places: Vec<Place>,
    _serving: Vec<Serving>,
    region: Region,
    signed: Arc<SignedManifest>,
    made: Vec<(&'static str, Vec<u8>)>,
}

impl Kept {
    async fn new() -> Self {
        let (maker, places) = (Place::new(), vec![Place::new(), Place::new(), Place::new()]);
        let made: Vec<_> = bodies().into_iter().chain(noise(8)).collect();
        let signed = maker.build(&made).await;
        let mut serving = Vec::new();
        for place in &places {
            serving.push(place.serve().await);
        }
        let region = Region::of(serving.iter().map(|serving| serving.address).collect());
        let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
        queue.push(signed.digest);
        let uploader = Uploader {
            queue: Arc::clone(&queue),
            store: Arc::clone(&maker.store),
            vouching: Arc::clone(&maker.team) as _,
            homes: Arc::new(region.clone()),
            outside: None,
        };
        let uploading = tokio::spawn(uploader.run());
        until_empty(&queue).await;
        uploading.abort();
        for place in &places {
            assert_eq!(place.store.library().names(), [], "a home has its share, and no more");
        }
        Self { places, _serving: serving, region, signed, made }
    }

    /// How many distinct bodies there are that are not empty.
    fn count(&self) -> u64 {
        let distinct: HashSet<_> = self.made.iter().map(|(_, body)| body).filter(|b| !b.is_empty()).collect();
        distinct.len() as u64
    }

    /// Brings it to a place that has nothing.
    fn prefetch(&self, place: &Place, regions: Vec<Region>, holders: &[SocketAddr]) -> Arc<Prefetch> {
        let plan = PrefetchPlan {
            manifest: self.signed.digest,
            scope: SCOPE.into(),
            holders: holders.iter().map(holder).collect(),
            from: 0,
            is_exact: true,
        };
        let beyond = Beyond { homes: Some(Arc::new(Regions(regions))), outside: None };
        let (store, vouching) = (Arc::clone(&place.store), Arc::clone(&place.team) as _);
        Arc::new(Prefetch::begin_with(store, vouching, plan, beyond))
    }

    /// What a build on that place finds.
    fn expect_all(&self, place: &Place, prefetch: &Arc<Prefetch>) {
        let task = place.task(Some(prefetch));
        let mut driver = place.driver(&task);
        for (action, body) in &self.made {
            assert_eq!(driver.get(action).as_ref(), Some(body), "{action}");
        }
        driver.close();
        assert!(prefetch.arrivals().is_whole());
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    Place::new().serve().await.address
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_maker_gone_a_build_comes_from_its_homes_and_each_brings_its_share_once() {
    let (kept, cold) = (Kept::new().await, Place::new());
    let prefetch = kept.prefetch(&cold, vec![kept.region.clone()], &[]);
    assert_eq!(prefetch.ended().await.bodies, kept.count());
    kept.expect_all(&cold, &prefetch);
    let figures = prefetch.figures();
    assert!(figures.wire_bytes < figures.body_bytes + figures.body_bytes / 10, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_gone_leaves_what_it_would_have_brought_to_the_homes() {
    let (kept, cold) = (Kept::new().await, Place::new());
    let gone = [nobody().await, nobody().await];
    let prefetch = kept.prefetch(&cold, vec![kept.region.clone()], &gone);
    assert_eq!(prefetch.ended().await.bodies, kept.count());
    kept.expect_all(&cold, &prefetch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_home_that_is_gone_had_comes_from_the_other_home_of_each_body() {
    let kept = Kept::new().await;
    for home in 0..3 {
        let cold = Place::new();
        let prefetch = kept.prefetch(&cold, vec![kept.region.with(home, nobody().await)], &[]);
        assert_eq!(prefetch.ended().await.bodies, kept.count(), "without {home}");
        kept.expect_all(&cold, &prefetch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_home_that_lies_nothing_is_believed_and_the_other_homes_bring_it() {
    let kept = Kept::new().await;
    let (address, lying) = serve_liar(&kept.places[1]).await;
    let cold = Place::new();
    let prefetch = kept.prefetch(&cold, vec![kept.region.with(1, address)], &[]);
    let figures = prefetch.ended().await;
    assert_eq!(figures.bodies, kept.count(), "{figures:?}");
    assert!(figures.refused > 0, "{figures:?}");
    kept.expect_all(&cold, &prefetch);
    lying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_region_is_asked_for_what_the_nearest_has_not() {
    let (kept, cold) = (Kept::new().await, Place::new());
    let alone = kept.region.with(0, nobody().await).with(1, nobody().await);
    let prefetch = kept.prefetch(&cold, vec![alone, kept.region.clone()], &[]);
    assert_eq!(prefetch.ended().await.bodies, kept.count());
    kept.expect_all(&cold, &prefetch);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_home_knows_the_manifest_a_prefetch_ends_at_once() {
    let (kept, cold, other) = (Kept::new().await, Place::new(), Place::new());
    let unknown = other.build(&[("another", b"body".to_vec())]).await;
    let plan = PrefetchPlan {
        manifest: unknown.digest,
        scope: SCOPE.into(),
        holders: Vec::new(),
        from: 0,
        is_exact: true,
    };
    let beyond = Beyond { homes: Some(Arc::new(Regions(vec![kept.region.clone()]))), outside: None };
    let (store, vouching) = (Arc::clone(&cold.store), Arc::clone(&cold.team) as _);
    let prefetch = Prefetch::begin_with(store, vouching, plan, beyond);
    let ended = tokio::time::timeout(Duration::from_secs(20), prefetch.ended()).await.unwrap();
    assert_eq!(ended.bodies, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_disk_takes_no_more_asks_no_further_home_for_the_same() {
    let (kept, full) = (Kept::new().await, Place::with_capacity(ByteCount::kib(64)));
    let regions = vec![kept.region.clone(), kept.region.clone(), kept.region.clone()];
    let prefetch = kept.prefetch(&full, regions, &[]);
    let figures = prefetch.ended().await;
    let all: usize = kept.made.iter().map(|(_, body)| body.len()).sum();
    assert!(figures.bodies < kept.count(), "{figures:?}");
    assert!(figures.wire_bytes < all as u64 * 11 / 10, "{figures:?} of {all} bytes");
}
