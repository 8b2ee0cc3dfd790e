//! Tests of keys and raw signatures; forgeries against whole files are in the crate's `tests/`.

use proptest::prelude::*;

use super::*;
use crate::{
    keys::{KeyId, SignatureError, signature::Raw},
    message::tests::Shifting,
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

/// RFC 6979, A.2.5: the private key of P-256.
const RFC6979_KEY: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
/// RFC 8032, 7.1, TEST 3: the seed.
const RFC8032_SEED: &str = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key(algorithm: Algorithm, seed: &str) -> SigningKey {
    SigningKey::from_seed(algorithm, &hex(seed).try_into().unwrap()).unwrap()
}

fn fixed(algorithm: Algorithm) -> SigningKey {
    key(algorithm, RFC6979_KEY)
}

#[test]
fn ecdsa_is_deterministic_as_rfc_6979_has_it_with_the_lower_s() {
    let signature = key(Algorithm::EcdsaP256, RFC6979_KEY).sign(&Message::of(b"sample")).unwrap();
    // A.2.5, SHA-256, "sample"; its S lies in the upper half, so the other one stands here: n − S.
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let s = hex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
    let mut lower = vec![0; 32];
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        lower[at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let r = hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716");
    let pair = Signature::from_p256_pair(&[r.clone(), lower].concat()).unwrap();
    assert_eq!(signature, pair);
    // A token may give the upper one: it is brought down.
    assert_eq!(Signature::from_p256_pair(&[r, s].concat()).unwrap(), signature);
}

#[test]
fn ed25519_signs_as_rfc_8032_has_it() {
    let key = key(Algorithm::Ed25519, RFC8032_SEED);
    let point = hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
    assert_eq!(*key.public(), VerifyingKey::from_ed25519_bytes(&point).unwrap());
    let signature = key.sign(&Message::of(&hex("af82"))).unwrap();
    let expected = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                    18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
    assert_eq!(signature.to_bytes(), hex(expected));
}

#[test]
fn a_key_survives_each_of_its_forms() {
    for algorithm in ALGORITHMS {
        let key = SigningKey::generate(algorithm).unwrap();
        let public = key.public();
        assert_eq!(VerifyingKey::from_spki(&public.to_spki()).unwrap(), *public);
        assert_eq!(VerifyingKey::from_pem(&public.to_pem()).unwrap(), *public);
        assert_eq!(public.id().to_string().parse::<KeyId>().unwrap(), public.id());
        assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
        let der = SigningKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
        let pem = SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        assert_eq!((der.public(), pem.public()), (public, public));
    }
}

#[test]
fn two_keys_that_are_made_are_never_the_same() {
    for algorithm in ALGORITHMS {
        let ids = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap().public().id());
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn a_debug_form_shows_no_secret() {
    for algorithm in ALGORITHMS {
        let key = fixed(algorithm);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("SigningKey(of VerifyingKey({algorithm} {}))", key.public().id()));
        assert!(!shown.contains("c9afa9"), "{shown}");
    }
}

#[test]
fn a_public_key_has_one_spelling() {
    let p256 = fixed(Algorithm::EcdsaP256).public().to_spki();
    let ed25519 = fixed(Algorithm::Ed25519).public().to_spki();
    for der in [&p256, &ed25519] {
        for len in 0..der.len() {
            assert!(VerifyingKey::from_spki(&der[..len]).is_err(), "{len} bytes");
        }
        assert!(VerifyingKey::from_spki(&[&der[..], &[0]].concat()).is_err());
    }
    // A compressed point, written with correct lengths.
    let mut compressed = p256[..26].to_vec();
    compressed[1] = 0x39;
    compressed[24] = 0x22;
    compressed.push(2 | p256[90] & 1);
    compressed.extend_from_slice(&p256[27..59]);
    assert!(matches!(VerifyingKey::from_spki(&compressed), Err(KeyError::Encoding { .. })));
    // Off the curve.
    let mut off = p256.clone();
    off[90] ^= 1;
    assert_eq!(VerifyingKey::from_spki(&off), Err(KeyError::Point(Algorithm::EcdsaP256)));
    // y = p is a second spelling of y = 0; y = 1 is the neutral element, which any signature fits.
    let mut y = [0xff; 32];
    (y[0], y[31]) = (0xed, 0x7f);
    for bytes in [y, {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        assert_eq!(VerifyingKey::from_ed25519_bytes(&bytes), Err(KeyError::Point(Algorithm::Ed25519)));
    }
    // The object identifier of secp256k1's length, and P-384's, differ from the header.
    let mut other_curve = p256;
    other_curve[22] = 0x08;
    assert!(matches!(VerifyingKey::from_spki(&other_curve), Err(KeyError::Encoding { len: 91 })));
}

#[test]
fn a_pem_block_has_one_spelling_but_for_its_line_ends() {
    let pem = fixed(Algorithm::EcdsaP256).public().to_pem();
    assert!(VerifyingKey::from_pem(&pem.replace('\n', "\r\n")).is_ok());
    assert!(VerifyingKey::from_pem(pem.trim_end()).is_ok());
    for bad in [
        String::new(),
        format!("note\n{pem}"),
        format!("{pem}{pem}"),
        pem.replace("PUBLIC", "PRIVATE"),
        pem.replacen('\n', "\n\n", 1),
        pem.replacen("MFkw", "MFk\nw", 1),
        pem.replacen("MFkw", " MFkw", 1),
        "-----BEGIN PUBLIC KEY-----".to_owned(),
        "a".repeat(1 << 20),
    ] {
        assert_eq!(VerifyingKey::from_pem(&bad), Err(KeyError::Pem), "{bad:.200}");
    }
}

#[test]
fn what_is_no_private_key_is_refused() {
    let key = fixed(Algorithm::Ed25519);
    let der = key.to_pkcs8_der().unwrap();
    assert!(SigningKey::from_pkcs8_der(&[&der[..], &[0]].concat()).is_err());
    assert!(SigningKey::from_pkcs8_der(&der[..der.len() - 1]).is_err());
    let mut version_2 = der.clone();
    version_2[4] = 1;
    assert!(SigningKey::from_pkcs8_der(&version_2).is_err());
    let pem = key.to_pkcs8_pem().unwrap();
    for bad in [pem.replace("PRIVATE", "EC PRIVATE"), pem.replace("PRIVATE", "PUBLIC"), String::new()] {
        assert!(SigningKey::from_pkcs8_pem(&bad).is_err());
    }
    // P-256 carries its public key too: another one's is refused.
    let mut der = fixed(Algorithm::EcdsaP256).to_pkcs8_der().unwrap();
    let other = key_of_one().public().to_spki();
    let len = der.len();
    der[len - 65..].copy_from_slice(&other[26..]);
    assert!(SigningKey::from_pkcs8_der(&der).is_err());
}

fn key_of_one() -> SigningKey {
    let mut seed = [0; 32];
    seed[31] = 1;
    SigningKey::from_seed(Algorithm::EcdsaP256, &seed).unwrap()
}

#[test]
fn the_upper_s_and_loose_der_are_refused() {
    let key = fixed(Algorithm::EcdsaP256);
    let good = key.sign(&Message::of(b"x")).unwrap();
    let Raw::EcdsaP256(pair) = good.raw() else { panic!("an ECDSA signature") };
    let upper = p256::ecdsa::Signature::from_scalars(*pair.r(), -*pair.s()).unwrap();
    // Stock verifiers take it ...
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
    let stock = p256::ecdsa::VerifyingKey::from_sec1_bytes(&key.public().to_spki()[26..]).unwrap();
    stock.verify_prehash(Message::of(b"x").digest().as_bytes(), &upper).unwrap();
    // ... and here it is an altered file.
    let parse = |bytes: &[u8]| Signature::parse(Algorithm::EcdsaP256, bytes);
    assert!(matches!(parse(upper.to_der().as_bytes()), Err(SignatureError::Encoding(_))));
    assert_eq!(Signature::from_p256_der(upper.to_der().as_bytes()).unwrap(), good);

    let der = good.to_bytes();
    assert_eq!(parse(&der).unwrap(), good);
    let padded = [&[der[0], der[1] + 1, der[2], der[3] + 1, 0], &der[4..]].concat();
    let long_form = [&[der[0], 0x81, der[1]], &der[2..]].concat();
    for bad in [padded, long_form, [&der[..], &[0]].concat(), der[..der.len() - 1].to_vec(), Vec::new()] {
        assert!(parse(&bad).is_err(), "{bad:02x?}");
    }
}

#[test]
fn an_ed25519_signature_in_a_second_spelling_is_refused() {
    let key = fixed(Algorithm::Ed25519);
    let verify = |bytes: &[u8]| {
        let signature = Signature::parse(Algorithm::Ed25519, bytes)?;
        key.public().verify(&Message::of(b"x"), &signature)
    };
    let good = key.sign(&Message::of(b"x")).unwrap().to_bytes();
    verify(&good).unwrap();
    // S + L means the same scalar.
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0u16;
    let mut second = good.clone();
    for (byte, add) in second[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = (carry & 0xff) as u8;
        carry >>= 8;
    }
    assert!(verify(&second).is_err());
}

#[test]
fn an_ed25519_signature_of_small_order_is_refused_though_the_equation_holds() {
    // R is the neutral element and S = SHA-512(R, A, "x") · a: only the key's owner can make it, and then
    // with one that holds for more than he seems to have signed.
    let key = key(Algorithm::Ed25519, RFC8032_SEED);
    let s = hex("557219311165c3b9c2c8ee0a2eb7e0e3373815be32d1a426946a5bc1e3a6c009");
    let mut bytes = vec![0; 32];
    bytes[0] = 1;
    bytes.extend(s);
    let stock = ed25519_dalek::VerifyingKey::try_from(&key.public().to_spki()[12..]).unwrap();
    let loose = ed25519_dalek::Signature::from_slice(&bytes).unwrap();
    ed25519_dalek::Verifier::verify(&stock, b"x", &loose).unwrap();
    assert!(stock.verify_strict(b"x", &loose).is_err());
    let signature = Signature::parse(Algorithm::Ed25519, &bytes).unwrap();
    let verdict = key.public().verify(&Message::of(b"x"), &signature);
    assert!(matches!(verdict, Err(SignatureError::Mismatch(_))), "{verdict:?}");
}

#[test]
fn a_file_that_changes_while_ed25519_signs_it_is_never_signed() {
    // Two passes over different bytes with one nonce would give the private key away.
    let key = fixed(Algorithm::Ed25519);
    for passes in [[&b"one"[..], b"two", b"one"], [b"one", b"one", b"two"]] {
        let content = Shifting::new(&passes);
        let message = Message::hash(&content).unwrap();
        let signed = key.sign(&message);
        assert!(matches!(signed, Err(SignError::Read(ReadError::Changed { .. }))), "{signed:?}");
    }
}

#[test]
fn a_key_refuses_a_signature_of_the_other_algorithm() {
    let [p256, ed25519] = ALGORITHMS.map(fixed);
    for (signer, key) in [(&p256, &ed25519), (&ed25519, &p256)] {
        let signature = signer.sign(&Message::of(b"x")).unwrap();
        let verdict = key.public().verify(&Message::of(b"x"), &signature);
        assert!(matches!(verdict, Err(SignatureError::Algorithm { .. })), "{verdict:?}");
    }
}

#[test]
fn no_flipped_bit_of_a_signature_verifies() {
    for algorithm in ALGORITHMS {
        let key = fixed(algorithm);
        let message = Message::of(b"an artifact");
        let good = key.sign(&message).unwrap().to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = Signature::parse(algorithm, &bytes)
                .and_then(|signature| key.public().verify(&message, &signature));
            assert!(verdict.is_err(), "{algorithm}, bit {bit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_a_key_signs_it_verifies_and_nothing_else(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        for algorithm in ALGORITHMS {
            let key = fixed(algorithm);
            let content = Shifting::new(&[&bytes]);
            let signature = key.sign(&Message::hash(&content).unwrap()).unwrap();
            // In memory and elsewhere give the same.
            prop_assert_eq!(signature, key.sign(&Message::of(&bytes)).unwrap());
            prop_assert_eq!(Signature::parse(algorithm, &signature.to_bytes()).unwrap(), signature);
            prop_assert!(key.public().verify(&Message::of(&bytes), &signature).is_ok());
            let mut other = bytes.clone();
            if other.is_empty() { other.push(0) } else { let at = at.index(other.len()); other[at] ^= 1 << bit; }
            prop_assert!(key.public().verify(&Message::of(&other), &signature).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}") {
        let _ = VerifyingKey::from_spki(&bytes);
        let _ = VerifyingKey::from_pem(&text);
        let _ = SigningKey::from_pkcs8_der(&bytes);
        let _ = SigningKey::from_pkcs8_pem(&text);
        for algorithm in ALGORITHMS {
            let _ = Signature::parse(algorithm, &bytes);
        }
    }
}
