//! Times and versions: what lies in the future, what is too old, and what a later keyring knows.

use meridian_core::{id::FleetName, time::Wall};

use super::{
    CheckName, Outcome, Policy, Report,
    dist::{ACCEPTED, CONTENT, Dist, NAME, NOW, Plan, check, failed, key, plan},
};
use crate::{
    acceptance::Acceptance,
    dsse::Envelope,
    keyring::{KeyUse, KeyringError, KeyringFile},
    keys::{Algorithm, Signer as _},
    message::Message,
};

/// Farther ahead than any clock may be.
const TOO_FAR_AHEAD_MS: u64 = 5 * 60 * 1000 + 1;

/// Verifies with a second keyring at hand.
fn verify_with(dist: &Dist, keyring: &Envelope, policy: &str) -> Report {
    let verifier = dist.verifier(Policy::parse(policy).unwrap()).with_keyring(keyring).unwrap();
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
    // The same version that was issued later counts as later.
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
fn a_keyring_that_the_root_did_not_sign_is_not_taken_as_a_later_one() {
    let dist = plan().make();
    let other = Plan { version: 99, root: key(9, Algorithm::EcdsaP256), ..plan() }.keyring();
    let verdict = dist.verifier(Policy::default()).with_keyring(&other);
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
    let ring = crate::keyring::Keyring::open(&plan.keyring(), &super::dist::pinned()).unwrap();
    let (mut acceptance, _) = Acceptance::read(&file.acceptances[0], &ring).unwrap();
    of_the_revoked(&mut acceptance);
    file.acceptances.insert(0, acceptance.sign(&revoked).unwrap());
    let entries = ring.entries().cloned().chain([revoked_entry]);
    let ring = crate::keyring::Keyring::new(FleetName::new("acme").unwrap(), ring.version(), entries);
    file.keyring = ring.unwrap().sign(&plan.root).unwrap();
    dist.keyring = Some(file.to_json());
    dist
}

#[test]
fn an_acceptance_that_counts_no_more_takes_none_of_the_others_along() {
    let other =
        |acceptance: &mut Acceptance| acceptance.artifact = meridian_core::digest::Digest::of(b"other");
    for of_the_revoked in [other, |_: &mut Acceptance| {}] {
        let report = accepted_twice(of_the_revoked).verify("");
        assert!(report.is_trusted(), "{report:#?}");
    }
    // One that no key of the fleet signed is an altered file.
    let mut dist = accepted_twice(|_| {});
    let mut file = KeyringFile::parse(dist.keyring.as_ref().unwrap()).unwrap();
    let stranger = key(9, Algorithm::EcdsaP256);
    file.acceptances[0] =
        Envelope::sign(&stranger, crate::acceptance::PAYLOAD_TYPE, CONTENT.to_vec()).unwrap();
    assert!(stranger.public().id() != key(3, Algorithm::EcdsaP256).public().id());
    dist.keyring = Some(file.to_json());
    check(&dist.verify(""), &[CheckName::Acceptance], "not in the fleet's keyring");
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
