//! What the user has set once for all projects: `config.toml` in the user's configuration directory.

use meridian_runtime::{
    config::{ConfigErrors, ConfigType, HOST_PORT, Key, Loader, Problem},
    state_dir::UserDirs,
};
use serde::Deserialize;

/// The keys of `config.toml`. Every one may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserConfig {
    /// The coordinator to use, `HOST:PORT`. Needs an identity saved by `meridian join`.
    pub coordinator: Option<String>,
}

impl ConfigType for UserConfig {
    const SCHEMA: &'static [Key] = &[Key::optional("coordinator", HOST_PORT)];

    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl UserConfig {
    /// Reads the file; every key keeps its default when there is none.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn load(directories: &UserDirs) -> Result<Self, ConfigErrors> {
        Loader::new().optional_file(directories.config.join("config.toml")).load()
    }
}
