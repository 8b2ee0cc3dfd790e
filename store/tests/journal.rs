//! The journal against tears, rot, rivals and power cuts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use meridian_core::{id::JournalIndex, quantity::ByteCount};
use meridian_store::journal::{
    FileDisk, Journal, JournalError, JournalFiles, LossyDisk, MemoryJournal, SegmentConfig, SegmentJournal,
    verify, verify_dir,
};

const SMALL: SegmentConfig = SegmentConfig { segment_size: ByteCount(8 << 10) };

fn record(number: u64) -> Bytes {
    // Lengths vary, zeros included, so that padding and whole zero sectors inside payloads are met.
    let len = usize::try_from(number * 7919 % 700).unwrap();
    let mut bytes = format!("record {number} ").into_bytes();
    bytes.resize(bytes.len() + len, if number.is_multiple_of(3) { 0 } else { b'x' });
    bytes.into()
}

fn batch(from: u64, to: u64) -> Vec<Bytes> {
    (from..=to).map(record).collect()
}

fn open(disk: &LossyDisk) -> Result<SegmentJournal, JournalError> {
    SegmentJournal::open_on(Arc::new(disk.clone()), SMALL)
}

fn all(journal: &dyn Journal, from: u64) -> BTreeMap<u64, Bytes> {
    let mut found = BTreeMap::new();
    let mut next = JournalIndex(from);
    loop {
        let page = journal.read(next, 1000).unwrap();
        let Some((last, _)) = page.last() else { return found };
        next = JournalIndex(last.0 + 1);
        found.extend(page.into_iter().map(|(index, bytes)| (index.0, bytes)));
    }
}

fn expect_records(journal: &dyn Journal, from: u64, to: u64) {
    let expected: BTreeMap<_, _> = (from..=to).map(|number| (number, record(number))).collect();
    assert_eq!(all(journal, from), expected);
}

fn segment(first: u64) -> String {
    format!("{first:020}.segment")
}

#[test]
fn what_was_appended_is_read_again_across_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SegmentJournal::open(dir.path(), SMALL).unwrap();
    for number in 1..=100 {
        let last = journal.append(JournalIndex(number), &[record(number)]).unwrap();
        assert_eq!(last, JournalIndex(number));
    }
    expect_records(&journal, 1, 100);
    expect_records(&journal, 63, 100);
    drop(journal);
    let journal = SegmentJournal::open(dir.path(), SMALL).unwrap();
    assert_eq!(journal.next(), JournalIndex(101));
    expect_records(&journal, 1, 100);
    let report = verify_dir(dir.path()).unwrap();
    assert!(report.is_sound() && report.segments > 3 && report.last == JournalIndex(100), "{report:?}");
}

#[test]
fn an_append_larger_than_a_segment_gets_one_of_its_own() {
    let disk = LossyDisk::new();
    let mut journal = open(&disk).unwrap();
    let big = Bytes::from(vec![7; 40 << 10]);
    journal.append(JournalIndex(1), std::slice::from_ref(&big)).unwrap();
    journal.append(JournalIndex(2), &[record(2)]).unwrap();
    journal.append(JournalIndex(3), &[big.clone(), big.clone()]).unwrap();
    drop(journal);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.next(), JournalIndex(5));
    assert_eq!(journal.read(JournalIndex(1), 1).unwrap(), vec![(JournalIndex(1), big)]);
}

#[test]
fn a_second_writer_is_told_that_it_lost() {
    let memory: Box<dyn Journal> = Box::new(MemoryJournal::new());
    let segments: Box<dyn Journal> = Box::new(open(&LossyDisk::new()).unwrap());
    for mut journal in [memory, segments] {
        journal.append(JournalIndex(1), &batch(1, 3)).unwrap();
        for wrong in [1, 3, 5] {
            let error = journal.append(JournalIndex(wrong), &[record(9)]).unwrap_err();
            let JournalError::Conflict { expected, found } = error else { panic!("{error}") };
            assert_eq!((expected, found), (JournalIndex(wrong), JournalIndex(4)));
        }
        assert_eq!(journal.append(JournalIndex(4), &[]).unwrap(), JournalIndex(3));
        expect_records(journal.as_ref(), 1, 3);
    }
}

