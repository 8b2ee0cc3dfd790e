//! The `[sidecar]` table of `agent.toml`: the cache for go commands that run beside the agent.

use std::path::{Path, PathBuf};

use meridian_agent::{SidecarSettings, signer::UserChoice};
use meridian_core::id::ProjectId;
use meridian_runtime::config::{Key, Kind, Problem};
use serde::Deserialize;

/// The socket's name in the agent's state directory, where nothing else is said.
pub(crate) const SOCKET: &str = "sidecar.sock";

/// The table's keys.
pub(super) const KEYS: &[Key] = &[
    Key::required("projects", Kind::List(&PROJECT)),
    Key::optional("socket", PATH),
    Key::optional("users", Kind::List(&WHO)),
    Key::optional("group", WHO),
    Key::optional("trusted", Kind::Boolean),
    Key::optional("views", PATH),
    Key::optional("runs", Kind::Integer { min: 1, max: 1_024 }),
];

const PROJECT: Kind = Kind::Parsed {
    expected: "TEAM/PROJECT",
    check: |text| text.parse::<ProjectId>().map(drop).map_err(|error| error.to_string()),
};
const PATH: Kind = Kind::Parsed {
    expected: "an absolute path",
    check: |text| {
        if text.starts_with('/') { Ok(()) } else { Err("it does not begin with a slash".to_owned()) }
    },
};
const WHO: Kind = Kind::Parsed {
    expected: "a name or a number",
    check: |text| match text.parse::<UserChoice>() {
        Ok(_) if !text.contains(':') => Ok(()),
        _ => Err("it is not".to_owned()),
    },
};

/// What the file says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SidecarTable {
    projects: Vec<String>,
    socket: Option<PathBuf>,
    #[serde(default)]
    users: Vec<String>,
    group: Option<String>,
    #[serde(default)]
    trusted: bool,
    views: Option<PathBuf>,
    #[serde(default = "runs")]
    runs: usize,
}

const fn runs() -> usize {
    32
}

impl SidecarTable {
    /// What is wrong with it as a whole.
    pub(super) fn problem(&self) -> Option<Problem> {
        if self.projects.is_empty() {
            return Some(Problem::new(&["sidecar.projects"], "name one project at least"));
        }
        let both = !self.users.is_empty() && self.group.is_some();
        both.then(|| Problem::new(&["sidecar.group", "sidecar.users"], "say users or group, not both"))
    }

    /// What the agent is told. Each text was checked by its form before.
    pub(super) fn settings(self, state: &Path) -> SidecarSettings {
        SidecarSettings {
            socket: self.socket.unwrap_or_else(|| state.join(SOCKET)),
            projects: self.projects.iter().filter_map(|project| project.parse().ok()).collect(),
            users: self.users,
            group: self.group,
            is_trusted: self.trusted,
            views: self.views,
            runs_max: self.runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn table(said: Value) -> SidecarTable {
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn the_socket_is_in_the_state_directory_unless_it_is_said() {
        let settings = |said: Value| table(said).settings(Path::new("/state"));
        let plain = settings(json!({ "projects": ["acme/web"] }));
        assert_eq!((plain.socket, plain.runs_max), (PathBuf::from("/state/sidecar.sock"), 32));
        assert!(!plain.is_trusted);
        let said = settings(
            json!({ "projects": ["acme/web"], "socket": "/run/cache.sock", "trusted": true, "runs": 2 }),
        );
        assert_eq!((said.socket, said.runs_max), (PathBuf::from("/run/cache.sock"), 2));
        assert!(said.is_trusted);
    }

    #[test]
    fn what_does_not_go_together_is_a_mistake() {
        assert!(table(json!({ "projects": [] })).problem().is_some());
        assert!(table(json!({ "projects": ["a/b"], "users": ["x"], "group": "y" })).problem().is_some());
        assert!(table(json!({ "projects": ["a/b"], "group": "y" })).problem().is_none());
    }
}
