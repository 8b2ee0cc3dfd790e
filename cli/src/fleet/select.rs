//! Which fleet is meant.
//!
//! In order: `--local`; `--coordinator` or `MERIDIAN_COORDINATOR`; `coordinator` in the user's `config.toml`;
//! the fleet that was joined last; the local fleet. The last one is a convenience for people: a CI job that
//! fell back to it in silence would release what the fleet never saw, so with `CI=true` it is refused.

use std::path::{Path, PathBuf};

use meridian_core::time::Wall;
use meridian_proto::v1;
use meridian_runtime::{
    identity::{Identity, new_key_and_csr},
    state_dir::UserDirs,
};
use meridian_trust::dsse::Envelope;

use crate::{
    args::FleetArgs,
    command::print,
    fleet::{
        client::{Client, ask},
        local::{self, LocalPaths},
        root::pinned_root,
        saved::{self, SavedError, SavedFleet},
        seen_keyring,
    },
    settings::UserConfig,
    trouble::Trouble,
};

/// The fleet that a command speaks to.
#[derive(Debug)]
pub struct Fleet {
    /// The connection.
    pub client: Client,
    home: FleetHome,
}

/// What this machine has of a fleet.
#[derive(Debug)]
enum FleetHome {
    /// All of it.
    Local(LocalPaths),
    /// The identity that was got by joining it, in this directory.
    Joined(PathBuf),
}

impl Fleet {
    /// A fleet that was joined, with the identity in this directory.
    #[must_use]
    pub fn joined(client: Client, directory: PathBuf) -> Self {
        Self { client, home: FleetHome::Joined(directory) }
    }

    /// Whether it is this machine's own.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.home, FleetHome::Local(_))
    }

    /// Which fleet this is and why it was taken, for a person who waits for it in vain.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.home {
            FleetHome::Local(paths) => {
                format!("the local fleet; {} says what it does", paths.log.display())
            }
            FleetHome::Joined(directory) => {
                joined_place(self.client.id().fleet(), self.client.address(), directory)
            }
        }
    }

    /// Keeps a keyring that the fleet gave, for verifications to come. Whoever asked for something else has it all the
    /// same when that fails.
    pub fn remember(&self, keyring: &Envelope) {
        let FleetHome::Joined(directory) = &self.home else { return };
        let Ok(root) = pinned_root(&self.client) else { return };
        if let Err(error) = seen_keyring::remember(directory, &root, keyring, Wall(print::now_ms())) {
            tracing::warn!(%error, "the fleet's keyring could not be kept");
        }
    }

    /// Where it is kept how far the fleet's regions are; nowhere for a fleet that is all here.
    #[must_use]
    pub fn ways_file(&self) -> Option<PathBuf> {
        match &self.home {
            FleetHome::Local(_) => None,
            FleetHome::Joined(directory) => Some(directory.join("ways.json")),
        }
    }

    /// Makes the connection good again after the coordinator was away. A remote one is dialled again by
    /// itself; a local one may have to be started, and then has another address. One that cannot be started right now
    /// is one more absence, not the end.
    ///
    /// # Errors
    /// When the user has stopped the local fleet.
    pub async fn reconnect(&mut self) -> Result<(), Trouble> {
        let FleetHome::Local(paths) = &self.home else { return Ok(()) };
        match local::rejoin(paths).await {
            Ok(Some(client)) => self.client = client,
            Ok(None) => {
                return Err(Trouble::broken("the local fleet was stopped").hint(
                    "what was submitted goes on when it runs again: `meridian local start`, then `meridian builds`",
                ));
            }
            Err(error) => tracing::debug!(%error, "the local fleet is not back yet"),
        }
        Ok(())
    }
}

/// Where to go, before anything is connected.
#[derive(Debug)]
pub enum Choice {
    /// This machine's fleet.
    Local,
    /// A coordinator, with the identity that was saved when its fleet was joined.
    Remote(Box<SavedFleet>),
}

/// Decides which fleet is meant.
///
/// # Errors
/// When a coordinator is named but its fleet was never joined, or when a CI job has no fleet.
pub fn choose(args: &FleetArgs, directories: &UserDirs, config: &UserConfig) -> Result<Choice, Trouble> {
    if args.local {
        return Ok(Choice::Local);
    }
    let named = args.coordinator.as_ref().or(config.coordinator.as_ref());
    let mut joined = saved::all(&directories.state).map_err(SavedError::trouble)?;
    if let Some(address) = named {
        // The address may have changed since, so a fleet that was joined under another one will do when
        // there is only one; the identity decides whether it is the right one.
        let index = joined.iter().position(|fleet| fleet.coordinator == *address);
        let index = index.or_else(|| (joined.len() == 1).then_some(0));
        let Some(index) = index else {
            let message = format_args!("no identity for the coordinator at {address}");
            return Err(Trouble::refused(message).hint(format_args!(
                "ask an administrator for a token, then run `meridian join TOKEN --coordinator {address}`"
            )));
        };
        let mut fleet = joined.swap_remove(index);
        fleet.coordinator.clone_from(address);
        return Ok(Choice::Remote(Box::new(fleet)));
    }
    if !joined.is_empty() {
        return Ok(Choice::Remote(Box::new(joined.swap_remove(0))));
    }
    refuse_in_ci(std::env::var("CI").ok().as_deref())?;
    Ok(Choice::Local)
}

