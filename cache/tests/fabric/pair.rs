//! An agent's cache with a shard beside it, and a voucher that both ends believe.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _};
use meridian_cache::{
    disk::CacheStore,
    local::{CacheDaemon, TaskCache, TaskScope},
    manifest::{Binary, DOMAIN, Manifest, SignedManifest, Voucher, Vouching, VouchingError},
    prefetch::{Holder, Prefetch, PrefetchPlan, Seeking, Supply},
    shard::{Membership, NoMembership, ShardService},
};
use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_proto::v1::shard_server::ShardServer;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

use crate::driver::Driver;

pub(crate) const SCOPE: &str = "acme/trusted";

/// Believes one key, and grants whoever shows the word `member` everything in the team's scopes.
pub(crate) struct Team(pub(crate) SigningKey);

impl Team {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(SigningKey::from_bytes(&[7; 32])))
    }
}

impl Vouching for Team {
    fn sign(&self, _: &str, manifest: &[u8]) -> Result<Voucher, VouchingError> {
        let signature = self.0.sign(&[DOMAIN, manifest].concat());
        Ok(Voucher {
            grant: Bytes::from_static(b"member"),
            signature: Bytes::copy_from_slice(&signature.to_bytes()),
        })
    }

    fn check(&self, manifest: &Manifest, bytes: &[u8], voucher: &Voucher) -> Result<(), VouchingError> {
        let refused = |_| VouchingError("not signed by the team".into());
        let signature = Signature::from_slice(&voucher.signature).map_err(refused)?;
        self.0.verifying_key().verify(&[DOMAIN, bytes].concat(), &signature).map_err(refused)?;
        self.may_write(&manifest.scope, &voucher.grant, None)
    }

    fn grant_to_read(&self, scope: &str) -> Option<Bytes> {
        scope.starts_with("acme/").then(|| Bytes::from_static(b"member"))
    }

    fn grant_to_write(&self, scope: &str) -> Option<Bytes> {
        self.grant_to_read(scope)
    }

    fn may_read(&self, scope: &str, grant: &[u8], _: Option<&str>) -> Result<(), VouchingError> {
        let may = grant == b"member" && scope.starts_with("acme/");
        may.then_some(()).ok_or_else(|| VouchingError("no member".into()))
    }

    fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        self.may_read(scope, grant, caller)
    }
}

/// One agent's cache.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<CacheStore>,
    pub(crate) daemon: CacheDaemon,
    pub(crate) team: Arc<Team>,
}

