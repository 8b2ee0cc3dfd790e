//! Typed ids. Each says whose it is: a build carries its team and project, a task its build.
//!
//! Names come from people and travel into paths, certificates and URLs, so they are checked once, here.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest name that is accepted, in bytes.
pub const NAME_LEN_MAX: usize = 63;

/// Why a text is not a name or an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// A name broke the rule for names.
    #[error(
        "{what} {text:?} is not a name: 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"
    )]
    Name {
        /// What the name was for.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// An id of several parts had the wrong shape.
    #[error("{text:?} is not {what}: expected {shape}")]
    Shape {
        /// What the id was for.
        what: &'static str,
        /// What was given.
        text: String,
        /// What it should look like.
        shape: &'static str,
    },
}

fn check_name(what: &'static str, text: &str) -> Result<(), ParseIdError> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && text.len() <= NAME_LEN_MAX {
        return Ok(());
    }
    Err(ParseIdError::Name { what, text: text.chars().take(80).collect() })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// When `text` breaks the rule for names.
            pub fn new(text: &str) -> Result<Self, ParseIdError> {
                check_name($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.0)
            }
        }

        impl FromStr for $type {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// A fleet: one certificate authority and one coordinator.
    FleetName,
    "fleet"
);
name!(
    /// A team, the owner of projects.
    TeamName,
    "team"
);
name!(
    /// A project within a team.
    ProjectName,
    "project"
);
name!(
    /// A region: agents that are near one another.
    RegionName,
    "region"
);
name!(
    /// An agent's own name, unique within its region.
    AgentName,
    "agent"
);
name!(
    /// Something that some agents have and others do not, such as a signing key's hardware.
    Label,
    "label"
);
name!(
    /// Builds of a project of which only one runs at a time.
    GroupName,
    "concurrency group"
);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $type(pub u64);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// The position of an event in the journal. The first event has index 1; 0 is "before everything".
    JournalIndex
);
number!(
    /// A term of leadership. Grows with every coordinator that takes over.
    Epoch
);
number!(
    /// The fencing number of a lease. Never given twice, and a later lease has a greater one.
    Fence
);
number!(
    /// The number of a placement. Never given twice.
    PlacementNumber
);
number!(
    /// One attached stream of one agent. Made by the coordinator's shell, never reused in an epoch.
    SessionId
);
number!(
    /// One waiting caller. Made by the coordinator's shell to match a reply with its request.
    RequestId
);

/// Whose a build is: `TEAM/PROJECT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId {
    /// The owning team.
    pub team: TeamName,
    /// The project.
    pub project: ProjectName,
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.team, self.project)
    }
}

impl FromStr for ProjectId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (team, project) = text.split_once('/').ok_or_else(|| ParseIdError::Shape {
            what: "a project",
            text: text.chars().take(80).collect(),
            shape: "TEAM/PROJECT",
        })?;
        Ok(Self { team: team.parse()?, project: project.parse()? })
    }
}

/// A build: `TEAM/PROJECT/NUMBER`, numbered from 1 within its project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId {
    /// Whose it is.
    pub project: ProjectId,
    /// Counts the project's builds from 1.
    pub number: u64,
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.number)
    }
}

impl FromStr for BuildId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let shape = || ParseIdError::Shape {
            what: "a build",
            text: text.chars().take(200).collect(),
            shape: "TEAM/PROJECT/NUMBER",
        };
        let (project, number) = text.rsplit_once('/').ok_or_else(shape)?;
        let number = parse_number(number).filter(|n| *n > 0).ok_or_else(shape)?;
        Ok(Self { project: project.parse()?, number })
    }
}

/// A task of a build: `TEAM/PROJECT/NUMBER/ORDINAL`. Ordinals count a build's tasks from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The build it belongs to.
    pub build: BuildId,
    /// Counts the build's tasks from 0, in the order in which they were made.
    pub ordinal: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.build, self.ordinal)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let shape = || ParseIdError::Shape {
            what: "a task",
            text: text.chars().take(200).collect(),
            shape: "TEAM/PROJECT/NUMBER/ORDINAL",
        };
        let (build, ordinal) = text.rsplit_once('/').ok_or_else(shape)?;
        let ordinal = parse_number(ordinal).and_then(|n| u32::try_from(n).ok()).ok_or_else(shape)?;
        Ok(Self { build: build.parse()?, ordinal })
    }
}

/// A number in its one spelling: digits only and no leading zero, so that an id has one text.
fn parse_number(text: &str) -> Option<u64> {
    let is_canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    text.parse().ok().filter(|_| is_canonical)
}

/// An agent: `REGION/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId {
    /// Where it is.
    pub region: RegionName,
    /// Its name there.
    pub name: AgentName,
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.name)
    }
}

impl FromStr for AgentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (region, name) = text.split_once('/').ok_or_else(|| ParseIdError::Shape {
            what: "an agent",
            text: text.chars().take(80).collect(),
            shape: "REGION/NAME",
        })?;
        Ok(Self { region: region.parse()?, name: name.parse()? })
    }
}

/// The key that makes a submit repeatable: the same key, project and request is the same build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks and wraps a key of 1 to 64 visible ASCII characters.
    ///
    /// # Errors
    /// When the key is empty, too long, or holds anything else.
    pub fn new(text: &str) -> Result<Self, ParseIdError> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        Err(ParseIdError::Shape {
            what: "an idempotency key",
            text: text.chars().take(80).collect(),
            shape: "1 to 64 visible ASCII characters",
        })
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_own_text() {
        let build: BuildId = "acme/web/17".parse().unwrap();
        assert_eq!(build.to_string(), "acme/web/17");
        let task: TaskId = "acme/web/17/0".parse().unwrap();
        assert_eq!(task.to_string(), "acme/web/17/0");
        for text in
            ["acme/web/17", "acme/web/17/", "acme/web/17/00", "acme/web/17/4294967296", "acme/web/0/1"]
        {
            assert!(text.parse::<TaskId>().is_err(), "{text:?}");
        }
        let agent: AgentId = "eu-central/a1".parse().unwrap();
        assert_eq!(agent.to_string(), "eu-central/a1");
    }

    #[test]
    fn names_that_could_leave_their_directory_or_their_certificate_are_refused() {
        for text in ["", ".", "..", "a/b", "A", "-a", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert!(TeamName::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_build_id_of_the_wrong_shape_says_which_shape_is_right() {
        for text in
            ["acme", "acme/web", "acme/web/0", "acme/web/x", "acme/web/+1", "acme/web/01", "acme/web/1/2"]
        {
            assert!(text.parse::<BuildId>().is_err(), "{text:?}");
        }
        assert!("acme/web".parse::<BuildId>().unwrap_err().to_string().contains("TEAM/PROJECT/NUMBER"));
    }
}
