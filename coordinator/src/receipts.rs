//! Receipts: a holder's word that it keeps a blob.
//!
//! A receipt is an HMAC-SHA256 under the holder's own key, so that whoever shows one to the coordinator
//! proves that the holder said so for this project and this digest. It is not a signature for third parties;
//! artifacts get those from the signer.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use meridian_core::{build::Receipt, digest::Digest, id::ProjectId, quantity::ByteCount};
use sha2::Sha256;

/// The key of one holder.
#[derive(Clone)]
pub(crate) struct ReceiptKey {
    holder: String,
    key: [u8; 32],
}

impl ReceiptKey {
    /// A key that the holder keeps in its state directory.
    #[must_use]
    pub(crate) fn new(holder: &str, key: [u8; 32]) -> Self {
        Self { holder: holder.to_owned(), key }
    }

    /// Reads the holder's key from a file, making one first when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not a key.
    pub(crate) fn open(path: &Path, holder: &str) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(path)?,
            read => read?,
        };
        let key =
            bytes.try_into().map_err(|_| io::Error::other(format!("{} is not a key", path.display())))?;
        Ok(Self::new(holder, key))
    }

    /// Says that `digest` of `size` bytes is held for `project`.
    #[must_use]
    pub(crate) fn issue(&self, project: &ProjectId, digest: Digest, size: ByteCount) -> Receipt {
        let mac = self.mac(project, digest, size).finalize().into_bytes().to_vec();
        Receipt { holder: self.holder.clone(), digest, size, mac }
    }

    /// Whether this holder issued `receipt` for `project`. Takes the same time whatever the answer.
    #[must_use]
    pub(crate) fn verify(&self, project: &ProjectId, receipt: &Receipt) -> bool {
        receipt.holder == self.holder
            && self.mac(project, receipt.digest, receipt.size).verify_slice(&receipt.mac).is_ok()
    }

    fn mac(&self, project: &ProjectId, digest: Digest, size: ByteCount) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        // Every field is length-prefixed or of fixed size, so no two different receipts share their input.
        for text in ["meridian receipt v1", &self.holder, &project.to_string()] {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(digest.as_bytes());
        mac.update(&size.0.to_be_bytes());
        mac
    }
}

fn create_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0u8; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let staged = path.with_extension("new");
    // A crash may have left one behind.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_holds_for_its_project_digest_size_and_holder_only() {
        let key = ReceiptKey::new("coordinator", [7; 32]);
        let project: ProjectId = "web/shop".parse().unwrap();
        let receipt = key.issue(&project, Digest::of(b"x"), ByteCount(1));
        assert!(key.verify(&project, &receipt));
        assert!(!key.verify(&"web/other".parse().unwrap(), &receipt));
        assert!(!key.verify(&project, &Receipt { size: ByteCount(2), ..receipt.clone() }));
        assert!(!key.verify(&project, &Receipt { digest: Digest::of(b"y"), ..receipt.clone() }));
        assert!(!key.verify(&project, &Receipt { mac: Vec::new(), ..receipt.clone() }));
        assert!(!ReceiptKey::new("coordinator", [8; 32]).verify(&project, &receipt));
        assert!(!ReceiptKey::new("other", [7; 32]).verify(&project, &receipt));
    }
}
