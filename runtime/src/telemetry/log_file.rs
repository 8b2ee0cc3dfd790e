//! A log file that does not fill the disk: at its limit it becomes `NAME.1`, whose predecessor is dropped.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// One file's limit, in bytes; with its predecessor a log takes twice as much.
pub(super) const FILE_LEN_MAX: u64 = 16 << 20;

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    len: u64,
    len_max: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, len_max: u64) -> io::Result<Self> {
        let file = append_to(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, len, len_max })
    }

    fn roll(&mut self) -> io::Result<()> {
        let mut previous = OsString::from(&self.path);
        previous.push(".1");
        fs::rename(&self.path, previous)?;
        self.file = append_to(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.len > 0 && self.len + line.len() as u64 > self.len_max {
            // A log that cannot be rolled is still better written on than lost.
            let _ = self.roll();
        }
        let written = self.file.write(line)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_makes_room_and_keeps_its_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("role.log");
        for line in ["one two\n", "three\n", "four\n"] {
            let mut log = LogFile::open(&path, 12).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\nfour\n");
        assert_eq!(fs::read_to_string(dir.path().join("role.log.1")).unwrap(), "one two\n");
    }
}
