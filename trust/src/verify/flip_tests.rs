//! No bit of any file can be flipped: every byte region of artifact, signature, key, bundle, provenance, bill of
//! materials, keyring and acceptance.

use super::{
    CheckName, Policy, Verifier,
    dist::{CONTENT, Dist, NAME, NOW, Plan, failed, pinned},
};
use crate::{keys::Algorithm, message::Message};

/// Flips bits of one file and expects the artifact to be refused each time. `bits` of each byte are flipped.
fn refuses(algorithm: Algorithm, bits: &[usize], file: fn(&mut Dist) -> &mut Vec<u8>) {
    let mut dist = Plan::new(algorithm).make();
    let genuine = dist.verifier(Policy::default());
    let keyring = dist.keyring.clone();
    let len = file(&mut dist).len();
    for at in 0..len {
        for bit in bits.iter().map(|bit| (bit + at) % 8) {
            file(&mut dist)[at] ^= 1 << bit;
            // Opening the keyring costs more than all else; it is opened again only when it was changed.
            let changed = (dist.keyring != keyring)
                .then(|| Verifier::new(pinned(), dist.keyring.as_deref(), Policy::default(), NOW));
            let verifier = changed.as_ref().unwrap_or(&genuine);
            let report = verifier.verify(NAME, &Message::of(&dist.content), &dist.files());
            assert!(!report.is_trusted(), "{algorithm}: byte {at}, bit {bit}: {report:#?}");
            file(&mut dist)[at] ^= 1 << bit;
        }
    }
    assert!(dist.verify("").is_trusted());
    assert_eq!(dist.content, CONTENT);
}

const EVERY_BIT: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

fn for_both(bits: &[usize], file: fn(&mut Dist) -> &mut Vec<u8>) {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        refuses(algorithm, bits, file);
    }
}

#[test]
fn no_flipped_bit_of_the_artifact_is_accepted() {
    for_both(EVERY_BIT, |dist| &mut dist.content);
}

#[test]
fn no_flipped_bit_of_the_signature_is_accepted() {
    for_both(EVERY_BIT, |dist| dist.signature.as_mut().unwrap());
}

#[test]
fn no_flipped_bit_of_the_public_key_is_accepted() {
    for_both(EVERY_BIT, |dist| dist.public_key.as_mut().unwrap());
}

#[test]
fn no_flipped_bit_of_the_message_bundle_is_accepted() {
    refuses(Algorithm::EcdsaP256, EVERY_BIT, |dist| dist.message_bundle.as_mut().unwrap());
    refuses(Algorithm::Ed25519, &[0, 5], |dist| dist.message_bundle.as_mut().unwrap());
}

// The longer files are taken with some bits of every byte, which ones depends on where. That no bit at all of
// a keyring, an acceptance or an envelope can be flipped is shown where they are read.

#[test]
fn no_flipped_byte_of_the_keyring_and_its_acceptances_is_accepted() {
    refuses(Algorithm::EcdsaP256, &[0, 5], |dist| dist.keyring.as_mut().unwrap());
    refuses(Algorithm::Ed25519, &[0], |dist| dist.keyring.as_mut().unwrap());
}

#[test]
fn no_flipped_byte_of_the_provenance_is_accepted() {
    for_both(&[0, 5], |dist| dist.provenance.as_mut().unwrap());
}

#[test]
fn no_flipped_byte_of_the_bill_of_materials_is_accepted_and_the_bill_is_named() {
    let mut dist = Plan::new(Algorithm::EcdsaP256).make();
    for at in 0..dist.sbom.as_ref().unwrap().len() {
        dist.sbom.as_mut().unwrap()[at] ^= 1 << (at % 8);
        assert_eq!(failed(&dist.verify("")), [CheckName::Sbom], "byte {at}");
        dist.sbom.as_mut().unwrap()[at] ^= 1 << (at % 8);
    }
    assert!(dist.verify("").is_trusted());
}
