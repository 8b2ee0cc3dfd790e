//! How many bytes a second a cache takes in and gives over the remote execution API on loopback, and what that costs:
//! Meridian's own and bazel-remote, through one client.
//!
//! Each server is a process of its own with an empty directory on the same disk. A mix of blobs is written and read
//! back, as it is and compressed with zstd, by a few clients at once; the processor's time is the server's alone.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use meridian_cache::reapi::{Admission, Caller, ContentConfig, Instance, Reapi, ReapiError, StockListener};
use meridian_core::digest::Digest;
use meridian_proto::reapi::{
    bytestream::{ReadRequest, WriteRequest, byte_stream_client::ByteStreamClient},
    v2::{GetCapabilitiesRequest, capabilities_client::CapabilitiesClient},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::{bed::Bed, installed::Installed};
use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, ledger::Ledger},
    fleet::free_address,
    process::Daemon,
};

/// The figures of this part: both servers' own, and what one is to the other.
pub const KEYS: &[&str] = &[
    "shard_read_vs_bazel_remote",
    "shard_write_vs_bazel_remote",
    "shard_cpu_vs_bazel_remote",
    "shard_read_mib_s",
    "shard_write_mib_s",
    "shard_cpu_s_gib",
    "bazel_remote_read_mib_s",
    "bazel_remote_write_mib_s",
    "bazel_remote_cpu_s_gib",
];

/// The word by which the bench starts itself as a server.
pub const SERVE: &str = "serve-reapi";

/// Sizes of blobs, and how many there are of each.
const MIX: &[(usize, usize)] = &[(4 << 10, 512), (64 << 10, 256), (1 << 20, 64), (16 << 20, 8)];

/// How many clients there are at once.
const CLIENTS: usize = 4;

/// How many bytes a client puts into a message.
const CHUNK: usize = 256 << 10;

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(20);

const MIB: f64 = 1_048_576.0;

/// What Linux counts a process's time in, on every processor that has Go.
const TICKS_A_SECOND: f64 = 100.0;

/// What a server did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// MiB of blobs a second, as they are.
    pub write_plain: f64,
    /// The same, sent compressed.
    pub write_zstd: f64,
    /// MiB of blobs a second, as they are.
    pub read_plain: f64,
    /// The same, fetched compressed.
    pub read_zstd: f64,
    /// The server's processor seconds for a GiB of blobs, over all four.
    pub cpu_s_gib: f64,
}

impl Rates {
    /// MiB of blobs a second over both forms.
    #[must_use]
    pub fn write(&self) -> f64 {
        2.0 / (1.0 / self.write_plain + 1.0 / self.write_zstd)
    }

    /// The same for reading.
    #[must_use]
    pub fn read(&self) -> f64 {
        2.0 / (1.0 / self.read_plain + 1.0 / self.read_zstd)
    }
}

/// A blob with its two forms.
#[derive(Debug, Clone)]
struct Blob {
    name: String,
    length: usize,
    sent: Bytes,
}

/// How blobs travel.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Zstd,
}

impl Form {
    fn blobs(self) -> anyhow::Result<Arc<Vec<Blob>>> {
        let mut blobs = Vec::new();
        for (size, count) in MIX {
            for index in 0..*count {
                let seed = (blobs.len() * 7 + index) as u64 * 2 + matches!(self, Self::Zstd) as u64;
                let plain = like_objects(seed, *size);
                let path = format!("{}/{size}", Digest::of(&plain));
                let (name, sent) = match self {
                    Self::Plain => (format!("blobs/{path}"), plain),
                    Self::Zstd => (format!("compressed-blobs/zstd/{path}"), zstd::encode_all(&plain[..], 1)?),
                };
                blobs.push(Blob { name, length: *size, sent: sent.into() });
            }
        }
        // Large ones first, so that no client is alone with one at the end.
        blobs.reverse();
        Ok(Arc::new(blobs))
    }
}

/// All of [`KEYS`]; those of bazel-remote only where it is here.
///
/// # Errors
/// When a server does not start or answers wrong.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bazel_remote = Installed::install(figures).bazel_remote;
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    for round in 0..plan.rounds {
        let shard =
            ledger.get_or_keep(&format!("shard/meridian/{round}"), || run(&bed, "shard", meridian))?;
        figures.add("shard_read_mib_s", shard.read());
        figures.add("shard_write_mib_s", shard.write());
        figures.add("shard_cpu_s_gib", shard.cpu_s_gib);
        let Some(program) = &bazel_remote else { continue };
        let peer = ledger.get_or_keep(&format!("shard/bazel-remote/{round}"), || {
            run(&bed, "bazel-remote", |directory, addr| Ok(bazel_remote_command(program, directory, addr)))
        })?;
        figures.add("bazel_remote_read_mib_s", peer.read());
        figures.add("bazel_remote_write_mib_s", peer.write());
        figures.add("bazel_remote_cpu_s_gib", peer.cpu_s_gib);
        figures.add("shard_read_vs_bazel_remote", shard.read() / peer.read());
        figures.add("shard_write_vs_bazel_remote", shard.write() / peer.write());
        figures.add("shard_cpu_vs_bazel_remote", shard.cpu_s_gib / peer.cpu_s_gib);
    }
    Ok(())
}

fn run(
    bed: &Bed,
    name: &str,
    command: impl FnOnce(&Path, SocketAddr) -> anyhow::Result<Command>,
) -> anyhow::Result<Rates> {
    let directory = bed.emptied(name)?;
    let addr = free_address();
    let server = Daemon::start(name, command(&directory.join("cache"), addr)?, &directory.join("log"))?;
    let rates = Runtime::new()?.block_on(rates(addr, server.id()));
    rates.with_context(|| format!("{name} wrote: {}", server.log()))
}

