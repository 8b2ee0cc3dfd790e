//! The user that a signer runs as when its agent is root.
//!
//! A process of its own keeps the key from other processes only as far as the system tells the two apart: what runs as
//! the same user may read the same files. So a signer whose agent is root runs as a user that nothing else runs as:
//! the one that is configured, else the system user [`SYSTEM_USER`], else a number that nobody has.
//!
//! Names are looked up in `/etc/passwd` and `/etc/group`, where system users live. A user from a directory service is
//! given by number.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use meridian_core::digest::Digest;
use serde::{Deserialize, Serialize};

/// The system user that is taken when it exists and none is configured.
pub const SYSTEM_USER: &str = "meridian-signer";

/// Numbers that neither people, system users, systemd's own services nor containers are given: between the last user
/// with a home of systemd-homed's (60577) and the first of its dynamic users (61184).
/// Source: systemd's "Users, Groups, UIDs and GIDs on systemd Systems".
const UNASSIGNED_FIRST: u32 = 60_578;
const UNASSIGNED_LAST: u32 = 61_183;
const UNASSIGNED_COUNT: u32 = UNASSIGNED_LAST - UNASSIGNED_FIRST + 1;

/// A configured user: NAME or UID, with a `:GROUP` or `:GID` where the primary group is not the one wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChoice {
    user: String,
    group: Option<String>,
}

impl UserChoice {
    /// The user's number on this machine.
    ///
    /// # Errors
    /// When there is no such user, or the users cannot be read.
    pub fn uid(&self) -> Result<u32, UserError> {
        Ok(Accounts::read()?.find(self)?.uid)
    }
}

/// Not a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no user: expected NAME or UID, and after a colon GROUP or GID")]
pub struct ParseUserChoiceError(String);

impl FromStr for UserChoice {
    type Err = ParseUserChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !name.is_empty() && name.chars().all(is_plain)
        };
        if is_name(user) && group.is_none_or(is_name) {
            Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
        } else {
            Err(ParseUserChoiceError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for UserChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunAs {
    /// The user.
    pub(crate) uid: u32,
    /// The one group.
    pub(crate) gid: u32,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Not in `/etc/passwd`.
    #[error("there is no user {0:?} in /etc/passwd: make it with `useradd --system`, or give a number")]
    Unknown(String),
    /// Not in `/etc/group`.
    #[error("there is no group {0:?} in /etc/group: make it with `groupadd --system`, or give a number")]
    UnknownGroup(String),
    /// The user that the signer must be kept from.
    #[error("the signer cannot run as {0}: its key would belong to what it is kept from")]
    Shared(String),
    /// Only root can choose.
    #[error(
        "only an agent that runs as root can give its signer user {wanted}: run the agent as root, or take \
         `user` out of [signer]"
    )]
    NotRoot {
        /// What was configured.
        wanted: String,
    },
    /// Root, but without the rights.
    #[error(
        "the signer cannot have user {wanted}: the agent lacks CAP_SETUID, CAP_SETGID or CAP_CHOWN. Give it those, or \
         take `user` out of [signer]"
    )]
    NoRights {
        /// What was configured.
        wanted: String,
    },
    /// Every number is taken.
    #[error("no user number from 60578 to 61183 is free: configure `user` in [signer]")]
    NoneFree,
    /// A table cannot be read.
    #[error("{}: {source}", path.display())]
    Table {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The users and groups of this machine.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Name, user and primary group.
    users: Vec<(String, u32, u32)>,
    groups: Vec<(String, u32)>,
    /// Users that something runs as now.
    running: BTreeSet<u32>,
}

