//! Sigstore bundles, version 0.3: what stock verifiers take instead of a bare signature.
//!
//! Of the format's many forms two are written: a message signature and a DSSE envelope, both with the id of a
//! public key as hint and without entries of a transparency log, since a fleet's own root stands behind the
//! key. The specification is `sigstore_bundle.proto` of Sigstore's protobuf-specs, in its JSON mapping. Only
//! these two forms are read: a bundle with a certificate, a log entry or a second signature is somebody
//! else's.
//!
//! The key's id is the bundle's hint and nothing else. A `keyid` inside the DSSE envelope would be a second place for
//! it, and cosign's library skips a signature whose `keyid` is not of its own making (an SSH fingerprint), so the
//! field is left out, as cosign itself does. The first releases wrote it; their bundles are still read.

use meridian_core::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    document::{self, DocumentError, as_base64, as_text},
    dsse::{ENVELOPE_LEN_MAX, Envelope},
    keys::{KeyId, Signature, VerifyingKey},
};

/// The media type of both forms.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// An envelope, and the few hundred bytes around it.
const BUNDLE_LEN_MAX: usize = ENVELOPE_LEN_MAX + 4096;
const DIGEST_ALGORITHM: &str = "SHA2_256";

/// A signature over a file: `X.sigstore.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBundle {
    /// The key that it says it was made with.
    pub key_id: KeyId,
    /// The SHA-256 of the file that it says it is about.
    pub digest: Digest,
    /// The raw signature, not verified.
    pub signature: Vec<u8>,
}

/// A signed statement about a file: `X.intoto.sigstore.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeBundle {
    /// The statement's envelope; its key id is the bundle's hint.
    pub envelope: Envelope,
}

/// Why bytes are not a bundle of the wanted form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle of this form.
    #[error("not a sigstore bundle with {wanted}, a key hint and no log entries: {found}")]
    Document {
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong with it.
        found: DocumentError,
    },
    /// Another version or another document.
    #[error("media type {0:?} is not {MEDIA_TYPE}")]
    MediaType(String),
    /// The hint and the envelope name different keys.
    #[error("the bundle's hint is key {hint}, but its envelope names key {envelope}")]
    Hint {
        /// The bundle's.
        hint: KeyId,
        /// The envelope's.
        envelope: KeyId,
    },
    /// A digest of another kind.
    #[error("the message digest is {0:?}, expected {DIGEST_ALGORITHM}")]
    DigestAlgorithm(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MessageWire {
    media_type: String,
    verification_material: Material,
    message_signature: MessageSignature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvelopeWire {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Bundled,
}

/// An envelope inside a bundle: one signature, and in the first releases' form the id of its key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundled {
    #[serde(with = "as_base64")]
    payload: Vec<u8>,
    payload_type: String,
    signatures: [BundledSignature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundledSignature {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<KeyIdText>,
    #[serde(with = "as_base64")]
    sig: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct KeyIdText(#[serde(with = "as_text")] KeyId);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: PublicKey,
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKey {
    /// The key id's 32 bytes in base64.
    #[serde(with = "as_base64")]
    hint: [u8; Digest::LEN],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    #[serde(with = "as_base64")]
    signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageDigest {
    algorithm: String,
    #[serde(with = "as_base64")]
    digest: [u8; Digest::LEN],
}

impl Material {
    fn of(key: KeyId) -> Self {
        Self { public_key: PublicKey { hint: *key.digest().as_bytes() }, tlog_entries: [] }
    }

    fn key_id(&self) -> KeyId {
        KeyId::new(Digest::from_bytes(self.public_key.hint))
    }
}

impl MessageBundle {
    /// A bundle around the signature that `key` made over a file.
    #[must_use]
    pub fn new(key: &VerifyingKey, digest: Digest, signature: &Signature) -> Self {
        Self { key_id: key.id(), digest, signature: signature.to_bytes() }
    }

    /// Reads a bundle; nothing in it is verified yet.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`MessageBundle::to_json`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let wire: MessageWire = document::parse(bytes, BUNDLE_LEN_MAX)
            .map_err(|found| BundleError::Document { wanted: "one message signature", found })?;
        check_media_type(&wire.media_type)?;
        let MessageSignature { message_digest: MessageDigest { algorithm, digest }, signature } =
            wire.message_signature;
        if algorithm != DIGEST_ALGORITHM {
            return Err(BundleError::DigestAlgorithm(algorithm.chars().take(40).collect()));
        }
        let key_id = wire.verification_material.key_id();
        Ok(Self { key_id, digest: Digest::from_bytes(digest), signature })
    }

    /// The bundle as JSON, without white space.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        document::write(&MessageWire {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Material::of(self.key_id),
            message_signature: MessageSignature {
                message_digest: MessageDigest {
                    algorithm: DIGEST_ALGORITHM.to_owned(),
                    digest: *self.digest.as_bytes(),
                },
                signature: self.signature.clone(),
            },
        })
    }
}

impl EnvelopeBundle {
    /// Reads a bundle; nothing in it is verified yet.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`EnvelopeBundle::to_json`] gives, or gave in the first releases.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let wire: EnvelopeWire = document::parse(bytes, BUNDLE_LEN_MAX)
            .map_err(|found| BundleError::Document { wanted: "one DSSE envelope of one signature", found })?;
        check_media_type(&wire.media_type)?;
        let key_id = wire.verification_material.key_id();
        let Bundled { payload, payload_type, signatures: [BundledSignature { keyid, sig }] } =
            wire.dsse_envelope;
        if let Some(KeyIdText(envelope)) = keyid.filter(|KeyIdText(envelope)| *envelope != key_id) {
            return Err(BundleError::Hint { hint: key_id, envelope });
        }
        Ok(Self { envelope: Envelope::of_parts(payload, payload_type, key_id, sig) })
    }

    /// The bundle as JSON, without white space.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (payload, payload_type, sig) = self.envelope.parts();
        document::write(&EnvelopeWire {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Material::of(self.envelope.key_id()),
            dsse_envelope: Bundled {
                payload: payload.to_vec(),
                payload_type: payload_type.to_owned(),
                signatures: [BundledSignature { keyid: None, sig: sig.to_vec() }],
            },
        })
    }
}

