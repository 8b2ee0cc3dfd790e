//! Archives whose bytes depend on nothing but what is in them and one date.
//!
//! Entries come sorted; each belongs to user and group 0, has the mode 0755 or 0644, and the one date. No directories, no
//! extended headers unless a long path needs one, a fixed level of compression, no name and no time in a gzip header.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use lzma_rust2::{XzOptions, XzWriter};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// gzip's own best.
const GZIP_LEVEL: u32 = 9;
/// zstd's for releases: small, and unpacked as fast as any.
const ZSTD_LEVEL: i32 = 19;
/// xz's own default.
const XZ_LEVEL: u32 = 6;
/// The first moment that a zip can tell, 1980-01-01.
const ZIP_SECONDS_MIN: i64 = 315_532_800;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path there, with slashes.
    pub path: String,
    /// Where its bytes are.
    pub content: PathBuf,
    /// Whether it can be run.
    pub is_executable: bool,
}

impl Entry {
    const fn mode(&self) -> u32 {
        if self.is_executable { 0o755 } else { 0o644 }
    }
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A format that is not written here.
    #[error("{name}: archives of the format {format:?} are not made")]
    Format {
        /// Which archive.
        name: String,
        /// Its format.
        format: String,
    },
    /// One file in one file, and there are others.
    #[error("{0}: a gz file holds one file; set `files: [none*]` with `formats: [gz]`")]
    Single(String),
    /// It could not be written, or a file could not be read.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes an archive. `seconds` is its date, since the Unix epoch.
///
/// # Errors
/// When the format is not made here, or a file cannot be read or written.
pub fn write(to: &Path, format: &str, entries: &[Entry], seconds: i64) -> Result<(), ArchiveError> {
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |source| ArchiveError::Write { path: to.to_owned(), source };
    let partial = to.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let file = || File::create(&partial).map(BufWriter::new);
    let done = match format {
        "tar" => file().and_then(|out| tar(out, entries, seconds)?.flush()),
        "tar.gz" | "tgz" => file().and_then(|out| tar(gzip(out), entries, seconds)?.finish()?.flush()),
        "tar.zst" | "tzst" => file()
            .and_then(|out| tar(zstd::Encoder::new(out, ZSTD_LEVEL)?, entries, seconds)?.finish()?.flush()),
        "tar.xz" | "txz" => file().and_then(|out| {
            let xz = XzWriter::new(out, XzOptions::with_preset(XZ_LEVEL))?;
            tar(xz, entries, seconds)?.finish()?.flush()
        }),
        "zip" => file().and_then(|out| zip(out, entries, seconds)?.flush()),
        "gz" => match entries {
            [entry] => file().and_then(|out| {
                let mut gzip = gzip(out);
                io::copy(&mut File::open(&entry.content)?, &mut gzip)?;
                gzip.finish()?.flush()
            }),
            _ => return Err(ArchiveError::Single(name)),
        },
        _ => return Err(ArchiveError::Format { name, format: format.to_owned() }),
    };
    done.and_then(|()| fs::rename(&partial, to)).map_err(|source| {
        // What is half written helps nobody, and the error is already on its way.
        let _ = fs::remove_file(&partial);
        failed(source)
    })
}

fn gzip<W: Write>(out: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).write(out, Compression::new(GZIP_LEVEL))
}

/// Compresses what is an archive already.
///
/// # Errors
/// When it cannot be read or written.
pub fn compress(to: &Path, mut archive: impl io::Read) -> io::Result<()> {
    let mut gzip = gzip(BufWriter::new(File::create(to)?));
    io::copy(&mut archive, &mut gzip)?;
    gzip.finish()?.flush()
}

fn tar<W: Write>(out: W, entries: &[Entry], seconds: i64) -> io::Result<W> {
    let mut tar = tar::Builder::new(out);
    for entry in entries {
        let file = File::open(&entry.content)?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(file.metadata()?.len());
        header.set_mode(entry.mode());
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        tar.append_data(&mut header, &entry.path, file)?;
    }
    tar.into_inner()
}

fn zip<W: Write + io::Seek>(out: W, entries: &[Entry], seconds: i64) -> io::Result<W> {
    let mut zip = ZipWriter::new(out);
    for entry in entries {
        let mut file = File::open(&entry.content)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip_time(seconds))
            .unix_permissions(entry.mode())
            .large_file(file.metadata()?.len() >= u64::from(u32::MAX));
        zip.start_file(&entry.path, options)?;
        io::copy(&mut file, &mut zip)?;
    }
    Ok(zip.finish()?)
}

