//! Whether the server outside the fleet can be used, for whoever set it up: builds go on without it, and only a line in the
//! log tells that it is of no use.
//!
//! **A state is told once**, when it begins: a server that is away for a day is no line for each build.

use std::{sync::Arc, time::Duration};

use meridian_cache::outside::{Outside, Unusable};
use tokio_util::sync::CancellationToken;

use super::outside::{OutsideMistake, open_outside};
use crate::config::{OutsideCredentials, OutsideSettings};

/// How soon one that could not be used is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How soon one that could be used is, where no build finds out before.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// The server and the settings that it is judged by.
pub(crate) struct OutsideWatch {
    outside: Arc<Outside>,
    settings: OutsideSettings,
}

/// What becomes known with a look.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It can be used: from the beginning, or again.
    Works { again: bool },
    /// It cannot: from the beginning, or any more.
    Fails,
}

impl OutsideWatch {
    pub(crate) const fn new(outside: Arc<Outside>, settings: OutsideSettings) -> Self {
        Self { outside, settings }
    }

    /// Looks at once and from time to time, and when a build could not use it, until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(self) {
        let url = url(&self.settings);
        let mut before: Option<Result<(), Unusable>> = None;
        loop {
            let found = self.outside.look().await;
            match (news(before.as_ref(), &found), &found) {
                (Some(News::Works { again: false }), _) => tracing::info!(url, "remote_cache can be used"),
                (Some(News::Works { again: true }), _) => {
                    tracing::warn!(url, "remote_cache can be used again");
                }
                (Some(News::Fails), Err(why)) => {
                    tracing::warn!(url, "remote_cache {}", trouble(why, &self.settings));
                }
                _ => {}
            }
            let pause = if found.is_ok() { GOOD_FOR } else { AGAIN_AFTER };
            let is_good = found.is_ok();
            before = Some(found);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.outside.failing(), if is_good => {}
            }
        }
    }
}

/// Looks once, for whoever checks a configuration: where it is, and what it is not used for, why, and what to do.
///
/// # Errors
/// When the configuration itself has a mistake.
pub async fn look_outside(settings: &OutsideSettings) -> Result<(String, Option<String>), OutsideMistake> {
    let found = open_outside(settings)?.look().await;
    Ok((url(settings), found.err().map(|why| trouble(&why, settings))))
}

fn url(settings: &OutsideSettings) -> String {
    let scheme = if settings.tls.is_some() { "grpcs" } else { "grpc" };
    format!("{scheme}://{}", settings.address)
}

/// What there is to tell, given what was known before. That it fails in other words is nothing new: the words of one
/// failure differ from try to try.
fn news(before: Option<&Result<(), Unusable>>, found: &Result<(), Unusable>) -> Option<News> {
    match (before, found) {
        (None, Ok(())) => Some(News::Works { again: false }),
        (Some(Err(_)), Ok(())) => Some(News::Works { again: true }),
        (None | Some(Ok(())), Err(_)) => Some(News::Fails),
        (Some(Ok(())), Ok(())) | (Some(Err(_)), Err(_)) => None,
    }
}

/// What it is not used for, why, and what to do: the end of a sentence that begins with it.
fn trouble(why: &Unusable, settings: &OutsideSettings) -> String {
    let consequence = match why {
        Unusable::ReadOnly(_) => "is read and not written, so what is built here stays with the agents",
        _ => "is not used, builds go on without it",
    };
    format!("{consequence}: {why}; {}", remedy(why, settings))
}

