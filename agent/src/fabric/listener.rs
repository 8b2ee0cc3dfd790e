//! The port at which other agents ask, and members for artifacts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use meridian_cache::{
    disk::CacheStore,
    manifest::Vouching,
    reapi::Reapi,
    shard::{Membership, ShardService},
};
use meridian_proto::v1::{blobs_server::BlobsServer, shard_server::ShardServer};
use meridian_runtime::{
    identity::LiveIdentity,
    tls::{self, BindError, Listener, PeerIdentity},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{artifacts::Artifacts, vouching::FleetVouching};

/// How long answers under way may take once the agent ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// The longest message that is taken: a manifest, or a list of bodies.
const MESSAGE_LEN_MAX: usize = 24 << 20;

/// The agent's name in a caller's certificate.
pub(super) fn agent_name(extensions: &tonic::Extensions) -> Option<String> {
    let id = extensions.get::<PeerIdentity>()?.id.clone()?;
    let mut segments = id.segments();
    let is_agent = segments.next() == Some("agent");
    is_agent.then(|| segments.collect::<Vec<_>>().join("/"))
}

/// A bound port that is not served yet.
pub(crate) struct ShardListener {
    listener: Listener,
}

impl ShardListener {
    /// Listens on `address`, and shows `identity`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) async fn bind(address: &str, identity: LiveIdentity) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind(address, identity).await? })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Answers other agents until `stop`, and serves them `reapi` where there is one.
    pub(crate) async fn serve(
        self,
        store: Arc<CacheStore>,
        vouching: Arc<FleetVouching>,
        membership: Arc<dyn Membership>,
        reapi: Option<Reapi>,
        stop: CancellationToken,
    ) {
        let artifacts = Artifacts::new(Arc::clone(&store), Arc::clone(&vouching));
        let vouching: Arc<dyn Vouching> = vouching;
        let service = ShardService::new(store, vouching, Arc::new(agent_name)).within(membership);
        let service = ShardServer::new(service).max_decoding_message_size(MESSAGE_LEN_MAX);
        let routes = reapi.map_or_else(Routes::default, |reapi| reapi.routes());
        let serving = tls::server()
            .add_routes(routes.add_service(service).add_service(BlobsServer::new(artifacts)))
            .serve_with_incoming_shutdown(self.listener.incoming(), stop.clone().cancelled_owned());
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(CLOSE_WITHIN).await;
        };
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the port for other agents failed: they do without this cache");
            },
            () = deadline => {}
        }
    }
}
