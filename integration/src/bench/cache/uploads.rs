//! What it costs a build that its agent brings away meanwhile what builds before it have made.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use meridian_cache::write_back::{Home, Homes, Queue, Uploader};
use meridian_core::digest::{Digest, DigestHasher};

use super::{
    bed::{Bed, Program},
    driver::Driver,
    far::FAR_MS,
    local_daemon::LocalDaemon,
    meridian::{Word, holder, serve_store},
    native,
    native_cache::{self, Entry},
};
use crate::{
    bench::{
        figures::Figures,
        ledger::Ledger,
        memory::peak_of_shim_on,
        plan::Plan,
        timing::{in_turns, seconds},
    },
    relay::{Relay, Shape},
};

/// The figures of this part. The shim's memory is that of the cold builds: it carries all that they make.
pub const KEYS: &[&str] = &["cold_upload_ratio", "mem_shim_mib", "close_backlog_ms"];

/// What waits when a build begins: so many bodies of so many bytes that cannot be compressed.
const BACKLOG_BODIES: u64 = 256;
const BACKLOG_BODY_LEN: usize = 256 << 10;
/// How fast the link is that a backlog has to get through.
const BACKLOG_BITS_PER_S: u64 = 100_000_000;
/// How long an upload may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);
/// How long all that waits may take to be away.
pub(super) const UPLOADED_WITHIN: Duration = Duration::from_secs(600);

/// All of [`KEYS`]: the first two with the large program, the last with the entries of the small one.
///
/// # Errors
/// When a build or an upload fails.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let mut ledger = Ledger::open("cache", plan.fresh)?;
    if plan.wants("cold_upload_ratio") || plan.wants("mem_shim_mib") {
        let program = bed.large()?;
        native::ensure_built(&bed, &program)?;
        for round in 0..plan.rounds {
            let key = format!("uploads/cold/{round}");
            let [ours, theirs, uploaded, shim_mib] = ledger.get_or_keep(&key, || {
                let (mut uploaded, mut shim_mib) = (0.0, 0.0);
                let ours = || {
                    let built;
                    (built, uploaded, shim_mib) = cold(&bed, &program)?;
                    Ok(built)
                };
                let (ours, theirs) = in_turns(round, ours, || native::cold_now(&bed, &program))?;
                Ok([ours, theirs, uploaded, shim_mib])
            })?;
            figures.add("mem_shim_mib", shim_mib);
            figures.add("cold_upload_ratio", ours / theirs);
            figures.add("cold_upload_s", ours);
            figures.add("cold_upload_native_s", theirs);
            figures.add("cold_upload_all_is_away_s", uploaded);
        }
    }
    if plan.wants("close_backlog_ms") {
        let program = bed.small()?;
        native::ensure_built(&bed, &program)?;
        for round in 0..plan.rounds {
            let key = format!("uploads/close/{round}");
            figures.add("close_backlog_ms", ledger.get_or_keep(&key, || close_with_backlog(&bed, &program))?);
        }
    }
    Ok(())
}

/// A shard far away that takes all that is brought to it, with the link to it.
struct FarHome {
    relay: Relay,
    _serving: super::side::Serving,
}

impl FarHome {
    fn start(bed: &Bed, shape: Shape) -> anyhow::Result<Self> {
        let serving = serve_store(&bed.emptied("far-home")?)?;
        let relay = Relay::start(serving.address, shape);
        Ok(Self { relay, _serving: serving })
    }
}

struct Only(SocketAddr);

impl Homes for Only {
    fn homes(&self) -> Option<Vec<Home>> {
        let home = |holder| Home { holder, takes: Arc::new(|_| true) };
        Some(holder(&self.0).map(home).into_iter().collect())
    }
}

/// Begins to bring away what is queued, with the daemon's store, for as long as the daemon is there.
pub(super) fn upload(daemon: &LocalDaemon, queue: &Arc<Queue>, to: SocketAddr) {
    let uploader = Uploader {
        queue: Arc::clone(queue),
        store: Arc::clone(daemon.store()),
        vouching: Arc::new(Word),
        homes: Arc::new(Only(to)),
        outside: None,
    };
    daemon.runtime().spawn(uploader.run());
}

