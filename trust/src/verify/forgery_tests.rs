//! What is genuine passes, and each forgery is seen by exactly the check that is there for it: take that
//! check away, and the forgery passes.

use meridian_core::{
    digest::Digest,
    id::{Fence, FleetName},
    time::Wall,
};

use super::{
    CheckName, Files, Outcome, Policy, Report, Verifier,
    dist::{ACCEPTED, CONTENT, Dist, NAME, NOW, Plan, check, entry, failed, key, pinned, plan},
};
use crate::{
    bundle::{EnvelopeBundle, MessageBundle},
    holder::Holder,
    keyring::{Grade, KeyUse, KeyringFile, Root},
    keys::{Algorithm, Signer as _},
    message::Message,
    sidecar::signature_text,
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

/// A plan with one thing changed fails exactly one check.
#[track_caller]
fn plan_fails(change: impl Fn(&mut Plan), expected: CheckName, part: &str) {
    for algorithm in ALGORITHMS {
        let mut plan = Plan::new(algorithm);
        change(&mut plan);
        check(&plan.make().verify(""), &[expected], part);
    }
}

/// A genuine dist with one file changed fails exactly one check.
#[track_caller]
fn dist_fails(change: impl Fn(&mut Dist), expected: CheckName, part: &str) {
    for algorithm in ALGORITHMS {
        let mut dist = Plan::new(algorithm).make();
        change(&mut dist);
        check(&dist.verify(""), &[expected], part);
    }
}

#[test]
fn what_is_genuine_is_trusted_and_the_report_says_what_it_is() {
    for algorithm in ALGORITHMS {
        let plan = Plan::new(algorithm);
        let report = plan.make().verify(
            r#"
            fleet = "acme"
            grade = "production"
            builders = ["spiffe://acme/agent/*"]
            sources = ["https://git.example.org/acme/*"]
            projects = ["acme/web"]
            requesters = ["spiffe://acme/team/web/*"]
            sandbox = ["network"]
            keyring_max_age = "1d"
            require = ["fleet", "public-key", "message-bundle", "sbom"]
            "#,
        );
        assert!(report.is_trusted(), "{report:#?}");
        assert!(report.checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_))), "{report:#?}");
        assert_eq!(report.provenance, Some(plan.provenance));
        assert_eq!((report.key, report.accepted), (Some(plan.entry), Some(ACCEPTED)));
    }
}

