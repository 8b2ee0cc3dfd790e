//! Joining a fleet, and what the coordinator says of itself.

use meridian_core::machine::Limits;
use meridian_proto::v1::{self, fleet_client::FleetClient};
use meridian_runtime::{
    identity::{Identity, new_key_and_csr},
    tls::{self, ChannelOptions},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::fixture::Fixture;

async fn token(fleet: &Fixture, agent: &str, lifetime_ms: u64) -> Result<String, tonic::Status> {
    let grant = Some(v1::create_token_request::Grant::Agent(agent.to_owned()));
    let request = v1::CreateTokenRequest { grant, lifetime_ms };
    FleetClient::new(fleet.channel("admin"))
        .create_token(request)
        .await
        .map(|answer| answer.into_inner().token)
}

async fn enroll(fleet: &Fixture, secret: &str) -> Result<Identity, tonic::Status> {
    let pin = fleet.running.authority.pin();
    let server = "spiffe://acme/coordinator".parse().unwrap();
    let address = fleet.running.address.to_string();
    let channel = tls::enroll_channel(&address, pin, server, &ChannelOptions::default()).unwrap();
    let (key, request) = new_key_and_csr().unwrap();
    let request = v1::EnrollRequest { secret: secret.to_owned(), certificate_request: request.into() };
    let answer = FleetClient::new(channel).enroll(request).await?.into_inner();
    let chain: Vec<Vec<u8>> = answer.chain.iter().map(|der| der.to_vec()).collect();
    Ok(Identity::new(key, &chain, &answer.authority).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_exactly_one_identity_and_carries_the_authoritys_pin() {
    let fleet = Fixture::start().await;
    let text = token(&fleet, "eu/a1", 60_000).await.unwrap();
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!((parts[0], parts[1]), ("mrd1", "acme"));
    assert_eq!(parts[3], fleet.running.authority.pin().to_string());
    let nonsense = v1::EnrollRequest { secret: parts[2].to_owned(), certificate_request: vec![1].into() };
    let refused = FleetClient::new(fleet.channel_with(None)).enroll(nonsense).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "and the token is not spent by it");
    let identity = enroll(&fleet, parts[2]).await.unwrap();
    assert_eq!(identity.id().to_string(), "spiffe://acme/agent/eu/a1");
    assert_eq!(enroll(&fleet, parts[2]).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(enroll(&fleet, "guessed").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokens_secret_is_nowhere_in_the_state_directory() {
    let fleet = Fixture::start().await;
    let text = token(&fleet, "eu/a1", 60_000).await.unwrap();
    let secret = text.split('.').nth(2).unwrap().as_bytes().to_vec();
    let mut directories = vec![fleet.state().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                assert!(!content.windows(secret.len()).any(|window| window == secret), "{}", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_is_refused_and_a_lifetime_without_end_too() {
    let fleet = Fixture::start().await;
    let text = token(&fleet, "eu/a1", 1).await.unwrap();
    let secret = text.split('.').nth(2).unwrap();
    // One millisecond has passed by the time that an answer has come over TLS.
    assert_eq!(enroll(&fleet, secret).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(token(&fleet, "eu/a1", u64::MAX).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(token(&fleet, "not an agent", 1000).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_can_be_renewed_by_its_bearer_and_stays_the_same() {
    let fleet = Fixture::start().await;
    let mut client = FleetClient::new(fleet.channel("agent/eu/a1"));
    let (_, request) = new_key_and_csr().unwrap();
    let answer =
        client.renew(v1::RenewRequest { certificate_request: request.into() }).await.unwrap().into_inner();
    assert_eq!(answer.id, "spiffe://acme/agent/eu/a1");
    let nonsense = v1::RenewRequest { certificate_request: vec![1, 2, 3].into() };
    assert_eq!(client.renew(nonsense).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_agents_may_not_make_tokens_or_stop_the_coordinator() {
    let fleet = Fixture::start().await;
    for who in ["team/web/member/ann", "agent/eu/a1"] {
        let mut client = FleetClient::new(fleet.channel(who));
        let stop = client.stop(v1::StopRequest { only_when_idle: true }).await.unwrap_err();
        assert_eq!(stop.code(), Code::PermissionDenied);
        let make = client.create_token(v1::CreateTokenRequest::default()).await.unwrap_err();
        assert_eq!(make.code(), Code::PermissionDenied);
    }
    let mut nobody = FleetClient::new(fleet.channel_with(None));
    let status = nobody.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_figures_are_served_over_plain_http() {
    let fleet = Fixture::start().await;
    let address = fleet.running.http_address.unwrap();
    for (path, expected) in
        [("/healthz", "ok"), ("/readyz", "leading in epoch 1"), ("/metrics", "meridian_tasks_queued 0")]
    {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.contains(expected), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_identity_is_refused_whatever_certificate_it_has_and_after_a_restart_too() {
    let fleet = Fixture::start().await;
    let agent = fleet.agent("a1").await;
    let request = |agent: &str| v1::RevokeRequest {
        identity: Some(v1::revoke_request::Identity::Agent(agent.to_owned())),
        since_ms: None,
    };
    for who in ["team/web/member/ann", "agent/eu/a1"] {
        let error = FleetClient::new(fleet.channel(who)).revoke(request("eu/a1")).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{who}");
    }
    let mut admin = FleetClient::new(fleet.channel("admin"));
    assert!(admin.revoke(request("eu/a1")).await.unwrap().into_inner().changed);
    assert!(!admin.revoke(request("eu/a1")).await.unwrap().into_inner().changed);
    let (_, renewal) = new_key_and_csr().unwrap();
    let renewal = v1::RenewRequest { certificate_request: renewal.into() };
    let refused = |error: tonic::Status| {
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert!(error.message().contains("the identity of agent eu/a1 was revoked"), "{error}");
    };
    // The channel is open since before.
    refused(FleetClient::new(agent.channel.clone()).renew(renewal.clone()).await.unwrap_err());
    refused(agent.signer.certify(&agent.channel).await.unwrap_err());
    refused(token(&fleet, "eu/a1", 60_000).await.unwrap_err());
    FleetClient::new(fleet.channel("agent/eu/a2")).renew(renewal.clone()).await.unwrap();

    let fleet = fleet.restart(Limits::default()).await;
    refused(FleetClient::new(fleet.channel("agent/eu/a1")).renew(renewal).await.unwrap_err());
}
