//! Every cell of the matrix, with the expected outcome and its reason.

use std::fmt;

use meridian_trust::keys::Algorithm;

/// A verifier that Meridian did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verifier {
    /// cosign of the second series.
    CosignV2,
    /// cosign of the third series.
    CosignV3,
    /// OpenSSL's command.
    OpenSsl,
    /// The Rust library `sigstore-verify`.
    SigstoreVerify,
    /// The npm library `@sigstore/verify`.
    Npm,
    /// Go's own `crypto/ecdsa` and `crypto/ed25519`, and a few lines of JSON.
    Go,
}

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// `X.sig`, with `X.pub`.
    Raw,
    /// `X.sigstore.json`.
    Message,
    /// `X.intoto.sigstore.json`.
    Provenance,
}

/// What was done to a genuine set of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alteration {
    /// Nothing.
    Genuine,
    /// One bit of the artifact.
    ArtifactBit,
    /// A byte more at the artifact's end.
    ArtifactLonger,
    /// One bit of the signature, which keeps its form.
    SignatureBit,
    /// One bit of the digest in the bundle.
    DigestBit,
    /// One bit of the statement, which stays the JSON that it is.
    PayloadBit,
    /// One bit of the statement's type.
    PayloadType,
    /// Another public key of the same algorithm.
    WrongKey,
    /// A second signature in the bundle, good by another key; or a second kind of content.
    SecondSignature,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Who verifies.
    pub verifier: Verifier,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// What is verified.
    pub form: Form,
    /// What was altered.
    pub alteration: Alteration,
}

/// What should come of a cell, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is accepted.
    Accepts(&'static str),
    /// It is refused.
    Rejects(&'static str),
    /// It is refused although it is genuine, in these words: a verifier that is broken would refuse everything.
    RejectsSaying(&'static str, &'static str),
    /// The verifier does not do this.
    DoesNotApply(&'static str),
}

impl Verifier {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::CosignV2, Self::CosignV3, Self::OpenSsl, Self::SigstoreVerify, Self::Npm, Self::Go];
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CosignV2 => "cosign v2",
            Self::CosignV3 => "cosign v3",
            Self::OpenSsl => "openssl",
            Self::SigstoreVerify => "sigstore-verify",
            Self::Npm => "npm @sigstore/verify",
            Self::Go => "go crypto",
        })
    }
}

impl Form {
    /// All of them, with what can be altered in each.
    const ALL: [(Self, &'static [Alteration]); 3] = [
        (
            Self::Raw,
            &[
                Alteration::Genuine,
                Alteration::ArtifactBit,
                Alteration::ArtifactLonger,
                Alteration::SignatureBit,
                Alteration::WrongKey,
            ],
        ),
        (
            Self::Message,
            &[
                Alteration::Genuine,
                Alteration::ArtifactBit,
                Alteration::ArtifactLonger,
                Alteration::SignatureBit,
                Alteration::DigestBit,
                Alteration::WrongKey,
                Alteration::SecondSignature,
            ],
        ),
        (
            Self::Provenance,
            &[
                Alteration::Genuine,
                Alteration::ArtifactBit,
                Alteration::ArtifactLonger,
                Alteration::SignatureBit,
                Alteration::PayloadBit,
                Alteration::PayloadType,
                Alteration::WrongKey,
                Alteration::SecondSignature,
            ],
        ),
    ];
}

impl Alteration {
    /// Whether the artifact itself was altered.
    #[must_use]
    pub const fn is_of_artifact(self) -> bool {
        matches!(self, Self::ArtifactBit | Self::ArtifactLonger)
    }
}

/// All cells, those included that do not apply.
#[must_use]
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for verifier in Verifier::ALL {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            for (form, alterations) in Form::ALL {
                let cell =
                    |alteration: &Alteration| Cell { verifier, algorithm, form, alteration: *alteration };
                cells.extend(alterations.iter().map(cell));
            }
        }
    }
    cells
}

impl Cell {
    /// What should come of it.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let Self { verifier, algorithm, form, alteration } = *self;
        match (verifier, form) {
            (Verifier::OpenSsl, Form::Message | Form::Provenance) => {
                return Expected::DoesNotApply("openssl verifies bare signatures and reads no bundle");
            }
            (Verifier::SigstoreVerify | Verifier::Npm, Form::Raw) => {
                return Expected::DoesNotApply("the library verifies bundles and takes no bare signature");
            }
            (Verifier::Npm, Form::Provenance) if alteration.is_of_artifact() => {
                return Expected::DoesNotApply(
                    "the library verifies the envelope and leaves it to its caller to compare the subject",
                );
            }
            _ => {}
        }
        if let Some(exception) = exception(verifier, algorithm, form, alteration) {
            return exception;
        }
        match alteration {
            Alteration::Genuine => Expected::Accepts("it is as the signer left it"),
            Alteration::ArtifactBit | Alteration::ArtifactLonger => {
                Expected::Rejects("what was signed is another content")
            }
            Alteration::SignatureBit => Expected::Rejects("nobody made this signature"),
            Alteration::DigestBit => Expected::Rejects("the bundle says to be about another content"),
            Alteration::PayloadBit | Alteration::PayloadType => {
                Expected::Rejects("the signature covers the statement and its type")
            }
            Alteration::WrongKey => Expected::Rejects("another key signed it"),
            Alteration::SecondSignature => {
                Expected::Rejects("the format allows one signature, so that nobody picks the one that suits")
            }
        }
    }
}

/// Where a verifier differs from what one would think.
fn exception(
    verifier: Verifier,
    algorithm: Algorithm,
    form: Form,
    alteration: Alteration,
) -> Option<Expected> {
    use Alteration as A;
    Some(match (verifier, algorithm, form, alteration) {
        (Verifier::Npm, Algorithm::Ed25519, Form::Message, A::Genuine) => Expected::RejectsSaying(
            "the library hashes the artifact first, which pure Ed25519 does not; it takes the same key's provenance",
            "signature verification failed",
        ),
        (Verifier::CosignV2, _, Form::Message, A::DigestBit)
        | (Verifier::Npm, Algorithm::EcdsaP256, Form::Message, A::DigestBit) => Expected::Accepts(
            "it takes the digest in the bundle for a hint and hashes the artifact itself, which is the one that was signed",
        ),
        (Verifier::SigstoreVerify, _, Form::Message, A::SecondSignature)
        | (Verifier::Npm, Algorithm::EcdsaP256, Form::Message, A::SecondSignature) => Expected::Accepts(
            "its reader takes the first kind of content that it finds; that one is good, and about this artifact",
        ),
        _ => return None,
    })
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {} / {:?} / {:?}", self.verifier, self.algorithm, self.form, self.alteration)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cell_is_there_once_and_enough_of_them_apply() {
        let cells = all();
        assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), cells.len());
        let applies = |cell: &&Cell| !matches!(cell.expected(), Expected::DoesNotApply(_));
        assert!(cells.iter().filter(applies).count() >= 40);
    }

    #[test]
    fn each_verifier_takes_a_genuine_provenance_or_a_bare_signature_of_both_algorithms() {
        for verifier in Verifier::ALL {
            for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
                let accepts = |form| {
                    let cell = Cell { verifier, algorithm, form, alteration: Alteration::Genuine };
                    matches!(cell.expected(), Expected::Accepts(_))
                };
                assert!(accepts(Form::Provenance) || accepts(Form::Raw), "{verifier} {algorithm}");
            }
        }
    }
}
