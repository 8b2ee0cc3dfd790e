//! Group commit over real and failing journals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::id::JournalIndex;
use meridian_store::journal::{
    CommitError, GroupCommit, JournalError, LossyDisk, MemoryJournal, SegmentConfig, SegmentJournal,
};

fn one(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

#[tokio::test]
async fn batches_become_durable_in_the_order_of_their_submission() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SegmentJournal::open(dir.path(), SegmentConfig::default()).unwrap();
    let mut commit = GroupCommit::start(Box::new(journal), JournalIndex(1), 16).unwrap();
    let mut progress = commit.progress();
    for number in 1..=200u64 {
        let last = commit.submit(one(&number.to_string())).await.unwrap();
        assert_eq!(last, JournalIndex(number));
    }
    progress.wait_for(|progress| progress.durable == JournalIndex(200)).await.unwrap();
    commit.save_snapshot(JournalIndex(150), one("state"), JournalIndex(200)).await.unwrap();
    let read = commit.reader().read(JournalIndex(199), usize::MAX).await.unwrap();
    assert_eq!(read, vec![(JournalIndex(199), "199".into()), (JournalIndex(200), "200".into())]);
    let reader = commit.reader();
    assert_eq!(commit.close().await.unwrap(), JournalIndex(200));
    assert!(matches!(reader.read(JournalIndex(1), 1).await, Err(CommitError::Closed)));
    // The lock is let go once close has returned.
    SegmentJournal::open(dir.path(), SegmentConfig::default()).unwrap();
}

#[tokio::test]
async fn a_failed_append_is_published_and_stays() {
    let disk = LossyDisk::new();
    let journal = SegmentJournal::open_on(Arc::new(disk.clone()), SegmentConfig::default()).unwrap();
    let mut commit = GroupCommit::start(Box::new(journal), JournalIndex(1), 16).unwrap();
    let mut progress = commit.progress();
    commit.submit(one("kept")).await.unwrap();
    progress.wait_for(|progress| progress.durable == JournalIndex(1)).await.unwrap();
    disk.cut_power_after(0);
    commit.submit(one("lost")).await.unwrap();
    let seen = progress.wait_for(|progress| progress.failure.is_some()).await.unwrap().clone();
    assert_eq!(seen.durable, JournalIndex(1));
    // The queue may still take one that raced with the failure; soon it answers with it.
    let error = loop {
        if let Err(error) = commit.submit(one("refused")).await {
            break error;
        }
    };
    assert!(matches!(error, CommitError::Journal(_)), "{error}");
    assert!(commit.reader().read(JournalIndex(1), 1).await.is_err());
    assert!(commit.close().await.is_err());
}

#[tokio::test]
async fn a_writer_whose_place_was_taken_learns_it_from_the_progress() {
    let commit = GroupCommit::start(Box::new(MemoryJournal::new()), JournalIndex(5), 4);
    let mut commit = commit.unwrap();
    commit.submit(one("late")).await.unwrap();
    let mut progress = commit.progress();
    let seen = progress.wait_for(|progress| progress.failure.is_some()).await.unwrap().clone();
    assert!(matches!(seen.failure.as_deref(), Some(JournalError::Conflict { .. })));
}

/// Not the bench, only its alarm: the bench measures the ratio under load and with care.
#[test]
fn a_commit_costs_about_what_a_bare_write_and_sync_costs() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let bare = std::fs::File::create(dir.path().join("bare")).unwrap();
    bare.write_all_at(&vec![0; 8 << 20], 0).unwrap();
    bare.sync_all().unwrap();
    let journal = SegmentJournal::open(&dir.path().join("journal"), SegmentConfig::default()).unwrap();
    let mut commit = GroupCommit::start(Box::new(journal), JournalIndex(1), 16).unwrap();
    let mut progress = commit.progress();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut bare_times, mut commit_times) = (Vec::new(), Vec::new());
    for number in 0..300u64 {
        let start = Instant::now();
        bare.write_all_at(&[1; 300], 4096 + number * 300).unwrap();
        bare.sync_data().unwrap();
        bare_times.push(start.elapsed());
        let start = Instant::now();
        runtime.block_on(async {
            let last = commit.submit(vec![Bytes::from_static(&[2; 276])]).await.unwrap();
            progress.wait_for(|progress| progress.durable >= last).await.unwrap();
        });
        commit_times.push(start.elapsed());
    }
    let p90 = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() * 9 / 10]
    };
    let (bare, commit) = (p90(&mut bare_times), p90(&mut commit_times));
    eprintln!("p90: bare {bare:?}, commit {commit:?}");
    assert!(commit < bare * 5 + Duration::from_millis(20), "bare {bare:?}, commit {commit:?}");
}
