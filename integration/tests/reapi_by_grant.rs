//! The remote execution API at the port of an agent's shard: another agent's certificate and grant are what counts.

use std::time::Duration;

use meridian_core::{
    cache::lineage::{Lineage, LineageKey},
    digest::Digest,
};
use meridian_integration::{
    fleet::{FLEET, Fleet, free_address},
    home::Home,
};
use meridian_proto::{
    reapi::v2::{
        self, BatchReadBlobsRequest, BatchUpdateBlobsRequest, batch_update_blobs_request::Request as Update,
        content_addressable_storage_client::ContentAddressableStorageClient,
    },
    v1,
};
use meridian_runtime::{
    identity::{Identity, LiveIdentity, SpiffeId},
    tls::{ChannelOptions, ClientTls, Profile, channel, install_crypto},
};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

/// A connection that shows the identity of an agent of this fleet.
fn dial(fleet: &Fleet, agent: usize, server: &[&str], address: &str) -> Channel {
    install_crypto();
    let kept = fleet.agent_home(agent).path().join("agent/identity");
    let identity = Identity::load(&kept).expect("an identity").expect("it is kept");
    let tls = ClientTls {
        authority: identity.authority_der().to_vec(),
        identity: Some(LiveIdentity::new(identity).expect("an identity")),
        server: SpiffeId::new(FLEET, server).expect("an id"),
    };
    channel(address, tls, &ChannelOptions::from_env(Profile::Control)).expect("a channel")
}

/// A grant of the coordinator's for an agent that has builds of a team beside it.
async fn grant(coordinator: Channel) -> Vec<u8> {
    let key = LineageKey(Digest::of(b"any"));
    let lineage = Lineage { exact: key, any_flags: key, any_build: key };
    let request = v1::SidecarRequest {
        project: "acme/p".to_owned(),
        lineage: Some((&lineage).into()),
        wants_trusted: false,
    };
    let answer = v1::agents_client::AgentsClient::new(coordinator).sidecar(request).await;
    answer.expect("the coordinator grants").into_inner().hints.expect("hints").grant.to_vec()
}

fn with<T>(message: T, grant: Option<&[u8]>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(grant) = grant {
        request.metadata_mut().insert_bin("meridian-cache-grant-bin", MetadataValue::from_bytes(grant));
    }
    request
}

async fn write(shard: &Channel, instance: &str, grant: Option<&[u8]>) -> Result<v2::Digest, Status> {
    let content = b"what another client made";
    let digest = v2::Digest { hash: Digest::of(content).to_hex(), size_bytes: 24 };
    let blob = Update { digest: Some(digest.clone()), data: content.to_vec().into(), ..Update::default() };
    let request = BatchUpdateBlobsRequest {
        instance_name: instance.to_owned(),
        requests: vec![blob],
        ..BatchUpdateBlobsRequest::default()
    };
    let mut client = ContentAddressableStorageClient::new(shard.clone());
    client.batch_update_blobs(with(request, grant)).await.map(|_| digest)
}

async fn read(shard: &Channel, instance: &str, grant: &[u8], digest: &v2::Digest) -> Result<usize, Status> {
    let request = BatchReadBlobsRequest {
        instance_name: instance.to_owned(),
        digests: vec![digest.clone()],
        ..BatchReadBlobsRequest::default()
    };
    let mut client = ContentAddressableStorageClient::new(shard.clone());
    let answer = client.batch_read_blobs(with(request, Some(grant))).await?.into_inner();
    Ok(answer.responses[0].data.len())
}

#[test]
fn an_agent_reads_and_writes_by_its_own_grant_and_nobody_without_one() {
    let mut fleet = Fleet::start();
    let address = free_address().to_string();
    let settings = [format!("shard.listen={address}"), "shard.reapi_gib=1".to_owned()];
    fleet.join_agent_with("eu/a1", 1, Home::with_proxy("off"), &settings.each_ref().map(String::as_str));
    let two = fleet.join_agent("eu/a2", 1, Home::with_proxy("off"));
    let three = fleet.join_agent("eu/a3", 1, Home::with_proxy("off"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let granted = grant(dial(&fleet, two, &["coordinator"], &fleet.address())).await;
        let shard = dial(&fleet, two, &["agent", "eu", "a1"], &address);
        let own = "acme/sidecar/eu/a2";
        // The shard may still be fetching the fleet's keyring.
        let mut digest = write(&shard, own, Some(&granted)).await;
        for _ in 0..100 {
            if digest.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            digest = write(&shard, own, Some(&granted)).await;
        }
        let digest = digest.expect("its own scope is written");
        assert_eq!(read(&shard, own, &granted, &digest).await.expect("and read"), 24);
        // The trusted scope may be read, and has nothing of that.
        assert_eq!(read(&shard, "acme/trusted", &granted, &digest).await.expect("it may be read"), 0);
        let refused = |result: Result<v2::Digest, Status>| result.expect_err("it may not").code();
        for (instance, grant) in [
            ("acme/trusted", Some(&granted[..])),
            ("web/trusted", Some(&granted[..])),
            ("", Some(&granted[..])),
            (own, None),
        ] {
            assert_eq!(refused(write(&shard, instance, grant).await), Code::PermissionDenied, "{instance:?}");
        }
        // Another agent that shows the same grant.
        let shard = dial(&fleet, three, &["agent", "eu", "a1"], &address);
        assert_eq!(refused(write(&shard, own, Some(&granted)).await), Code::PermissionDenied);
    });
}