fn check_media_type(media_type: &str) -> Result<(), BundleError> {
    if media_type == MEDIA_TYPE {
        return Ok(());
    }
    Err(BundleError::MediaType(media_type.chars().take(100).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Algorithm, Signer as _, SigningKey},
        message::Message,
    };

    fn key() -> SigningKey {
        SigningKey::from_seed(Algorithm::EcdsaP256, &[7; 32]).unwrap()
    }

    fn message_bundle() -> MessageBundle {
        let (key, message) = (key(), Message::of(b"an artifact"));
        MessageBundle::new(key.public(), message.digest(), &key.sign(&message).unwrap())
    }

    fn envelope_bundle() -> EnvelopeBundle {
        EnvelopeBundle { envelope: Envelope::sign(&key(), "text/plain", b"a statement".to_vec()).unwrap() }
    }

    #[test]
    fn both_forms_are_written_as_in_the_golden_files() {
        let golden = include_bytes!("../tests/golden/message.sigstore.json");
        assert_eq!(String::from_utf8_lossy(&message_bundle().to_json()), String::from_utf8_lossy(golden));
        let golden = include_bytes!("../tests/golden/envelope.sigstore.json");
        assert_eq!(String::from_utf8_lossy(&envelope_bundle().to_json()), String::from_utf8_lossy(golden));
    }

    #[test]
    fn a_bundle_survives_its_own_json() {
        let bundle = message_bundle();
        assert_eq!(MessageBundle::parse(&bundle.to_json()), Ok(bundle));
        let bundle = envelope_bundle();
        assert_eq!(EnvelopeBundle::parse(&bundle.to_json()), Ok(bundle));
    }

    #[test]
    fn a_bundle_of_the_first_releases_which_named_the_key_twice_is_read() {
        let golden = include_bytes!("../tests/golden/envelope-keyid.sigstore.json");
        assert_eq!(EnvelopeBundle::parse(golden), Ok(envelope_bundle()));
    }

    #[test]
    fn a_bundle_of_another_form_is_refused_with_the_reason() {
        let message = String::from_utf8(message_bundle().to_json()).unwrap();
        let envelope = String::from_utf8(envelope_bundle().to_json()).unwrap();
        let one = envelope.split_once("[{").and_then(|(_, rest)| rest.split_once("}]")).unwrap().0;
        for (bad, part) in [
            (message.replace("v0.3", "v0.2"), "media type"),
            (message.replace("SHA2_256", "SHA2_384"), "SHA2_384"),
            (message.replace("[]", r#"[{"logIndex":"1"}]"#), "one message signature"),
            (message.replace(r#""tlogEntries":[]"#, r#""tlogEntries":[null]"#), "one message signature"),
            (format!(" {message}"), "not written as"),
            (envelope.clone(), "one message signature"),
        ] {
            let error = MessageBundle::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
        let hint = envelope.split_once(r#""hint":""#).unwrap().1.split_once('"').unwrap().0;
        for (bad, part) in [
            (envelope.replace(&format!("{{{one}}}"), &format!("{{{one}}},{{{one}}}")), "one signature"),
            (envelope.replace(&format!("{{{one}}}"), ""), "one signature"),
            (envelope.replace(hint, &"A".repeat(43)), "one DSSE"),
            (envelope.replace(r#"{"sig""#, r#"{"keyid":"","sig""#), "one DSSE"),
            (envelope.replace(r#"{"sig""#, r#"{"keyid":null,"sig""#), "not written as"),
            (envelope.replace(r#"{"sig""#, &format!(r#"{{"keyid":"{}","sig""#, "0".repeat(64))), "hint"),
            (envelope.replace(r#"{"sig""#, r#"{"cert":"","sig""#), "unknown field"),
            (envelope.replace(hint, "AAAA"), "too few"),
            (message, "one DSSE envelope"),
        ] {
            let error = EnvelopeBundle::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
