//! The files that stand beside an artifact `X` in `dist/`: what they are called, and the two that are not
//! JSON.
//!
//! `X.sig` is base64 without a line end, as cosign writes it: DER of an ECDSA signature, or the 64 bytes of
//! an Ed25519 one. `X.pub` is the PEM of the key that signed. A stock tool is told to trust that key;
//! `meridian verify` never is: there it only has to be the key that the fleet's root vouches for.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::keys::{Algorithm, Signature, SignatureError};

/// A file beside an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sidecar {
    /// `X.sig`: the raw signature over the artifact, in base64.
    Signature,
    /// `X.pub`: the public key that signed it, in PEM.
    PublicKey,
    /// `X.sigstore.json`: the same signature as a Sigstore bundle.
    MessageBundle,
    /// `X.intoto.sigstore.json`: the provenance as a Sigstore bundle.
    Provenance,
    /// `X.sbom.cdx.json`: the bill of materials.
    Sbom,
}

/// The file of a `dist/` that holds the fleet's keyring and the coordinator's acceptances.
pub const KEYRING_FILE: &str = "keyring.json";

impl Sidecar {
    /// All of them, in the order in which `dist/` lists them.
    pub const ALL: [Self; 5] =
        [Self::Signature, Self::PublicKey, Self::MessageBundle, Self::Provenance, Self::Sbom];

    /// What follows the artifact's name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Signature => ".sig",
            Self::PublicKey => ".pub",
            Self::MessageBundle => ".sigstore.json",
            Self::Provenance => ".intoto.sigstore.json",
            Self::Sbom => ".sbom.cdx.json",
        }
    }

    /// The file's name.
    #[must_use]
    pub fn file_name(self, artifact: &str) -> String {
        format!("{artifact}{}", self.suffix())
    }
}

/// The content of `X.sig`.
#[must_use]
pub fn signature_text(signature: &Signature) -> String {
    STANDARD.encode(signature.to_bytes())
}

/// Reads `X.sig`.
///
/// # Errors
/// When the bytes are not exactly what [`signature_text`] gives for a signature of this algorithm.
pub fn parse_signature_text(algorithm: Algorithm, bytes: &[u8]) -> Result<Signature, SignatureError> {
    let raw = STANDARD.decode(bytes).map_err(|_| SignatureError::Encoding(algorithm))?;
    Signature::parse(algorithm, &raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Signer as _, SigningKey},
        message::Message,
    };

    #[test]
    fn a_signature_survives_its_own_text_and_no_other() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SigningKey::generate(algorithm).unwrap();
            let signature = key.sign(&Message::of(b"an artifact")).unwrap();
            let text = signature_text(&signature);
            assert_eq!(parse_signature_text(algorithm, text.as_bytes()).unwrap(), signature);
            for bad in [format!("{text}\n"), format!(" {text}"), text[1..].to_owned(), String::new()] {
                assert!(parse_signature_text(algorithm, bad.as_bytes()).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn files_are_named_after_their_artifact() {
        let names = Sidecar::ALL.map(|sidecar| sidecar.file_name("fzf_1.0_linux_amd64"));
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.contains(&"fzf_1.0_linux_amd64.intoto.sigstore.json".to_owned()));
    }
}
