//! The log and what it says.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use meridian_runtime::secret_file;

use super::{
    entry::{Signed, Subject},
    error::LogError,
    segment,
};

/// How much is written, read and kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// From how many bytes on a segment is written to no more.
    pub(super) segment_len: u64,
    /// How many finished segments count beside the one that is written to.
    pub(super) counted: u64,
    /// How many finished segments are kept to be read by people.
    pub(super) kept: u64,
}

/// A mebibyte is some 3,500 signatures, so sixteen are 56,000; 256 MiB are the last 900,000.
const BOUNDS: Bounds = Bounds { segment_len: 1 << 20, counted: 16, kept: 256 };

/// The log and what it says.
#[derive(Debug)]
pub(in super::super) struct SignedLog {
    dir: PathBuf,
    bounds: Bounds,
    /// The segment that is written to: its number, its file, its whole bytes, its last chain value.
    number: u64,
    file: File,
    len: u64,
    chain: Digest,
    /// The highest fence in each segment that counts, by number, oldest first; the last one is written to.
    counted: VecDeque<(u64, u64)>,
    signed: HashMap<Subject, Digest>,
    /// What was signed up to here is not known any more.
    forgotten: Fence,
    /// A write failed, and what it left could not be taken back.
    is_broken: bool,
}

impl SignedLog {
    /// Opens the log in a directory and reads what counts; begins one where there is none.
    pub(in super::super) fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_with(dir, BOUNDS)
    }

    pub(super) fn open_with(dir: &Path, bounds: Bounds) -> Result<Self, LogError> {
        let numbers = segment::list(dir)?;
        let has_unchained = numbers.first() == Some(&0);
        let number = match numbers.last() {
            Some(&number) if number > 0 => number,
            // The log of an earlier version, or none: what it says goes on in segment 1.
            _ => {
                let previous =
                    if has_unchained { segment::read(dir, 0, true)?.chain } else { Digest::of(b"") };
                let (line, _) = segment::begin(1, previous, 0);
                secret_file::create(&segment::path(dir, 1), &line)?;
                1
            }
        };
        let first = number.saturating_sub(bounds.counted).max(u64::from(!has_unchained));
        let mut found = Vec::new();
        for each in first..=number {
            found.push((each, segment::read(dir, each, each == number)?));
        }
        for pair in found.windows(2) {
            let [(_, before), (number, after)] = pair else { continue };
            let says = after.header.as_ref().map(|header| header.previous.as_str());
            if says != Some(before.chain.to_hex().as_str()) {
                let path = segment::path(dir, *number);
                let what = "the segment before it is not the one that it was begun after";
                return Err(LogError::Damaged { path, line: 1, what });
            }
        }
        let path = segment::path(dir, number);
        let failed = |source| LogError::File { path: path.clone(), source };
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        let Some((_, last)) = found.last() else { return Err(LogError::Missing { path }) };
        let forgotten = last.header.as_ref().map_or(0, |header| header.forgotten_fence);
        let (len, chain) = (last.len, last.chain);
        let mut log = Self {
            dir: dir.to_owned(),
            bounds,
            number,
            file,
            len,
            chain,
            counted: VecDeque::new(),
            signed: HashMap::new(),
            forgotten: Fence(forgotten),
            is_broken: false,
        };
        for (number, segment) in &found {
            log.counted.push_back((*number, 0));
            for (subject, digest) in segment.entries.iter().filter_map(Signed::parsed) {
                log.remember(subject, digest);
            }
        }
        Ok(log)
    }

    /// Whether this content may be signed for this task, lease and package.
    pub(in super::super) fn check(
        &self,
        task: &TaskId,
        fence: Fence,
        package: &str,
        digest: Digest,
    ) -> Result<(), LogError> {
        if fence <= self.forgotten {
            return Err(LogError::Forgotten { task: task.to_string(), fence, forgotten: self.forgotten });
        }
        let subject = Subject { task: task.clone(), fence, package: package.to_owned() };
        match self.signed.get(&subject) {
            Some(signed) if *signed != digest => {
                let Subject { task, fence, package } = subject;
                let task = task.to_string();
                Err(LogError::Second { task, fence, package, signed: *signed, asked: digest })
            }
            _ => Ok(()),
        }
    }

    /// Writes down what is about to be signed, which [`Self::check`] has allowed. Nothing may leave before this returns.
    pub(in super::super) fn append(&mut self, signed: &Signed) -> Result<(), LogError> {
        let no_record = || io::Error::new(io::ErrorKind::InvalidInput, "not a record of this log");
        let (subject, digest) = signed.parsed().ok_or_else(|| self.failed(no_record()))?;
        self.check(&subject.task, subject.fence, &subject.package, digest)?;
        if self.signed.contains_key(&subject) {
            return Ok(());
        }
        if self.is_broken {
            return Err(LogError::Broken);
        }
        if self.len >= self.bounds.segment_len {
            self.begin_next()?;
            // What was just forgotten may be this lease.
            self.check(&subject.task, subject.fence, &subject.package, digest)?;
        }
        let (line, chain) = segment::line(self.chain, signed).map_err(|error| self.failed(error.into()))?;
        if let Err(error) = self.file.write_all(&line) {
            // A part of it may be there; the next record must not be written behind that.
            self.is_broken = self.file.set_len(self.len).is_err();
            return Err(self.failed(error));
        }
        if let Err(error) = self.file.sync_data() {
            // Whether it is on the disk is not known, and asking again would not tell.
            self.is_broken = true;
            return Err(self.failed(error));
        }
        (self.len, self.chain) = (self.len + line.len() as u64, chain);
        self.remember(subject, digest);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> LogError {
        LogError::File { path: segment::path(&self.dir, self.number), source }
    }

    fn remember(&mut self, subject: Subject, digest: Digest) {
        if let Some((_, fence_max)) = self.counted.back_mut() {
            *fence_max = subject.fence.0.max(*fence_max);
        }
        if subject.fence > self.forgotten {
            self.signed.insert(subject, digest);
        }
    }

    /// Begins the next segment. What counts no more from then on is forgotten by the line that it begins with, before
    /// it is forgotten here.
    fn begin_next(&mut self) -> Result<(), LogError> {
        let number = self.number + 1;
        let oldest = number.saturating_sub(self.bounds.counted);
        let leaving = self.counted.iter().take_while(|(number, _)| *number < oldest);
        let forgotten = leaving.map(|(_, fence_max)| *fence_max).fold(self.forgotten.0, u64::max);
        let (line, chain) = segment::begin(number, self.chain, forgotten);
        let path = segment::path(&self.dir, number);
        secret_file::create(&path, &line)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| LogError::File { path, source })?;
        (self.number, self.file, self.len, self.chain) = (number, file, line.len() as u64, chain);
        self.counted.retain(|(number, _)| *number >= oldest);
        self.counted.push_back((number, 0));
        self.forgotten = Fence(forgotten);
        self.signed.retain(|subject, _| subject.fence.0 > forgotten);
        self.drop_oldest();
        Ok(())
    }

    /// Removes what is kept for people only, and is too much. What stays in the way costs disk and nothing else.
    fn drop_oldest(&self) {
        let oldest = self.number.saturating_sub(self.bounds.kept.max(self.bounds.counted));
        for number in segment::list(&self.dir).unwrap_or_default() {
            if number < oldest {
                let _ = fs::remove_file(segment::path(&self.dir, number));
            }
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
