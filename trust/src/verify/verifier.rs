//! Verification against one root, one keyring file and one policy.

use meridian_core::{
    quantity::{ByteCount, Millis},
    time::Wall,
};

use super::{Policy, Report, examination::Examination};
use crate::{
    acceptance::Acceptance,
    dsse::Envelope,
    executable::{BuildInfo, BuildInfoError},
    keyring::{Keyring, KeyringError, KeyringFile, Root},
    message::Message,
};

/// How far the coordinator's clock may be ahead of this machine's: what is from later than that is refused.
pub const CLOCK_TOLERANCE: Millis = Millis::minutes(5);

/// What stands beside an artifact, as bytes; `None` for a file that is not there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// `X.sig`.
    pub signature: Option<&'a [u8]>,
    /// `X.pub`.
    pub public_key: Option<&'a [u8]>,
    /// `X.sigstore.json`.
    pub message_bundle: Option<&'a [u8]>,
    /// `X.intoto.sigstore.json`.
    pub provenance: Option<&'a [u8]>,
    /// `X.sbom.cdx.json`.
    pub sbom: Option<Bill<'a>>,
}

/// A bill of materials, and what it is compared with. No signature covers a bill, and none is needed: it is a function
/// of the artifact, so **whoever has the artifact can tell every byte that the bill must have**.
#[derive(Debug, Clone, Copy)]
pub struct Bill<'a> {
    /// The file.
    pub json: &'a [u8],
    /// The artifact's size.
    pub size: ByteCount,
    /// What the artifact says of its own build, or why it says nothing.
    pub build_info: Result<&'a BuildInfo, &'a BuildInfoError>,
}

/// Verifies the artifacts of a `dist/`. The keyring and the acceptances in it are checked once.
#[derive(Debug)]
pub struct Verifier {
    pub(super) root: Root,
    pub(super) policy: Policy,
    pub(super) now: Wall,
    pub(super) ring: Result<Ring, String>,
}

/// A keyring that the root signed, and what came with it.
#[derive(Debug)]
pub(super) struct Ring {
    /// The latest that is known: by it keys are judged.
    pub(super) keyring: Keyring,
    /// The one that lies beside the artifacts, where that is an earlier one.
    pub(super) beside: Option<Keyring>,
    /// All acceptances, or why one of them is none.
    pub(super) acceptances: Result<Vec<Judged>, String>,
    /// As they came, to be judged by a later keyring.
    envelopes: Vec<Envelope>,
}

/// An acceptance, and whether the key that signed it may say so.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) acceptance: Acceptance,
    pub(super) verdict: Result<(), String>,
}

impl Verifier {
    /// Trusts `root` and nothing else; `keyring_file` is `keyring.json`, if there is one; `now` is this machine's
    /// time. A keyring that is not the root's shows in every report.
    #[must_use]
    pub fn new(root: Root, keyring_file: Option<&[u8]>, policy: Policy, now: Wall) -> Self {
        let ring =
            match keyring_file {
                Some(bytes) => Ring::open(bytes, &root),
                None => Err("there is no keyring.json: nothing says which keys the fleet's root vouches for"
                    .to_owned()),
            };
        Self { root, policy, now, ring }
    }

    /// Judges by this keyring, too, where it is later than the one that lies beside the artifacts: a revocation counts
    /// although the artifacts were written before it, and **an old keyring put in the place of a newer one hides
    /// nothing**.
    ///
    /// # Errors
    /// When the root did not sign it, or what it signed is no keyring.
    pub fn with_keyring(mut self, envelope: &Envelope) -> Result<Self, KeyringError> {
        let other = Keyring::open(envelope, &self.root)?;
        if let Ok(ring) = self.ring {
            self.ring = Ok(ring.with(other));
        }
        Ok(self)
    }

    /// The keyring by which keys are judged, when the root signed the one that lies beside the artifacts.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.ring.as_ref().ok().map(|ring| &ring.keyring)
    }

    /// Checks an artifact: its file name, its content and what stands beside it.
    ///
    /// An Ed25519 signature needs the content once more; for an ECDSA signature its digest is enough.
    #[must_use]
    pub fn verify(&self, name: &str, content: &Message<'_>, files: &Files<'_>) -> Report {
        Examination::new(self, name, content, files).run()
    }
}

impl Ring {
    fn open(bytes: &[u8], root: &Root) -> Result<Self, String> {
        let file = KeyringFile::parse(bytes).map_err(|error| error.to_string())?;
        let keyring = Keyring::open(&file.keyring, root).map_err(|error| error.to_string())?;
        let acceptances = judge(&file.acceptances, &keyring);
        Ok(Self { keyring, beside: None, acceptances, envelopes: file.acceptances })
    }

    fn with(self, other: Keyring) -> Self {
        if !other.is_later_than(&self.keyring) {
            return self;
        }
        let acceptances = judge(&self.envelopes, &other);
        let beside = self.beside.or(Some(self.keyring));
        Self { keyring: other, beside, acceptances, envelopes: self.envelopes }
    }
}

/// One that no key of the fleet signed is no reason to look for a better one: the file was altered. One whose key
/// counts no more says nothing about the others, which may be of other builds.
fn judge(envelopes: &[Envelope], keyring: &Keyring) -> Result<Vec<Judged>, String> {
    let read = |envelope| {
        let (acceptance, entry) = Acceptance::read(envelope, keyring).map_err(|error| error.to_string())?;
        let verdict = acceptance.judge(entry).map_err(|error| error.to_string());
        Ok(Judged { acceptance, verdict })
    };
    envelopes.iter().map(read).collect()
}
