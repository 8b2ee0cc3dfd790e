//! The digest of a file that is no blob yet.

use std::{fs::File, io, io::Read as _, path::Path};

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

const BUFFER_LEN: usize = 256 << 10;

/// Reads a file through and gives its digest and length.
///
/// # Errors
/// What the disk said.
pub fn hash_file(path: &Path) -> io::Result<(Digest, ByteCount)> {
    let mut file = File::open(path)?;
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok((hasher.finish(), ByteCount(length))),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}
