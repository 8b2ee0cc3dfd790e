//! DSSE: a signature over a payload together with what the payload is.
//!
//! The format is the Dead Simple Signing Envelope, version 1. What is signed is the *pre-authentication
//! encoding* of type and payload, so a signed order can never pass as a keyring. The format allows many
//! signatures and optional key ids; here it is exactly one signature with the id of its key (a Sigstore bundle
//! says the id in its own place, see [`crate::bundle`]), and nobody gets at the payload as a fact but through
//! [`Envelope::open`], which verifies first.

use serde::{Deserialize, Serialize};

use crate::{
    document::{self, DocumentError, as_base64, as_text},
    keys::{KeyId, SignError, Signature, SignatureError, Signer, VerifyingKey},
    message::Message,
};

/// The longest envelope that is read, in bytes: far more than the provenance of a build with a thousand
/// modules.
pub const ENVELOPE_LEN_MAX: usize = 8 << 20;

/// A payload, what it is, and one signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    #[serde(with = "as_base64")]
    payload: Vec<u8>,
    payload_type: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    #[serde(with = "as_text")]
    keyid: KeyId,
    #[serde(with = "as_base64")]
    sig: Vec<u8>,
}

/// Why an envelope was not opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("not a DSSE envelope with one signature: {0}")]
    Document(#[from] DocumentError),
    /// An envelope around something else.
    #[error("the envelope holds {found:?}, expected {wanted:?}")]
    PayloadType {
        /// The type that was wanted.
        wanted: &'static str,
        /// The type that it says.
        found: String,
    },
    /// It names another key.
    #[error("the envelope names key {found}, not key {wanted}")]
    Key {
        /// The key that was expected.
        wanted: KeyId,
        /// The key that it names.
        found: KeyId,
    },
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// The pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload`, lengths in decimal bytes.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload.
    ///
    /// # Errors
    /// When the key's holder does not sign.
    pub fn sign(signer: &dyn Signer, payload_type: &str, payload: Vec<u8>) -> Result<Self, SignError> {
        let encoding = pre_authentication_encoding(payload_type, &payload);
        let signature = signer.sign(&Message::of(&encoding))?;
        let signature = EnvelopeSignature { keyid: signer.public().id(), sig: signature.to_bytes() };
        Ok(Self { payload, payload_type: payload_type.to_owned(), signatures: [signature] })
    }

    /// Reads an envelope; nothing in it is verified yet.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Envelope::to_json`] gives, such as with two signatures or none.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(document::parse(bytes, ENVELOPE_LEN_MAX)?)
    }

    /// The envelope as JSON, without white space.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        document::write(self)
    }

    /// The key that it says it was signed with. A claim, to look the key up by.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let [signature] = &self.signatures;
        signature.keyid
    }

    /// An envelope whose parts stand elsewhere; nothing in it is verified yet.
    pub(crate) fn of_parts(payload: Vec<u8>, payload_type: String, keyid: KeyId, sig: Vec<u8>) -> Self {
        Self { payload, payload_type, signatures: [EnvelopeSignature { keyid, sig }] }
    }

    /// Payload, type and raw signature, none of them verified.
    pub(crate) fn parts(&self) -> (&[u8], &str, &[u8]) {
        let [signature] = &self.signatures;
        (&self.payload, &self.payload_type, &signature.sig)
    }

    /// The payload as a mere claim: nothing says who made it. For whoever makes its checks one by one, the signature
    /// among them.
    #[must_use]
    pub fn claim(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, once it is certain that it is a `payload_type` and signed by `key`.
    ///
    /// # Errors
    /// When the type is another one, the envelope names another key, or the signature is not the key's.
    pub fn open(&self, key: &VerifyingKey, payload_type: &'static str) -> Result<&[u8], EnvelopeError> {
        let [EnvelopeSignature { keyid, sig }] = &self.signatures;
        if self.payload_type != payload_type {
            let found = self.payload_type.chars().take(100).collect();
            return Err(EnvelopeError::PayloadType { wanted: payload_type, found });
        }
        // The id is not covered by the signature, so it is compared instead: no part of a file is free to
        // change.
        if *keyid != key.id() {
            return Err(EnvelopeError::Key { wanted: key.id(), found: *keyid });
        }
        let signature = Signature::parse(key.algorithm(), sig)?;
        let encoding = pre_authentication_encoding(payload_type, &self.payload);
        key.verify(&Message::of(&encoding), &signature)?;
        Ok(&self.payload)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::keys::{Algorithm, SigningKey};

    const TYPE: &str = "http://example.com/HelloWorld";

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let encoding = pre_authentication_encoding(TYPE, b"hello world");
        assert_eq!(encoding, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pre_authentication_encoding("", b""), b"DSSEv1 0  0 ");
        // Lengths count bytes, not characters.
        assert_eq!(pre_authentication_encoding("ä", "ö".as_bytes()), "DSSEv1 2 ä 2 ö".as_bytes());
    }

    #[test]
    fn the_signature_of_the_specification_s_example_is_made_again() {
        // The private key and the signature (R and S, 32 bytes each) of the example in the protocol's text.
        const KEY: &str = "d73ec437fd6346e3619c5ebfdfff0f6916804955ad32ac9ac492b0ede1f6ffb7";
        const SIGNATURE: &str =
            "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==";
        let seed = *KEY.parse::<meridian_core::digest::Digest>().unwrap().as_bytes();
        let key = SigningKey::from_seed(Algorithm::EcdsaP256, &seed).unwrap();
        let pair = Signature::from_p256_pair(&STANDARD.decode(SIGNATURE).unwrap()).unwrap();
        let [signature] = envelope(&key).signatures;
        assert_eq!(signature.sig, pair.to_bytes());
        assert_eq!(signature.keyid, key.public().id());
    }

    fn envelope(key: &SigningKey) -> Envelope {
        Envelope::sign(key, TYPE, b"hello world".to_vec()).unwrap()
    }

    #[test]
    fn an_envelope_opens_for_its_key_and_its_type_only() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let [key, other] = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap());
            let envelope = Envelope::parse(&envelope(&key).to_json()).unwrap();
            assert_eq!(envelope.key_id(), key.public().id());
            assert_eq!(envelope.open(key.public(), TYPE).unwrap(), b"hello world");
            let verdict = envelope.open(other.public(), TYPE);
            assert!(matches!(verdict, Err(EnvelopeError::Key { .. })), "{verdict:?}");
            let verdict = envelope.open(key.public(), "text/plain");
            assert!(matches!(verdict, Err(EnvelopeError::PayloadType { .. })), "{verdict:?}");
            // The same bytes under another type are other signed bytes.
            let mut retyped = envelope;
            retyped.payload_type = "text/plain".to_owned();
            let verdict = retyped.open(key.public(), "text/plain");
            assert!(matches!(verdict, Err(EnvelopeError::Signature(_))), "{verdict:?}");
        }
    }

    #[test]
    fn an_envelope_has_exactly_one_signature() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let text = String::from_utf8(envelope(&key).to_json()).unwrap();
        let start = text.find("[{").unwrap() + 1;
        let one = &text[start..text.len() - 2];
        for signatures in [String::new(), format!("{one},{one}")] {
            let changed = text.replace(one, &signatures);
            let verdict = Envelope::parse(changed.as_bytes());
            assert!(matches!(verdict, Err(EnvelopeError::Document(DocumentError::Shape(_)))), "{verdict:?}");
        }
    }

    #[test]
    fn an_envelope_that_is_too_large_or_says_something_twice_is_refused() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let text = String::from_utf8(envelope(&key).to_json()).unwrap();
        let twice = text.replacen('{', r#"{"payload":"","#, 1);
        let unknown = text.replacen('{', r#"{"note":"","#, 1);
        for bad in [twice, unknown, format!("{text}\n"), "[]".to_owned(), String::new()] {
            assert!(Envelope::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let large = Envelope::sign(&key, TYPE, vec![0; ENVELOPE_LEN_MAX]).unwrap().to_json();
        let verdict = Envelope::parse(&large);
        assert!(matches!(verdict, Err(EnvelopeError::Document(DocumentError::TooLarge { .. }))));
    }

    #[test]
    fn no_flipped_bit_of_an_envelope_opens() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SigningKey::generate(algorithm).unwrap();
            let good = envelope(&key).to_json();
            for bit in 0..good.len() * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let opens = Envelope::parse(&bytes).is_ok_and(|e| e.open(key.public(), TYPE).is_ok());
                assert!(!opens, "bit {bit} of {}", String::from_utf8_lossy(&good));
            }
        }
    }
}