/// What to do about it.
fn remedy(why: &Unusable, settings: &OutsideSettings) -> String {
    match why {
        Unusable::Unreachable(_) | Unusable::Silent if settings.tls.is_none() => {
            "is a gRPC server there, reached from this machine, and without TLS? see remote_cache.url (grpcs:// is with TLS)"
                .to_owned()
        }
        Unusable::Unreachable(_) | Unusable::Silent => {
            "is a gRPC server there, reached from this machine, with a certificate of remote_cache.ca for this name? see remote_cache.url"
                .to_owned()
        }
        Unusable::Credentials(_) => match &settings.credentials {
            Some(OutsideCredentials::Token(path)) => {
                format!("give it a token that it knows and that may write: remote_cache.token = {}", path.display())
            }
            Some(OutsideCredentials::Basic(path)) => format!(
                "give it a user and password that it knows and that may write: remote_cache.basic = {}",
                path.display()
            ),
            None => "it wants something shown: say remote_cache.token or remote_cache.basic, or certificate and key"
                .to_owned(),
        },
        Unusable::OtherService(_) => {
            "is this the port of its gRPC and not of another service? see remote_cache.url".to_owned()
        }
        Unusable::Instance { .. } => "see remote_cache.instance".to_owned(),
        Unusable::ReadOnly(_) => "let it be written to by what remote_cache shows, if it should be".to_owned(),
        Unusable::OtherDigests => "switch SHA-256 on there, or name another server".to_owned(),
        Unusable::Refused(_) => "the log of that server should say more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

    use meridian_cache::reapi::{ContentConfig, Reapi, StockListener, TokenTable};
    use tokio::net::TcpListener;
    use tonic::{service::Routes, transport::Server};

    use super::*;

    const TOKENS: &str =
        "a-token-of-twenty-and-more builds write\nanother-token-that-only-reads builds read\n";

    fn secret(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A server of the remote execution API, until the test ends.
    async fn served(dir: &Path) -> SocketAddr {
        secret(&dir.join("tokens"), TOKENS);
        let tokens = Arc::new(TokenTable::load(&dir.join("tokens")).unwrap());
        let reapi = Reapi::open(&dir.join("reapi"), ContentConfig::default(), tokens).unwrap();
        let listener = StockListener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let address = listener.local_addr();
        tokio::spawn(async move { listener.serve(&reapi, std::future::pending()).await });
        address
    }

    async fn told(address: &str, instance: &str, token: Option<&Path>) -> String {
        let settings = OutsideSettings {
            address: address.to_owned(),
            tls: None,
            instance: instance.to_owned(),
            credentials: token.map(|path| OutsideCredentials::Token(path.to_owned())),
        };
        let (url, trouble) = look_outside(&settings).await.unwrap();
        assert_eq!(url, format!("grpc://{address}"));
        trouble.unwrap_or_default()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_wrong_with_a_server_outside_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let address = served(dir.path()).await.to_string();
        let file = |name: &str, text: &str| {
            secret(&dir.path().join(name), text);
            dir.path().join(name)
        };
        let good = file("good", "a-token-of-twenty-and-more");
        assert_eq!(told(&address, "builds", Some(&good)).await, "");
        let unknown = file("unknown", "a-token-that-nobody-knows");
        let said = told(&address, "builds", Some(&unknown)).await;
        assert!(said.contains("refuses what this agent shows") && said.contains("/unknown"), "{said}");
        let said = told(&address, "builds", None).await;
        assert!(said.contains("say remote_cache.token or"), "{said}");
        let reads = file("reads", "another-token-that-only-reads");
        let said = told(&address, "builds", Some(&reads)).await;
        assert!(said.starts_with("is read and not written") && said.contains("if it should be"), "{said}");

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let said = told(&nobody, "", None).await;
        assert!(
            said.starts_with("is not used") && said.contains("cannot be reached: Connection refused"),
            "{said}"
        );
        assert!(said.contains("see remote_cache.url"), "{said}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = listener.local_addr().unwrap().to_string();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let empty = Server::builder().add_routes(Routes::default());
        tokio::spawn(empty.serve_with_incoming(incoming));
        let said = told(&other, "", None).await;
        assert!(said.contains("no remote execution API") && said.contains("another service"), "{said}");
    }

    #[test]
    fn a_state_is_told_when_it_begins_and_not_again() {
        let down = || Err(Unusable::Unreachable("one".to_owned()));
        let otherwise = Err(Unusable::Silent);
        assert_eq!(news(None, &Ok(())), Some(News::Works { again: false }));
        assert_eq!(news(None, &down()), Some(News::Fails));
        assert_eq!(news(Some(&Ok(())), &Ok(())), None);
        assert_eq!(news(Some(&down()), &otherwise), None);
        assert_eq!(news(Some(&down()), &Ok(())), Some(News::Works { again: true }));
        assert_eq!(news(Some(&Ok(())), &down()), Some(News::Fails));
    }
}
