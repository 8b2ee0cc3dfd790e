//! Tests of the keyring.

use meridian_core::{
    id::{FleetName, JournalIndex},
    time::Wall,
};

use super::*;
use crate::{
    document::{self, DocumentError},
    dsse::{Envelope, EnvelopeError},
    holder::Holder,
    keys::{Algorithm, KeyId, Signer as _, SigningKey},
};

fn key(seed: u8, algorithm: Algorithm) -> SigningKey {
    SigningKey::from_seed(algorithm, &[seed; 32]).unwrap()
}

fn root() -> (SigningKey, Root) {
    let key = key(1, Algorithm::EcdsaP256);
    let root = Root::new(key.public().clone(), None).unwrap();
    (key, root)
}

fn entry(seed: u8, algorithm: Algorithm, key_use: KeyUse) -> Entry {
    Entry {
        key: key(seed, algorithm).public().clone(),
        key_use,
        holder: Holder::new("spiffe://acme/agent/eu-central/a1").unwrap(),
        grade: Grade::Production,
        not_before: Wall(1_000),
        not_after: Wall(9_000),
        revoked: None,
    }
}

fn entries() -> Vec<Entry> {
    vec![
        entry(2, Algorithm::EcdsaP256, KeyUse::Artifact),
        Entry { revoked: Some(Wall(5_000)), ..entry(3, Algorithm::Ed25519, KeyUse::Artifact) },
        Entry { grade: Grade::Dev, ..entry(4, Algorithm::EcdsaP256, KeyUse::Order) },
    ]
}

fn keyring(entries: Vec<Entry>) -> Result<Keyring, KeyringError> {
    Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(42), entries)
}

fn id(seed: u8, algorithm: Algorithm) -> KeyId {
    key(seed, algorithm).public().id()
}

#[test]
fn a_keyring_survives_signing_whatever_order_its_entries_came_in() {
    let (signer, root) = root();
    let mut entries = entries();
    let envelope = keyring(entries.clone()).unwrap().sign(&signer).unwrap();
    entries.reverse();
    let keyring = keyring(entries).unwrap();
    assert_eq!(keyring.sign(&signer).unwrap(), envelope);
    assert_eq!(Keyring::open(&envelope, &root).unwrap(), keyring);
    let file = KeyringFile::new(envelope.clone(), vec![envelope]);
    assert_eq!(KeyringFile::parse(&file.to_json()).unwrap(), file);
}

#[test]
fn a_keyring_is_written_as_in_the_golden_file() {
    let (signer, root) = root();
    let envelope = keyring(entries()).unwrap().sign(&signer).unwrap();
    let payload = envelope.open(root.key(), PAYLOAD_TYPE).unwrap();
    assert_eq!(String::from_utf8_lossy(payload), include_str!("../../tests/golden/keyring.json"));
}

