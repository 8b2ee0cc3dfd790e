//! Meridian's own side: the cache of an agent that has built the program, its shard behind the link, and an agent that
//! begins to fetch when its build is placed.
//!
//! These are the crates that an agent runs, with everything that is between two agents but TLS and the coordinator,
//! whose part of a build is measured by `main-job`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use meridian_cache::{
    disk::CacheStore,
    manifest::{DOMAIN, Manifest, Voucher, Vouching, VouchingError},
    prefetch::{Holder, Prefetch, PrefetchPlan, Seeking, Supply},
    shard::ShardService,
};
use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_proto::v1::shard_server::ShardServer;
use meridian_runtime::tls::Profile;
use tokio::{net::TcpListener, runtime::Handle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

use super::{
    bed::{Bed, Program},
    local_daemon::{LocalDaemon, SCOPE, toolchain},
    side::{Serving, Side, filled, put_all},
};
use crate::bench::timing::{Timed, run, seconds_within};

/// How long a holder may take to be measured.
const PING_WITHIN: Duration = Duration::from_secs(2);
const CAPACITY: ByteCount = ByteCount::gib(64);

/// Meridian.
#[derive(Debug)]
pub struct Meridian {
    /// What the agent is told when its build is placed.
    pub told: Told,
    /// Whether it has measured how far the others are, as an agent does from time to time. The ways to them are open
    /// then, so that is only for what does not depend on it.
    pub measures: bool,
}

impl Meridian {
    /// An agent that is told this, and has measured nobody.
    #[must_use]
    pub const fn told(told: Told) -> Self {
        Self { told, measures: false }
    }
}

/// What an agent is told of what others have built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The manifest of the program's lineage, and who has it.
    Manifest,
    /// Only who there is, as where nobody has built this lineage before.
    Shards,
}

/// Believes whoever knows one word, which here is everybody.
pub(super) struct Word;

impl Word {
    fn signature(manifest: &[u8]) -> Bytes {
        let text = [b"the word of the bench", DOMAIN, manifest].concat();
        Bytes::copy_from_slice(Digest::of(&text).as_bytes())
    }
}

impl Vouching for Word {
    fn sign(&self, _: &str, manifest: &[u8]) -> Result<Voucher, VouchingError> {
        Ok(Voucher { grant: Bytes::from_static(b"bench"), signature: Self::signature(manifest) })
    }

    fn check(&self, manifest: &Manifest, bytes: &[u8], voucher: &Voucher) -> Result<(), VouchingError> {
        if voucher.signature != Self::signature(bytes) {
            return Err(VouchingError("signed by somebody else".to_owned()));
        }
        self.may_write(&manifest.scope, &voucher.grant, None)
    }

    fn grant_to_read(&self, _: &str) -> Option<Bytes> {
        Some(Bytes::from_static(b"bench"))
    }

    fn grant_to_write(&self, scope: &str) -> Option<Bytes> {
        self.grant_to_read(scope)
    }

    fn may_read(&self, scope: &str, grant: &[u8], _: Option<&str>) -> Result<(), VouchingError> {
        let may = scope == SCOPE && grant == b"bench";
        may.then_some(()).ok_or_else(|| VouchingError("not of the bench".to_owned()))
    }

    fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        self.may_read(scope, grant, caller)
    }
}

/// The cache of an agent that has built a program, with the manifest of its warm build.
///
/// # Errors
/// When the build fails or the cache cannot be filled.
pub fn filled_home(bed: &Bed, program: &Program) -> anyhow::Result<PathBuf> {
    filled(bed, "meridian", program, |directory| {
        let daemon = LocalDaemon::open(directory)?;
        put_all(bed, program, daemon.shim())?;
        drop(daemon);
        // A build, so that the manifest has the order in which builds ask.
        let daemon = LocalDaemon::open(directory)?;
        let surroundings = bed.surroundings_with(daemon.command_line())?;
        run(&mut bed.build(&surroundings, program)?)?;
        bed.expect_native_artifact(program)?;
        let signed = daemon.publish(&program.name, &Word)?;
        Ok(fs::write(directory.with_extension("manifest"), signed.digest.to_string())?)
    })
}

/// The digest of the manifest of [`filled_home`].
pub(super) fn manifest(bed: &Bed, program: &Program) -> anyhow::Result<Digest> {
    let path = filled_home(bed, program)?.with_extension("manifest");
    fs::read_to_string(&path)?.parse().ok().context("the manifest's name is no digest")
}

