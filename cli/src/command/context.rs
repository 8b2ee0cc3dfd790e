//! What every command needs to know of its surroundings.

use std::path::Path;

use meridian_runtime::{identity::Identity, state_dir::UserDirs};

use crate::{
    args::FleetArgs,
    fleet::{
        client::Client,
        local::{self, LocalPaths},
        select::{self, Choice, Fleet},
    },
    settings::UserConfig,
    trouble::Trouble,
};

/// The user's directories and settings.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where the user's files lie.
    pub directories: UserDirs,
    /// What the user has set for all projects.
    pub config: UserConfig,
}

impl Context {
    /// Reads the environment and the user's configuration.
    ///
    /// # Errors
    /// When there is no home directory, or the configuration has mistakes.
    pub fn of_user() -> Result<Self, Trouble> {
        let directories = UserDirs::from_env().map_err(Trouble::usage)?;
        let config = UserConfig::load(&directories).map_err(Trouble::usage)?;
        Ok(Self { directories, config })
    }

    /// Connects to the fleet that is meant.
    ///
    /// # Errors
    /// When there is none to speak to.
    pub async fn fleet(&self, args: &FleetArgs) -> Result<Fleet, Trouble> {
        select::connect(args, &self.directories, &self.config).await
    }

    /// Acts as the administrator whose state directory is named, and otherwise as who we are in the fleet that is meant.
    ///
    /// # Errors
    /// As [`Self::fleet`]; when the directory holds no administrator's identity, or nothing says where the coordinator
    /// is.
    pub async fn administrator_or_own(
        &self,
        state: Option<&Path>,
        args: &FleetArgs,
    ) -> Result<Client, Trouble> {
        match state {
            Some(state) => self.administrator(state, args),
            None => Ok(self.fleet(args).await?.client),
        }
    }

    /// The same for what is only of use where a fleet runs.
    ///
    /// # Errors
    /// As [`Self::administrator_or_own`] and [`Self::running`].
    pub async fn administrator_or_running(
        &self,
        state: Option<&Path>,
        args: &FleetArgs,
    ) -> Result<Client, Trouble> {
        match state {
            Some(state) => self.administrator(state, args),
            None => self.running(args).await,
        }
    }

    /// Connects to the fleet that is meant as far as it runs: a local one that does not has nothing that could be looked
    /// at or changed, and is not started.
    ///
    /// # Errors
    /// As [`Self::fleet`]; when the local fleet is meant and does not run.
    pub async fn running(&self, args: &FleetArgs) -> Result<Client, Trouble> {
        if let Choice::Local = select::choose(args, &self.directories, &self.config)? {
            let found = local::find(&LocalPaths::of(&self.directories)).await?;
            let what = if args.local {
                "the local fleet does not run"
            } else {
                "no fleet was joined or named, and the local one does not run"
            };
            return found.map(|found| found.client).ok_or_else(|| {
                Trouble::refused(what).hint(
                    "`meridian local start` starts it; `meridian join` or --coordinator HOST:PORT selects another one",
                )
            });
        }
        Ok(self.fleet(args).await?.client)
    }

    /// Acts as the administrator whose identity a coordinator keeps in its state directory.
    ///
    /// # Errors
    /// When there is no such identity, or nothing says where the coordinator is.
    fn administrator(&self, state: &Path, args: &FleetArgs) -> Result<Client, Trouble> {
        let directory = state.join("admin");
        let identity = Identity::load(&directory).map_err(Trouble::refused)?.ok_or_else(|| {
            Trouble::refused(format_args!("no administrator's identity in {}", directory.display()))
                .hint("--state is the coordinator's state directory; start the coordinator once to make it")
        })?;
        let address = args.coordinator.as_ref().ok_or_else(|| {
            Trouble::usage("where is the coordinator?").hint("say --coordinator HOST:PORT beside --state")
        })?;
        Client::new(address, identity)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        args::{BuildRef, Cli, Command},
        command::{agents, ask},
        exit_code::ExitCode,
    };

    #[tokio::test]
    async fn who_asks_or_changes_what_only_a_fleet_that_runs_has_starts_none_and_is_told_how_to_have_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        let directories = UserDirs { state: at("state"), config: at("config"), cache: at("cache") };
        let context = Context { directories, config: UserConfig::default() };
        let args = FleetArgs { local: true, ..FleetArgs::default() };
        let build = || BuildRef { build: "acme/p/1".to_owned(), fleet: args.clone() };
        let words = "meridian agents --local cordon eu/a1".split(' ');
        let Command::Agents(cordon) = Cli::try_parse_from(words).unwrap().command else { panic!("another") };
        for told in [
            context.administrator_or_running(None, &args).await.map(drop),
            ask::explain(&context, &build()).await,
            ask::cancel(&context, &build()).await,
            agents::run(&context, &cordon).await,
        ] {
            let trouble = told.unwrap_err();
            assert_eq!(trouble.exit, ExitCode::Refused);
            assert!(trouble.to_string().contains("meridian local start"), "{trouble}");
        }
        assert!(!at("state").exists());
    }
}
