//! What was recorded of real builds, as the workload needs it.
//!
//! Entries that all versions of a program use or leave out together are one: no cache that sees only whole builds could
//! tell them apart. That makes of a thousand entries about a hundred, and changes nothing else.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, bail, ensure};

use super::random::real;

/// The records, by the names of their files.
const FILES: [&str; 4] = [
    include_str!("recorded/nats-server.txt"),
    include_str!("recorded/caddy.txt"),
    include_str!("recorded/helm.txt"),
    include_str!("recorded/hugo.txt"),
];

/// Entries that come and go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Class {
    /// How many.
    pub entries: u32,
    /// Their lengths.
    pub bytes: u64,
    /// The same as zstd leaves them.
    pub wire_bytes: u64,
}

impl Class {
    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
            wire_bytes: self.wire_bytes + other.wire_bytes,
        }
    }
}

/// A program in its versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Its module.
    pub module: String,
    /// What its versions consist of.
    pub classes: Vec<Class>,
    /// The classes of each version, in ascending order.
    pub versions: Vec<Vec<usize>>,
    /// Processor time of the first build, with an empty cache, in milliseconds.
    pub cold_ms: u64,
    /// What a build takes that finds everything: the quickest of them.
    pub warm_ms: u64,
}

/// The programs.
///
/// # Errors
/// When a record is damaged.
pub fn programs() -> anyhow::Result<Vec<Arc<Program>>> {
    FILES.iter().map(|text| Ok(Arc::new(Program::parse(text)?))).collect()
}

impl Program {
    /// Reads a record, whose form `record` explains.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default();
        let module = title.strip_prefix("program ").and_then(|rest| rest.split(' ').next());
        let module = module.context("a record begins with its program")?.to_owned();
        let mut reader = Reader::default();
        lines.try_for_each(|line| reader.line(line).with_context(|| format!("of {module}")))?;
        let (classes, versions) = reader.classes();
        let (Some(cold_ms), Some(warm_ms)) =
            (reader.cpu_ms.first().copied(), reader.cpu_ms.iter().min().copied())
        else {
            bail!("no version of {module} is recorded");
        };
        Ok(Self { module, classes, versions, cold_ms, warm_ms })
    }

    /// What a change of the program's own code makes new: what the smallest of the recorded steps did, since the others
    /// changed what the program depends on, too.
    #[must_use]
    pub fn own(&self) -> Class {
        let step = |pair: &[Vec<usize>]| {
            let new = pair[1].iter().filter(|class| pair[0].binary_search(class).is_err());
            new.fold(Class::default(), |sum, class| sum.with(self.classes[*class]))
        };
        let steps = self.versions.windows(2).map(step).filter(|step| step.bytes > 0);
        steps.min_by_key(|step| step.bytes).unwrap_or_default()
    }

    /// How long a byte takes to make, in microseconds of processor time.
    #[must_use]
    pub fn us_per_byte(&self) -> f64 {
        let first = self.versions.first().into_iter().flatten();
        let bytes: u64 = first.map(|class| self.classes[*class].bytes).sum();
        real((self.cold_ms - self.warm_ms) * 1_000) / real(bytes.max(1))
    }
}

#[derive(Default)]
struct Reader {
    /// Length and length on the wire of each entry.
    entries: Vec<(u64, u64)>,
    /// Which versions use it.
    used_by: Vec<Vec<usize>>,
    now: Vec<bool>,
    cpu_ms: Vec<u64>,
}

impl Reader {
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (mark, rest) = line.split_once(' ').context("a line without a mark")?;
        match mark {
            "version" => {
                self.note();
                let cpu_ms = rest.split(' ').nth(2).context("a version without its time")?;
                self.cpu_ms.push(cpu_ms.parse()?);
            }
            "-" | "=" => {
                for range in rest.split(' ') {
                    let (first, last) = range.split_once("..").unwrap_or((range, range));
                    let (first, last) = (first.parse::<usize>()?, last.parse::<usize>()?);
                    ensure!(first <= last && last < self.now.len(), "{range} was never used");
                    self.now[first..=last].fill(mark == "=");
                }
            }
            "+" => {
                for lengths in rest.split(' ') {
                    let (length, wire) = lengths.split_once('/').context("an entry without two lengths")?;
                    self.entries.push((length.parse()?, wire.parse()?));
                    self.used_by.push(Vec::new());
                    self.now.push(true);
                }
            }
            _ => bail!("no line begins with {mark:?}"),
        }
        Ok(())
    }

    /// Notes what the version whose lines are over uses.
    fn note(&mut self) {
        let Some(version) = self.cpu_ms.len().checked_sub(1) else { return };
        for (used_by, is_used) in self.used_by.iter_mut().zip(&self.now) {
            if *is_used && used_by.last() != Some(&version) {
                used_by.push(version);
            }
        }
    }

    fn classes(&mut self) -> (Vec<Class>, Vec<Vec<usize>>) {
        self.note();
        let mut by_use: BTreeMap<&[usize], Class> = BTreeMap::new();
        for (used_by, (bytes, wire_bytes)) in self.used_by.iter().zip(&self.entries) {
            let class = by_use.entry(used_by).or_default();
            class.entries += 1;
            class.bytes += bytes;
            class.wire_bytes += wire_bytes;
        }
        let mut versions = vec![Vec::new(); self.cpu_ms.len()];
        for (class, used_by) in by_use.keys().enumerate() {
            used_by.iter().for_each(|version| versions[*version].push(class));
        }
        (by_use.into_values().collect(), versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "program example.org/a .\nversion v1 cpu 900\n+ 10/5 20/6 30/7\nversion v2 cpu 100\n- 1..2\n+ 40/8\n\
                         version v3 cpu 200\n- 3\n= 1\n";

    #[test]
    fn what_comes_and_goes_together_is_one() {
        let program = Program::parse(SMALL).unwrap();
        let class = |entries, bytes, wire_bytes| Class { entries, bytes, wire_bytes };
        assert_eq!(program.classes, [class(1, 30, 7), class(1, 10, 5), class(1, 20, 6), class(1, 40, 8)]);
        assert_eq!(program.versions, [vec![0, 1, 2], vec![1, 3], vec![1, 2]]);
        assert_eq!((program.cold_ms, program.warm_ms), (900, 100));
        assert_eq!(program.own(), class(1, 20, 6), "the second step brought an old one back");
        for broken in ["", "program a", "program a\nversion v1 cpu 1\n- 3\n", "program a\n? 1\n"] {
            assert!(Program::parse(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn the_records_are_of_more_than_fifty_versions_that_share_most_of_what_they_use() {
        let programs = programs().unwrap();
        let versions: usize = programs.iter().map(|program| program.versions.len()).sum();
        assert!(versions >= 50, "{versions}");
        for program in programs {
            let bytes =
                |version: &[usize]| version.iter().map(|class| program.classes[*class].bytes).sum::<u64>();
            let shared = |pair: &[Vec<usize>]| {
                let both: Vec<usize> =
                    pair[0].iter().copied().filter(|class| pair[1].contains(class)).collect();
                real(bytes(&both)) / real(bytes(&pair[1]))
            };
            let pairs = program.versions.windows(2).map(shared);
            let mean = pairs.sum::<f64>() / real(program.versions.len() as u64 - 1);
            assert!((0.2..1.0).contains(&mean), "{}: {mean}", program.module);
            assert!(program.cold_ms > 2 * program.warm_ms, "{}", program.module);
        }
    }
}
