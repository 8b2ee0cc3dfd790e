//! The document: what a manifest says, and its one spelling.

use std::collections::HashMap;

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1;
use prost::Message as _;

use super::vouching::{Voucher, Vouching, VouchingError};
use crate::entry::{ActionId, Entry, Namespace};

/// The most mappings of one manifest: some twenty times what the largest programs have.
pub(crate) const ENTRIES_MAX: usize = 200_000;
/// The longest signed manifest, in bytes.
pub(crate) const LEN_MAX: usize = 20 << 20;
/// The most executables of one manifest.
const BINARIES_MAX: usize = 1024;
/// The longest scope.
const SCOPE_LEN_MAX: usize = 512;

/// One mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// What cmd/go asks.
    pub action: ActionId,
    /// What answers it.
    pub entry: Entry,
}

/// An executable that the build made. cmd/go does not link it again where it lies at its place already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// The digest of all that it was built from.
    pub inputs: Digest,
    /// The SHA-256 of its content.
    pub output: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Binary {
    /// As a mapping from its inputs: what travels is cut alike.
    pub(crate) const fn listed(&self) -> Listed {
        let entry = Entry { output: self.output, size: self.size, time_ns: 0 };
        Listed { action: ActionId(*self.inputs.as_bytes()), entry }
    }
}

/// The mappings that one build used, in the order in which it first asked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of the toolchain's own files.
    pub toolchain: Digest,
    /// The scope that they are in.
    pub scope: String,
    /// The lineage of the build.
    pub lineage: Digest,
    /// When it was made, by its maker's clock, in milliseconds since the Unix epoch.
    pub written_ms: u64,
    /// The mappings.
    pub entries: Vec<Listed>,
    /// What the build made.
    pub binaries: Vec<Binary>,
}

/// A manifest with the signature of whoever made it, as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// Its bytes.
    pub bytes: Bytes,
    /// The SHA-256 of its bytes: its name.
    pub digest: Digest,
}

/// Why bytes are no manifest that counts.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not the one that was asked for.
    #[error("the manifest is {found}, and {wanted} was asked for")]
    Digest {
        /// Which was asked for.
        wanted: Digest,
        /// Which it is.
        found: Digest,
    },
    /// It cannot be read.
    #[error("not a manifest: {0}")]
    Shape(String),
    /// Nobody vouches for it.
    #[error("the manifest does not count: {0}")]
    Voucher(#[from] VouchingError),
}

impl Manifest {
    /// In what its actions mean something.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::new(&self.toolchain, &self.scope)
    }

    /// Whether a build that used and made what `other` says would have found all of it in this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let outputs = |manifest: &Self| -> HashMap<ActionId, Digest> {
            manifest.entries.iter().map(|listed| (listed.action, listed.entry.output)).collect()
        };
        let known = outputs(self);
        (self.toolchain, &self.scope, self.lineage) == (other.toolchain, &other.scope, other.lineage)
            && self.binaries == other.binaries
            && other.entries.iter().all(|one| known.get(&one.action) == Some(&one.entry.output))
    }

    /// Signs it in this agent's name.
    ///
    /// # Errors
    /// When this agent may not write the manifest's scope.
    pub fn sign(self, vouching: &dyn Vouching) -> Result<SignedManifest, VouchingError> {
        let manifest = Bytes::from(self.encode());
        let voucher = vouching.sign(&self.scope, &manifest)?;
        let signed = v1::SignedManifest { manifest, grant: voucher.grant, signature: voucher.signature };
        let bytes = Bytes::from(signed.encode_to_vec());
        let digest = Digest::of(&bytes);
        Ok(SignedManifest { manifest: self, bytes, digest })
    }

    fn encode(&self) -> Vec<u8> {
        let mut wire = v1::CacheManifest {
            toolchain: Bytes::copy_from_slice(self.toolchain.as_bytes()),
            scope: self.scope.clone(),
            lineage: Bytes::copy_from_slice(self.lineage.as_bytes()),
            written_ms: self.written_ms,
            ..v1::CacheManifest::default()
        };
        let (mut actions, mut outputs) = (Vec::new(), Vec::new());
        for Listed { action, entry } in &self.entries {
            actions.extend_from_slice(&action.0);
            outputs.extend_from_slice(entry.output.as_bytes());
            wire.sizes.push(entry.size);
            wire.times_ns.push(entry.time_ns);
        }
        (wire.actions, wire.outputs) = (actions.into(), outputs.into());
        let joined = |part: fn(&Binary) -> &Digest| {
            self.binaries.iter().flat_map(|binary| *part(binary).as_bytes()).collect::<Vec<u8>>()
        };
        wire.binary_inputs = joined(|binary| &binary.inputs).into();
        wire.binaries = joined(|binary| &binary.output).into();
        wire.binary_sizes = self.binaries.iter().map(|binary| binary.size).collect();
        wire.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let shape = |what: &str| ManifestError::Shape(what.to_owned());
        let wire = v1::CacheManifest::decode(bytes).map_err(|error| shape(&error.to_string()))?;
        let count = wire.sizes.len();
        if count > ENTRIES_MAX {
            return Err(shape("it has too many mappings"));
        }
        if wire.actions.len() != count * 32
            || wire.outputs.len() != count * 32
            || wire.times_ns.len() != count
        {
            return Err(shape("its lists have different lengths"));
        }
        let made = wire.binary_sizes.len();
        if made > BINARIES_MAX || wire.binary_inputs.len() != made * 32 || wire.binaries.len() != made * 32 {
            return Err(shape("its executables are too many or their lists have different lengths"));
        }
        if wire.scope.is_empty() || wire.scope.len() > SCOPE_LEN_MAX {
            return Err(shape("its scope is missing or too long"));
        }
        let digest = |bytes: &[u8]| Digest::from_slice(bytes).map_err(|error| shape(&error.to_string()));
        let (actions, _) = wire.actions.as_chunks::<32>();
        let (outputs, _) = wire.outputs.as_chunks::<32>();
        let (inputs, _) = wire.binary_inputs.as_chunks::<32>();
        let (binaries, _) = wire.binaries.as_chunks::<32>();
        let binaries = inputs.iter().zip(binaries).zip(&wire.binary_sizes);
        let binaries = binaries.map(|((inputs, output), size)| Binary {
            inputs: Digest::from_bytes(*inputs),
            output: Digest::from_bytes(*output),
            size: *size,
        });
        let numbers = wire.sizes.iter().zip(&wire.times_ns);
        let entries = actions.iter().zip(outputs).zip(numbers).map(|((action, output), (size, time_ns))| {
            let entry = Entry { output: Digest::from_bytes(*output), size: *size, time_ns: *time_ns };
            Listed { action: ActionId(*action), entry }
        });
        Ok(Self {
            toolchain: digest(&wire.toolchain)?,
            scope: wire.scope,
            lineage: digest(&wire.lineage)?,
            written_ms: wire.written_ms,
            entries: entries.collect(),
            binaries: binaries.collect(),
        })
    }
}

