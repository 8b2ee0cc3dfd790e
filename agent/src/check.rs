//! What only its own machine can say of an agent's configuration: whether a variable that is declared is set, whether a
//! file that is named is there, whether a user exists.
//!
//! One check for an agent that starts and for `meridian doctor`, so that neither knows of a mistake that the other does
//! not, and all mistakes at once. Nothing is made or changed.
//!
//! Not here: what can be seen in the configuration itself, which is judged when it is read, and whether what is named
//! is any good: a key that does not open is found by whoever opens it.

use std::path::PathBuf;

use crate::{
    goproxy::{DiscoverError, GoEnvironment, process_environment},
    redaction::Redaction,
    sandbox::LauncherConfig,
    secrets::{self, DeclaredSecrets, SecretsError},
    signer::{self, SettingsError, SignerSettings},
};

/// What an agent has from its machine, where the configuration has no mistake.
pub struct Checked {
    /// Go's settings.
    pub go: GoEnvironment,
    /// Everything that is secret here, ready to be masked.
    pub redaction: Redaction,
}

/// One mistake.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// There is nowhere to get modules and toolchains from.
    #[error(transparent)]
    Proxy(#[from] DiscoverError),
    /// What is declared to be secret cannot be masked.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The signer cannot be set up so.
    #[error(transparent)]
    Signer(#[from] SettingsError),
}

/// All mistakes that were found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", join(.0))]
pub struct Mistakes(pub Vec<Mistake>);

fn join(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

/// Looks at everything that the configuration asks of this machine.
///
/// # Errors
/// When something of it is not there.
pub fn check(declared: &DeclaredSecrets, signer: &SignerSettings) -> Result<Checked, Mistakes> {
    let mut mistakes = Vec::new();
    let checked = GoEnvironment::discover().map_err(Mistake::from).and_then(|go| {
        let redaction = secrets::gather(declared, &process_environment(), &go)?;
        Ok(Checked { go, redaction })
    });
    let builder = LauncherConfig::new(PathBuf::new(), PathBuf::new()).build_user;
    if let Err(error) = signer::check(signer, builder) {
        mistakes.push(error.into());
    }
    match checked {
        Ok(checked) if mistakes.is_empty() => Ok(checked),
        Ok(_) => Err(Mistakes(mistakes)),
        Err(error) => {
            mistakes.insert(0, error);
            Err(Mistakes(mistakes))
        }
    }
}
