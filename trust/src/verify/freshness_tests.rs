//! Times and versions: what lies in the future, what is too old, and what a later keyring knows.

use base64::Engine as _;
use meridian_core::{
    id::{FleetName, JournalIndex},
    time::Wall,
};

use super::{
    CheckName, Outcome, Policy, Report,
    dist::{ACCEPTED, CONTENT, Dist, NAME, NOW, Plan, check, failed, key, plan},
};
use crate::{
    acceptance::Acceptance,
    dsse::Envelope,
    keyring::{KeyUse, Keyring, KeyringError, KeyringFile},
    keys::{Algorithm, SigningKey},
    message::Message,
};

/// Farther ahead than any clock may be.
const TOO_FAR_AHEAD_MS: u64 = 5 * 60 * 1000 + 1;

/// Verifies with a second keyring at hand.
fn verify_with(dist: &Dist, keyring: &Envelope, policy: &str) -> Report {
    let verifier = dist.verifier(Policy::parse(policy).unwrap()).with_keyrings([keyring]).unwrap();
    verifier.verify(NAME, &Message::of(&dist.content), &dist.files())
}

#[test]
fn a_keyring_from_the_future_is_refused_and_a_clock_may_be_a_little_off() {
    let at = |issued| Plan { issued: Some(Wall(issued)), ..plan() }.make().verify("");
    check(&at(NOW.0 + TOO_FAR_AHEAD_MS), &[CheckName::Keyring], "lies in the future of this machine's clock");
    assert!(at(NOW.0 + TOO_FAR_AHEAD_MS - 1).is_trusted());
}

#[test]
fn an_acceptance_from_the_future_is_refused_and_a_clock_may_be_a_little_off() {
    let at = |accept: fn(&mut Acceptance)| {
        let mut plan = Plan { accept, ..plan() };
        for entry in [&mut plan.entry, &mut plan.accepter_entry] {
            entry.not_after = Wall(u64::MAX);
        }
        plan.make().verify("")
    };
    let ahead = at(|acceptance| acceptance.accepted = Wall(NOW.0 + TOO_FAR_AHEAD_MS));
    check(&ahead, &[CheckName::Acceptance], "lies in the future");
    assert!(at(|acceptance| acceptance.accepted = Wall(NOW.0 + TOO_FAR_AHEAD_MS - 1)).is_trusted());
}

#[test]
fn a_keyring_that_is_older_than_the_policy_allows_is_refused() {
    let (name, dist) = (CheckName::KeyringAge, plan().make());
    // It was issued a day ago.
    assert!(dist.verify("keyring_max_age = \"24h\"").is_trusted());
    check(&dist.verify("keyring_max_age = \"23h\""), &[name], "longer ago than the policy allows");
    assert!(dist.verify("").is_trusted());
    // One that does not say so might be of any age.
    let silent = Plan { issued: None, ..plan() }.make();
    assert!(silent.verify("").is_trusted());
    check(&silent.verify("keyring_max_age = \"9d\""), &[name], "does not say when it was issued");
    // A fresh one that is supplied makes up for it.
    let fresh = Plan { version: 43, issued: Some(NOW), ..plan() }.keyring();
    assert!(verify_with(&dist, &fresh, "keyring_max_age = \"1m\"").is_trusted());
    // A rule that cannot be judged is not met.
    let mut none = plan().make();
    none.keyring = None;
    let expected = [CheckName::Keyring, CheckName::KeyringAge];
    assert_eq!(failed(&none.verify("keyring_max_age = \"9d\"")), expected);
}

