//! Lists of checksums, in the form that `sha256sum -c` and its like read.

use std::{fs::File, io, io::Read as _, path::Path};

use sha2::{Sha224, Sha256, Sha384, Sha512};

/// The algorithms of GoReleaser that are made here.
pub const ALGORITHMS: [&str; 4] = ["sha224", "sha256", "sha384", "sha512"];

/// The digest of a file, in hexadecimal; `None` for an algorithm that is not made here.
///
/// # Errors
/// When it cannot be read.
pub fn digest(algorithm: &str, file: &Path) -> io::Result<Option<String>> {
    let hashed = match algorithm {
        "sha224" => hash::<Sha224>(file)?,
        "sha256" => hash::<Sha256>(file)?,
        "sha384" => hash::<Sha384>(file)?,
        "sha512" => hash::<Sha512>(file)?,
        _ => return Ok(None),
    };
    Ok(Some(hashed.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn hash<H: sha2::Digest>(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let mut hasher = H::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_vec()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// A list: digest, two blanks, name; sorted by name.
#[must_use]
pub fn list(mut digests: Vec<(String, String)>) -> String {
    digests.sort();
    digests.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_well_known_tools() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let digest = |algorithm: &str| digest(algorithm, file.path()).unwrap().unwrap();
        // FIPS 180-4's own examples.
        assert_eq!(digest("sha224"), "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7");
        assert!(digest("sha256").starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert!(digest("sha384").starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(digest("sha512").starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(super::digest("crc32", file.path()).unwrap(), None);
        for algorithm in ALGORITHMS {
            assert!(super::digest(algorithm, file.path()).unwrap().is_some());
        }
    }

    #[test]
    fn a_list_is_sorted_by_name() {
        let row = |name: &str| (name.to_owned(), format!("0{name}"));
        assert_eq!(list(vec![row("b"), row("a")]), "0a  a\n0b  b\n");
    }
}
