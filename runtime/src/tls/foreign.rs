//! Connections to servers that are not of the fleet: an ordinary certificate that an authority of their own signed, or none.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version,
};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    ConnectError, Proxies,
    client::Profile,
    dial::{Address, Dialler},
};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct ForeignTls {
    /// The authorities that the server's certificate must come from.
    pub authorities: PathBuf,
    /// The certificate chain to show, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

impl ForeignTls {
    /// Whether the files can be used.
    ///
    /// # Errors
    /// When one cannot.
    pub fn check(&self) -> Result<(), ConnectError> {
        client_config(self).map(drop)
    }
}

/// A channel for bulk data to `target` (`host:port`), in the clear without `tls`. It connects at the first call and again
/// after every loss. What is sent and not read yet is in memory here: up to 40 MiB, the window of such a connection. Must be
/// called within a tokio runtime.
///
/// # Errors
/// When `target` is no address or a file cannot be used.
pub fn foreign_channel(
    target: &str,
    tls: Option<&ForeignTls>,
    proxies: &Proxies,
) -> Result<Channel, ConnectError> {
    let address = Address::parse(target)?;
    let uri = |scheme| Uri::builder().scheme(scheme).authority(target).path_and_query("/").build();
    let endpoint = Profile::Bulk
        .tune(Endpoint::from(uri("http").map_err(configuration)?))
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let Some(tls) = tls else { return Ok(endpoint.connect_lazy()) };
    // The connector does TLS itself, so tonic must see a plain scheme; the server is told the true one.
    let endpoint = endpoint.origin(uri("https").map_err(configuration)?);
    let dialler = Dialler::new(address, Arc::new(client_config(tls)?), proxies);
    Ok(endpoint.connect_with_connector_lazy(dialler))
}

fn client_config(tls: &ForeignTls) -> Result<ClientConfig, ConnectError> {
    let told = |path: &PathBuf, why: &dyn std::fmt::Display| {
        ConnectError::Configuration(format!("{}: {why}", path.display()))
    };
    let certificates = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        let read = CertificateDer::pem_file_iter(path).map_err(|error| told(path, &error))?;
        let read: Result<Vec<_>, _> = read.collect();
        let read = read.map_err(|error| told(path, &error))?;
        if read.is_empty() { Err(told(path, &"it holds no certificate")) } else { Ok(read) }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.authorities)? {
        roots.add(certificate).map_err(|error| told(&tls.authorities, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(configuration)?
        .with_root_certificates(roots);
    let mut config = match &tls.shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, &error))?;
            let shown = builder.with_client_auth_cert(certificates(chain)?, secret);
            shown.map_err(|error| told(chain, &error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn configuration(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Configuration(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::generate_simple_self_signed;
    use rustls::{
        ServerConfig,
        pki_types::ServerName,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
    };
    use tokio::io::duplex;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Writes a certificate of its own making for a name, and its key.
    fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = generate_simple_self_signed([name.to_owned()]).unwrap();
        let (chain, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (chain, key)
    }

    /// A server that wants to see a certificate that `clients` vouches for, where that is named.
    fn server((chain, key): &(PathBuf, PathBuf), clients: Option<&PathBuf>) -> TlsAcceptor {
        let read = |path: &PathBuf| CertificateDer::from_pem_file(path).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(read(clients)).unwrap();
                let provider = Arc::new(ring::default_provider());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let mut config = builder.with_single_cert(vec![read(chain)], key).unwrap();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        TlsAcceptor::from(Arc::new(config))
    }

    /// Whether both ends are content with one another.
    async fn shake(server: &TlsAcceptor, client: &ForeignTls, name: &str) -> bool {
        let (near, far) = duplex(1 << 16);
        let connector = TlsConnector::from(Arc::new(client_config(client).unwrap()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let (client, server) = tokio::join!(connector.connect(name, near), server.accept(far));
        client.is_ok() && server.is_ok()
    }

    #[tokio::test]
    async fn a_foreign_server_is_known_by_its_authority_and_its_name_and_is_shown_what_it_asks_for() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) =
            (certificate(dir.path(), "cache.example"), certificate(dir.path(), "other.example"));
        let trusting = |authorities: &PathBuf, shown: Option<&(PathBuf, PathBuf)>| ForeignTls {
            authorities: authorities.clone(),
            shown: shown.cloned(),
        };
        let open = server(&own, None);
        assert!(shake(&open, &trusting(&own.0, None), "cache.example").await);
        assert!(!shake(&open, &trusting(&own.0, None), "other.example").await, "another name");
        assert!(!shake(&open, &trusting(&other.0, None), "cache.example").await, "another authority");
        let closed = server(&own, Some(&other.0));
        assert!(shake(&closed, &trusting(&own.0, Some(&other)), "cache.example").await);
        assert!(!shake(&closed, &trusting(&own.0, None), "cache.example").await, "nothing is shown");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = certificate(dir.path(), "cache.example");
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        let told = |authorities: &PathBuf, shown| {
            let tls = ForeignTls { authorities: authorities.clone(), shown };
            tls.check().unwrap_err().to_string()
        };
        assert!(told(&dir.path().join("none"), None).contains("/none: "));
        assert!(told(&empty, None).contains("/empty: it holds no certificate"));
        assert!(told(&chain, Some((chain.clone(), empty.clone()))).contains("/empty: "));
        assert!(told(&chain, Some((empty.clone(), key.clone()))).contains("/empty: "));
        ForeignTls { authorities: chain.clone(), shown: Some((chain, key)) }.check().unwrap();
    }
}
