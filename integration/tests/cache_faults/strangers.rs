//! Who asks a shard, and may not.

use std::future::Future;

use bytes::Bytes;
use meridian_core::{
    cache::lineage::{Lineage, LineageKey},
    digest::Digest,
};
use meridian_integration::{
    fleet::{FLEET, Fleet},
    home::Home,
};
use meridian_proto::v1::{
    DiscoverRequest, FetchRequest, MembershipRequest, PingRequest, PublishChunk, PublishHeader,
    SidecarRequest, agents_client::AgentsClient, publish_chunk::Chunk, shard_client::ShardClient,
};
use meridian_runtime::{
    identity::{Identity, LiveIdentity, SpiffeId},
    tls::{ChannelOptions, ClientTls, Profile, channel, install_crypto},
};
use tonic::{Code, Status, transport::Channel};

use crate::world::{FAR, World, identity};

/// A way to an agent's cache, or to the coordinator, under an identity or none.
fn way(address: &str, server: &[&str], authority: &Identity, shown: Option<Identity>) -> Channel {
    let tls = ClientTls {
        authority: authority.authority_der().to_vec(),
        identity: shown.map(|identity| LiveIdentity::new(identity).expect("an identity")),
        server: SpiffeId::new(FLEET, server).expect("a name"),
    };
    channel(address, tls, &ChannelOptions::from_env(Profile::Control)).expect("a channel")
}

/// No grant.
const NONE: Bytes = Bytes::from_static(b"{}");

/// What a shard says to one who wants to read and to write, and shows this for a grant.
async fn answers(channel: Channel, grant: Bytes, manifest: Digest, signed: Bytes) -> Vec<Code> {
    let mut client = ShardClient::new(channel);
    let fetch = FetchRequest {
        grant: grant.clone(),
        manifest: Bytes::copy_from_slice(manifest.as_bytes()),
        send_manifest: true,
        ..FetchRequest::default()
    };
    let discover = DiscoverRequest {
        grant: grant.clone(),
        toolchain: Bytes::from_static(&[0; 32]),
        scopes: vec!["acme/trusted".to_owned()],
        actions: vec![Bytes::from_static(&[0; 32])],
        epoch: None,
    };
    let header = PublishHeader { grant, manifest: signed, ..PublishHeader::default() };
    let publish = tokio_stream::once(PublishChunk { chunk: Some(Chunk::Header(header)) });
    vec![
        code(client.fetch(fetch)).await,
        code(client.discover(discover)).await,
        code(client.publish(publish)).await,
    ]
}

/// The coordinator's grant for an agent beside which a build begins: it reads the team's trusted scope.
async fn granted(coordinator: Channel) -> Bytes {
    let key = LineageKey(Digest::of(b"any"));
    let lineage = Lineage { exact: key, any_flags: key, any_build: key };
    let request = SidecarRequest {
        project: "acme/p".to_owned(),
        lineage: Some((&lineage).into()),
        wants_trusted: false,
    };
    let answer = AgentsClient::new(coordinator).sidecar(request).await;
    answer.expect("the coordinator grants").into_inner().hints.expect("hints").grant
}

async fn code<T>(call: impl Future<Output = Result<T, Status>>) -> Code {
    call.await.err().map_or(Code::Ok, |status| status.code())
}

#[test]
fn who_is_no_agent_of_the_fleet_or_shows_no_grant_is_given_nothing_and_may_write_nothing() {
    let (mut world, _) = World::with_two();
    install_crypto();
    let (address, own) = (world.link(0).address().to_string(), world.identity(1));
    let path = crate::world::files(&world.cache(0).join("manifests")).remove(0);
    let manifest: Digest =
        path.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok()).expect("a name");
    let signed = Bytes::from(std::fs::read(&path).expect("a manifest"));
    let server = ["agent", "ap-southeast", "a1"];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // Channels connect within a runtime.
    let within = runtime.enter();

    // Nobody: whatever is asked, the connection itself is refused, or the call.
    let nobody = way(&address, &server, &own, None);
    let codes = runtime.block_on(answers(nobody, NONE, manifest, signed.clone()));
    assert!(codes.iter().all(|code| *code != Code::Ok), "nobody: {codes:?}");

    // A member of the team, and another agent of the fleet, who have no grant.
    let member = Identity::load(&world.client.home.state().join("fleets").join(FLEET));
    let member = member.expect("it can be read").expect("a member's identity");
    for shown in [member, own] {
        let name = shown.id().to_string();
        let asking = way(&address, &server, &world.identity(1), Some(shown));
        let codes = runtime.block_on(answers(asking, NONE, manifest, signed.clone()));
        assert_eq!(codes, [Code::PermissionDenied; 3], "{name}");
    }

    // One agent's grant in another's hand. In its own it lets it read.
    let coordinator = world.fleet.address();
    let asking = way(&coordinator, &["coordinator"], &world.identity(0), Some(world.identity(0)));
    let grant = runtime.block_on(granted(asking));
    for (shown, read) in [(0, Code::Ok), (1, Code::PermissionDenied)] {
        let asking = way(&address, &server, &world.identity(1), Some(world.identity(shown)));
        let codes = runtime.block_on(answers(asking, grant.clone(), manifest, signed.clone()));
        assert_eq!(codes, [read, read, Code::PermissionDenied], "the grant of 0, shown by {shown}");
    }

    // An agent of another fleet, whose authority is another one.
    let mut other = Fleet::start();
    let stranger = other.join_agent(FAR, 1, Home::with_proxy("off"));
    let shown = identity(&other.agent_home(stranger).path().join("agent"));
    let asking = way(&address, &server, &world.identity(1), Some(shown));
    let ping = |channel| async move { code(ShardClient::new(channel).ping(PingRequest::default())).await };
    assert_ne!(runtime.block_on(ping(asking)), Code::Ok, "an agent of another fleet");
    // The same question is answered to one's own.
    let asking = way(&address, &server, &world.identity(1), Some(world.identity(1)));
    assert_eq!(runtime.block_on(ping(asking)), Code::Ok);

    // Agents alone are told who shares the cache.
    for (shown, told) in [(Some(world.identity(1)), true), (None, false)] {
        let asking = way(&coordinator, &["coordinator"], &world.identity(1), shown);
        let answer = runtime.block_on(AgentsClient::new(asking).membership(MembershipRequest {}));
        let members =
            answer.ok().and_then(|answer| answer.into_inner().shards).map(|shards| shards.regions.len());
        assert_eq!(members, told.then_some(2));
    }
    drop(within);

    // All of that has changed nothing.
    assert!(world.build(1).brought > 10);
}
