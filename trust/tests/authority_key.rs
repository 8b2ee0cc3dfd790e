//! A fleet's root is the key of its certificate authority, which the TLS library makes: this crate must be
//! able to sign with it, and must read its public half as others do.

use meridian_trust::{
    keyring::Root,
    keys::{Algorithm, Signer as _, SigningKey, VerifyingKey},
    message::Message,
};
use rcgen::{KeyPair, PublicKeyData as _};

#[test]
fn the_key_of_a_certificate_authority_signs_as_a_fleet_s_root() {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = VerifyingKey::from_spki(&pair.subject_public_key_info()).unwrap();
    assert_eq!(public.algorithm(), Algorithm::EcdsaP256);
    let key = SigningKey::from_pkcs8_der(pair.serialized_der()).unwrap();
    assert_eq!(*key.public(), public);
    let signature = key.sign(&Message::of(b"a keyring")).unwrap();
    Root::new(public, None).unwrap().key().verify(&Message::of(b"a keyring"), &signature).unwrap();
}