/// A shard that listens on loopback until it is dropped.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_capacity(ByteCount::gib(1))
    }

    pub(crate) fn with_capacity(capacity: ByteCount) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(&dir.path().join("cache"), capacity).unwrap();
        let daemon = CacheDaemon::new(Arc::clone(&store)).unwrap();
        Self { dir, store, daemon, team: Team::new() }
    }

    /// The same after its process has started again.
    pub(crate) fn restarted(self) -> Self {
        let Self { dir, store, daemon, team } = self;
        drop((store, daemon));
        let store = CacheStore::open(&dir.path().join("cache"), ByteCount::gib(1)).unwrap();
        let daemon = CacheDaemon::new(Arc::clone(&store)).unwrap();
        Self { dir, store, daemon, team }
    }

    pub(crate) fn scope() -> TaskScope {
        TaskScope { toolchain: Digest::of(b"go"), own: SCOPE.into(), also_reads: Vec::new() }
    }

    pub(crate) fn task(&self, prefetch: Option<&Arc<Prefetch>>) -> TaskCache {
        self.supplied(Supply::new(prefetch.cloned(), None))
    }

    pub(crate) fn supplied(&self, supply: Supply) -> TaskCache {
        self.daemon.open_supplied(&Self::scope(), Some(Arc::new(supply))).unwrap()
    }

    /// Whom to ask when nobody here knows.
    pub(crate) fn seeking(&self, shards: &[SocketAddr]) -> Seeking {
        Seeking {
            store: Arc::clone(&self.store),
            vouching: Arc::clone(&self.team) as _,
            shards: shards.iter().map(holder).collect(),
            homes: None,
            toolchain: Digest::of(b"go"),
            scopes: vec![SCOPE.into()],
        }
    }

    pub(crate) fn driver(&self, task: &TaskCache) -> Driver {
        Driver::start(task.socket_path(), self.dir.path())
    }

    /// Puts these bodies, each under its own name as action, and publishes the manifest.
    pub(crate) async fn build(&self, bodies: &[(&str, Vec<u8>)]) -> Arc<SignedManifest> {
        let task = self.task(None);
        let mut driver = self.driver(&task);
        for (action, body) in bodies {
            driver.put(action, body);
        }
        driver.close();
        let signed = self.publish(&task).await;
        // Off the runtime a task lets go of what it held before it is gone, and on it some time later.
        std::thread::spawn(move || drop(task)).join().unwrap();
        signed
    }

    /// Publishes what a task asked and put.
    pub(crate) async fn publish(&self, task: &TaskCache) -> Arc<SignedManifest> {
        self.publish_with(task, Vec::new()).await
    }

    /// The same of a build that made these binaries.
    pub(crate) async fn publish_with(&self, task: &TaskCache, binaries: Vec<Binary>) -> Arc<SignedManifest> {
        task.close(Duration::from_secs(5)).await;
        let manifest = Manifest {
            toolchain: Digest::of(b"go"),
            scope: SCOPE.into(),
            lineage: Digest::of(b"lineage"),
            written_ms: 0,
            entries: task.listed(),
            binaries,
        };
        let signed = Arc::new(manifest.sign(&*self.team).unwrap());
        self.store.publish(&signed).unwrap();
        signed
    }

    pub(crate) fn service(&self) -> ShardService {
        ShardService::new(Arc::clone(&self.store), Arc::clone(&self.team) as _, Arc::new(|_| None))
    }

    pub(crate) async fn serve(&self) -> Serving {
        self.serve_within(Arc::new(NoMembership)).await
    }

    pub(crate) async fn serve_within(&self, membership: Arc<dyn Membership>) -> Serving {
        self.listen("127.0.0.1:0".parse().unwrap(), membership).await
    }

    /// Serves at an address that was another's before.
    pub(crate) async fn serve_at(&self, address: SocketAddr) -> Serving {
        self.listen(address, Arc::new(NoMembership)).await
    }

    async fn listen(&self, address: SocketAddr, membership: Arc<dyn Membership>) -> Serving {
        let service = self.service().within(membership);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ShardServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        Serving { address, task: tokio::spawn(async move { server.await.unwrap() }) }
    }

    pub(crate) fn prefetch(&self, manifest: &SignedManifest, from: &[SocketAddr]) -> Arc<Prefetch> {
        self.prefetch_from(manifest, from.iter().map(holder).collect())
    }

    pub(crate) fn prefetch_from(&self, manifest: &SignedManifest, holders: Vec<Holder>) -> Arc<Prefetch> {
        self.begin(PrefetchPlan {
            manifest: manifest.digest,
            scope: SCOPE.into(),
            holders,
            from: 0,
            is_exact: true,
        })
    }

    /// The manifest of another lineage, which is better than none.
    pub(crate) fn inherit(&self, manifest: &SignedManifest, from: &[SocketAddr]) -> Arc<Prefetch> {
        self.begin(PrefetchPlan {
            manifest: manifest.digest,
            scope: SCOPE.into(),
            holders: from.iter().map(holder).collect(),
            from: 0,
            is_exact: false,
        })
    }

    fn begin(&self, plan: PrefetchPlan) -> Arc<Prefetch> {
        Arc::new(Prefetch::begin(Arc::clone(&self.store), Arc::clone(&self.team) as _, plan))
    }

    /// The files in which the bodies lie.
    pub(crate) fn body_path(&self, body: &[u8]) -> std::path::PathBuf {
        let name = Digest::of(body).to_hex();
        self.dir.path().join("cache/bodies").join(&name[..2]).join(name)
    }
}

pub(crate) fn holder(address: &SocketAddr) -> Holder {
    Holder::new(address.to_string(), channel(*address))
}

