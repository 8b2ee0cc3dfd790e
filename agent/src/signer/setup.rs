//! The agent's preparations for its signer: whose process it will be, a directory of its own, where its secrets are.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use super::{
    client::{SignerConfig, SignerFailure},
    confinement, home,
    key_source::KeySetup,
    own_secret,
    pkcs11::TokenPlace,
    protocol::{Begin, Owner},
    settings::{KeyPlace, NoCredentials, Seal, SignerSettings, TokenSettings},
    user::{Accounts, RunAs, UserError},
};

/// What a signer is told, whenever it is started.
#[derive(Debug)]
pub(super) struct Setup {
    run_as: Option<RunAs>,
    algorithm: String,
    key: KeySetup,
    /// All that it finds in its environment.
    pub(super) environment: BTreeMap<String, String>,
}

impl Setup {
    /// The first word to a signer.
    pub(super) fn begin(&self, owner: Owner) -> Begin {
        let Self { run_as, algorithm, key, .. } = self;
        Begin { owner, run_as: *run_as, algorithm: algorithm.clone(), key: key.clone() }
    }
}

/// What the settings ask for and this machine does not have.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// As whom the signer should run is not known, or not allowed.
    #[error(transparent)]
    User(#[from] UserError),
    /// A secret of its has no place.
    #[error(transparent)]
    Credentials(#[from] NoCredentials),
    /// A file is not there.
    #[error("{key} in [signer] names {}, which cannot be found: {source}", path.display())]
    File {
        /// The key of the table.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether what the settings ask for is here, without making anything. `build_user` is the user that builds run as.
///
/// # Errors
/// When it is not.
pub fn check(settings: &SignerSettings, build_user: u32) -> Result<(), SettingsError> {
    if settings.user.is_some() {
        // Where the directory lies decides only where nothing is said.
        user(settings, Path::new("/"), build_user)?;
    }
    let is_there = |key, path: PathBuf| match fs::metadata(&path) {
        Ok(_) => Ok(()),
        Err(source) => Err(SettingsError::File { key, path, source }),
    };
    match &settings.key {
        KeyPlace::File(Seal::Secret(source)) => is_there("seal", source.path(credentials())?),
        KeyPlace::Token(TokenSettings { module, pin, .. }) => {
            is_there("pkcs11.module", module.clone())?;
            is_there("pkcs11.pin", pin.path(credentials())?)
        }
        KeyPlace::File(Seal::None | Seal::Beside) => Ok(()),
    }
}

/// Where the service manager put what it hands over.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Makes everything ready.
pub(super) fn prepare(config: &SignerConfig) -> Result<Setup, SignerFailure> {
    let SignerConfig { settings, state_dir, build_user, .. } = config;
    let run_as = user(settings, state_dir, *build_user)?;
    match home::prepare(state_dir, run_as) {
        Err(home::HomeError::File { source, .. }) if run_as.is_some() && settings.user.is_none() => {
            // Nobody asked for it by name, and a machine may not allow it: a container without the right to give files
            // away, or that knows no such user.
            warn_of_root(&source.to_string());
            home::prepare(state_dir, None)?;
            return ready(config, None);
        }
        prepared => prepared?,
    }
    ready(config, run_as)
}

fn ready(config: &SignerConfig, run_as: Option<RunAs>) -> Result<Setup, SignerFailure> {
    let mut environment = BTreeMap::new();
    let key = match &config.settings.key {
        KeyPlace::File(Seal::None) => KeySetup::File { chosen: None, own: None },
        KeyPlace::File(Seal::Beside) => {
            KeySetup::File { chosen: None, own: Some(own_secret::beside(&config.state_dir)?) }
        }
        KeyPlace::File(Seal::Secret(source)) => {
            let own = own_secret::path(&config.state_dir);
            KeySetup::File { chosen: Some(source.path(credentials())?), own: Some(own) }
        }
        KeyPlace::Token(TokenSettings { module, token, label, id, pin, environment: wanted }) => {
            environment.clone_from(wanted);
            let (module, token) = (module.clone(), token.clone());
            let place = TokenPlace { module, token, label: label.clone(), id: id.clone() };
            KeySetup::Token { place, pin: pin.path(credentials())? }
        }
    };
    Ok(Setup { run_as, algorithm: config.settings.algorithm.name().to_owned(), key, environment })
}

fn warn_of_root(why: &str) {
    tracing::warn!(
        why,
        "the signer runs as root like its agent: this machine lets the agent give it no user of its own, so whatever \
         builds run as root can read its key"
    );
}

/// As whom the signer runs; `None` for the agent's own user.
fn user(settings: &SignerSettings, dir: &Path, builder: u32) -> Result<Option<RunAs>, UserError> {
    let agent = geteuid();
    let wanted = settings.user.as_ref();
    match (wanted, agent.is_root()) {
        (_, true) if confinement::may_change_user() => {
            Accounts::read()?.choose(wanted, dir, home::owner(dir), builder).map(Some)
        }
        (Some(choice), true) => Err(UserError::NoRights { wanted: choice.to_string() }),
        (None, true) => {
            warn_of_root("the agent lacks CAP_SETUID, CAP_SETGID or CAP_CHOWN");
            Ok(None)
        }
        (Some(choice), false) if Accounts::read()?.find(choice)?.uid != agent.as_raw() => {
            Err(UserError::NotRoot { wanted: choice.to_string() })
        }
        (_, false) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_settings_name_and_this_machine_does_not_have_is_told_before_anything_is_made() {
        let told = |settings: SignerSettings| check(&settings, 65_533).err().map(|error| error.to_string());
        assert_eq!(told(SignerSettings::default()), None);
        let seal = |text: &str| {
            let key = KeyPlace::File(Seal::Secret(text.parse().unwrap()));
            told(SignerSettings { key, ..SignerSettings::default() })
        };
        assert!(
            seal("file:/nowhere/seal")
                .is_some_and(|told| told.contains("seal in [signer] names /nowhere/seal"))
        );
        assert_eq!(seal("file:/etc/passwd"), None);
        let user = Some("nobody-is-called-so".parse().unwrap());
        assert!(told(SignerSettings { user, ..SignerSettings::default() }).is_some());
        let token = TokenSettings {
            module: "/nowhere/module.so".into(),
            token: "t".to_owned(),
            label: "k".to_owned(),
            id: None,
            pin: "file:/etc/passwd".parse().unwrap(),
            environment: BTreeMap::new(),
        };
        let told = told(SignerSettings { key: KeyPlace::Token(token), ..SignerSettings::default() });
        assert!(told.is_some_and(|told| told.contains("pkcs11.module in [signer] names /nowhere/module.so")));
    }
}
