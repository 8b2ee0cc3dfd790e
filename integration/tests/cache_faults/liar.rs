//! An agent of the fleet whose shard was taken over: it has the identity, and does not tell the truth.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_integration::{fleet::free_address, home::Home};
use meridian_proto::v1::{
    self,
    fetch_chunk::Chunk,
    shard_server::{Shard, ShardServer},
};
use meridian_runtime::{
    identity::{Identity, LiveIdentity},
    tls::{self, Listener, install_crypto},
};
use meridian_store::pack::{EntryName, FrameBuilder};
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{FAR, HOME, World, files};

/// What a frame of a few kilobytes would become.
const BOMB_LEN: u64 = 256 << 20;
/// By how much what an agent needs for one lie may be more than for another.
const LIE_COSTS_MAX: u64 = BOMB_LEN / 2;

/// How a holder lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A frame that would become very large.
    Bomb,
    /// Bodies that are longer than the manifest says.
    Longer,
    /// Bodies of the right length, with a flipped bit.
    Flipped,
    /// Parts of bodies that are said to be larger than anything is.
    Boundless,
    /// A manifest in which outputs have changed places.
    Manifest,
    /// Frames of nothing that is wanted, for ever.
    Endless,
}

struct Liar {
    cache: PathBuf,
    lie: Arc<Mutex<Lie>>,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::FetchChunk, Status>> + Send>>;

fn chunk(chunk: Chunk) -> Result<v1::FetchChunk, Status> {
    Ok(v1::FetchChunk { chunk: Some(chunk), epoch: None })
}

fn frame(name: &EntryName, bytes: &[u8]) -> Bytes {
    let mut builder = FrameBuilder::new().expect("a builder");
    builder.add(name, bytes.len() as u64, &mut io::Cursor::new(bytes)).expect("it fits");
    builder.finish().expect("a frame").into()
}

impl Liar {
    /// Bodies of the holder that fit into a frame.
    fn bodies(&self) -> impl Iterator<Item = (Digest, Vec<u8>)> + use<> {
        files(&self.cache.join("bodies")).into_iter().filter_map(|path| {
            let digest = path.file_name()?.to_str()?.parse().ok()?;
            let bytes = fs::read(&path).ok()?;
            (1..500_000).contains(&bytes.len()).then_some((digest, bytes))
        })
    }

    fn frames(&self, lie: Lie) -> Vec<Bytes> {
        match lie {
            Lie::Bomb => {
                let zeros = io::Read::take(io::repeat(0), BOMB_LEN);
                vec![zstd::encode_all(zeros, 3).expect("zeros can be compressed").into()]
            }
            Lie::Longer => self
                .bodies()
                .map(|(digest, mut bytes)| {
                    bytes.extend_from_slice(b"more");
                    frame(&EntryName::Whole(digest), &bytes)
                })
                .collect(),
            Lie::Flipped => self
                .bodies()
                .map(|(digest, mut bytes)| {
                    bytes[0] ^= 1;
                    frame(&EntryName::Whole(digest), &bytes)
                })
                .collect(),
            Lie::Boundless => self
                .bodies()
                .map(|(digest, bytes)| frame(&EntryName::Part { digest, offset: 0, size: u64::MAX }, &bytes))
                .collect(),
            Lie::Manifest => Vec::new(),
            Lie::Endless => vec![frame(&EntryName::Whole(Digest::of(b"nobody asked")), b"nobody asked")],
        }
    }
}

#[tonic::async_trait]
impl Shard for Liar {
    type FetchStream = Chunks;
    type PublishStream = Pin<Box<dyn Stream<Item = Result<v1::PublishAnswer, Status>> + Send>>;

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        Ok(Response::new(v1::PingResponse::default()))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let lie = *self.lie.lock().expect("not poisoned");
        let mut said = Vec::new();
        if request.send_manifest {
            let name = Digest::from_slice(&request.manifest).expect("a digest");
            let mut bytes = fs::read(self.cache.join("manifests").join(name.to_hex())).expect("a manifest");
            if lie == Lie::Manifest {
                let middle = bytes.len() / 2;
                bytes.swap(middle, middle + 32);
            }
            said.push(chunk(Chunk::Manifest(bytes.into())));
        }
        let frames = self.frames(lie);
        if lie == Lie::Endless {
            let endless = frames.into_iter().cycle().map(|frame| chunk(Chunk::Frame(frame)));
            return Ok(Response::new(Box::pin(tokio_stream::iter(said.into_iter().chain(endless)))));
        }
        said.extend(frames.into_iter().map(|frame| chunk(Chunk::Frame(frame))));
        Ok(Response::new(Box::pin(tokio_stream::iter(said))))
    }

    async fn discover(
        &self,
        _: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        Ok(Response::new(v1::DiscoverResponse::default()))
    }

    async fn publish(
        &self,
        _: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        Err(Status::unimplemented("it takes nothing"))
    }
}

/// Serves lies in an agent's name until it is dropped.
fn serve(address: SocketAddr, identity: Identity, liar: Liar) -> Runtime {
    install_crypto();
    let runtime = Runtime::new().expect("a runtime");
    let identity = LiveIdentity::new(identity).expect("an identity");
    let listener =
        runtime.block_on(Listener::bind(&address.to_string(), identity)).expect("the port is free");
    runtime.spawn(async move {
        let serving = tls::server().add_service(ShardServer::new(liar));
        serving.serve_with_incoming(listener.incoming()).await
    });
    runtime
}

#[test]
fn whatever_an_agent_sends_in_the_fleets_name_a_build_takes_nothing_that_is_not_true() {
    let mut world = World::start();
    let told = free_address();
    world.join_at(HOME, Home::with_proxy("off"), free_address(), told, &[]);
    let far = world.join(FAR);
    let first = world.build(0);
    world.wait_for_manifest(0);
    let lie = Arc::new(Mutex::new(Lie::Bomb));
    let liar = Liar { cache: world.cache(0), lie: Arc::clone(&lie) };
    let serving = serve(told, world.identity(0), liar);

    let mut peaks = Vec::new();
    for next in [Lie::Bomb, Lie::Longer, Lie::Flipped, Lie::Boundless, Lie::Manifest, Lie::Endless] {
        *lie.lock().expect("not poisoned") = next;
        world.cool(far);
        let built = world.build(far);
        assert_eq!(built.artifact, first.artifact, "{next:?}");
        assert_eq!(built.brought, 0, "{next:?}: {built:?}");
        assert!(built.waited_ms < 10_000, "{next:?}: {built:?}");
        // Its process began anew for each.
        peaks.push((next, world.fleet.agent(far).peak_memory_bytes()));
    }
    let least = peaks.iter().map(|(_, peak)| *peak).min().expect("there were lies");
    assert!(peaks.iter().all(|(_, peak)| *peak < least + LIE_COSTS_MAX), "{peaks:?}");
    serving.shutdown_background();
}
