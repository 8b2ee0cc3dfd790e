//! Reads documents that somebody else may have written, and no more of them than they may have.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use meridian_core::quantity::ByteCount;

/// The longest document that is read whole: a provenance of thousands of modules has a few MiB.
pub const DOCUMENT_LEN_MAX: ByteCount = ByteCount::mib(16);

/// A document of a directory that anybody may have written; `None` when there is none. Of one that is too long only so
/// much is read that whoever takes it apart sees that it is.
///
/// # Errors
/// When it cannot be read, or is no file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other(format!("{} is not a file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    read_named(path).map(Some)
}

/// A document that the user named, which may be a pipe; bounded as those of a directory are.
///
/// # Errors
/// When it cannot be read.
pub fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(DOCUMENT_LEN_MAX.0 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_any_size_is_read_only_so_far_and_what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sig");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(&path, "AAAA").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"AAAA");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, DOCUMENT_LEN_MAX.0 + 1);
        assert!(read(dir.path()).unwrap_err().to_string().contains("is not a file"));
    }
}
