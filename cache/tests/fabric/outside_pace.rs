//! A server outside the fleet that sends at its own pace, and is looked at.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meridian_cache::{
    manifest::SignedManifest,
    outside::Outside,
    prefetch::{Beyond, FromOutside, Prefetch, PrefetchPlan},
};
use meridian_core::digest::Digest;
use meridian_proto::reapi::{
    bytestream::{
        QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
        WriteResponse,
        byte_stream_server::{ByteStream, ByteStreamServer},
    },
    v2::{
        self,
        action_cache_server::{ActionCache, ActionCacheServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::pair::{Place, SCOPE, channel, noise};

const PIECE_LEN: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(20);

/// Has some blobs, and sends a piece of them for each leave that it is given.
#[derive(Clone)]
struct Paced {
    blobs: Arc<Vec<Bytes>>,
    leave: Arc<Semaphore>,
    /// One for each look at an action's result.
    looks: Arc<Semaphore>,
}

#[tonic::async_trait]
impl ByteStream for Paced {
    type ReadStream = ReceiverStream<Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let name = request.into_inner().resource_name;
        let is_meant = |blob: &&Bytes| name.contains(&Digest::of(blob).to_hex());
        let blob =
            self.blobs.iter().find(is_meant).cloned().ok_or_else(|| Status::not_found(name.clone()))?;
        let (pieces, stream) = mpsc::channel(1);
        let leave = Arc::clone(&self.leave);
        tokio::spawn(async move {
            for begin in (0..blob.len()).step_by(PIECE_LEN) {
                leave.acquire().await.unwrap().forget();
                let data = blob.slice(begin..blob.len().min(begin + PIECE_LEN));
                if pieces.send(Ok(ReadResponse { data })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn write(&self, _: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ActionCache for Paced {
    async fn get_action_result(
        &self,
        _: Request<v2::GetActionResultRequest>,
    ) -> Result<Response<v2::ActionResult>, Status> {
        self.looks.add_permits(1);
        Ok(Response::new(v2::ActionResult::default()))
    }

    async fn update_action_result(
        &self,
        _: Request<v2::UpdateActionResultRequest>,
    ) -> Result<Response<v2::ActionResult>, Status> {
        Err(Status::unimplemented(""))
    }
}

impl Paced {
    /// Serves on loopback until the task is ended.
    async fn serve(blobs: Vec<Bytes>) -> (Self, Arc<Outside>, JoinHandle<()>) {
        let [leave, looks] = [(), ()].map(|()| Arc::new(Semaphore::new(0)));
        let paced = Self { blobs: Arc::new(blobs), leave, looks };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outside = Outside::new(channel(listener.local_addr().unwrap()), String::new(), None);
        let served = Server::builder()
            .add_service(ByteStreamServer::new(paced.clone()))
            .add_service(ActionCacheServer::new(paced.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { served.await.unwrap() });
        (paced, Arc::new(outside), task)
    }
}

fn prefetch(place: &Place, signed: &SignedManifest, outside: Arc<Outside>, len: u64) -> Arc<Prefetch> {
    let plan = PrefetchPlan {
        manifest: signed.digest,
        scope: SCOPE.into(),
        holders: Vec::new(),
        from: 0,
        is_exact: true,
    };
    let from = FromOutside { outside, manifest_len: Some(len), is_first: true };
    let (store, vouching) = (Arc::clone(&place.store), Arc::clone(&place.team) as _);
    Arc::new(Prefetch::begin_with(store, vouching, plan, Beyond { outside: Some(from), ..Beyond::default() }))
}

/// A body of so many MiB that does not compress.
fn long(mib: usize) -> Vec<u8> {
    noise(mib).into_iter().flat_map(|(_, body)| body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_taken_in_as_it_comes() {
    let (maker, cold) = (Place::new(), Place::new());
    let body = long(8);
    let signed = maker.build(&[("long", body.clone())]).await;
    let (server, outside, serving) = Paced::serve(vec![signed.bytes.clone(), body.into()]).await;
    let prefetch = prefetch(&cold, &signed, outside, signed.bytes.len() as u64);
    // The manifest, and half of the body.
    server.leave.add_permits(1 + 4);
    let half = async {
        // Of what was not sent nothing is here, and of what was only what is not a whole frame is not.
        while prefetch.figures().wire_bytes < 3 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, half).await.expect("half of it");
    assert!(!prefetch.arrivals().has_ended());
    server.leave.add_permits(4);
    timeout(SOON, prefetch.ended()).await.expect("all of it");
    assert!(prefetch.arrivals().is_whole());
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_looked_at_so_that_what_it_names_is_kept_on() {
    let (maker, cold) = (Place::new(), Place::new());
    let signed = maker.build(&[("small", b"object".to_vec())]).await;
    let (server, outside, serving) = Paced::serve(vec![signed.bytes.clone()]).await;
    server.leave.add_permits(1);
    let prefetch = prefetch(&cold, &signed, outside, signed.bytes.len() as u64);
    timeout(SOON, server.looks.acquire()).await.expect("a look").unwrap().forget();
    prefetch.ended().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_said_to_be_longer_than_any_is_not_read() {
    let (maker, cold) = (Place::new(), Place::new());
    let signed = maker.build(&[("small", b"object".to_vec())]).await;
    let (server, outside, serving) = Paced::serve(vec![signed.bytes.clone()]).await;
    server.leave.add_permits(1);
    let prefetch = prefetch(&cold, &signed, outside, 1 << 40);
    timeout(SOON, prefetch.ended()).await.expect("an end");
    assert!(prefetch.arrivals().manifest().is_none());
    assert_eq!(server.leave.available_permits(), 1, "nothing was asked for");
    serving.abort();
}
