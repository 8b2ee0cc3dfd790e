//! What is signed: bytes whose digest is known and that can be read more than once.
//!
//! ECDSA signs a SHA-256, which a signer has anyway. Pure Ed25519 hashes the message itself, twice to sign
//! and once to verify, with the key's own values before it. An artifact may have gigabytes, so it is read
//! again from the start instead of being kept in memory, and **each pass must find the digest that was told
//! first**. For Ed25519 that is more than tidiness: two passes over different bytes make two signatures with
//! one nonce, and such a pair gives the private key away to whoever can write to the file while it is signed.

use std::{borrow::Cow, io};

use meridian_core::digest::{Digest, DigestHasher};

/// Bytes that can be read from the start as often as needed: a file, a blob.
pub trait Content {
    /// A reader at the first byte. Readers that are open at the same time must not disturb each other.
    ///
    /// # Errors
    /// When the bytes cannot be reached.
    fn open(&self) -> io::Result<Box<dyn io::Read + '_>>;
}

/// Bytes to sign or to verify, with their digest.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    digest: Digest,
    bytes: Bytes<'a>,
}

#[derive(Clone, Copy)]
enum Bytes<'a> {
    Here(&'a [u8]),
    Elsewhere(&'a dyn Content),
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading failed.
    #[error("cannot read what is signed")]
    Io(#[from] io::Error),
    /// The bytes are not those whose digest was told.
    #[error("what is signed has the digest {found}, but {told} was told: it changed, or never was that")]
    Changed {
        /// The digest that was told.
        told: Digest,
        /// The digest of what was read.
        found: Digest,
    },
    /// More bytes than fit where they are needed in memory.
    #[error("what is signed has more than {len_max} bytes, too many for a signer that needs it in memory")]
    TooLarge {
        /// How many fit.
        len_max: usize,
    },
}

/// How much is read at once.
const PIECE_LEN: usize = 128 << 10;

impl<'a> Message<'a> {
    /// A message in memory.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { digest: Digest::of(bytes), bytes: Bytes::Here(bytes) }
    }

    /// A message elsewhere; it is read once for its digest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn hash(content: &'a dyn Content) -> io::Result<Self> {
        let mut hasher = DigestHasher::new();
        read(content, &mut |piece| hasher.update(piece))?;
        Ok(Self::told(hasher.finish(), content))
    }

    /// A message elsewhere whose digest the caller has computed from it just before.
    #[must_use]
    pub fn told(digest: Digest, content: &'a dyn Content) -> Self {
        Self { digest, bytes: Bytes::Elsewhere(content) }
    }

    /// The SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Gives every piece in order. What was given counts only when this returns without an error.
    ///
    /// # Errors
    /// When the bytes cannot be read, or do not have the digest.
    pub fn read(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        let content = match self.bytes {
            Bytes::Here(bytes) => {
                take(bytes);
                return Ok(());
            }
            Bytes::Elsewhere(content) => content,
        };
        let mut hasher = DigestHasher::new();
        read(content, &mut |piece| {
            hasher.update(piece);
            take(piece);
        })?;
        match hasher.finish() {
            found if found == self.digest => Ok(()),
            found => Err(ReadError::Changed { told: self.digest, found }),
        }
    }

    /// The whole message, for a token or a service that takes no stream.
    ///
    /// # Errors
    /// When it is longer than `len_max` bytes, cannot be read, or does not have the digest.
    pub fn to_bytes(&self, len_max: usize) -> Result<Cow<'a, [u8]>, ReadError> {
        let mut whole = Vec::new();
        let mut fits = true;
        if let Bytes::Here(bytes) = self.bytes {
            fits = bytes.len() <= len_max;
            return if fits { Ok(Cow::Borrowed(bytes)) } else { Err(ReadError::TooLarge { len_max }) };
        }
        let read = self.read(&mut |piece| {
            fits = fits && whole.len() + piece.len() <= len_max;
            if fits {
                whole.extend_from_slice(piece);
            }
        });
        if !fits {
            return Err(ReadError::TooLarge { len_max });
        }
        read.map(|()| Cow::Owned(whole))
    }
}

fn read(content: &dyn Content, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut reader = content.open()?;
    let mut buffer = vec![0; PIECE_LEN];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => take(buffer.get(..len).ok_or_else(|| io::Error::other("a reader gave too much"))?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    /// Gives other bytes at each pass; the last ones for ever.
    pub(crate) struct Shifting {
        pub(crate) passes: Vec<Vec<u8>>,
        pub(crate) opened: Cell<usize>,
    }

    impl Shifting {
        pub(crate) fn new(passes: &[&[u8]]) -> Self {
            Self { passes: passes.iter().map(|pass| pass.to_vec()).collect(), opened: Cell::new(0) }
        }
    }

    impl Content for Shifting {
        fn open(&self) -> io::Result<Box<dyn io::Read + '_>> {
            let pass = self.opened.replace(self.opened.get() + 1).min(self.passes.len() - 1);
            Ok(Box::new(self.passes[pass].as_slice()))
        }
    }

    #[test]
    fn a_message_elsewhere_is_what_it_would_be_in_memory() {
        let bytes = vec![7; PIECE_LEN * 2 + 1];
        let content = Shifting::new(&[&bytes]);
        let message = Message::hash(&content).unwrap();
        assert_eq!(message.digest(), Message::of(&bytes).digest());
        assert_eq!(message.to_bytes(bytes.len()).unwrap(), bytes);
        assert!(matches!(message.to_bytes(bytes.len() - 1), Err(ReadError::TooLarge { .. })));
        assert!(matches!(Message::of(&bytes).to_bytes(9), Err(ReadError::TooLarge { len_max: 9 })));
    }

    #[test]
    fn bytes_that_change_between_two_passes_are_noticed() {
        let content = Shifting::new(&[b"one", b"two"]);
        let message = Message::hash(&content).unwrap();
        assert!(matches!(message.read(&mut |_| {}), Err(ReadError::Changed { .. })));
    }
}