impl Accounts {
    /// Reads them.
    pub(crate) fn read() -> Result<Self, UserError> {
        let table = |path: &str| {
            let read = fs::read(path);
            // A container may have neither.
            let read = read.or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(Vec::new()),
                _ => Err(error),
            });
            let table = read.map_err(|source| UserError::Table { path: PathBuf::from(path), source })?;
            Ok(String::from_utf8_lossy(&table).into_owned())
        };
        let accounts = Self::parse(&table("/etc/passwd")?, &table("/etc/group")?);
        Ok(Self { running: running(), ..accounts })
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let rows = |table: &str| -> Vec<Vec<String>> {
            table.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
        };
        let number = |row: &[String], at: usize| row.get(at).and_then(|field| field.parse().ok());
        let user = |row: Vec<String>| Some((row.first()?.clone(), number(&row, 2)?, number(&row, 3)?));
        let group_of = |row: Vec<String>| Some((row.first()?.clone(), number(&row, 2)?));
        Self {
            users: rows(passwd).into_iter().filter_map(user).collect(),
            groups: rows(group).into_iter().filter_map(group_of).collect(),
            running: BTreeSet::new(),
        }
    }

    /// As whom the signer of an agent that is root runs, whose directory is `dir` and belongs to `owner` when it is
    /// there. `builder` is the user that builds run as.
    pub(super) fn choose(
        &self,
        configured: Option<&UserChoice>,
        dir: &Path,
        owner: Option<u32>,
        builder: u32,
    ) -> Result<RunAs, UserError> {
        let chosen = match configured {
            Some(choice) => self.find(choice)?,
            None => match self.users.iter().find(|(name, ..)| name == SYSTEM_USER) {
                Some((_, uid, gid)) => RunAs { uid: *uid, gid: *gid },
                None => self.unassigned(dir, owner)?,
            },
        };
        match chosen.uid {
            0 => Err(UserError::Shared("root".to_owned())),
            uid if uid == builder => Err(UserError::Shared(format!("user {uid}, as which builds run"))),
            _ => Ok(chosen),
        }
    }

    /// The user that a configuration means.
    pub(crate) fn find(&self, choice: &UserChoice) -> Result<RunAs, UserError> {
        let known = match choice.user.parse::<u32>() {
            Ok(uid) => {
                self.users.iter().find(|(_, known, _)| *known == uid).map(|(_, uid, gid)| (*uid, *gid))
            }
            Err(_) => {
                let found = self.users.iter().find(|(name, ..)| *name == choice.user);
                let found = found.map(|(_, uid, gid)| (*uid, *gid));
                Some(found.ok_or_else(|| UserError::Unknown(choice.user.clone()))?)
            }
        };
        let uid = known.map(|(uid, _)| uid).or_else(|| choice.user.parse().ok());
        let uid = uid.ok_or_else(|| UserError::Unknown(choice.user.clone()))?;
        let gid = match &choice.group {
            None => known.map_or(uid, |(_, gid)| gid),
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => {
                    let found = self.groups.iter().find(|(name, _)| name == group);
                    found.map(|(_, gid)| *gid).ok_or_else(|| UserError::UnknownGroup(group.clone()))?
                }
            },
        };
        // The highest number means "leave it as it is" to the kernel.
        match (uid, gid) {
            (u32::MAX, _) => Err(UserError::Unknown(choice.user.clone())),
            (_, u32::MAX) => Err(UserError::UnknownGroup(choice.group.clone().unwrap_or_default())),
            _ => Ok(RunAs { uid, gid }),
        }
    }

    /// A number that nobody has; the same as before for a directory that belongs to one.
    fn unassigned(&self, dir: &Path, owner: Option<u32>) -> Result<RunAs, UserError> {
        let before = owner.filter(|uid| is_unassigned(*uid) && !self.is_assigned(*uid));
        let of_dir = Digest::of(dir.as_os_str().as_encoded_bytes());
        let start = of_dir
            .as_bytes()
            .iter()
            .fold(0_u32, |sum, byte| (sum * 256 + u32::from(*byte)) % UNASSIGNED_COUNT);
        let numbers = (0..UNASSIGNED_COUNT).map(|step| UNASSIGNED_FIRST + (start + step) % UNASSIGNED_COUNT);
        let mut free = numbers.filter(|uid| !self.is_assigned(*uid) && !self.running.contains(uid));
        let uid = before.or_else(|| free.next()).ok_or(UserError::NoneFree)?;
        Ok(RunAs { uid, gid: uid })
    }

    fn is_assigned(&self, number: u32) -> bool {
        self.users.iter().any(|(_, uid, gid)| *uid == number || *gid == number)
            || self.groups.iter().any(|(_, gid)| *gid == number)
    }
}

