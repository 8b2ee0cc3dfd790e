//! Meridian's side of successive versions: an agent without anything is told of the manifest that the version before
//! has left, and of the shard that has it; what it makes is brought there afterwards, which is not timed, and counts.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use meridian_cache::write_back::Queue;
use meridian_core::digest::Digest;

use super::{
    bed::{Bed, Program},
    commit_versions::{BEFORE, MODULE, VERSIONS},
    commits::{Build, artifact_key, link},
    far::mib,
    local_daemon::LocalDaemon,
    meridian::{Meridian, Told, Word, serve_store},
    uploads::{UPLOADED_WITHIN, until, upload},
};
use crate::{
    bench::{ledger::Ledger, timing::seconds_within, world::remove},
    relay::{Relay, Shape},
};

/// Where a build that goes on and on is ended.
const CUT_AFTER: Duration = Duration::from_secs(600);

/// Builds all versions. What was built before a run was stopped is not built again: the shard is kept with it.
///
/// # Errors
/// When a build fails, or its artifact is not the incumbent's.
pub fn builds(bed: &Bed, ledger: &mut Ledger) -> anyhow::Result<Vec<Build>> {
    let home = Home { directory: bed.kept("commits-shard") };
    let mut builds = Vec::new();
    for (number, version) in [BEFORE].iter().chain(&VERSIONS).enumerate() {
        let key = format!("commits/meridian/{version}");
        let kept = ledger.get::<Build>(&key);
        if kept.is_none() && number == 0 {
            home.empty()?;
        }
        let build = match kept {
            Some(build) => build,
            None => {
                let program = bed.at_version(MODULE, version, ".")?;
                let build = home.build(bed, &program)?;
                let theirs: String =
                    ledger.get(&artifact_key(version)).context("there is no other artifact")?;
                let ours = bed.artifact_digest(&program)?.to_string();
                ensure!(ours == theirs, "the artifact of {version} is {ours}, not {theirs}");
                eprintln!("{version}: {:.1} s, {:.1} MiB (ours)", build.seconds, mib(build.wire_bytes));
                ledger.keep(&key, &build)?;
                build
            }
        };
        if number > 0 {
            builds.push(build);
        }
    }
    Ok(builds)
}

/// The shard at the other end of the link, and the newest manifest's name beside it.
struct Home {
    directory: PathBuf,
}

impl Home {
    fn newest(&self) -> PathBuf {
        self.directory.with_extension("manifest")
    }

    fn empty(&self) -> anyhow::Result<()> {
        remove(&self.directory)?;
        remove(&self.newest())?;
        Ok(fs::create_dir_all(&self.directory)?)
    }

    fn build(&self, bed: &Bed, program: &Program) -> anyhow::Result<Build> {
        let serving = serve_store(&self.directory)?;
        let relay = Relay::start(serving.address, link());
        let agent = bed.emptied("agent")?;
        let newest = fs::read_to_string(self.newest()).ok().and_then(|name| name.parse::<Digest>().ok());
        let (daemon, since) = match newest {
            Some(manifest) => {
                let placed = Meridian::told(Told::Manifest).place(&agent, manifest, &[relay.address()])?;
                (placed.daemon, placed.since)
            }
            None => (LocalDaemon::open(&agent)?, Instant::now()),
        };
        let surroundings = bed.surroundings_with(daemon.command_line())?;
        let built = seconds_within(bed.build(&surroundings, program)?, CUT_AFTER)?;
        ensure!(!built.is_cut, "a build was ended after {CUT_AFTER:?}");
        let seconds = since.elapsed().as_secs_f64();
        // What comes now is not timed.
        relay.reshape(Shape::default());
        let signed = daemon.publish(MODULE, &Word)?;
        let queue = Arc::new(Queue::open(&agent.join("write-back"))?);
        queue.push(signed.digest);
        upload(&daemon, &queue, relay.address());
        until(UPLOADED_WITHIN, "an upload ends", || queue.is_empty())?;
        fs::write(self.newest(), signed.digest.to_string())?;
        Ok(Build { seconds, wire_bytes: relay.traffic().bytes() })
    }
}
