//! Several holders that bring one prefetch: none of them, whatever it does, keeps the others from it.

use std::{
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use meridian_cache::shard::ShardService;
use meridian_proto::v1::{
    self,
    fetch_chunk::Chunk,
    shard_server::{Shard, ShardServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::pair::{Place, Then, Trickle, holder, noise};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn two_holders_on_narrow_ways_share_the_work_and_nothing_comes_twice() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&noise(24)).await;
    let (one, other) = (near.serve().await, near.serve().await);
    let (one, other) = (Trickle::before(one.address).await, Trickle::before(other.address).await);
    let prefetch = far.prefetch(&signed, &[one.address, other.address]);
    assert_eq!(prefetch.ended().await.bodies, 24);
    let (one, other) = (one.carried(), other.carried());
    assert!(one > 3 * MIB && other > 3 * MIB, "{one} and {other}");
    assert!(one + other < 32 * MIB, "{one} and {other}");
    assert_eq!(far.store.library().names(), [signed.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fast_holder_needs_no_second() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&noise(12)).await;
    let serving = near.serve().await;
    let other = Trickle::before(serving.address).await;
    let fast = holder(&serving.address);
    // As earlier transfers have shown.
    fast.transferred(4096 * MIB, Duration::from_secs(1));
    let prefetch = far.prefetch_from(&signed, vec![fast, holder(&other.address)]);
    assert_eq!(prefetch.ended().await.bodies, 12);
    assert!(other.carried() < MIB / 4, "{}", other.carried());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_region_brings_the_rest_once_the_near_holder_is_gone() {
    let (near, asking) = (Place::new(), Place::new());
    let signed = near.build(&noise(24)).await;
    let serving = near.serve().await;
    let one = Trickle::until(serving.address, Then::Dies(6 * MIB)).await;
    let other = Trickle::until(serving.address, Then::IsFar).await;
    let holders = vec![holder(&one.address), holder(&other.address)];
    for holder in &holders {
        holder.ping(Duration::from_secs(10)).await.unwrap();
    }
    assert_eq!(asking.prefetch_from(&signed, holders).ended().await.bodies, 24);
    assert!(one.carried() < 8 * MIB && other.carried() > 12 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_dies_in_the_midst_leaves_its_part_to_another() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&noise(16)).await;
    let (one, other) = (near.serve().await, near.serve().await);
    let dying = Trickle::until(one.address, Then::Dies(3 * MIB)).await;
    let prefetch = far.prefetch(&signed, &[dying.address, other.address]);
    assert_eq!(prefetch.ended().await.bodies, 16);
    assert!(prefetch.arrivals().is_whole());
}

/// Far less than the eight seconds for which one question may wait.
async fn all_comes_within_a_few_seconds(then: Then) {
    let (near, far) = (Place::new(), Place::new());
    let bodies = noise(16);
    let signed = near.build(&bodies).await;
    let (one, other) = (near.serve().await, near.serve().await);
    let slow = Trickle::until(one.address, then).await;
    let begun = Instant::now();
    let prefetch = far.prefetch(&signed, &[slow.address, other.address]);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    for (action, body) in &bodies {
        assert_eq!(driver.get(action).as_ref(), Some(body), "{action}");
    }
    driver.close();
    prefetch.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_stalls_for_ever_holds_the_build_up_for_a_bounded_time() {
    all_comes_within_a_few_seconds(Then::Stalls(2 * MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_slow_for_ever_holds_the_build_up_for_a_bounded_time() {
    // A frame a second and a half, so it is never silent; it would take half a minute.
    all_comes_within_a_few_seconds(Then::Crawls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_never_says_anything_is_not_waited_for_by_the_next_build() {
    let (near, far, third) = (Place::new(), Place::new(), Place::new());
    let signed = near.build(&noise(2)).await;
    let serving = near.serve().await;
    let silent = Trickle::until(serving.address, Then::Stalls(0)).await;
    let holders = vec![holder(&silent.address), holder(&serving.address)];
    let prefetch = far.prefetch_from(&signed, holders.clone());
    assert_eq!(prefetch.ended().await.bodies, 2);
    let patience = Instant::now();
    while holders[0].answers() {
        assert!(patience.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was given up is still told on its way out.
    let mut asked = silent.asked();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = silent.asked();
        if std::mem::replace(&mut asked, now) == now {
            break;
        }
    }
    assert!(!holders[0].answers(), "it is still left alone");
    let again = third.prefetch_from(&signed, holders);
    assert_eq!(again.ended().await.bodies, 2);
    assert_eq!(silent.asked(), asked, "it was asked again");
}

/// Sends other bytes than it says.
struct Liar(ShardService);

#[tonic::async_trait]
impl Shard for Liar {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<v1::FetchChunk, Status>> + Send>>;
    type PublishStream = <ShardService as Shard>::PublishStream;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        self.0.ping(request).await
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let altered = self.0.fetch(request).await?.into_inner().map(|chunk| {
            let mut chunk = chunk?;
            if let Some(Chunk::Frame(frame)) = &mut chunk.chunk {
                // A frame as it should be, with a body that is not the one that it names.
                let mut bytes = zstd::decode_all(&**frame).unwrap();
                let end = bytes.len() - 1024 - 600;
                bytes[end] ^= 1;
                *frame = zstd::encode_all(&*bytes, 1).unwrap().into();
            }
            Ok(chunk)
        });
        Ok(Response::new(Box::pin(altered)))
    }

    async fn discover(
        &self,
        request: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        self.0.discover(request).await
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        self.0.publish(request).await
    }
}

/// Serves what a place has, altered.
pub(crate) async fn serve_liar(
    place: &Place,
) -> (SocketAddr, JoinHandle<Result<(), tonic::transport::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let liar = Server::builder().add_service(ShardServer::new(Liar(place.service())));
    (address, tokio::spawn(liar.serve_with_incoming(TcpListenerStream::new(listener))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lies_is_passed_over_and_nothing_of_it_is_believed() {
    let (near, far) = (Place::new(), Place::new());
    let bodies = noise(16);
    let signed = near.build(&bodies).await;
    let (address, lying) = serve_liar(&near).await;
    let honest = near.serve().await;
    let prefetch = far.prefetch(&signed, &[address, honest.address]);
    let figures = prefetch.ended().await;
    assert_eq!(figures.bodies, 16, "{figures:?}");
    assert!(figures.refused > 0, "{figures:?}");
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    for (action, body) in &bodies {
        assert_eq!(driver.get(action).as_ref(), Some(body), "{action}");
    }
    driver.close();
    lying.abort();
}
