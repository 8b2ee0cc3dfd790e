//! Verification against one root, one keyring file and one policy.

use super::{Policy, Report, examination::Examination};
use crate::{
    acceptance::Acceptance,
    keyring::{Keyring, KeyringFile, Root},
    message::Message,
};

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
}

/// Verifies the artifacts of a `dist/`. The keyring and the acceptances in it are checked once.
#[derive(Debug)]
pub struct Verifier {
    pub(super) root: Root,
    pub(super) policy: Policy,
    pub(super) ring: Result<Ring, String>,
}

/// A keyring that the root signed, and what came with it.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) keyring: Keyring,
    /// All acceptances, or why one of them does not count.
    pub(super) acceptances: Result<Vec<Acceptance>, String>,
}

impl Verifier {
    /// Trusts `root` and nothing else; `keyring_file` is `keyring.json`, if there is one. A keyring that is
    /// not the root's shows in every report.
    #[must_use]
    pub fn new(root: Root, keyring_file: Option<&[u8]>, policy: Policy) -> Self {
        let ring =
            match keyring_file {
                Some(bytes) => Ring::open(bytes, &root),
                None => Err("there is no keyring.json: nothing says which keys the fleet's root vouches for"
                    .to_owned()),
            };
        Self { root, policy, ring }
    }

    /// The keyring, when the root signed it.
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
        // One that does not count is no reason to look for a better one: the file was altered.
        let open = |envelope| Acceptance::open(envelope, &keyring).map_err(|error| error.to_string());
        let acceptances = file.acceptances.iter().map(open).collect();
        Ok(Self { keyring, acceptances })
    }
}