/// A moment as a zip tells it, in UTC and in steps of two seconds.
fn zip_time(seconds: i64) -> DateTime {
    let text = crate::goreleaser::template::rfc3339(seconds.max(ZIP_SECONDS_MIN));
    let number =
        |at: std::ops::Range<usize>| text.get(at).and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let small = |at| u8::try_from(number(at)).unwrap_or(0);
    DateTime::from_date_and_time(
        number(0..4),
        small(5..7),
        small(8..10),
        small(11..13),
        small(14..16),
        small(17..19),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// 2024-02-29T12:34:56Z
    const SECONDS: i64 = 1_709_210_096;
    const FORMATS: [&str; 8] = ["tar", "tar.gz", "tgz", "tar.zst", "tzst", "tar.xz", "txz", "zip"];

    fn entries(directory: &Path) -> Vec<Entry> {
        let long = format!("{}/README.md", "directory/".repeat(20).trim_end_matches('/'));
        [("bin/tool", "tool", true), (long.as_str(), "text", false)]
            .into_iter()
            .map(|(path, text, is_executable)| {
                let content = directory.join(text);
                fs::write(&content, text.repeat(1000)).unwrap();
                Entry { path: path.to_owned(), content, is_executable }
            })
            .collect()
    }

    fn written(format: &str, umask: u32, seconds: i64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let entries = entries(dir.path());
        for entry in &entries {
            fs::set_permissions(&entry.content, fs::Permissions::from_mode(0o777 & !umask)).unwrap();
        }
        let to = dir.path().join(format!("x.{format}"));
        write(&to, format, &entries, seconds).unwrap();
        fs::read(&to).unwrap()
    }

    fn read_tar(bytes: impl io::Read) -> Vec<(String, u32, u64, u64, String)> {
        let mut tar = tar::Archive::new(bytes);
        let read = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let owner = header.uid().unwrap() + header.gid().unwrap();
            (path, header.mode().unwrap(), header.mtime().unwrap(), owner, text)
        });
        read.collect()
    }

    #[test]
    fn the_same_files_are_the_same_bytes_whatever_surrounds_them() {
        for format in FORMATS {
            assert!(written(format, 0o022, SECONDS) == written(format, 0o077, SECONDS), "{format}");
            assert!(written(format, 0o022, SECONDS) != written(format, 0o022, SECONDS + 2), "{format}");
        }
    }

    #[test]
    fn every_format_holds_paths_modes_date_and_contents() {
        let long = format!("{}README.md", "directory/".repeat(20));
        let date = u64::try_from(SECONDS).unwrap();
        let expected = vec![
            ("bin/tool".to_owned(), 0o755, date, 0, "tool".repeat(1000)),
            (long.clone(), 0o644, date, 0, "text".repeat(1000)),
        ];
        for format in FORMATS.iter().filter(|format| **format != "zip") {
            let bytes = written(format, 0o022, SECONDS);
            let read = match *format {
                "tar" => read_tar(&bytes[..]),
                "tar.gz" | "tgz" => read_tar(flate2::read::GzDecoder::new(&bytes[..])),
                "tar.zst" | "tzst" => read_tar(zstd::Decoder::new(&bytes[..]).unwrap()),
                _ => read_tar(lzma_rust2::XzReader::new(&bytes[..], false)),
            };
            assert!(read == expected, "{format}");
        }
        let mut zip = zip::ZipArchive::new(io::Cursor::new(written("zip", 0o022, SECONDS))).unwrap();
        for (path, mode, _, _, text) in expected {
            let mut file = zip.by_name(&path).unwrap();
            assert_eq!(file.unix_mode().unwrap() & 0o777, mode);
            let time = file.last_modified().unwrap();
            assert_eq!(
                (time.year(), time.month(), time.day(), time.hour(), time.second()),
                (2024, 2, 29, 12, 56)
            );
            let mut read = String::new();
            file.read_to_string(&mut read).unwrap();
            assert!(read == text);
        }
    }

    #[test]
    fn a_gz_file_holds_one_file_and_an_unknown_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let entries = entries(dir.path());
        let to = dir.path().join("x.gz");
        write(&to, "gz", &entries[..1], SECONDS).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(&to).unwrap()).read_to_string(&mut text).unwrap();
        assert!(text == "tool".repeat(1000));
        assert!(matches!(write(&to, "gz", &entries, SECONDS), Err(ArchiveError::Single(_))));
        assert!(matches!(write(&to, "rar", &entries, SECONDS), Err(ArchiveError::Format { .. })));
        let gone = Entry { content: dir.path().join("gone"), ..entries[0].clone() };
        assert!(write(&to, "zip", &[gone], SECONDS).unwrap_err().to_string().contains("cannot write"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing half written stays");
    }
}
