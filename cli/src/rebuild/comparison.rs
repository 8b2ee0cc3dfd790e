//! Two builds of the same, artifact by artifact.

use std::{fs, path::Path};

use meridian_core::digest::Digest;
use meridian_proto::v1::{self, task::State, task_kind::Kind};
use meridian_trust::executable::{Divergence, compare};

use crate::{build::board, command::build_ref::agent_of, trouble::Trouble};

/// One artifact as one of the two builds made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Who built it.
    pub agent: String,
    /// The toolchain's version as it reported itself.
    pub go_version: String,
    /// Its content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An artifact of both builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its name, which is the same in both.
    pub name: String,
    /// `linux/amd64`.
    pub target: String,
    /// As it was built first.
    pub first: Made,
    /// As it was built again.
    pub again: Made,
}

/// An artifact that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The artifact.
    pub pair: Pair,
    /// What differs; `None` when nothing does.
    pub divergence: Option<Divergence>,
}

impl Pair {
    /// Whether one agent built both, which says less than two agents that agree.
    #[must_use]
    pub fn is_same_agent(&self) -> bool {
        self.first.agent == self.again.agent
    }
}

/// Leaves of the first build only what the second one repeats.
#[must_use]
pub fn repeated(mut first: v1::Build, again: &v1::Build) -> v1::Build {
    let is_repeated = |task: &v1::Task| {
        platform(task).is_some() && again.tasks.iter().any(|other| platform(other) == platform(task))
    };
    first.tasks.retain(is_repeated);
    first
}

/// The artifacts that both builds made.
///
/// # Errors
/// When one made something that the other did not, or the coordinator sent no digest.
pub fn pairs(first: &v1::Build, again: &v1::Build) -> Result<Vec<Pair>, Trouble> {
    let mut pairs = Vec::new();
    for task in &first.tasks {
        let other = again.tasks.iter().find(|other| platform(other) == platform(task));
        let (ours, theirs) = (made(task)?, other.map(made).transpose()?.unwrap_or_default());
        let names = |made: &[(String, Made)]| made.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if names(&ours) != names(&theirs) {
            return Err(Trouble::broken(format_args!(
                "the two builds made different artifacts: {} and {}",
                names(&ours).join(", "),
                names(&theirs).join(", ")
            )));
        }
        let target = board::label(first, task);
        pairs.extend(ours.into_iter().zip(theirs).map(|((name, first), (_, again))| Pair {
            name,
            target: target.clone(),
            first,
            again,
        }));
    }
    Ok(pairs)
}

fn platform(task: &v1::Task) -> Option<&v1::Platform> {
    match task.kind.as_ref()?.kind.as_ref()? {
        Kind::Compile(platform) => Some(platform),
        Kind::Resolve(_) => None,
    }
}

fn made(task: &v1::Task) -> Result<Vec<(String, Made)>, Trouble> {
    let Some(State::Succeeded(done)) = &task.state else { return Ok(Vec::new()) };
    let one = |artifact: &v1::Artifact| {
        let digest = Digest::from_slice(&artifact.digest).map_err(|_| {
            Trouble::broken(format_args!("the coordinator sent no digest for {}", artifact.name))
        })?;
        let (agent, go_version) = (agent_of(task).unwrap_or_default(), done.go_version.clone());
        Ok((artifact.name.clone(), Made { agent, go_version, digest, size: artifact.size }))
    };
    done.artifacts.iter().map(one).collect()
}

