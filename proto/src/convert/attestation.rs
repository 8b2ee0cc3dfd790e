//! What an artifact's signer said.

use bytes::Bytes;
use meridian_core::{
    attestation::{Attestation, Document, SIGNATURE_LEN_MAX},
    keyring::KeyId,
    quantity::ByteCount,
};

use super::field::{ConvertError, digest, digest_bytes, list, message, messages};
use crate::v1;

impl From<&Attestation> for v1::Attestation {
    fn from(attestation: &Attestation) -> Self {
        Self {
            key: digest_bytes(&attestation.key.0),
            signature: Bytes::copy_from_slice(&attestation.signature),
            provenance: Some((&attestation.provenance).into()),
            sbom: Some((&attestation.sbom).into()),
        }
    }
}

impl TryFrom<v1::Attestation> for Attestation {
    type Error = ConvertError;

    fn try_from(wire: v1::Attestation) -> Result<Self, ConvertError> {
        if wire.signature.len() > SIGNATURE_LEN_MAX {
            return Err(ConvertError::new("signature", "is longer than any signature"));
        }
        Ok(Self {
            key: KeyId(digest(&wire.key, "key")?),
            signature: wire.signature.into(),
            provenance: message(wire.provenance, "provenance")?,
            sbom: message(wire.sbom, "sbom")?,
        })
    }
}

impl From<&Document> for v1::Document {
    fn from(document: &Document) -> Self {
        Self {
            digest: digest_bytes(&document.digest),
            size: document.size.0,
            receipts: messages(&document.receipts),
        }
    }
}

impl TryFrom<v1::Document> for Document {
    type Error = ConvertError;

    fn try_from(wire: v1::Document) -> Result<Self, ConvertError> {
        Ok(Self {
            digest: digest(&wire.digest, "digest")?,
            size: ByteCount(wire.size),
            receipts: list(wire.receipts, "receipts")?,
        })
    }
}