#[test]
fn a_directory_in_use_is_refused_by_name_of_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let first = FileDisk::open(dir.path()).unwrap();
    let error = SegmentJournal::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    SegmentJournal::open(dir.path(), SMALL).unwrap();
}

/// A disk whose last append is `last`, and where in the active segment it begins and ends.
fn disk_with_last(last: &[Bytes]) -> (LossyDisk, usize, usize) {
    let used = |disk: &LossyDisk| {
        let mut used = 0;
        disk.tamper(&segment(1), |bytes| used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1).unwrap();
        used
    };
    let disk = LossyDisk::new();
    let mut journal = open(&disk).unwrap();
    journal.append(JournalIndex(1), &[Bytes::from_static(b"one")]).unwrap();
    journal.append(JournalIndex(2), &[Bytes::from_static(b"two")]).unwrap();
    let start = used(&disk).next_multiple_of(8);
    journal.append(JournalIndex(3), last).unwrap();
    let end = used(&disk);
    (disk, start, end)
}

type Tear<'a> = dyn Fn(&mut Vec<u8>, usize) + 'a;

#[test]
fn an_append_torn_at_any_byte_opens_before_it_and_can_be_written_again() {
    let last = [Bytes::from_static(b"the third record"), Bytes::from_static(b"the fourth")];
    let (_, start, end) = disk_with_last(&last);
    let garbage = |bytes: &mut Vec<u8>, cut: usize| bytes[cut..end].fill(0xa5);
    let zeros = |bytes: &mut Vec<u8>, cut: usize| bytes[cut..].fill(0);
    let short = |bytes: &mut Vec<u8>, cut: usize| bytes.truncate(cut);
    let tears: [&Tear<'_>; 3] = [&garbage, &zeros, &short];
    for cut in start..end {
        for tear in tears {
            let (disk, ..) = disk_with_last(&last);
            disk.tamper(&segment(1), |bytes| tear(bytes, cut)).unwrap();
            let report = verify(&disk).unwrap();
            assert!(report.is_sound(), "{report:?}");
            let mut journal = open(&disk).unwrap();
            let next = journal.next();
            assert!(
                next == JournalIndex(3) || (next == JournalIndex(4) && cut >= start + 40),
                "{next} at {cut}"
            );
            assert_eq!(report.last.0 + 1, next.0);
            // What is written over the tear is whole, and nothing of the tear comes back.
            journal.append(next, &[Bytes::from_static(b"again")]).unwrap();
            drop(journal);
            let journal = open(&disk).unwrap();
            assert_eq!(journal.next(), JournalIndex(next.0 + 1));
            assert!(verify(&disk).unwrap().torn.is_none());
        }
    }
}

#[test]
fn a_torn_append_whose_later_sectors_survived_is_a_tear_and_no_damage() {
    let last = [Bytes::from(vec![1; 600]), Bytes::from(vec![2; 600]), Bytes::from(vec![3; 600])];
    let (disk, start, _) = disk_with_last(&last);
    disk.tamper(&segment(1), |bytes| bytes[start + 100..start + 600].fill(0)).unwrap();
    let report = verify(&disk).unwrap();
    let torn = report.torn.clone().unwrap();
    assert!(report.is_sound() && torn.index == JournalIndex(3) && torn.offset == start as u64, "{report:?}");
    let mut journal = open(&disk).unwrap();
    // The same length as before, so that the old fourth record would fit on seamlessly.
    journal.append(JournalIndex(3), &[Bytes::from(vec![9; 600])]).unwrap();
    drop(journal);
    assert_eq!(open(&disk).unwrap().next(), JournalIndex(4));
}

#[test]
fn every_flipped_byte_of_an_earlier_record_is_found_and_refused() {
    let last = [Bytes::from_static(b"the last")];
    let (_, start, _) = disk_with_last(&last);
    let first_record = 4096;
    for at in first_record..start {
        let (disk, ..) = disk_with_last(&last);
        let mut padding = false;
        disk.tamper(&segment(1), |bytes| {
            // Zeros that only fill up to the next record carry nothing and are not checked.
            padding = matches!((at - first_record) % 32, 27..);
            bytes[at] ^= 0x10;
        })
        .unwrap();
        if padding {
            assert_eq!(open(&disk).unwrap().next(), JournalIndex(4));
            continue;
        }
        let JournalError::Damaged(damage) = open(&disk).unwrap_err() else { panic!("flip at {at}") };
        let (index, offset) = if at < first_record + 32 { (1, 4096) } else { (2, 4128) };
        assert_eq!((damage.index, damage.offset), (JournalIndex(index), offset), "flip at {at}");
        assert_eq!(damage.file, segment(1));
        assert_eq!(verify(&disk).unwrap().damage, vec![damage]);
    }
}

fn many_segments() -> LossyDisk {
    let disk = LossyDisk::new();
    let mut journal = open(&disk).unwrap();
    for number in 1..=60 {
        journal.append(JournalIndex(number), &[record(number)]).unwrap();
    }
    disk
}

fn segments(disk: &LossyDisk) -> Vec<String> {
    use meridian_store::journal::Disk as _;
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect()
}

#[test]
fn a_segment_with_a_successor_has_no_torn_tail() {
    let disk = many_segments();
    let name = segments(&disk)[1].clone();
    disk.tamper(&name, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end] ^= 1;
    })
    .unwrap();
    let JournalError::Damaged(damage) = open(&disk).unwrap_err() else { panic!() };
    assert_eq!(damage.file, name);
}

