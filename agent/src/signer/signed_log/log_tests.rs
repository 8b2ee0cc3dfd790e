use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Some three records a segment.
const SMALL: Bounds = Bounds { segment_len: 900, counted: 2, kept: 4 };

fn task() -> TaskId {
    "acme/web/17/1".parse().unwrap()
}

fn signed(fence: u64, content: &[u8]) -> Signed {
    Signed {
        at_ms: 1_800_000_000_000,
        task: task().to_string(),
        fence,
        package: ".".to_owned(),
        digest: Digest::of(content).to_hex(),
        key: Digest::of(b"key").to_hex(),
    }
}

fn check(log: &SignedLog, fence: u64, content: &[u8]) -> Result<(), LogError> {
    log.check(&task(), Fence(fence), ".", Digest::of(content))
}

fn filled(dir: &Path, fences: std::ops::RangeInclusive<u64>) -> SignedLog {
    let mut log = SignedLog::open_with(dir, SMALL).unwrap();
    for fence in fences {
        log.append(&signed(fence, b"one")).unwrap();
    }
    log
}

#[test]
fn a_second_content_for_one_lease_is_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SignedLog::open(dir.path()).unwrap();
    check(&log, 9, b"one").unwrap();
    log.append(&signed(9, b"one")).unwrap();
    log.append(&signed(9, b"one")).unwrap();
    assert!(matches!(log.append(&signed(9, b"two")), Err(LogError::Second { .. })));
    let log = SignedLog::open(dir.path()).unwrap();
    check(&log, 9, b"one").unwrap();
    check(&log, 10, b"two").unwrap();
    assert!(matches!(check(&log, 9, b"two"), Err(LogError::Second { .. })));
    let text = fs::read_to_string(segment::path(dir.path(), 1)).unwrap();
    assert_eq!(text.lines().count(), 2, "a repeat is not written again: {text}");
}

#[test]
fn a_record_that_a_crash_cut_off_is_dropped_and_one_that_was_changed_stops_the_signer() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment::path(dir.path(), 1);
    let mut log = SignedLog::open(dir.path()).unwrap();
    log.append(&signed(9, b"one")).unwrap();
    let whole = fs::read(&path).unwrap();
    log.append(&signed(10, b"two")).unwrap();
    let both = fs::read(&path).unwrap();
    for len in whole.len()..both.len() {
        fs::write(&path, &both[..len]).unwrap();
        let mut log = SignedLog::open(dir.path()).unwrap();
        check(&log, 10, b"three").unwrap();
        log.append(&signed(10, b"three")).unwrap();
        let log = SignedLog::open(dir.path()).unwrap();
        assert!(matches!(check(&log, 10, b"two"), Err(LogError::Second { .. })));
    }
    // The last line's end is all that a crash can take from a whole file.
    for byte in 0..both.len() - 1 {
        for bit in 0..8 {
            let mut damaged = both.clone();
            damaged[byte] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            let opened = SignedLog::open(dir.path());
            assert!(matches!(opened, Err(LogError::Damaged { .. })), "byte {byte}: {opened:?}");
        }
    }
}

#[test]
fn what_is_read_no_more_is_refused_by_one_number_and_never_signed_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 1..=40);
    let numbers = segment::list(dir.path()).unwrap();
    assert!(numbers.len() <= 5 && numbers[0] > 1, "{numbers:?}");
    assert!(log.signed.len() < 12, "{}", log.signed.len());
    let forgotten = log.forgotten.0;
    assert!(forgotten > 20, "{forgotten}");
    for log in [log, SignedLog::open_with(dir.path(), SMALL).unwrap()] {
        assert_eq!(log.forgotten.0, forgotten, "also after a restart");
        for fence in 1..=40 {
            let second = check(&log, fence, b"two");
            match second {
                Err(LogError::Forgotten { .. }) => assert!(fence <= forgotten),
                Err(LogError::Second { .. }) => assert!(fence > forgotten),
                other => panic!("lease {fence}: {other:?}"),
            }
        }
        check(&log, 41, b"two").unwrap();
    }
}