#[cfg(test)]
impl SignedManifest {
    /// One that lists `entries` and that nobody vouches for: for tests of what comes after that was asked.
    pub(crate) fn unsigned(entries: Vec<Listed>) -> Self {
        let manifest = Manifest {
            toolchain: Digest::of(b"go"),
            scope: "team".into(),
            lineage: Digest::of(b"lineage"),
            written_ms: 0,
            binaries: Vec::new(),
            entries,
        };
        Self { manifest, bytes: Bytes::new(), digest: Digest::of(b"manifest") }
    }

    /// The same with these bodies, each for the action of its number.
    pub(crate) fn unsigned_of(bodies: &[&[u8]]) -> Self {
        let listed = |(n, body): (u8, &&[u8])| Listed {
            action: ActionId([n; 32]),
            entry: Entry { output: Digest::of(body), size: body.len() as u64, time_ns: 0 },
        };
        Self::unsigned((0..).zip(bodies).map(listed).collect())
    }
}

impl SignedManifest {
    /// Reads what was stored or sent under the name `wanted`, and makes sure that it counts.
    ///
    /// # Errors
    /// When it is another, cannot be read, or nobody who may vouches for it.
    pub fn open(bytes: Bytes, wanted: &Digest, vouching: &dyn Vouching) -> Result<Self, ManifestError> {
        let digest = Digest::of(&bytes);
        if digest != *wanted {
            return Err(ManifestError::Digest { wanted: *wanted, found: digest });
        }
        Self::accept(bytes, vouching)
    }

    /// The coordinator's word under which it was made.
    #[must_use]
    pub fn grant(&self) -> Bytes {
        v1::SignedManifest::decode(self.bytes.clone()).map(|signed| signed.grant).unwrap_or_default()
    }

    /// Reads what a manifest says that is stored here, without asking whether it counts: for looking after the store,
    /// and never for an answer.
    pub(super) fn glance(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let signed =
            v1::SignedManifest::decode(bytes).map_err(|error| ManifestError::Shape(error.to_string()))?;
        Manifest::decode(&signed.manifest)
    }

    /// Reads what somebody sent, and makes sure that it counts.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn accept(bytes: Bytes, vouching: &dyn Vouching) -> Result<Self, ManifestError> {
        if bytes.len() > LEN_MAX {
            return Err(ManifestError::Shape("it is too long".to_owned()));
        }
        let digest = Digest::of(&bytes);
        let signed = v1::SignedManifest::decode(bytes.clone())
            .map_err(|error| ManifestError::Shape(error.to_string()))?;
        let manifest = Manifest::decode(&signed.manifest)?;
        let voucher = Voucher { grant: signed.grant, signature: signed.signature };
        vouching.check(&manifest, &signed.manifest, &voucher)?;
        Ok(Self { manifest, bytes, digest })
    }
}