fn meridian(directory: &Path, addr: SocketAddr) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).arg(directory).arg(addr.to_string());
    Ok(command)
}

fn bazel_remote_command(program: &Path, directory: &Path, addr: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.arg("--dir").arg(directory).args(["--max_size", "5", "--access_log_level", "none"]);
    command.args(["--grpc_address", &addr.to_string(), "--http_address", &free_address().to_string()]);
    command
}

/// Serves a directory until it is killed: the bench's own process in the part of a shard.
///
/// # Errors
/// When the directory or the address cannot be had.
pub fn serve(directory: &Path, addr: SocketAddr) -> anyhow::Result<()> {
    let reapi = Reapi::open(directory, ContentConfig::default(), Arc::new(everybody))?;
    Runtime::new()?.block_on(async {
        let listener = StockListener::bind(addr, None).await?;
        listener.serve(&reapi, std::future::pending()).await?;
        Ok(())
    })
}

fn everybody(_: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
    Ok(Admission { scope: instance.clone(), may_write: true })
}

/// Measures the server that listens on `addr` as process `id`.
///
/// # Errors
/// When it refuses what it should take, or gives back something else.
async fn rates(addr: SocketAddr, id: u32) -> anyhow::Result<Rates> {
    let (plain, zstd) = (Form::Plain.blobs()?, Form::Zstd.blobs()?);
    let channels = connect(addr).await?;
    let cpu = cpu_seconds(id)?;
    let write_plain = timed(&plain, &channels, write).await?;
    let write_zstd = timed(&zstd, &channels, write).await?;
    let read_plain = timed(&plain, &channels, read).await?;
    let read_zstd = timed(&zstd, &channels, read).await?;
    let cpu = cpu_seconds(id)? - cpu;
    let gib = 2.0 * (mib(&plain) + mib(&zstd)) / 1024.0;
    Ok(Rates { write_plain, write_zstd, read_plain, read_zstd, cpu_s_gib: cpu / gib })
}

async fn connect(addr: SocketAddr) -> anyhow::Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10);
    let started = Instant::now();
    let mut channels = Vec::new();
    while channels.len() < CLIENTS {
        let channel = endpoint.connect().await;
        let is_up = match &channel {
            Ok(channel) => CapabilitiesClient::new(channel.clone())
                .get_capabilities(GetCapabilitiesRequest::default())
                .await
                .is_ok(),
            Err(_) => false,
        };
        match channel {
            Ok(channel) if is_up => channels.push(channel),
            _ if started.elapsed() > START_MAX => bail!("nobody answers on {addr}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Ok(channels)
}

/// Does something with every blob, some at once, and gives the MiB of blobs a second.
async fn timed<F, W>(blobs: &Arc<Vec<Blob>>, channels: &[Channel], work: F) -> anyhow::Result<f64>
where
    F: Fn(ByteStreamClient<Channel>, Blob) -> W + Copy + Send + 'static,
    W: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for channel in channels {
        let client = ByteStreamClient::new(channel.clone());
        let (blobs, next) = (Arc::clone(blobs), Arc::clone(&next));
        clients.spawn(async move {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(client.clone(), blob.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(mib(blobs) / started.elapsed().as_secs_f64())
}

async fn write(mut client: ByteStreamClient<Channel>, blob: Blob) -> anyhow::Result<()> {
    let mut messages = Vec::new();
    let mut offset = 0;
    while offset == 0 || offset < blob.sent.len() {
        let end = blob.sent.len().min(offset + CHUNK);
        messages.push(WriteRequest {
            resource_name: if offset == 0 { format!("uploads/bench/{}", blob.name) } else { String::new() },
            write_offset: i64::try_from(offset)?,
            finish_write: end == blob.sent.len(),
            data: blob.sent.slice(offset..end),
        });
        offset = end;
    }
    let written = client.write(tokio_stream::iter(messages)).await?.into_inner().committed_size;
    let is_whole = [-1, i64::try_from(blob.length)?, i64::try_from(blob.sent.len())?].contains(&written);
    ensure!(is_whole, "{written} bytes of {} were taken", blob.name);
    Ok(())
}

async fn read(mut client: ByteStreamClient<Channel>, blob: Blob) -> anyhow::Result<()> {
    let request = ReadRequest { resource_name: blob.name.clone(), ..Default::default() };
    let mut stream = client.read(request).await?.into_inner();
    let mut length = 0;
    while let Some(piece) = stream.message().await? {
        length += piece.data.len();
    }
    let is_plain = blob.name.starts_with("blobs/");
    ensure!(length > 0 && (!is_plain || length == blob.length), "{length} bytes of {} came", blob.name);
    Ok(())
}

/// Bytes that compress about as well as object files do.
fn like_objects(seed: u64, length: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 24);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
        bytes.extend(b"runtime.\0\0\0\0\0\0\0\0");
    }
    bytes.truncate(length);
    bytes
}

fn mib(blobs: &[Blob]) -> f64 {
    let bytes: usize = blobs.iter().map(|blob| blob.length).sum();
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) * 1024.0 / MIB
}

/// The processor seconds that a process has used.
fn cpu_seconds(id: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat"))?;
    // The name in parentheses may hold anything; the counters are the 12th and 13th field behind it.
    let fields = stat.rsplit_once(')').context("a process has a name")?.1;
    let ticks: Result<Vec<f64>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_A_SECOND)
}