#[test]
fn a_segment_that_was_left_out_or_exchanged_shows() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 1..=40));
    let numbers = segment::list(dir.path()).unwrap();
    let [.., before, last] = numbers[..] else { panic!("{numbers:?}") };
    let path = segment::path(dir.path(), before);
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(SignedLog::open_with(dir.path(), SMALL), Err(LogError::Missing { .. })));
    // A chain that is whole in itself, but not the one that the next segment goes on from.
    let (mut other, chain) = segment::begin(before, Digest::of(b"elsewhere"), 0);
    other.extend(segment::line(chain, &signed(30, b"two")).unwrap().0);
    fs::write(&path, other).unwrap();
    let opened = SignedLog::open_with(dir.path(), SMALL);
    assert!(matches!(opened, Err(LogError::Damaged { line: 1, .. })), "{opened:?}");
    fs::write(&path, &kept[..kept.len() - 3]).unwrap();
    let opened = SignedLog::open_with(dir.path(), SMALL);
    assert!(matches!(opened, Err(LogError::Damaged { what: "it has no end", .. })), "{opened:?}");
    fs::write(&path, kept).unwrap();
    SignedLog::open_with(dir.path(), SMALL).unwrap();
    // A next segment that was never put in place is as if it had not been begun.
    fs::write(dir.path().join(format!("signed-{:08}.log.77-0.tmp", last + 1)), b"{").unwrap();
    SignedLog::open_with(dir.path(), SMALL).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), numbers);
}

#[test]
fn the_log_of_an_earlier_version_still_counts_and_is_forgotten_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let line = |fence, content| serde_json::to_string(&signed(fence, content)).unwrap() + "\n";
    let torn = &line(8, b"torn")[..40];
    fs::write(segment::path(dir.path(), 0), line(6, b"one") + &line(7, b"one") + torn).unwrap();
    let mut log = SignedLog::open_with(dir.path(), SMALL).unwrap();
    assert!(matches!(check(&log, 7, b"two"), Err(LogError::Second { .. })));
    check(&log, 8, b"two").unwrap();
    log.append(&signed(8, b"two")).unwrap();
    let mut log = SignedLog::open_with(dir.path(), SMALL).unwrap();
    assert!(matches!(check(&log, 6, b"two"), Err(LogError::Second { .. })));
    for fence in 9..=20 {
        log.append(&signed(fence, b"one")).unwrap();
    }
    for log in [log, SignedLog::open_with(dir.path(), SMALL).unwrap()] {
        assert!(matches!(check(&log, 7, b"one"), Err(LogError::Forgotten { .. })));
    }
}

#[test]
fn a_segment_is_written_as_in_the_golden_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SignedLog::open(dir.path()).unwrap();
    log.append(&signed(9, b"one")).unwrap();
    log.append(&signed(10, b"two")).unwrap();
    let text = fs::read_to_string(segment::path(dir.path(), 1)).unwrap();
    if std::env::var_os("MERIDIAN_WRITE_GOLDEN").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/signed_segment.log"), &text).unwrap();
    }
    assert_eq!(text, include_str!("../../../tests/golden/signed_segment.log"));
}

#[derive(Debug, Clone)]
enum Step {
    Sign { fence: u64, content: u8 },
    Restart,
    Crash { torn: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..60_u64, 0..3_u8).prop_map(|(fence, content)| Step::Sign { fence, content }),
        1 => Just(Step::Restart),
        1 => (0..300_usize).prop_map(|torn| Step::Crash { torn }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_lease_ever_has_two_contents_signed(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SignedLog::open_with(dir.path(), SMALL).unwrap();
        let mut ever: BTreeMap<u64, u8> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Sign { fence, content } => {
                    if log.append(&signed(fence, &[content])).is_ok() {
                        let before = *ever.entry(fence).or_insert(content);
                        prop_assert_eq!(before, content, "lease {}", fence);
                    }
                }
                Step::Restart => log = SignedLog::open_with(dir.path(), SMALL).unwrap(),
                Step::Crash { torn } => {
                    // Part of a record that was being written: its signature never left.
                    let line = segment::line(log.chain, &signed(99, b"torn")).unwrap().0;
                    let mut file = OpenOptions::new().append(true).open(segment::path(dir.path(), log.number)).unwrap();
                    file.write_all(&line[..torn.min(line.len() - 1)]).unwrap();
                    log = SignedLog::open_with(dir.path(), SMALL).unwrap();
                }
            }
            prop_assert!(log.signed.len() <= 20, "{} are remembered", log.signed.len());
        }
    }
}