#[test]
fn a_check_tells_the_first_damage_of_every_file_and_no_more() {
    let disk = many_segments();
    let names = segments(&disk);
    for name in &names[..2] {
        disk.tamper(name, |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            // The last byte of the last record, and one of the first record's header.
            bytes[end] ^= 1;
            bytes[4096] ^= 1;
        })
        .unwrap();
    }
    let damage = verify(&disk).unwrap().damage;
    let found: Vec<_> = damage.iter().map(|damage| (damage.file.as_str(), damage.offset)).collect();
    assert_eq!(found, [(names[0].as_str(), 4096), (names[1].as_str(), 4096)]);
}

#[test]
fn a_missing_segment_is_named() {
    use meridian_store::journal::Disk as _;
    for gone in 0..segments(&many_segments()).len() - 1 {
        let disk = many_segments();
        let names = segments(&disk);
        disk.remove(&names[gone]).unwrap();
        let JournalError::Damaged(damage) = open(&disk).unwrap_err() else { panic!() };
        let first_missing: u64 = names[gone].split('.').next().unwrap().parse().unwrap();
        assert_eq!(damage.index, JournalIndex(first_missing), "{damage}");
        assert!(!verify(&disk).unwrap().is_sound());
    }
}

#[test]
fn a_header_that_rotted_is_damage() {
    let disk = many_segments();
    let name = segments(&disk)[0].clone();
    for at in 0..64 {
        let mut before = 0;
        disk.tamper(&name, |bytes| {
            before = bytes[at];
            bytes[at] ^= 0xff;
        })
        .unwrap();
        assert!(matches!(open(&disk), Err(JournalError::Damaged(_))), "byte {at}");
        disk.tamper(&name, |bytes| bytes[at] = before).unwrap();
    }
    open(&disk).unwrap();
}

