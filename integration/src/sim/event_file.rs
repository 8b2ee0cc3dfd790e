//! A story in a file: one JSON object a line. The first is the [`Header`]; each later one is a [`Moment`], in order:
//!
//! ```text
//! {"format":2,"seed":7,"mutation":null,"finding":"…","faults":[…],"setup":{"agents":[…],"wishes":[…]}}
//! {"at":0,"start":{"host":0}}
//! {"at":12,"open":{"agent":3,"host":0}}
//! ```
//!
//! The file alone replays the story: nothing is drawn, and what the seed would mean today does not matter.

use std::{fmt::Write as _, fs, io, path::Path};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::sim::{audit::Finding, faults::Fault, happening::Moment, mutation::Mutation, setup::Setup};

/// The format of the files that are written now.
const FORMAT: u32 = 2;

/// What stands at the head of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The file's format.
    pub format: u32,
    /// The seed that the story was drawn from, for people.
    pub seed: u64,
    /// The name of the protection that was taken away.
    pub mutation: Option<String>,
    /// What was found, for people.
    pub finding: Option<String>,
    /// What went wrong, for people.
    pub faults: Vec<Fault>,
    /// What the story begins with.
    pub setup: Setup,
}

/// What the head of a file has in every format.
#[derive(Debug, Deserialize)]
struct Versioned {
    format: u32,
}

/// A story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its head.
    pub header: Header,
    /// Everything that happened.
    pub story: Vec<Moment>,
}

impl Header {
    /// The head of a story that was just told.
    #[must_use]
    pub fn new(
        seed: u64,
        mutation: Option<Mutation>,
        setup: Setup,
        faults: &[Fault],
        finding: Option<&Finding>,
    ) -> Self {
        let finding = finding.map(ToString::to_string);
        Self {
            format: FORMAT,
            seed,
            mutation: mutation.map(Mutation::name),
            finding,
            faults: faults.to_vec(),
            setup,
        }
    }
}

impl Told {
    /// Writes the story.
    ///
    /// # Errors
    /// The system's own.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string(&self.header)?;
        for moment in &self.story {
            let _ = write!(text, "\n{}", serde_json::to_string(moment)?);
        }
        text.push('\n');
        fs::write(path, text)
    }

    /// Reads a story, and which protection it is told without.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(path: &Path) -> anyhow::Result<(Self, Option<Mutation>)> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        // A file of another format has another head, so the format is read by itself.
        let Versioned { format } = serde_json::from_str(first)
            .with_context(|| format!("{shown} line 1 is not the head of an event file"))?;
        ensure!(format == FORMAT, "{shown} has format {format}, this release reads {FORMAT}");
        let header: Header = serde_json::from_str(first).with_context(|| format!("{shown} line 1"))?;
        let moment =
            |(line, text)| serde_json::from_str(text).with_context(|| format!("{shown} line {line}"));
        let story = (2..).zip(lines).map(moment).collect::<Result<_, _>>()?;
        let find = |name: &String| {
            let known = Mutation::all().into_iter().find(|known| known.name() == *name);
            known.with_context(|| format!("{shown} takes away {name:?}, which is no protection"))
        };
        let mutation = header.mutation.as_ref().map(find).transpose()?;
        Ok((Self { header, story }, mutation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_format_is_refused_by_its_format_and_another_file_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let told = |text: &str| {
            let path = dir.path().join("sim-1.jsonl");
            fs::write(&path, text).unwrap();
            format!("{:#}", Told::read(&path).unwrap_err())
        };
        let newer = told("{\"format\":99,\"what\":\"else\"}\n{}\n");
        assert!(newer.contains("has format 99, this release reads 2"), "{newer}");
        for other in ["", "[]", "{\"seed\":1}", "PK"] {
            let none = told(other);
            assert!(none.contains("is not the head of an event file"), "{none}");
        }
    }
}