/// Bodies of a MiB each that do not compress.
pub(crate) fn noise(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    const NAMES: [&str; 32] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
        "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v",
    ];
    let body = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut body = Vec::with_capacity(1 << 20);
        while body.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            body.extend_from_slice(&state.to_le_bytes());
        }
        body
    };
    NAMES.iter().zip(1..).take(count).map(|(name, seed)| (*name, body(seed))).collect()
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Runs as a process would that has no right to pass over the modes of files: as root nothing is forbidden. Threads that
/// are started there have none either.
pub(crate) fn without_privilege<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let run = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        // Of this thread only.
        set_capabilities(None, sets).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Bodies of many sizes: empty, small, and larger than a frame. Not compressible.
pub(crate) fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let noise = |seed: u8, len: usize| {
        let mut body = Vec::with_capacity(len + 32);
        let mut block = Digest::of(&[seed]);
        while body.len() < len {
            body.extend_from_slice(block.as_bytes());
            block = Digest::of(block.as_bytes());
        }
        body.truncate(len);
        body
    };
    vec![
        ("index", noise(1, 900)),
        ("archive", noise(2, 70_000)),
        ("stdout", Vec::new()),
        ("large", noise(3, 3_500_000)),
        ("also stdout", Vec::new()),
        ("twice", noise(2, 70_000)),
        ("last", noise(4, 20)),
    ]
}

/// What a way does after it has carried so many bytes towards whoever asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// Carries on.
    Goes,
    /// Carries on, and is slow from the beginning.
    Crawls,
    /// Carries on, and takes its time with each question.
    IsFar,
    /// Carries nothing more, and stays open.
    Stalls(u64),
    /// Is cut, and nobody answers there any more.
    Dies(u64),
}

/// A narrow way to a shard: 16 KiB a millisecond at most, towards whoever asks.
pub(crate) struct Trickle {
    pub(crate) address: SocketAddr,
    carried: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Trickle {
    pub(crate) async fn before(shard: SocketAddr) -> Self {
        Self::until(shard, Then::Goes).await
    }

    pub(crate) async fn until(shard: SocketAddr, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicU64::new(0));
        let asked = Arc::new(AtomicU64::new(0));
        let (counted, questions) = (Arc::clone(&carried), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut ways = tokio::task::JoinSet::new();
            loop {
                let near = tokio::select! {
                    near = listener.accept() => near.unwrap().0,
                    Some(died) = ways.join_next() => match died {
                        Ok(true) => return,
                        _ => continue,
                    },
                };
                ways.spawn(carry(near, shard, [Arc::clone(&counted), Arc::clone(&questions)], then));
            }
        });
        Self { address, carried, asked, task }
    }

    /// How many bytes it carried towards whoever asks.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// How many bytes came from whoever asks.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Carries a connection; says whether the way has died of it.
async fn carry(
    near: TcpStream,
    shard: SocketAddr,
    [carried, asked]: [Arc<AtomicU64>; 2],
    then: Then,
) -> bool {
    let (mut asks, mut hears) = near.into_split();
    let (mut answers, mut takes) = TcpStream::connect(shard).await.unwrap().into_split();
    let asking = tokio::spawn(async move {
        let mut piece = vec![0; 16 << 10];
        while let Ok(len @ 1..) = asks.read(&mut piece).await {
            asked.fetch_add(len as u64, Ordering::Relaxed);
            if matches!(then, Then::IsFar) {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            if takes.write_all(&piece[..len]).await.is_err() {
                break;
            }
        }
    });
    let mut piece = vec![0; 16 << 10];
    let pace_ms = if matches!(then, Then::Crawls) { 25 } else { 1 };
    let mut tick = tokio::time::interval(Duration::from_millis(pace_ms));
    while let Ok(len @ 1..) = answers.read(&mut piece).await {
        let so_far = carried.fetch_add(len as u64, Ordering::Relaxed);
        match then {
            Then::Dies(after) if so_far >= after => {
                asking.abort();
                return true;
            }
            Then::Stalls(after) if so_far >= after => std::future::pending().await,
            _ => {}
        }
        tick.tick().await;
        if hears.write_all(&piece[..len]).await.is_err() {
            break;
        }
    }
    false
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
