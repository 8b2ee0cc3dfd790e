//! The port for stock clients: loopback or TLS, and tokens.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use meridian_cache::reapi::{ListenError, Reapi, StockListener, StockTls, TokenTable};
use meridian_proto::reapi::v2::{GetCapabilitiesRequest, capabilities_client::CapabilitiesClient};
use rustls::{ClientConfig, RootCertStore, version};
use tonic::{Code, Request, transport::Endpoint};

use crate::served::config;

const TOKENS: &str = "reader-0123456789 acme/trusted read\nwriter-0123456789 acme/trusted write\n";

fn tokens(dir: &Path) -> Arc<TokenTable> {
    let path = dir.join("tokens");
    fs::write(&path, TOKENS).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Arc::new(TokenTable::load(&path).unwrap())
}

/// Asks what it may do with an instance: whether it may write, or why it may not even read.
async fn ask(channel: tonic::transport::Channel, token: Option<&str>, instance: &str) -> Result<bool, Code> {
    let mut request = Request::new(GetCapabilitiesRequest { instance_name: instance.into() });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let told = CapabilitiesClient::new(channel).get_capabilities(request).await;
    let told = told.map_err(|status| status.code())?.into_inner();
    Ok(told.cache_capabilities.unwrap().action_cache_update_capabilities.unwrap().update_enabled)
}

#[tokio::test]
async fn without_certificates_it_listens_on_this_machine_alone() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = StockListener::bind(addr.parse().unwrap(), None).await.err().unwrap();
        assert!(matches!(refused, ListenError::Exposed { .. }), "{addr}");
        assert!(refused.to_string().contains("listen on a loopback address"), "{refused}");
    }
}

#[tokio::test]
async fn a_bearer_token_says_which_instance_and_whether_it_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let reapi = Reapi::open(&dir.path().join("cache"), config(), tokens(dir.path())).unwrap();
    let listener = StockListener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let channel = crate::served::channel(listener.local_addr());
    let serving = tokio::spawn(async move { listener.serve(&reapi, std::future::pending()).await });
    let channel = channel.await;
    for (token, instance, expected) in [
        (Some("writer-0123456789"), "acme/trusted", Ok(true)),
        (Some("reader-0123456789"), "acme/trusted", Ok(false)),
        (Some("writer-0123456789"), "", Ok(true)),
        (Some("writer-0123456789"), "other", Err(Code::PermissionDenied)),
        (Some("nobody-0123456789"), "acme/trusted", Err(Code::Unauthenticated)),
        (None, "acme/trusted", Err(Code::Unauthenticated)),
    ] {
        assert_eq!(ask(channel.clone(), token, instance).await, expected, "{token:?} {instance}");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_clients_come_in_by_tls_1_2_as_well_as_1_3() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = StockTls { certificates: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    fs::write(&files.certificates, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let reapi = Reapi::open(&dir.path().join("cache"), config(), tokens(dir.path())).unwrap();
    let listener = StockListener::bind("127.0.0.1:0".parse().unwrap(), Some(&files)).await.unwrap();
    let addr = listener.local_addr();
    let serving = tokio::spawn(async move { listener.serve(&reapi, std::future::pending()).await });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    for tls in [&version::TLS12, &version::TLS13] {
        let mut client =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[tls])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let connect = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = tokio::net::TcpStream::connect(addr).await?;
                let tls = connector.connect("localhost".try_into().unwrap(), tcp).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
            }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        assert_eq!(ask(channel, Some("writer-0123456789"), "").await, Ok(true), "{tls:?}");
    }
    // Without TLS nothing is said at all.
    let plain = Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
    assert!(ask(plain, Some("writer-0123456789"), "").await.is_err());
    serving.abort();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = StockTls { certificates: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    let told = async || {
        let refused = StockListener::bind("127.0.0.1:0".parse().unwrap(), Some(&files)).await.err().unwrap();
        refused.to_string()
    };
    assert!(told().await.contains("cert.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&files.certificates, made.cert.pem()).unwrap();
    fs::write(&files.key, "no key").unwrap();
    assert!(told().await.contains("key.pem"));
}
