//! What only its own machine can say of an agent's configuration: whether a variable that is declared is set, whether a
//! file that is named is there, whether a user exists.
//!
//! One check for an agent that starts and for `meridian doctor`, so that neither knows of a mistake that the other does
//! not, and all mistakes at once. Nothing is made or changed.
//!
//! Not here: what can be seen in the configuration itself, which is judged when it is read, and whether what is named
//! is any good: a key that does not open is found by whoever opens it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use meridian_cache::reapi::{ListenError, StockListener, TokenError, TokenTable};
use meridian_runtime::tls::ForeignTls;

use crate::{
    config::{AgentConfig, ShardSettings, StockSettings},
    directories::{self, DirectoryError},
    fabric::{OutsideMistake, authorization},
    goproxy::{DiscoverError, GoEnvironment, process_environment},
    redaction::Redaction,
    sandbox::LauncherConfig,
    secrets::{self, SecretsError},
    sidecar::{self, SidecarError},
    signer::{self, SettingsError},
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
    /// A directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The signer cannot be set up so.
    #[error(transparent)]
    Signer(#[from] SettingsError),
    /// Other agents could not ask.
    #[error("shard.listen: cannot listen on {listen}: {source}")]
    Port {
        /// Where.
        listen: String,
        /// The system's words.
        source: io::Error,
    },
    /// Other agents would not know where to ask.
    #[error(
        "shard.listen = \"{0}\" is every address of this machine: say with shard.address at which of them, or under which name, other agents reach it"
    )]
    EveryAddress(SocketAddr),
    /// Stock clients could not be told from strangers.
    #[error("reapi.tokens: {0}")]
    Tokens(#[from] TokenError),
    /// Stock clients could not come in.
    #[error("reapi: {0}")]
    Stock(#[from] ListenError),
    /// The cache outside the fleet could not be used.
    #[error(transparent)]
    Outside(#[from] OutsideMistake),
    /// Go commands beside the agent cannot be served so.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
}

/// All mistakes that were found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", join(.0))]
pub struct Mistakes(pub Vec<Mistake>);

fn join(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

/// Looks at everything that the configuration asks of this machine. A port that is asked for is opened and closed again.
///
/// # Errors
/// When something of it is not there.
pub fn check(config: &AgentConfig) -> Result<Checked, Mistakes> {
    let mut mistakes: Vec<Mistake> =
        directories::check(&config.state_dir).into_iter().map(Mistake::from).collect();
    let checked = GoEnvironment::discover().map_err(Mistake::from).and_then(|go| {
        let redaction = secrets::gather(&config.secrets, &process_environment(), &go)?;
        Ok(Checked { go, redaction })
    });
    let builder = LauncherConfig::new(PathBuf::new(), PathBuf::new()).build_user;
    if let Err(error) = signer::check(&config.signer, builder) {
        mistakes.push(error.into());
    }
    if let Some(Err(error)) = config.shard.as_ref().map(shard) {
        mistakes.push(error);
    }
    if let Some(settings) = &config.outside {
        let files = settings.tls.as_ref().map_or(Ok(()), ForeignTls::check).map_err(OutsideMistake::from);
        let mistakes_of_it = [files, authorization(settings).map(drop)];
        mistakes.extend(mistakes_of_it.into_iter().filter_map(Result::err).map(Mistake::from));
    }
    if let Some(settings) = &config.stock {
        mistakes.extend(stock(settings));
    }
    if let Some(Err(error)) =
        config.sidecar.as_ref().map(|settings| sidecar::check(settings, Some(&config.state_dir)))
    {
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

fn shard(settings: &ShardSettings) -> Result<(), Mistake> {
    let listen = &settings.listen;
    let failed = |source| Mistake::Port { listen: listen.clone(), source };
    let bound = TcpListener::bind(listen).and_then(|listener| listener.local_addr()).map_err(failed)?;
    if bound.ip().is_unspecified() && settings.address.is_none() {
        return Err(Mistake::EveryAddress(bound));
    }
    Ok(())
}

fn stock(settings: &StockSettings) -> Vec<Mistake> {
    let tokens = TokenTable::load(&settings.tokens).err().map(Mistake::from);
    let port = StockListener::check(settings.listen, settings.tls.as_ref()).err().map(Mistake::from);
    tokens.into_iter().chain(port).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use meridian_core::quantity::ByteCount;

    use super::*;

    fn told(settings: &ShardSettings) -> String {
        shard(settings).unwrap_err().to_string()
    }

    #[test]
    fn a_port_that_is_taken_or_an_address_that_is_every_one_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings =
            |listen: &str| ShardSettings { listen: listen.to_owned(), address: None, reapi_capacity: None };
        let address = taken.local_addr().unwrap().to_string();
        let said = told(&settings(&address));
        assert!(said.starts_with(&format!("shard.listen: cannot listen on {address}: ")), "{said}");
        let every = told(&settings("0.0.0.0:0"));
        assert!(every.contains("shard.address"), "{every}");
        let named = ShardSettings { address: Some("a.example:1".parse().unwrap()), ..settings("0.0.0.0:0") };
        shard(&named).unwrap();
        shard(&settings("127.0.0.1:0")).unwrap();
    }

    #[test]
    fn all_that_is_wrong_with_the_cache_for_stock_clients_is_found_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        let settings = |listen: &str| StockSettings {
            listen: listen.parse().unwrap(),
            tokens: tokens.clone(),
            tls: None,
            capacity: ByteCount::gib(1),
        };
        let told = |listen: &str| -> Vec<String> {
            stock(&settings(listen)).iter().map(Mistake::to_string).collect()
        };
        let found = told("0.0.0.0:0");
        assert!(
            found[0].starts_with("reapi.tokens: cannot read") && found[1].contains("reapi: "),
            "{found:?}"
        );
        fs::write(&tokens, "short acme write\n").unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(told("127.0.0.1:0")[0].contains("others can read it"));
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(told("127.0.0.1:0")[0].contains("16 characters"));
        fs::write(&tokens, "long-enough-to-be-one acme write\n").unwrap();
        assert!(told("127.0.0.1:0").is_empty());
    }
}