#[test]
fn a_snapshot_bounds_what_is_kept_but_never_passes_the_slowest_reader() {
    let disk = many_segments();
    let mut journal = open(&disk).unwrap();
    let before = segments(&disk).len();
    journal.save_snapshot(JournalIndex(50), &batch(1, 3), JournalIndex(1)).unwrap();
    assert_eq!(segments(&disk).len(), before);
    journal.save_snapshot(JournalIndex(50), &batch(1, 4), JournalIndex(20)).unwrap();
    assert!(journal.first() <= JournalIndex(20) && segments(&disk).len() < before);
    expect_records(&journal, 20, 60);
    journal.save_snapshot(JournalIndex(55), &batch(1, 5), JournalIndex(100)).unwrap();
    assert!(journal.first() <= JournalIndex(56));
    expect_records(&journal, 56, 60);
    let error = journal.read(JournalIndex(1), 10).unwrap_err();
    assert!(matches!(error, JournalError::Compacted { .. }), "{error}");
    let error = journal.save_snapshot(JournalIndex(61), &[], JournalIndex(1)).unwrap_err();
    assert!(matches!(error, JournalError::SnapshotAhead { .. }), "{error}");
    drop(journal);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.latest_snapshot().unwrap(), Some((JournalIndex(55), batch(1, 5))));
    expect_records(&journal, 56, 60);
    disk.tamper(&format!("{:020}.snapshot", 55), |bytes| bytes[70] ^= 1).unwrap();
    assert!(matches!(open(&disk), Err(JournalError::Damaged(_))));
}

#[test]
fn older_snapshots_are_kept_for_as_long_as_a_replay_can_go_on_from_them() {
    let disk = many_segments();
    let mut journal = open(&disk).unwrap();
    let kept = |disk: &LossyDisk| -> Vec<u64> {
        let files = JournalFiles::list_on(Arc::new(disk.clone())).unwrap();
        files.snapshots().iter().map(|at| at.0).collect()
    };
    for at in [10, 20, 30] {
        journal.save_snapshot(JournalIndex(at), &batch(1, at), JournalIndex(1)).unwrap();
    }
    assert_eq!(kept(&disk), [10, 20, 30]);
    drop(journal);
    let mut journal = open(&disk).unwrap();
    assert_eq!(kept(&disk), [10, 20, 30], "a start keeps them");
    assert_eq!(journal.latest_snapshot().unwrap(), Some((JournalIndex(30), batch(1, 30))));
    let files = JournalFiles::list_on(Arc::new(disk.clone())).unwrap();
    assert_eq!(files.snapshot(JournalIndex(20)).unwrap(), Some(batch(1, 20)));
    journal.save_snapshot(JournalIndex(40), &batch(1, 40), JournalIndex(25)).unwrap();
    let expected: Vec<u64> = [10, 20, 30, 40].into_iter().filter(|at| at + 1 >= journal.first().0).collect();
    assert!(expected.len() < 4, "something was compacted");
    assert_eq!(kept(&disk), expected);
    for at in 41..=60 {
        journal.save_snapshot(JournalIndex(at), &batch(1, 3), JournalIndex(25)).unwrap();
    }
    let many = kept(&disk);
    assert_eq!((many.len(), many.first(), many.last()), (8, expected.first(), Some(&60)), "{many:?}");
}

#[test]
fn after_a_failed_append_nothing_more_is_taken() {
    let disk = LossyDisk::new();
    let mut journal = open(&disk).unwrap();
    journal.append(JournalIndex(1), &batch(1, 1)).unwrap();
    disk.cut_power_after(1);
    assert!(matches!(journal.append(JournalIndex(2), &batch(2, 2)), Err(JournalError::Io { .. })));
    assert!(matches!(journal.append(JournalIndex(2), &batch(2, 2)), Err(JournalError::Stopped)));
}

#[test]
fn records_that_a_killed_process_did_not_sync_are_durable_once_the_journal_has_opened() {
    for seed in 0..32 {
        let disk = LossyDisk::new();
        let mut journal = open(&disk).unwrap();
        journal.append(JournalIndex(1), &batch(1, 1)).unwrap();
        disk.cut_power_after(1);
        journal.append(JournalIndex(2), &batch(2, 2)).unwrap_err();
        drop(journal);
        // Only the process ended: the machine still has what was written.
        disk.cut_power_after(u64::MAX);
        let journal = open(&disk).unwrap();
        let next = journal.next();
        assert!(next > JournalIndex(2), "the write had reached the file");
        drop(journal);
        disk.crash(seed);
        assert_eq!(open(&disk).unwrap().next(), next, "seed {seed}");
    }
}