#[test]
fn files_that_need_not_be_there_are_missed_only_when_a_policy_asks_for_them() {
    let mut dist = plan().make();
    (dist.public_key, dist.message_bundle, dist.sbom) = (None, None, None);
    assert!(dist.verify("").is_trusted());
    for (require, name) in [
        ("public-key", CheckName::PublicKey),
        ("message-bundle", CheckName::MessageBundle),
        ("sbom", CheckName::Sbom),
    ] {
        let report = dist.verify(&format!("require = [{require:?}]"));
        assert!(!report.is_trusted());
        assert_eq!(report.unmet().map(|check| check.name).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn a_check_that_is_missing_from_a_report_never_counts_as_met() {
    let report = plan().make().verify("");
    for index in 0..report.checks.len() {
        let mut less = report.clone();
        less.checks.remove(index);
        assert!(!less.is_trusted());
    }
    assert!(!Report { checks: Vec::new(), ..report }.is_trusted());
}

#[test]
fn a_keyring_is_believed_under_the_pinned_root_only() {
    // Everything consistent, under a root of the forger's own.
    plan_fails(|plan| plan.root = key(9, Algorithm::EcdsaP256), CheckName::Keyring, "not the pinned root's");
    dist_fails(|dist| dist.keyring = None, CheckName::Keyring, "no keyring.json");
    let other = Plan { root: key(9, Algorithm::EcdsaP256), ..plan() }.make();
    dist_fails(|dist| dist.keyring = other.keyring.clone(), CheckName::Keyring, "not the pinned root's");
}

#[test]
fn a_keyring_of_another_fleet_than_the_root_s_is_refused() {
    let dist = plan().make();
    let bare = Root::new(pinned().key().clone(), None).unwrap();
    let verify = |root: Root, policy: &str| {
        let verifier = Verifier::new(root, dist.keyring.as_deref(), Policy::parse(policy).unwrap(), NOW);
        verifier.verify(NAME, &Message::of(CONTENT), &dist.files())
    };
    let other = Root::new(pinned().key().clone(), Some(FleetName::new("other").unwrap())).unwrap();
    check(&verify(other, ""), &[CheckName::Fleet], "expected other");
    check(&verify(bare.clone(), "fleet = \"other\""), &[CheckName::Fleet], "expected other");
    // A root that is known by its key alone says nothing of the fleet.
    assert!(verify(bare.clone(), "").is_trusted());
    assert!(verify(bare.clone(), "fleet = \"acme\"").is_trusted());
    assert!(!verify(bare, "require = [\"fleet\"]").is_trusted());
}

#[test]
fn a_key_that_was_not_valid_when_the_artifact_was_accepted_is_refused() {
    let name = CheckName::Key;
    plan_fails(|plan| plan.entry.not_before = Wall(ACCEPTED.0 + 1), name, "was not yet valid");
    plan_fails(|plan| plan.entry.not_after = ACCEPTED, name, "had expired");
    plan_fails(|plan| plan.entry.revoked = Some(ACCEPTED), name, "was revoked");
    plan_fails(|plan| plan.entry.revoked = Some(Wall(0)), name, "was revoked");
    plan_fails(|plan| plan.entry.key_use = KeyUse::Order, name, "certified for orders, not for artifacts");
    plan_fails(|plan| plan.entry.key_use = KeyUse::Acceptance, name, "not for artifacts");
    // What was accepted before a key expired or was revoked stays good.
    let mut plan = plan();
    plan.entry.revoked = Some(Wall(ACCEPTED.0 + 1));
    plan.entry.not_after = Wall(ACCEPTED.0 + 1);
    assert!(plan.make().verify("").is_trusted());
}

#[test]
fn an_artifact_that_the_coordinator_did_not_accept_like_this_is_refused() {
    let name = CheckName::Acceptance;
    plan_fails(
        |plan| plan.accept = |a| a.artifact = Digest::of(b"another"),
        name,
        "accepted no artifact with",
    );
    plan_fails(|plan| plan.accept = |a| a.provenance = Digest::of(b"x"), name, "with another provenance");
    plan_fails(|plan| plan.accept = |a| a.fence = Fence(8), name, "accepted it as acme/web/17/0/8");
    plan_fails(|plan| plan.accept = |a| a.task = "acme/web/18/0".parse().unwrap(), name, "acme/web/18/0/9");
    plan_fails(|plan| plan.accept = |a| a.fleet = FleetName::new("other").unwrap(), name, "of fleet other");
    plan_fails(|plan| plan.accept = |a| a.accepted = Wall(0), name, "not yet valid");
    plan_fails(|plan| plan.accept = |a| a.accepted = Wall(u64::MAX), name, "expired");
    plan_fails(|plan| plan.accepter_entry.key_use = KeyUse::Order, name, "not for acceptances");
    plan_fails(
        |plan| plan.accepter_entry.revoked = Some(Wall(u64::MAX)),
        name,
        "no time that it says counts",
    );
    plan_fails(|plan| plan.accepter = key(9, Algorithm::EcdsaP256), name, "not in the fleet's keyring");
    // An agent must not date its own results.
    plan_fails(|plan| plan.accepter = key(2, plan.signer.public().algorithm()), name, "not for acceptances");
    let drop = |dist: &mut Dist| {
        let mut file = KeyringFile::parse(dist.keyring.as_ref().unwrap()).unwrap();
        file.acceptances.clear();
        dist.keyring = Some(file.to_json());
    };
    dist_fails(drop, name, "accepted no artifact with");
}

#[test]
fn a_provenance_that_no_key_of_the_keyring_signed_is_refused() {
    let name = CheckName::Provenance;
    dist_fails(|dist| dist.provenance = None, name, "there is no web_1.2.3_linux_amd64.intoto.sigstore.json");
    dist_fails(
        |dist| dist.provenance = dist.message_bundle.clone(),
        name,
        "not a sigstore bundle with one DSSE",
    );
    let stranger = Plan { signer: key(9, Algorithm::EcdsaP256), ..plan() }.make();
    dist_fails(|dist| dist.provenance = stranger.provenance.clone(), name, "not in the fleet's keyring");
    // The coordinator's key is in the keyring, but it signs no artifacts.
    let mut by_coordinator = plan();
    by_coordinator.signer = key(3, Algorithm::EcdsaP256);
    by_coordinator.entry =
        entry(&key(2, Algorithm::EcdsaP256), KeyUse::Artifact, "spiffe://acme/agent/eu/a1");
    let report = by_coordinator.make().verify("");
    assert_eq!(failed(&report), [CheckName::Key, CheckName::Builder], "{report:#?}");
}

#[test]
fn a_bundle_with_two_signatures_is_refused() {
    let twice = |dist: &mut Dist| {
        let text = String::from_utf8(dist.provenance.clone().unwrap()).unwrap();
        let start = text.find("[{").unwrap() + 1;
        let end = text.rfind("}]").unwrap() + 1;
        let two = format!("{},{}", &text[..end], &text[start..]);
        assert!(serde_json::from_str::<serde_json::Value>(&two).is_ok());
        dist.provenance = Some(two.into_bytes());
    };
    dist_fails(twice, CheckName::Provenance, "one DSSE envelope of one signature");
    let twice = |dist: &mut Dist| {
        let text = String::from_utf8(dist.message_bundle.clone().unwrap()).unwrap();
        let two = text.replacen(r#""messageSignature":"#, r#""messageSignature":{},"messageSignature":"#, 1);
        dist.message_bundle = Some(two.into_bytes());
    };
    dist_fails(twice, CheckName::MessageBundle, "one message signature");
}

#[test]
fn a_provenance_of_another_artifact_is_refused() {
    // The signer and the coordinator both vouch for it; only the file is another one.
    let name = CheckName::Subject;
    plan_fails(|plan| plan.provenance.subject.digest = Digest::of(b"another"), name, "is about the digest");
    plan_fails(|plan| plan.provenance.subject.name = "other".to_owned(), name, "is about \"other\", not");
    // A genuine artifact under another genuine artifact's name.
    let dist = plan().make();
    let verifier = dist.verifier(Policy::default());
    let report = verifier.verify("web_1.2.4_linux_amd64", &Message::of(CONTENT), &dist.files());
    check(&report, &[name, CheckName::Sbom], "not \"web_1.2.4_linux_amd64\"");
}

#[test]
fn a_builder_that_does_not_hold_the_key_is_refused() {
    let change = |plan: &mut Plan| {
        plan.provenance.builder = Holder::new("spiffe://acme/agent/eu-central/a2").unwrap();
    };
    plan_fails(change, CheckName::Builder, "eu-central/a1 signed for spiffe://acme/agent/eu-central/a2");
}

#[test]
fn another_content_is_refused() {
    let mut dist = plan().make();
    dist.content = b"another artifact".to_vec();
    let expected = [CheckName::Acceptance, CheckName::Subject, CheckName::Signature, CheckName::Sbom];
    assert_eq!(failed(&dist.verify("")), expected);
}

#[test]
fn a_signature_that_is_not_this_key_s_over_this_file_is_refused() {
    let name = CheckName::Signature;
    dist_fails(|dist| dist.signature = None, name, "there is no web_1.2.3_linux_amd64.sig");
    for algorithm in ALGORITHMS {
        let mut dist = Plan::new(algorithm).make();
        for (signer, content) in [(key(9, algorithm), CONTENT), (key(2, algorithm), b"another")] {
            let signature = signer.sign(&Message::of(content)).unwrap();
            dist.signature = Some(signature_text(&signature).into_bytes());
            check(&dist.verify(""), &[name], "not a signature of key");
        }
    }
    dist_fails(|dist| dist.signature = Some(b"AAAA".to_vec()), name, "in its one form");
    // A line end more is an altered file.
    dist_fails(|dist| dist.signature.as_mut().unwrap().push(b'\n'), name, "in its one form");
}

#[test]
fn a_public_key_or_a_bundle_that_does_not_fit_the_signature_is_refused() {
    let other = key(9, Algorithm::EcdsaP256);
    let pem = other.public().to_pem().into_bytes();
    dist_fails(|dist| dist.public_key = Some(pem.clone()), CheckName::PublicKey, "lies beside it");
    dist_fails(|dist| dist.public_key = Some(b"\xff".to_vec()), CheckName::PublicKey, "utf-8");
    for algorithm in ALGORITHMS {
        let (signer, message) = (key(2, algorithm), Message::of(CONTENT));
        let signature = signer.sign(&message).unwrap();
        let digest = message.digest();
        let another = signer.sign(&Message::of(b"x")).unwrap();
        for (bundle, part) in [
            (MessageBundle::new(other.public(), digest, &signature), "another key"),
            (MessageBundle::new(signer.public(), Digest::of(b"x"), &signature), "another digest"),
            (MessageBundle::new(signer.public(), digest, &another), "another signature"),
        ] {
            let mut dist = Plan::new(algorithm).make();
            dist.message_bundle = Some(bundle.to_json());
            check(&dist.verify(""), &[CheckName::MessageBundle], part);
        }
    }
}

#[test]
fn a_local_fleet_s_signature_says_dev_and_fails_a_production_policy() {
    let mut plan = plan();
    plan.entry.grade = Grade::Dev;
    let dist = plan.make();
    let report = dist.verify("");
    assert!(report.is_trusted());
    assert_eq!(report.key.unwrap().grade, Grade::Dev);
    assert!(dist.verify("grade = \"dev\"").is_trusted());
    check(&dist.verify("grade = \"production\""), &[CheckName::Grade], "a dev key");
}

#[test]
fn a_policy_allows_what_it_names_and_nothing_else() {
    let dist = plan().make();
    for (policy, name, part) in [
        (
            r#"builders = ["spiffe://acme/agent/us-east/*"]"#,
            CheckName::AllowedBuilder,
            "eu-central/a1 is not",
        ),
        (r#"sources = ["https://git.example.org/other/*"]"#, CheckName::AllowedSource, "acme/web is not"),
        (
            r#"requesters = ["spiffe://acme/team/other/*"]"#,
            CheckName::AllowedRequester,
            "requester spiffe://acme/team/web/member/ci is not",
        ),
        (r#"projects = ["acme/shop", "other/*"]"#, CheckName::AllowedProject, "project acme/web is not"),
    ] {
        check(&dist.verify(policy), &[name], part);
    }
    // A statement of before requesters were kept names nobody, and nobody is not allowed.
    let mut early = plan();
    early.provenance.internal.requester = None;
    let asked = r#"requesters = ["spiffe://acme/team/web/*"]"#;
    check(&early.make().verify(asked), &[CheckName::AllowedRequester], "does not say who asked");
    // A rule that cannot be judged is not met.
    let mut dist = plan().make();
    dist.provenance = None;
    let expected = [CheckName::Provenance, CheckName::AllowedProject];
    assert_eq!(failed(&dist.verify("projects = [\"acme/*\"]")), expected);
}

#[test]
fn a_dist_without_anything_is_refused_and_says_so() {
    let verifier = Verifier::new(pinned(), None, Policy::default(), NOW);
    let report = verifier.verify(NAME, &Message::of(CONTENT), &Files::default());
    let expected = [CheckName::Keyring, CheckName::Provenance, CheckName::Signature];
    check(&report, &expected, "there is no keyring.json");
    assert!(report.provenance.is_none() && report.key.is_none() && report.accepted.is_none());
}

#[test]
fn a_signed_statement_that_contradicts_itself_is_refused_though_the_key_signed_it() {
    let plan = plan();
    let statement = String::from_utf8(plan.provenance.to_statement().unwrap()).unwrap();
    let forged = statement.replacen("\"fence\":9", "\"fence\":8", 1).into_bytes();
    let envelope = crate::dsse::Envelope::sign(&plan.signer, crate::statement::PAYLOAD_TYPE, forged).unwrap();
    let mut dist = plan.make();
    dist.provenance = Some(EnvelopeBundle { envelope }.to_json());
    check(&dist.verify(""), &[CheckName::Provenance], "contradicts");
}