fn refuse_in_ci(ci: Option<&str>) -> Result<(), Trouble> {
    if matches!(ci, None | Some("" | "0" | "false")) {
        return Ok(());
    }
    Err(Trouble::refused("no fleet is configured, and CI is set").hint(
        "join a fleet, or set MERIDIAN_COORDINATOR; to build on this machine's own fleet after all, say --local",
    ))
}

/// Connects to the fleet that is meant, and starts the local one if need be.
///
/// # Errors
/// When there is no fleet to speak to.
pub async fn connect(
    args: &FleetArgs,
    directories: &UserDirs,
    config: &UserConfig,
) -> Result<Fleet, Trouble> {
    match choose(args, directories, config)? {
        Choice::Local => {
            let paths = LocalPaths::of(directories);
            Ok(Fleet { client: local::ensure(&paths).await?, home: FleetHome::Local(paths) })
        }
        Choice::Remote(saved) => {
            let home = FleetHome::Joined(saved.directory.clone());
            Ok(Fleet { client: connect_saved(*saved).await?, home })
        }
    }
}

fn joined_place(fleet: &str, address: &str, directory: &Path) -> String {
    format!(
        "{address}, is the address right? It was taken for the fleet `{fleet}`, joined in {}; `--local` uses this \
         machine's",
        directory.display()
    )
}

async fn connect_saved(saved: SavedFleet) -> Result<Client, Trouble> {
    let now = std::time::SystemTime::now();
    if saved.identity.not_after() <= now {
        let message = format_args!("our certificate for {} has expired", saved.identity.id());
        return Err(Trouble::refused(message).hint("ask an administrator for a new token and join again"));
    }
    let is_due = saved.identity.renewal_due(now);
    let client = Client::new(&saved.coordinator, saved.identity)?;
    if is_due && let Err(error) = renew(&client, &saved.directory).await {
        // The old one is still good; the next command tries again.
        tracing::warn!(%error, "the certificate could not be renewed");
    }
    Ok(client)
}

async fn renew(client: &Client, directory: &Path) -> Result<(), Trouble> {
    let (key, request) = new_key_and_csr().map_err(Trouble::broken)?;
    let message = v1::RenewRequest { certificate_request: request.into() };
    let answer = ask("renew our certificate", client.fleet().renew(message)).await?;
    let chain: Vec<Vec<u8>> = answer.chain.iter().map(|certificate| certificate.to_vec()).collect();
    let identity = Identity::new(key, &chain, &answer.authority).map_err(Trouble::broken)?;
    identity.save(directory).map_err(Trouble::broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    fn nowhere() -> (tempfile::TempDir, UserDirs) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        let directories = UserDirs { state: at("state"), config: at("config"), cache: at("cache") };
        (dir, directories)
    }

    #[test]
    fn a_ci_job_without_a_fleet_is_refused_and_told_about_local() {
        for ci in [None, Some(""), Some("false"), Some("0")] {
            assert!(refuse_in_ci(ci).is_ok(), "{ci:?}");
        }
        let trouble = refuse_in_ci(Some("true")).unwrap_err();
        assert_eq!(trouble.exit, ExitCode::Refused);
        assert!(trouble.to_string().contains("--local"), "{trouble}");
    }

    #[test]
    fn local_wins_over_everything_that_is_configured() {
        let (_dir, directories) = nowhere();
        let args = FleetArgs { local: true, ..FleetArgs::default() };
        let config = UserConfig { coordinator: Some("h.example:1".to_owned()) };
        assert!(matches!(choose(&args, &directories, &config), Ok(Choice::Local)));
    }

    #[test]
    fn a_joined_fleet_is_named_with_its_directory_and_the_way_around_it() {
        let told = joined_place("demo", "h.example:1", Path::new("/s/fleets/demo"));
        for part in ["h.example:1", "the fleet `demo`, joined in /s/fleets/demo", "`--local`"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_coordinator_whose_fleet_was_never_joined_is_refused_with_the_way_to_join() {
        let (_dir, directories) = nowhere();
        let args = FleetArgs { coordinator: Some("h.example:1".to_owned()), ..FleetArgs::default() };
        let trouble = choose(&args, &directories, &UserConfig::default()).unwrap_err();
        assert_eq!(trouble.exit, ExitCode::Refused);
        assert!(trouble.to_string().contains("meridian join TOKEN --coordinator h.example:1"), "{trouble}");
    }
}
