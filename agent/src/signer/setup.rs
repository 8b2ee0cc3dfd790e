//! The agent's preparations for its signer: whose process it will be, a directory of its own, where its secrets are.

use std::{
    collections::BTreeMap,
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
    settings::{KeyPlace, Seal, SignerSettings, TokenSettings},
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
    let credentials = || std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
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