/// Seconds until a cold build has ended, while a backlog is brought away; until all that it made is away as well; and the
/// highest anonymous memory of the shim meanwhile, in MiB.
fn cold(bed: &Bed, program: &Program) -> anyhow::Result<(f64, f64, f64)> {
    let home = FarHome::start(bed, Shape::with_round_trip(Duration::from_millis(FAR_MS)))?;
    let directory = bed.emptied("agent")?;
    let queue = backlog(bed, &directory)?;
    let daemon = LocalDaemon::open(&directory)?;
    upload(&daemon, &queue, home.relay.address());
    let surroundings = bed.surroundings_with(daemon.command_line())?;
    let over = Arc::new(AtomicBool::new(false));
    let sampler = thread::spawn({
        let (socket, over) = (daemon.socket(), Arc::clone(&over));
        move || peak_of_shim_on(&socket, &over)
    });
    let started = Instant::now();
    let built = bed.build(&surroundings, program).and_then(seconds);
    over.store(true, Ordering::Relaxed);
    let shim_mib = sampler.join().ok().flatten();
    let built = built?;
    bed.expect_native_artifact(program)?;
    let shim_mib = shim_mib.context("no cacheprog process was seen during the build")?;
    queue.push(daemon.publish(&program.name, &Word)?.digest);
    until(UPLOADED_WITHIN, "an upload ends", || queue.is_empty())?;
    Ok((built, started.elapsed().as_secs_f64(), shim_mib))
}

/// Milliseconds that closing takes when much still waits for a slow link.
fn close_with_backlog(bed: &Bed, program: &Program) -> anyhow::Result<f64> {
    let shape = Shape::with_round_trip(Duration::from_millis(FAR_MS)).at_bits_per_s(BACKLOG_BITS_PER_S);
    let home = FarHome::start(bed, shape)?;
    let directory = bed.emptied("agent")?;
    let queue = backlog(bed, &directory)?;
    let daemon = LocalDaemon::open(&directory)?;
    upload(&daemon, &queue, home.relay.address());
    let begun = BACKLOG_BODY_LEN as u64;
    until(BEGINS_WITHIN, "an upload begins", || home.relay.traffic().up_bytes > begun)?;
    let mut driver = Driver::start(daemon.shim())?;
    for entry in native_cache::entries(&bed.native_gocache(program))? {
        driver.put(&entry)?;
    }
    let closing = Instant::now();
    driver.close()?;
    let took = closing.elapsed();
    ensure!(!queue.is_empty(), "the backlog was away before the build was closed");
    Ok(took.as_secs_f64() * 1e3)
}

/// Fills a cache with what a build before has made, which is still to be brought away.
fn backlog(bed: &Bed, directory: &Path) -> anyhow::Result<Arc<Queue>> {
    let scratch = bed.emptied("backlog")?;
    let daemon = LocalDaemon::open(directory)?;
    let mut driver = Driver::start(daemon.shim())?;
    for number in 0..BACKLOG_BODIES {
        driver.put(&made_up(&scratch, number)?)?;
    }
    driver.close()?;
    let signed = daemon.publish("a build before", &Word)?;
    let queue = Queue::open(&directory.join("write-back")).context("the queue cannot be opened")?;
    queue.push(signed.digest);
    Ok(Arc::new(queue))
}

/// An entry whose body is the same in every run, and looks like noise.
fn made_up(scratch: &Path, number: u64) -> anyhow::Result<Entry> {
    let mut bytes = Vec::with_capacity(BACKLOG_BODY_LEN);
    for block in 0_u64.. {
        if bytes.len() >= BACKLOG_BODY_LEN {
            break;
        }
        let mut hasher = DigestHasher::new();
        hasher.update(&number.to_be_bytes());
        hasher.update(&block.to_be_bytes());
        bytes.extend_from_slice(hasher.finish().as_bytes());
    }
    let body = scratch.join(number.to_string());
    fs::write(&body, &bytes)?;
    let output = Digest::of(&bytes);
    let action = Digest::of(output.as_bytes());
    Ok(Entry { action: *action.as_bytes(), output: *output.as_bytes(), size: bytes.len() as u64, body })
}

/// Waits until something is so.
///
/// # Errors
/// When it is not so in time.
pub(super) fn until(within: Duration, what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !is_so() {
        ensure!(started.elapsed() < within, "waited {within:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
