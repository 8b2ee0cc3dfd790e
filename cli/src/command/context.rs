//! What every command needs to know of its surroundings.

use meridian_runtime::state_dir::UserDirs;

use crate::{
    args::FleetArgs,
    fleet::select::{self, Fleet},
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
}