/// Whether a number is of those that nobody is given.
pub(super) fn is_unassigned(uid: u32) -> bool {
    (UNASSIGNED_FIRST..=UNASSIGNED_LAST).contains(&uid)
}

/// The owners of the processes that run now. What cannot be seen does not count: this only keeps two agents of one
/// machine apart that happen to begin with the same number.
fn running() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| Some(fs::metadata(entry.path().join("task")).ok()?.uid()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        meridian:x:998:997::/var/lib/meridian:/usr/sbin/nologin\nbroken\n";
    const GROUP: &str = "root:x:0:\nsofthsm:x:115:\n";
    const BUILDER: u32 = 65_533;

    fn choose(passwd: &str, configured: Option<&str>, owner: Option<u32>) -> Result<RunAs, String> {
        let accounts = Accounts::parse(passwd, GROUP);
        let configured = configured.map(|text| text.parse().unwrap());
        let dir = Path::new("/var/lib/meridian/agent/signer");
        accounts.choose(configured.as_ref(), dir, owner, BUILDER).map_err(|error| error.to_string())
    }

    #[test]
    fn a_signer_whose_agent_is_root_gets_a_user_that_nothing_else_runs_as() {
        let own = choose(PASSWD, None, None).unwrap();
        assert!(is_unassigned(own.uid) && own.gid == own.uid, "{own:?}");
        assert_eq!(choose(PASSWD, None, Some(own.uid)), Ok(own), "and keeps it");
        assert_eq!(choose(PASSWD, None, Some(0)), Ok(own), "whoever owned the directory before");
        let taken = format!("{PASSWD}somebody:x:{0}:{0}::/:/bin/sh\n", own.uid);
        let other = choose(&taken, None, Some(own.uid)).unwrap();
        assert!(is_unassigned(other.uid) && other.uid != own.uid, "unless somebody was given it meanwhile");
        let made = format!("{PASSWD}meridian-signer:x:990:991::/:/usr/sbin/nologin\n");
        assert_eq!(choose(&made, None, Some(own.uid)), Ok(RunAs { uid: 990, gid: 991 }));
    }

    #[test]
    fn a_number_that_something_runs_as_is_passed_over() {
        let dir = Path::new("/var/lib/meridian/agent/signer");
        let mut accounts = Accounts::parse(PASSWD, GROUP);
        let first = accounts.choose(None, dir, None, BUILDER).unwrap();
        accounts.running.insert(first.uid);
        let second = accounts.choose(None, dir, None, BUILDER).unwrap();
        assert_ne!(first.uid, second.uid);
        assert_eq!(
            accounts.choose(None, dir, Some(first.uid), BUILDER).unwrap(),
            first,
            "its own earlier process"
        );
    }

    #[test]
    fn a_configured_user_is_found_by_name_or_number_and_a_wrong_one_named() {
        let find = |text: &str| choose(PASSWD, Some(text), None);
        assert_eq!(find("meridian"), Ok(RunAs { uid: 998, gid: 997 }));
        assert_eq!(find("998"), Ok(RunAs { uid: 998, gid: 997 }));
        assert_eq!(find("4711"), Ok(RunAs { uid: 4711, gid: 4711 }));
        assert_eq!(find("meridian:softhsm"), Ok(RunAs { uid: 998, gid: 115 }));
        assert_eq!(find("4711:12"), Ok(RunAs { uid: 4711, gid: 12 }));
        for (wrong, says) in [
            ("nobody-here", "no user \"nobody-here\""),
            ("meridian:nobody-here", "no group \"nobody-here\""),
            ("4294967295", "no user \"4294967295\""),
            ("4711:4294967295", "no group \"4294967295\""),
            ("root", "cannot run as root"),
            ("0", "cannot run as root"),
            ("65533", "as which builds run"),
        ] {
            let error = find(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
        for wrong in ["", ":", "a:", ":b", "a:b:c", "a b", "../x"] {
            assert!(wrong.parse::<UserChoice>().is_err(), "{wrong:?}");
        }
    }
}