#[test]
fn a_later_keyring_s_revocation_counts_for_artifacts_that_were_written_before_it() {
    let dist = plan().make();
    let mut later = Plan { version: 43, ..plan() };
    later.entry.revoked = Some(ACCEPTED);
    check(&verify_with(&dist, &later.keyring(), ""), &[CheckName::Key], "was revoked at");
    // Revoked only since the artifact was accepted: it stays good.
    later.entry.revoked = Some(Wall(ACCEPTED.0 + 1));
    let report = verify_with(&dist, &later.keyring(), "");
    assert!(report.is_trusted(), "{report:#?}");
    let sentence = report.checks[0].outcome.sentence();
    for part in ["version 43", "it is later than version 42, which lies beside the artifact"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    // The same version that was issued later.
    let mut reissued = Plan { issued: Some(NOW), ..plan() };
    reissued.entry.revoked = Some(ACCEPTED);
    check(&verify_with(&dist, &reissued.keyring(), ""), &[CheckName::Key], "was revoked at");
}

#[test]
fn an_earlier_keyring_changes_nothing_and_one_put_in_the_place_of_a_newer_hides_nothing() {
    let mut revoking = plan();
    revoking.entry.revoked = Some(ACCEPTED);
    let old = Plan { version: 41, ..plan() };
    // The dist's own is the later one.
    check(&verify_with(&revoking.make(), &old.keyring(), ""), &[CheckName::Key], "was revoked at");
    // A roll-back: the dist carries the keyring of before the revocation.
    check(&verify_with(&old.make(), &revoking.keyring(), ""), &[CheckName::Key], "was revoked at");
}

#[test]
fn a_coordinator_restored_from_a_backup_gives_no_revoked_key_back_whatever_its_versions_are() {
    let (before, after) = (Some(ACCEPTED), Some(Wall(ACCEPTED.0 + 1_000)));
    let mut revoking = Plan { issued: before, ..plan() };
    revoking.entry.revoked = Some(ACCEPTED);
    for version in [41, 42, 43] {
        let restored = Plan { version, issued: after, ..plan() };
        check(&verify_with(&restored.make(), &revoking.keyring(), ""), &[CheckName::Key], "was revoked at");
        check(&verify_with(&revoking.make(), &restored.keyring(), ""), &[CheckName::Key], "was revoked at");
    }
    // It revokes the key anew, under a version that is lower than the one that lies there.
    let mut anew = Plan { version: 7, issued: after, ..plan() };
    anew.entry.revoked = Some(ACCEPTED);
    check(&verify_with(&plan().make(), &anew.keyring(), ""), &[CheckName::Key], "was revoked at");
    // The key for acceptances was revoked, and a later keyring does not say so any more.
    let mut revoking = Plan { issued: before, ..plan() };
    revoking.accepter_entry.revoked = Some(ACCEPTED);
    let restored = Plan { version: 43, issued: after, ..plan() };
    check(&verify_with(&restored.make(), &revoking.keyring(), ""), &[CheckName::Acceptance], "no time that");
}

#[test]
fn keys_that_a_later_keyring_has_forgotten_still_count_for_what_they_signed_in_their_time() {
    let plan = plan();
    let forgotten = Keyring::new(plan.fleet.clone(), JournalIndex(43), []).unwrap().issued_at(NOW);
    let report = verify_with(&plan.make(), &forgotten.sign(&plan.root).unwrap(), "keyring_max_age = \"1h\"");
    assert!(report.is_trusted(), "{report:#?}");
    // Of a window that two keyrings give, all of both counts.
    let mut shorter = Plan { version: 43, ..super::dist::plan() };
    shorter.entry.not_after = ACCEPTED;
    let report = verify_with(&plan.make(), &shorter.keyring(), "");
    assert!(report.is_trusted(), "{report:#?}");
}

#[test]
fn a_keyring_that_the_root_did_not_sign_is_not_taken_as_a_later_one() {
    let dist = plan().make();
    let other = Plan { version: 99, root: key(9, Algorithm::EcdsaP256), ..plan() }.keyring();
    let verdict = dist.verifier(Policy::default()).with_keyrings([&other]);
    assert!(matches!(verdict, Err(KeyringError::Envelope(_))), "{verdict:?}");
}

#[test]
fn a_later_keyring_does_not_stand_in_for_a_damaged_one() {
    let mut dist = plan().make();
    dist.keyring.as_mut().unwrap()[20] ^= 1;
    let later = Plan { version: 43, ..plan() }.keyring();
    assert_eq!(failed(&verify_with(&dist, &later, "")), [CheckName::Keyring]);
    dist.keyring = None;
    assert_eq!(failed(&verify_with(&dist, &later, "")), [CheckName::Keyring]);
}

#[test]
fn a_later_keyring_from_the_future_is_refused_too() {
    let later = Plan { version: 43, issued: Some(Wall(NOW.0 + TOO_FAR_AHEAD_MS)), ..plan() };
    let report = verify_with(&plan().make(), &later.keyring(), "");
    check(&report, &[CheckName::Keyring], "lies in the future");
}

#[test]
fn a_revoked_key_for_acceptances_takes_every_time_that_it_said_away_whatever_came_before() {
    let dist = plan().make();
    let mut later = Plan { version: 43, ..plan() };
    later.accepter_entry.revoked = Some(Wall(ACCEPTED.0 + 999));
    let report = verify_with(&dist, &later.keyring(), "");
    check(&report, &[CheckName::Acceptance], "no time that it says counts");
}

/// A dist whose keyring holds two keys for acceptances, and an acceptance by the revoked one before the good one.
fn accepted_twice(of_the_revoked: fn(&mut Acceptance)) -> Dist {
    let plan = plan();
    let mut dist = plan.make();
    let revoked = key(4, Algorithm::EcdsaP256);
    let mut revoked_entry = super::dist::entry(&revoked, KeyUse::Acceptance, "spiffe://acme/coordinator");
    revoked_entry.revoked = Some(ACCEPTED);
    let mut file = KeyringFile::parse(dist.keyring.as_ref().unwrap()).unwrap();
    let ring = Keyring::open(&plan.keyring(), &super::dist::pinned()).unwrap();
    let (mut acceptance, _) = Acceptance::read(&file.acceptances[0], &ring).unwrap();
    of_the_revoked(&mut acceptance);
    file.acceptances.insert(0, acceptance.sign(&revoked).unwrap());
    let entries = ring.entries().cloned().chain([revoked_entry]);
    let ring = Keyring::new(FleetName::new("acme").unwrap(), ring.version(), entries);
    file.keyring = ring.unwrap().sign(&plan.root).unwrap();
    dist.keyring = Some(file.to_json());
    dist
}

fn signed(key: &SigningKey, payload: &[u8]) -> Envelope {
    Envelope::sign(key, crate::acceptance::PAYLOAD_TYPE, payload.to_vec()).unwrap()
}

#[test]
fn an_acceptance_that_counts_no_more_takes_none_of_the_others_along() {
    let other =
        |acceptance: &mut Acceptance| acceptance.artifact = meridian_core::digest::Digest::of(b"other");
    for of_the_revoked in [other, |_: &mut Acceptance| {}] {
        let report = accepted_twice(of_the_revoked).verify("");
        assert!(report.is_trusted(), "{report:#?}");
    }
}

#[test]
fn an_acceptance_whose_key_is_unknown_counts_for_nothing_and_takes_no_other_along() {
    let mut dist = accepted_twice(|_| {});
    let mut file = KeyringFile::parse(dist.keyring.as_ref().unwrap()).unwrap();
    let stranger = key(9, Algorithm::EcdsaP256);
    let good = Acceptance::claimed(&file.acceptances[1]).unwrap();
    for of_the_stranger in [good.sign(&stranger).unwrap(), signed(&stranger, CONTENT)] {
        file.acceptances[0] = of_the_stranger;
        dist.keyring = Some(file.to_json());
        let report = dist.verify("");
        assert!(report.is_trusted(), "{report:#?}");
    }
    // Alone it is the reason, for the artifact that it claims to be about.
    file.acceptances = vec![good.sign(&stranger).unwrap()];
    dist.keyring = Some(file.to_json());
    check(&dist.verify(""), &[CheckName::Acceptance], "not in the fleet's keyring");
    let other = Acceptance { provenance: meridian_core::digest::Digest::of(b"other"), ..good };
    file.acceptances = vec![other.sign(&stranger).unwrap()];
    dist.keyring = Some(file.to_json());
    check(&dist.verify(""), &[CheckName::Acceptance], "accepted no artifact with the digest");
    // One that a known key did not sign is an altered file, and nothing in it counts.
    let mut dist = accepted_twice(|_| {});
    let mut file = KeyringFile::parse(dist.keyring.as_ref().unwrap()).unwrap();
    let text = String::from_utf8(signed(&key(3, Algorithm::EcdsaP256), CONTENT).to_json()).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.encode(CONTENT);
    file.acceptances[0] = Envelope::parse(text.replace(&payload, "e30=").as_bytes()).unwrap();
    dist.keyring = Some(file.to_json());
    check(&dist.verify(""), &[CheckName::Acceptance], "signature");
}

#[test]
fn a_policy_names_what_a_sandbox_must_confine() {
    let dist = plan().make();
    let report = dist.verify("sandbox = [\"landlock\", \"network\"]");
    assert!(report.is_trusted(), "{report:#?}");
    assert!(matches!(report.checks.last().unwrap().outcome, Outcome::Passed(_)));
    check(&dist.verify("sandbox = [\"network\", \"cgroup\"]"), &[CheckName::Sandbox], "asks for cgroup");
    let mut bare = plan();
    bare.provenance.internal.sandbox.features.clear();
    bare.provenance.internal.sandbox.kind = "none".to_owned();
    let dist = bare.make();
    assert!(dist.verify("").is_trusted());
    check(&dist.verify("sandbox = \"required\""), &[CheckName::Sandbox], "without a sandbox");
    check(&dist.verify("sandbox = [\"network\"]"), &[CheckName::Sandbox], "without a sandbox");
}

#[test]
fn a_bill_of_another_artifact_or_of_none_is_refused() {
    let mut dist = plan().make();
    let bill = String::from_utf8(dist.sbom.clone().unwrap()).unwrap();
    for (altered, part) in [
        (bill.replace("v1.2.3", "v1.2.4"), "a component is"),
        (bill.replace(NAME, "web_1.2.3_linux_arm64"), "the name is"),
        (bill.replace("\n", "\r\n"), "canonical form"),
        (String::new(), "not a cyclonedx 1.6 bill"),
    ] {
        dist.sbom = Some(altered.into_bytes());
        check(&dist.verify(""), &[CheckName::Sbom], part);
    }
}