/// Compares the files of two directories that hold what the builds made, verified.
///
/// # Errors
/// When a file cannot be read.
pub fn compare_all(pairs: Vec<Pair>, first: &Path, again: &Path) -> Result<Vec<Compared>, Trouble> {
    let read = |directory: &Path, name: &str| {
        let path = directory.join(name);
        fs::read(&path)
            .map_err(|error| Trouble::broken(format_args!("cannot read {}: {error}", path.display())))
    };
    let one = |pair: Pair| {
        let divergence = if pair.first.digest == pair.again.digest {
            None
        } else {
            compare(&read(first, &pair.name)?, &read(again, &pair.name)?)
        };
        Ok(Compared { pair, divergence })
    };
    pairs.into_iter().map(one).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use meridian_trust::executable::Cause;

    use super::*;
    use crate::build::board::tests::{build, platform as wire_platform, task};

    /// A build of one artifact for each architecture of linux, all by one agent.
    fn built(agent: &str, artifacts: &[(&str, &[u8])]) -> v1::Build {
        let leased = v1::task_step::Leased { agent: agent.to_owned(), fence: 1 };
        let step = v1::TaskStep { at_ms: 0, step: Some(v1::task_step::Step::Leased(leased)) };
        let one = |(ordinal, (arch, content)): (u32, &(&str, &[u8]))| {
            let artifact = v1::Artifact {
                name: format!("web_1.0_linux_{arch}"),
                digest: Digest::of(content).as_bytes().to_vec().into(),
                size: content.len() as u64,
                ..v1::Artifact::default()
            };
            let done = v1::task::Succeeded {
                artifacts: vec![artifact],
                go_version: "go1.27.3".to_owned(),
                ..Default::default()
            };
            let mut task = task(ordinal, wire_platform("linux", arch, ""), State::Succeeded(done));
            task.history = vec![step.clone()];
            task
        };
        build((0..).zip(artifacts).map(one).collect())
    }

    /// One artifact that is the same, and one that is not; the second by one agent twice.
    pub(crate) fn compared() -> Vec<Compared> {
        let first = built("eu/a", &[("amd64", b"same"), ("arm64", b"one")]);
        let again = built("us/b", &[("amd64", b"same"), ("arm64", b"other")]);
        let mut pairs = pairs(&first, &again).unwrap();
        pairs[1].again.agent = "eu/a".to_owned();
        let divergence = compare(b"one", b"other");
        let mut pairs = pairs.into_iter();
        let same = Compared { pair: pairs.next().unwrap(), divergence: None };
        vec![same, Compared { pair: pairs.next().unwrap(), divergence }]
    }

    #[test]
    fn artifacts_are_paired_by_platform_and_name() {
        let first = built("eu/a", &[("amd64", b"x"), ("arm64", b"y"), ("riscv64", b"z")]);
        let again = built("us/b", &[("arm64", b"y"), ("amd64", b"x2")]);
        let first = repeated(first, &again);
        let pairs = pairs(&first, &again).unwrap();
        let told: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.target.as_str(), pair.first.digest == pair.again.digest, pair.is_same_agent()))
            .collect();
        assert_eq!(told, [("linux/amd64", false, false), ("linux/arm64", true, false)]);
        assert_eq!(pairs[0].again.agent, "us/b");
    }

    #[test]
    fn a_build_that_made_something_else_is_not_taken_for_the_same() {
        let first = built("eu/a", &[("amd64", b"x")]);
        let mut again = built("us/b", &[("amd64", b"x")]);
        if let Some(State::Succeeded(done)) = &mut again.tasks[0].state {
            done.artifacts[0].name = "other".to_owned();
        }
        assert!(pairs(&first, &again).unwrap_err().message.contains("web_1.0_linux_amd64 and other"));
    }

    #[test]
    fn bytes_are_compared_and_only_where_the_digests_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("first"), dir.path().join("again"));
        let first = built("eu/a", &[("amd64", b"x"), ("arm64", b"one")]);
        let again = built("us/b", &[("amd64", b"x"), ("arm64", b"other")]);
        for (directory, content) in [(&one, b"one".as_slice()), (&two, b"other")] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("web_1.0_linux_arm64"), content).unwrap();
        }
        let pairs = pairs(&first, &again).unwrap();
        let compared = compare_all(pairs, &one, &two).unwrap();
        assert_eq!(compared[0].divergence, None);
        let divergence = compared[1].divergence.as_ref().unwrap();
        assert!(matches!(divergence.cause(), Cause::Unreadable { .. }), "{divergence}");
    }
}
