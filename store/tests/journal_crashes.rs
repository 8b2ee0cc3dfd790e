//! Power cuts at any change to the disk: what was acknowledged survives, and nothing is invented.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::Arc;

use bytes::Bytes;
use meridian_core::{id::JournalIndex, quantity::ByteCount};
use meridian_store::journal::{Journal, LossyDisk, SegmentConfig, SegmentJournal, verify};
use proptest::prelude::*;

const SMALL: SegmentConfig = SegmentConfig { segment_size: ByteCount(6 << 10) };

#[derive(Debug, Clone)]
enum Act {
    Append { records: usize, len: usize },
    Snapshot { back: u64, keep_back: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..6usize, 0..900usize).prop_map(|(records, len)| Act::Append { records, len }),
        1 => (0..8u64, 0..20u64).prop_map(|(back, keep_back)| Act::Snapshot { back, keep_back }),
    ]
}

/// Records differ between lives, so that one which was never acknowledged and is written again shows.
fn records(life: usize, next: u64, count: usize, len: usize) -> Vec<Bytes> {
    (next..)
        .take(count)
        .map(|index| {
            let mut text = format!("{life}:{index}:").into_bytes();
            text.resize(text.len() + len, u8::try_from(index % 3).unwrap());
            Bytes::from(text)
        })
        .collect()
}

struct Model {
    /// What was handed to the journal, by index − 1; of an append that failed, too.
    written: Vec<Bytes>,
    acknowledged: usize,
    snapshot: u64,
}

fn live(
    disk: &LossyDisk,
    model: &mut Model,
    life: usize,
    acts: &[Act],
) -> Result<(), meridian_store::journal::JournalError> {
    let mut journal = SegmentJournal::open_on(Arc::new(disk.clone()), SMALL)?;
    for act in acts {
        let next = journal.next().0;
        match *act {
            Act::Append { records: count, len } => {
                let batch = records(life, next, count, len);
                model.written.truncate(usize::try_from(next).unwrap() - 1);
                model.written.extend(batch.iter().cloned());
                journal.append(JournalIndex(next), &batch)?;
                model.acknowledged = model.written.len();
            }
            Act::Snapshot { back, keep_back } => {
                let at = (next - 1).saturating_sub(back);
                if at == 0 {
                    continue;
                }
                let keep_from = JournalIndex(next.saturating_sub(keep_back));
                journal.save_snapshot(JournalIndex(at), &[Bytes::from(at.to_string())], keep_from)?;
                model.snapshot = model.snapshot.max(at);
            }
        }
    }
    Ok(())
}

fn check(disk: &LossyDisk, model: &mut Model) {
    let report = verify(disk).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let journal = SegmentJournal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    let kept = usize::try_from(journal.next().0).unwrap() - 1;
    assert!(kept >= model.acknowledged, "lost {} acknowledged records", model.acknowledged - kept);
    assert!(kept <= model.written.len(), "records were invented");
    let mut next = journal.first();
    while next < journal.next() {
        for (index, record) in journal.read(next, 4096).unwrap() {
            assert_eq!(record, model.written[usize::try_from(index.0).unwrap() - 1], "record {index}");
            next = JournalIndex(index.0 + 1);
        }
    }
    let snapshot = journal.latest_snapshot().unwrap();
    let at = snapshot.as_ref().map_or(0, |(at, _)| at.0);
    assert!(at >= model.snapshot, "a published snapshot was lost");
    assert!(journal.first().0 <= at + 1, "compaction left a hole behind the snapshot");
    if let Some((at, records)) = snapshot {
        assert_eq!(records, vec![Bytes::from(at.to_string())]);
    }
    // What opened is now durable: it must never vanish again.
    model.written.truncate(kept);
    model.acknowledged = kept;
    model.snapshot = at;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    // Each case is up to eight lives, each ended by a power cut: some 5,000 crashes in all.
    #[test]
    fn what_was_acknowledged_survives_every_power_cut(
        lives in prop::collection::vec((prop::collection::vec(act(), 1..12), 0..60u64, any::<u64>()), 2..9)
    ) {
        let disk = LossyDisk::new();
        let mut model = Model { written: Vec::new(), acknowledged: 0, snapshot: 0 };
        for (life, (acts, power, seed)) in lives.iter().enumerate() {
            disk.cut_power_after(*power);
            // Errors are the power cut; every other one shows in the check.
            let _ = live(&disk, &mut model, life, acts);
            disk.crash(*seed);
            check(&disk, &mut model);
        }
    }
}
