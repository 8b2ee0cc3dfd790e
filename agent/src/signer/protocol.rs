//! What the agent and its signer say to each other.

use meridian_core::{digest::Digest, golang::h1::H1};
use meridian_trust::statement::{Sandbox, ToolchainUsed};
use serde::{Deserialize, Serialize};

use super::{key_source::KeySetup, user::RunAs};

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Says whom the signer belongs to and how it is set up. First, and once.
    Begin(Box<Begin>),
    /// Sign this: the file comes with the message.
    Sign(Box<SignAsk>),
}

/// The first word to a signer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    /// Whom it belongs to.
    pub(super) owner: Owner,
    /// As whom it runs from then on; as the agent's own user when nobody is named.
    pub(super) run_as: Option<RunAs>,
    /// How it signs: `ecdsa-p256` or `ed25519`.
    pub(super) algorithm: String,
    /// Where its key is.
    pub(super) key: KeySetup,
}

/// Whom a signer belongs to. It keeps that, and takes only the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The fleet's root: SPKI, DER, base64.
    pub(super) root: String,
    /// The fleet.
    pub(super) fleet: String,
    /// The agent: REGION/NAME.
    pub(super) agent: String,
}

/// What is to be signed, but for the file itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SignAsk {
    /// The coordinator's order: a DSSE envelope, JSON.
    pub(super) order: String,
    /// The fleet's keyring: a DSSE envelope, JSON.
    pub(super) keyring: String,
    /// Which of the order's packages the file is.
    pub(super) package: String,
    /// The Go that built it.
    pub(super) toolchain: ToolchainFacts,
    /// What stood around the compiler.
    pub(super) sandbox: Sandbox,
    /// When the attempt began, in milliseconds since the Unix epoch.
    pub(super) started_ms: u64,
}

/// The Go that built something. The signer cannot know it; it is compared with what the executable says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolchainFacts {
    /// A release from the module proxy.
    Module {
        /// The module's version, such as `v0.0.1-go1.27.3.linux-amd64`.
        version: String,
        /// The `h1:` of its zip.
        h1: String,
    },
    /// The Go that is installed on the machine.
    Installed {
        /// What it calls itself, such as `go1.27.3`.
        version: String,
        /// The SHA-256 of its `go` command, hexadecimal.
        go_command: String,
    },
}

impl ToolchainFacts {
    /// The same as a statement says it; `None` when a hash is none.
    pub(super) fn used(&self) -> Option<ToolchainUsed> {
        Some(match self {
            Self::Module { version, h1 } => {
                let h1: H1 = h1.parse().ok()?;
                ToolchainUsed::Module { version: version.clone(), h1, zip: None }
            }
            Self::Installed { version, go_command } => {
                let go_command: Digest = go_command.parse().ok()?;
                ToolchainUsed::Installed { version: version.clone(), go_command }
            }
        })
    }
}

/// What the signer answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Its key, and proof that it holds the private one.
    Ready(PublicKey),
    /// It signed.
    Signed(Box<SignedArtifact>),
    /// It looked, and would not.
    Refused(String),
    /// Whoever holds its key did not sign, or not in time.
    KeyAway(String),
}

/// A signer's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// `ecdsa-p256` or `ed25519`.
    pub algorithm: String,
    /// SPKI, DER.
    pub spki: Vec<u8>,
    /// The key's signature over [`meridian_trust::proof::proof_text`].
    pub proof: Vec<u8>,
}

/// What a signer said about an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedArtifact {
    /// `NAME_VERSION_OS_ARCH[.exe]`.
    pub name: String,
    /// What was signed: SHA-256, hexadecimal.
    pub digest: String,
    /// The key's id.
    pub key: String,
    /// The signature over the artifact.
    pub signature: Vec<u8>,
    /// The provenance as a Sigstore bundle.
    pub provenance: String,
    /// The bill of materials: CycloneDX, JSON.
    pub sbom: String,
}
