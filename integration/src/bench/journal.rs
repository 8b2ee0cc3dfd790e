//! What a commit costs through the whole loop, against the cheapest thing that is as durable.
//!
//! Both sides have the same number of callers at once, each waiting for its own commit, on the same file
//! system, in turns. Ours goes over gRPC and TLS to a coordinator process, through its machine, its journal and
//! back; theirs is a thread that writes a record to its own open file and calls `fdatasync`.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    bench::{
        figures::Figures,
        timing::{in_turns, p99},
    },
    caller::Caller,
    client::Client,
    fleet::Fleet,
};

/// Callers at once.
const CALLERS: usize = 16;
/// Commits of each.
const COMMITS: usize = 100;
/// About what a submit's event takes.
const RECORD_BYTES: usize = 256;

/// `journal_commit_vs_fdatasync`.
///
/// # Errors
/// When the coordinator refuses or the disk fails.
pub fn journal(rounds: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let fleet = Fleet::start();
    let client = fleet.member("bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for round in 0..rounds {
        let (ours, theirs) = in_turns(
            round,
            || runtime.block_on(commits(&client, round)),
            || syncs(&fleet.coordinator_state()),
        )?;
        figures.add("journal_commit_vs_fdatasync", ours / theirs);
        figures.add("journal_commit_p99_ms", ours * 1_000.0);
        figures.add("fdatasync_p99_ms", theirs * 1_000.0);
    }
    Ok(())
}

/// The 99th percentile of submits and cancels, which are one commit each.
async fn commits(client: &Client, round: usize) -> anyhow::Result<f64> {
    let caller = Caller::of(client)?;
    // The connection is not what is measured.
    let first = caller.submit("acme/bench", &format!("{round}-first")).await?;
    caller.cancel(&first).await?;
    let tasks: Vec<_> = (0..CALLERS)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(COMMITS);
                for commit in 0..COMMITS / 2 {
                    let started = Instant::now();
                    let build = caller.submit("acme/bench", &format!("{round}-{number}-{commit}")).await?;
                    took.push(started.elapsed());
                    let started = Instant::now();
                    caller.cancel(&build).await?;
                    took.push(started.elapsed());
                }
                Ok::<_, tonic::Status>(took)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.context("a caller gave up")??);
    }
    Ok(p99(all))
}

/// The 99th percentile of a bare write and `fdatasync`, beside the journal.
fn syncs(directory: &Path) -> anyhow::Result<f64> {
    let writers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let path = directory.join(format!("bare-{number}"));
            thread::spawn(move || -> std::io::Result<Vec<Duration>> {
                let mut file = File::create(&path)?;
                let record = [number.to_le_bytes()[0]; RECORD_BYTES];
                let mut took = Vec::with_capacity(COMMITS);
                for _ in 0..COMMITS {
                    let started = Instant::now();
                    file.write_all(&record)?;
                    file.sync_data()?;
                    took.push(started.elapsed());
                }
                std::fs::remove_file(path)?;
                Ok(took)
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.join().ok().context("a writer gave up")??);
    }
    Ok(p99(all))
}