/// The bodies that a manifest names, each once, in the order in which they are asked for.
///
/// # Errors
/// When the manifest is not there.
pub fn outputs(bed: &Bed, program: &Program) -> anyhow::Result<Vec<Digest>> {
    let (home, digest) = (filled_home(bed, program)?, manifest(bed, program)?);
    let store = CacheStore::open(&home, CAPACITY)?;
    let signed = store.library().get(&digest, &Word).context("the manifest is gone")?;
    let mut seen = std::collections::HashSet::new();
    let entries = signed.manifest.entries.iter().map(|listed| listed.entry);
    Ok(entries
        .filter(|entry| entry.size > 0 && seen.insert(entry.output))
        .map(|entry| entry.output)
        .collect())
}

impl Meridian {
    fn supply(&self, store: &Arc<CacheStore>, manifest: Digest, holders: Vec<Holder>) -> Supply {
        match self.told {
            Told::Manifest => {
                let plan =
                    PrefetchPlan { manifest, scope: SCOPE.to_owned(), holders, from: 0, is_exact: true };
                let prefetch = Prefetch::begin(Arc::clone(store), Arc::new(Word), plan);
                Supply::new(Some(Arc::new(prefetch)), None)
            }
            Told::Shards => {
                let seeking = Seeking {
                    store: Arc::clone(store),
                    vouching: Arc::new(Word),
                    shards: holders,
                    homes: None,
                    toolchain: toolchain(),
                    scopes: vec![SCOPE.to_owned()],
                };
                Supply::new(None, Some(seeking))
            }
        }
    }

    /// Builds on an agent whose cache is in a directory, and which knows who has what it needs.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build_on(
        &self,
        directory: &Path,
        bed: &Bed,
        program: &Program,
        nearest_first: &[SocketAddr],
        at_most: Duration,
    ) -> anyhow::Result<Timed> {
        self.place(directory, manifest(bed, program)?, nearest_first)?.build(bed, program, at_most)
    }

    /// Places a build on an agent whose cache is in a directory, and tells it of a manifest and who has what it names.
    ///
    /// # Errors
    /// When the cache cannot be opened.
    pub(super) fn place(
        &self,
        directory: &Path,
        manifest: Digest,
        nearest_first: &[SocketAddr],
    ) -> anyhow::Result<Placed> {
        let mut wrong = None;
        let mut since = Instant::now();
        let daemon = LocalDaemon::open_supplied(directory, |store| {
            let holders: anyhow::Result<Vec<_>> = nearest_first.iter().map(holder).collect();
            if self.measures {
                for holder in holders.iter().flatten() {
                    Handle::current().block_on(holder.ping(PING_WITHIN));
                }
            }
            since = Instant::now();
            holders
                .map_err(|error| wrong = Some(error))
                .ok()
                .map(|holders| self.supply(store, manifest, holders))
        })?;
        match wrong {
            Some(error) => Err(error),
            None => Ok(Placed { daemon, since }),
        }
    }
}

/// A build that was placed.
pub(super) struct Placed {
    /// What its cmd/go asks.
    pub(super) daemon: LocalDaemon,
    /// Since when what it needs is on its way.
    pub(super) since: Instant,
}

impl Placed {
    /// Builds. The clock runs since the placement.
    ///
    /// # Errors
    /// When the build fails.
    pub(super) fn build(&self, bed: &Bed, program: &Program, at_most: Duration) -> anyhow::Result<Timed> {
        let surroundings = bed.surroundings_with(self.daemon.command_line())?;
        let built = seconds_within(bed.build(&surroundings, program)?, at_most)?;
        Ok(Timed { seconds: self.since.elapsed().as_secs_f64(), ..built })
    }
}

/// An agent that has something, at an address.
pub(super) fn holder(address: &SocketAddr) -> anyhow::Result<Holder> {
    Ok(Holder::new(address.to_string(), channel(*address)?))
}

/// Serves what the cache in a directory has.
///
/// # Errors
/// When it cannot be opened, or loopback not be listened on.
pub fn serve_store(directory: &Path) -> anyhow::Result<Serving> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = CacheStore::open(directory, CAPACITY)?;
    let service = ShardService::new(store, Arc::new(Word), Arc::new(|_| None));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(
        Server::builder()
            .tcp_nodelay(true)
            .add_service(ShardServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(Serving::runtime(address, runtime))
}

fn channel(to: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))?;
    Ok(Profile::Bulk.tune(endpoint).tcp_nodelay(true).connect_lazy())
}

impl Side for Meridian {
    fn name(&self) -> &'static str {
        match self.told {
            Told::Manifest => "meridian",
            Told::Shards => "meridian_no_manifest",
        }
    }

    fn serve(&self, bed: &Bed, program: &Program) -> anyhow::Result<Serving> {
        serve_store(&filled_home(bed, program)?)
    }

    fn build_cold(
        &self,
        bed: &Bed,
        program: &Program,
        via: SocketAddr,
        at_most: Duration,
    ) -> anyhow::Result<Timed> {
        self.build_on(&bed.emptied("agent")?, bed, program, &[via], at_most)
    }
}
