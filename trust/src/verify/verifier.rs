//! Verification against one root, one keyring file and one policy.

use meridian_core::{
    id::JournalIndex,
    quantity::{ByteCount, Millis},
    time::Wall,
};

use super::{Policy, Report, examination::Examination};
use crate::{
    acceptance::{Acceptance, AcceptanceError},
    dsse::Envelope,
    executable::{BuildInfo, BuildInfoError},
    keyring::{KeyRefusal, Keyring, KeyringError, KeyringFile, Root},
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

/// Everything that is known of the fleet's keys, and what came with it.
#[derive(Debug)]
pub(super) struct Ring {
    /// What all keyrings that are known say together: by it keys are judged.
    pub(super) keyring: Keyring,
    /// The version of the one that lies beside the artifacts.
    pub(super) beside: JournalIndex,
    /// All acceptances, or why one of them is none.
    pub(super) acceptances: Result<Vec<Judged>, String>,
    /// As they came, to be judged by what more keyrings say.
    envelopes: Vec<Envelope>,
}

/// An acceptance, and whether the key that signed it may say so.
#[derive(Debug)]
pub(super) struct Judged {
    /// A mere claim where the verdict is that no such key is known.
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

    /// Judges by these keyrings, too: a revocation counts although the artifacts were written before it, and **no
    /// keyring put in the place of another one hides anything**.
    ///
    /// # Errors
    /// When the root did not sign one, what it signed is no keyring, or it is another fleet's than the one that lies
    /// beside the artifacts.
    pub fn with_keyrings<'k>(
        mut self,
        envelopes: impl IntoIterator<Item = &'k Envelope>,
    ) -> Result<Self, KeyringError> {
        let others = envelopes.into_iter().map(|envelope| Keyring::open(envelope, &self.root));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        if let (Ok(ring), false) = (&mut self.ring, others.is_empty()) {
            ring.add(&others)?;
        }
        Ok(self)
    }

    /// What all keyrings that are known say together, when the root signed the one that lies beside the artifacts.
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
        let keyring = file.open(root).map_err(|error| error.to_string())?;
        let acceptances = judge(&file.acceptances, &keyring);
        Ok(Self { beside: keyring.version(), keyring, acceptances, envelopes: file.acceptances })
    }

    fn add(&mut self, others: &[Keyring]) -> Result<(), KeyringError> {
        for other in others {
            self.keyring = self.keyring.and(other)?;
        }
        self.acceptances = judge(&self.envelopes, &self.keyring);
        Ok(())
    }
}

/// One that its key did not sign is no reason to look for a better one: the file was altered. One whose key counts no
/// more, or is not known (a keyring that has forgotten it lies there), says nothing about the others, which may be of
/// other builds.
fn judge(envelopes: &[Envelope], keyring: &Keyring) -> Result<Vec<Judged>, String> {
    let read = |envelope| match Acceptance::read(envelope, keyring) {
        Ok((acceptance, entry)) => {
            let verdict = acceptance.judge(entry).map_err(|error| error.to_string());
            Some(Ok(Judged { acceptance, verdict }))
        }
        Err(AcceptanceError::Key(unknown @ KeyRefusal::Unknown(_))) => {
            let claimed = Acceptance::claimed(envelope)?;
            Some(Ok(Judged { acceptance: claimed, verdict: Err(unknown.to_string()) }))
        }
        Err(error) => Some(Err(error.to_string())),
    };
    envelopes.iter().filter_map(read).collect()
}
