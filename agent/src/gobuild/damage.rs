//! Takes modules that cannot be unpacked out of the module cache.
//!
//! cmd/go keeps a downloaded zip before it looks into it. Where no checksum stood against it, a zip that a
//! proxy damaged would stay, and this agent would fail for that version until somebody cleaned its cache by
//! hand. So it goes at once, and the next attempt downloads it again.

use std::{io, path::Path};

/// What stands before the path of a zip that cannot be unpacked.
const MARK: &str = "unzip ";

/// Removes each zip below `modcache` that `said` complains of. Tells how many went.
pub(super) fn drop_damaged(modcache: &Path, said: &str) -> usize {
    let downloads = modcache.join("cache/download");
    let zips = said.split(MARK).skip(1).filter_map(|rest| Some(&rest[..rest.find(".zip: ")?]));
    zips.map(Path::new)
        .filter(|path| {
            path.starts_with(&downloads) && !path.components().any(|part| part.as_os_str() == "..")
        })
        .filter(|path| {
            // The hash first: a zip without one is hashed again, a hash without a zip would be believed.
            ["ziphash", "zip"].iter().all(|extension| {
                let mut file = path.as_os_str().to_owned();
                file.push(format!(".{extension}"));
                match std::fs::remove_file(Path::new(&file)) {
                    Ok(()) => true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                    Err(error) => {
                        tracing::warn!(file = %Path::new(&file).display(), %error, "a damaged module stays");
                        false
                    }
                }
            })
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_zip_that_was_complained_of_goes_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let versions = dir.path().join("modules/cache/download/a.test/b/@v");
        std::fs::create_dir_all(&versions).unwrap();
        let files = ["v1.0.0.zip", "v1.0.0.ziphash", "v1.0.0.mod", "v1.1.0.zip"];
        for file in files {
            std::fs::write(versions.join(file), "").unwrap();
        }
        let outside = dir.path().join("other.zip");
        std::fs::write(&outside, "").unwrap();
        let said = format!(
            "go: unzip {}: bad\ngo: unzip {}: bad\ngo: unzip {}/../../../../other.zip: bad\n",
            versions.join("v1.0.0.zip").display(),
            outside.display(),
            versions.display(),
        );
        assert_eq!(drop_damaged(&dir.path().join("modules"), &said), 1);
        assert_eq!(files.map(|file| versions.join(file).exists()), [false, false, true, true]);
        assert!(outside.exists());
        assert_eq!(drop_damaged(&dir.path().join("modules"), "unzip "), 0);
    }
}