#[test]
fn keyrings_of_earlier_and_later_releases_are_read() {
    let (signer, root) = root();
    let read = |text: String| {
        let envelope = Envelope::sign(&signer, PAYLOAD_TYPE, text.into_bytes()).unwrap();
        Keyring::open(&envelope, &root).unwrap()
    };
    let silent = keyring(entries()).unwrap();
    let issued = silent.clone().issued_at(Wall(1_795_342_290_000));
    // The first release said no time.
    let [first, second] = [
        include_str!("../../tests/golden/keyring.json").to_owned(),
        include_str!("../../tests/golden/keyring-issued.json").to_owned(),
    ];
    assert_eq!(read(first), silent);
    assert_eq!(read(second.clone()), issued);
    let envelope = issued.sign(&signer).unwrap();
    assert_eq!(String::from_utf8_lossy(envelope.open(root.key(), PAYLOAD_TYPE).unwrap()), second);
    // What a later one adds, to the keyring or to an entry, is passed over.
    assert_eq!(read(second.replacen(r#","version""#, r#","version_note":"x","version""#, 1)), issued);
    assert_eq!(read(second.replace(r#","spki""#, r#","serial":7,"spki""#)), issued);
}

#[test]
fn a_keyring_file_says_nothing_of_earlier_keyrings_where_there_are_none() {
    let (signer, _) = root();
    let envelope = keyring(entries()).unwrap().sign(&signer).unwrap();
    let file = KeyringFile::new(envelope.clone(), vec![]);
    let text = String::from_utf8(file.to_json()).unwrap();
    assert!(text.ends_with(r#","acceptances":[]}"#), "as every release wrote it: {text}");
    let file = KeyringFile { earlier: vec![envelope], ..file };
    assert_eq!(KeyringFile::parse(&file.to_json()).unwrap(), file);
    // What no signature covers is written in one way.
    for altered in [text.replace(']', "],\"note\":1"), text.replace("[]}", "[],\"earlier\":[]}")] {
        assert!(KeyringFile::parse(altered.as_bytes()).is_err(), "{altered}");
    }
}

#[test]
fn a_keyring_under_another_root_is_refused() {
    let (_, root) = root();
    let envelope = keyring(entries()).unwrap().sign(&key(9, Algorithm::EcdsaP256)).unwrap();
    let verdict = Keyring::open(&envelope, &root);
    assert!(matches!(verdict, Err(KeyringError::Envelope(EnvelopeError::Key { .. }))), "{verdict:?}");
}

#[test]
fn a_root_is_an_ecdsa_key() {
    let verdict = Root::new(key(1, Algorithm::Ed25519).public().clone(), None);
    assert!(matches!(verdict, Err(KeyringError::Root(Algorithm::Ed25519))), "{verdict:?}");
}

#[test]
fn what_the_root_signed_by_mistake_is_still_no_keyring() {
    let (signer, root) = root();
    let good = keyring(entries()).unwrap().sign(&signer).unwrap();
    let payload = String::from_utf8(good.open(root.key(), PAYLOAD_TYPE).unwrap().to_vec()).unwrap();
    let other = id(9, Algorithm::EcdsaP256).to_string();
    let first = id(2, Algorithm::EcdsaP256).to_string();
    let mut wire: serde_json::Value = serde_json::from_str(&payload).unwrap();
    wire["entries"].as_array_mut().unwrap().reverse();
    for (bad, part) in [
        (payload.replace(&first, &other), "does not fit"),
        (payload.replace("ed25519", "ecdsa-p256"), "does not fit"),
        (payload.replace("9000", "1000"), "ends before"),
        (payload.replace("spiffe://acme/", "spiffe://other/"), "not of fleet"),
        (payload.replace(r#""use":"order""#, r#""use":"anything""#), "unknown variant"),
        (wire.to_string(), "not sorted"),
        (payload.replace(r#","version""#, r#", "version""#), "not written as"),
    ] {
        let envelope = Envelope::sign(&signer, PAYLOAD_TYPE, bad.clone().into_bytes()).unwrap();
        let error = Keyring::open(&envelope, &root).unwrap_err().to_string();
        assert!(error.contains(part), "{bad}: {error}");
    }
}

#[test]
fn one_key_is_never_certified_twice() {
    let twice = vec![
        entry(2, Algorithm::EcdsaP256, KeyUse::Artifact),
        entry(2, Algorithm::EcdsaP256, KeyUse::Acceptance),
    ];
    assert!(matches!(keyring(twice), Err(KeyringError::Order(_))));
}

#[test]
fn a_key_is_good_for_its_use_and_its_window_only_and_the_refusal_says_why() {
    let keyring = keyring(entries()).unwrap();
    let (plain, revoked) = (id(2, Algorithm::EcdsaP256), id(3, Algorithm::Ed25519));
    let find = |key, wanted, at| keyring.find(key, wanted, Wall(at)).map(|entry| entry.key.id());
    assert_eq!(find(plain, KeyUse::Artifact, 1_000), Ok(plain));
    assert_eq!(find(plain, KeyUse::Artifact, 8_999), Ok(plain));
    assert_eq!(find(revoked, KeyUse::Artifact, 4_999), Ok(revoked));
    for (key, wanted, at, part) in [
        (plain, KeyUse::Artifact, 999, "was not yet valid at 1970-01-01T00:00:00.999Z"),
        (plain, KeyUse::Artifact, 9_000, "had expired at 1970-01-01T00:00:09.000Z"),
        (revoked, KeyUse::Artifact, 5_000, "was revoked at 1970-01-01T00:00:05.000Z"),
        (revoked, KeyUse::Artifact, 10_000, "was revoked at"),
        (plain, KeyUse::Order, 2_000, "certified for artifacts, not for orders"),
        (plain, KeyUse::Acceptance, 2_000, "not for acceptances"),
        (id(9, Algorithm::EcdsaP256), KeyUse::Artifact, 2_000, "not in the fleet's keyring"),
    ] {
        let error = find(key, wanted, at).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn no_flipped_bit_of_a_keyring_file_is_accepted() {
    let (signer, root) = root();
    let entries = vec![entry(2, Algorithm::EcdsaP256, KeyUse::Artifact)];
    let file = KeyringFile::new(keyring(entries).unwrap().sign(&signer).unwrap(), vec![]);
    let good = file.to_json();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = KeyringFile::parse(&bytes).and_then(|file| Keyring::open(&file.keyring, &root));
        assert!(opened.is_err(), "bit {bit}");
    }
}

#[test]
fn a_file_with_too_many_acceptances_is_refused() {
    let (signer, _) = root();
    let small = Envelope::sign(&signer, "x", Vec::new()).unwrap();
    let file = KeyringFile::new(small.clone(), vec![small; ACCEPTANCES_MAX + 1]);
    let verdict = KeyringFile::parse(&document::write(&file));
    assert!(matches!(verdict, Err(KeyringError::File(DocumentError::Shape(_)))), "{verdict:?}");
}

/// A keyring of this version and time with the one entry.
fn at(version: u64, issued: u64, entry: Entry) -> Keyring {
    let keyring = Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(version), [entry]).unwrap();
    keyring.issued_at(Wall(issued))
}

#[test]
fn keyrings_add_up_and_the_order_of_their_versions_brings_no_revoked_key_back() {
    let plain = || entry(2, Algorithm::EcdsaP256, KeyUse::Artifact);
    let revoked = |since| Entry { revoked: Some(Wall(since)), ..plain() };
    let key = id(2, Algorithm::EcdsaP256);
    // A restored coordinator gives lower versions again, and one that was not gives higher ones.
    for (lost, version) in [(90, 100), (110, 100)] {
        let (knows, lost) = (at(version, 1, revoked(3_000)), at(lost, 2, plain()));
        for both in [knows.and(&lost).unwrap(), lost.and(&knows).unwrap()] {
            assert_eq!(both.entry(key).unwrap().revoked, Some(Wall(3_000)));
            assert_eq!((both.version(), both.issued()), (lost.version(), lost.issued()), "as of the later");
        }
        assert!(knows.revokes_more_than(&lost) && knows.knows_more_than(&lost));
        assert!(!lost.revokes_more_than(&knows) && !lost.knows_more_than(&knows));
    }
    // Of two revocations the earliest moment, whichever was said last.
    let both = at(1, 1, revoked(3_000)).and(&at(2, 2, revoked(4_000))).unwrap();
    assert_eq!(both.entry(key).unwrap().revoked, Some(Wall(3_000)));
    assert!(
        at(2, 2, revoked(2_999)).revokes_more_than(&both)
            && !at(3, 3, revoked(3_000)).revokes_more_than(&both)
    );
    // The longest window, and every key.
    let short = Entry { not_before: Wall(2_000), not_after: Wall(8_000), ..plain() };
    let both = at(1, 1, plain()).and(&at(2, 2, short)).unwrap();
    let window = both.entry(key).map(|entry| (entry.not_before, entry.not_after)).unwrap();
    assert_eq!(window, (Wall(1_000), Wall(9_000)));
    let both = both.and(&at(3, 3, entry(3, Algorithm::Ed25519, KeyUse::Order))).unwrap();
    assert_eq!(both.entries().count(), 2);
}

#[test]
fn of_two_words_about_one_key_s_use_the_later_stands_alone_and_no_revocation_is_lost() {
    let earlier = Entry { revoked: Some(Wall(3_000)), ..entry(2, Algorithm::EcdsaP256, KeyUse::Artifact) };
    let later = Entry { not_before: Wall(5_000), revoked: None, key_use: KeyUse::Order, ..earlier.clone() };
    let both = at(1, 1, earlier).and(&at(2, 2, later.clone())).unwrap();
    let expected = Entry { revoked: Some(Wall(3_000)), ..later };
    assert_eq!(both.entries().collect::<Vec<_>>(), [&expected]);
}

#[test]
fn keyrings_of_two_fleets_do_not_add_up() {
    let entry = |fleet: &str| Entry {
        holder: Holder::new(&format!("spiffe://{fleet}/coordinator")).unwrap(),
        ..entry(2, Algorithm::EcdsaP256, KeyUse::Order)
    };
    let of =
        |fleet: &str| Keyring::new(FleetName::new(fleet).unwrap(), JournalIndex(1), [entry(fleet)]).unwrap();
    assert!(matches!(of("acme").and(&of("other")), Err(KeyringError::Fleet { .. })));
}
