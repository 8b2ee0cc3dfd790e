//! Real handshakes on loopback: whom the two ends accept, and what a refusal says.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::{body::Body, codegen::Body as _, server::NamedService, transport::Channel};
use tower::{Service, ServiceExt as _};

use super::*;
use crate::identity::{Authority, Identity, LiveIdentity, Pin, SpiffeId, new_key_and_csr};

const HOUR: Duration = Duration::from_secs(3600);
/// The header that says how long an answer should be.
const MIB: &str = "mib";

/// Answers every request with the caller's id in a header, and with as many MiB as it names.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<http::Request<Body>> for WhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<PeerIdentity>().expect("every connection has a peer");
        let id = peer.id.as_ref().map_or("nobody", SpiffeId::as_str);
        let mib = request.headers().get(MIB).map_or(0, |mib| mib.to_str().unwrap().parse().unwrap());
        let body = Body::new("x".repeat(mib << 20));
        let response = http::Response::builder().header("peer", id).body(body);
        ready(Ok(response.expect("an id is a legal header")))
    }
}

struct Fleet {
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        install_crypto();
        let dir = tempfile::tempdir().unwrap();
        Self { authority: Authority::open_or_create(dir.path(), "acme").unwrap(), _dir: dir }
    }

    fn identity(&self, name: &str, lifetime: Duration) -> Identity {
        let (key, csr) = new_key_and_csr().unwrap();
        let chain = self.authority.issue(&csr, &id(name), lifetime, &[]).unwrap();
        Identity::new(key, &chain, self.authority.certificate_der()).unwrap()
    }

    fn live(&self, name: &str) -> LiveIdentity {
        LiveIdentity::new(self.identity(name, HOUR)).unwrap()
    }

    fn client(&self, identity: Option<LiveIdentity>) -> ClientTls {
        ClientTls {
            authority: self.authority.certificate_der().to_vec(),
            identity,
            server: id("coordinator"),
        }
    }

    async fn serve(&self, live: LiveIdentity) -> SocketAddr {
        serve(Listener::bind("127.0.0.1:0", live).await.unwrap())
    }
}

fn serve(listener: Listener) -> SocketAddr {
    let addr = listener.local_addr();
    let serving = server().add_service(WhoAmI).serve_with_incoming(listener.incoming());
    tokio::spawn(serving);
    addr
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::new("acme", &[name]).unwrap()
}

fn open(addr: SocketAddr, tls: ClientTls) -> Channel {
    channel(&addr.to_string(), tls, &ChannelOptions::default()).unwrap()
}

/// Asks the server who we are.
async fn ask(channel: &mut Channel) -> Result<String, tonic::transport::Error> {
    let request = http::Request::post("/test.WhoAmI/Ask").body(Body::empty()).unwrap();
    let response = channel.ready().await?.call(request).await?;
    Ok(response.headers()["peer"].to_str().unwrap().to_owned())
}

fn cause(error: &tonic::transport::Error) -> String {
    ConnectError::of(error).map_or_else(|| format!("not a ConnectError: {error:?}"), ToString::to_string)
}

#[tokio::test]
async fn the_server_learns_who_calls() {
    let fleet = Fleet::new();
    let addr = fleet.serve(fleet.live("coordinator")).await;
    let mut known = open(addr, fleet.client(Some(fleet.live("a1"))));
    assert_eq!(ask(&mut known).await.unwrap(), "spiffe://acme/a1");
    let mut anonymous = open(addr, fleet.client(None));
    assert_eq!(ask(&mut anonymous).await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_server_of_another_authority_or_id_is_refused_with_the_reason() {
    let (fleet, impostor) = (Fleet::new(), Fleet::new());
    let addr = impostor.serve(impostor.live("coordinator")).await;
    let error = ask(&mut open(addr, fleet.client(None))).await.unwrap_err();
    assert!(cause(&error).contains("UnknownIssuer") || cause(&error).contains("BadSignature"), "{error:?}");

    let addr = fleet.serve(fleet.live("a1")).await;
    let error = ask(&mut open(addr, fleet.client(None))).await.unwrap_err();
    let wanted = "the server is spiffe://acme/a1, not spiffe://acme/coordinator";
    assert!(cause(&error).contains(wanted), "{}", cause(&error));
}

#[tokio::test]
async fn a_way_is_as_long_as_a_handshake_with_the_one_that_was_meant() {
    let fleet = Fleet::new();
    let addr = fleet.serve(fleet.live("coordinator")).await.to_string();
    let client = fleet.client(Some(fleet.live("a1")));
    let options = ChannelOptions::default();
    let took = round_trip(&addr, client.clone(), &options).await.unwrap();
    assert!(took > Duration::ZERO && took < Duration::from_secs(5), "{took:?}");
    let another = ClientTls { server: id("a2"), ..client.clone() };
    let error = round_trip(&addr, another, &options).await.unwrap_err().to_string();
    assert!(error.contains("the server is spiffe://acme/coordinator"), "{error}");
    assert!(round_trip("nonsense", client, &options).await.is_err());
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (fleet, stranger) = (Fleet::new(), Fleet::new());
    let addr = fleet.serve(fleet.live("coordinator")).await;
    let mut channel = open(addr, fleet.client(Some(stranger.live("a1"))));
    assert!(ask(&mut channel).await.is_err());
}

#[tokio::test]
async fn certificates_that_ran_out_are_refused_on_both_ends() {
    let fleet = Fleet::new();
    // Issued for no time at all; only the back-dating lies before now.
    let expired = || LiveIdentity::new(fleet.identity("a1", Duration::ZERO)).unwrap();
    let addr = fleet.serve(fleet.live("coordinator")).await;
    let ran_out = expired();
    wait_past(ran_out.current().not_after()).await;
    assert!(ask(&mut open(addr, fleet.client(Some(ran_out)))).await.is_err());

    let server = LiveIdentity::new(fleet.identity("coordinator", Duration::ZERO)).unwrap();
    wait_past(server.current().not_after()).await;
    let addr = fleet.serve(server).await;
    let error = ask(&mut open(addr, fleet.client(None))).await.unwrap_err();
    assert!(cause(&error).to_lowercase().contains("expired"), "{}", cause(&error));
}

/// Certificates count whole seconds and hold to the end of their last one.
async fn wait_past(end: std::time::SystemTime) {
    let end = end + Duration::from_millis(1001);
    if let Ok(left) = end.duration_since(std::time::SystemTime::now()) {
        tokio::time::sleep(left).await;
    }
}

#[tokio::test]
async fn a_renewed_identity_is_shown_without_a_restart() {
    let fleet = Fleet::new();
    let live = LiveIdentity::new(fleet.identity("coordinator", Duration::ZERO)).unwrap();
    wait_past(live.current().not_after()).await;
    let addr = fleet.serve(live.clone()).await;
    let client = fleet.live("a1");
    let mut channel = open(addr, fleet.client(Some(client)));
    assert!(ask(&mut channel).await.is_err(), "the old certificate has run out");
    live.replace(fleet.identity("coordinator", HOUR)).unwrap();
    assert_eq!(ask(&mut channel).await.unwrap(), "spiffe://acme/a1");
    assert!(live.replace(fleet.identity("a1", HOUR)).is_err(), "an identity cannot become another");
}

#[tokio::test]
async fn a_handshake_that_dawdles_is_cut_off_and_holds_up_nobody() {
    let fleet = Fleet::new();
    let listener = Listener::bind("127.0.0.1:0", fleet.live("coordinator")).await.unwrap();
    let addr = serve(listener.with_limits(Limits {
        handshakes_max: 2,
        handshake_time_max: Duration::from_secs(1),
        ..Limits::default()
    }));
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(ask(&mut open(addr, fleet.client(None))).await.unwrap(), "nobody");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the server closes it");
    // Also when every place is taken by dawdlers, others get through once those are cut off.
    let mut dawdlers = Vec::new();
    for _ in 0..4 {
        dawdlers.push(TcpStream::connect(addr).await.unwrap());
    }
    assert_eq!(ask(&mut open(addr, fleet.client(None))).await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_newcomer_trusts_only_the_pinned_authority() {
    let fleet = Fleet::new();
    let addr = fleet.serve(fleet.live("coordinator")).await.to_string();
    let enroll = |pin| enroll_channel(&addr, pin, id("coordinator"), &ChannelOptions::default()).unwrap();
    assert_eq!(ask(&mut enroll(fleet.authority.pin())).await.unwrap(), "nobody");
    let error = ask(&mut enroll(Pin([7; 32]))).await.unwrap_err();
    assert!(cause(&error).contains("join token pins"), "{}", cause(&error));
    // An agent's certificate is the authority's too, yet it is not the coordinator.
    let agent = fleet.serve(fleet.live("a1")).await.to_string();
    let options = ChannelOptions::default();
    let mut channel = enroll_channel(&agent, fleet.authority.pin(), id("coordinator"), &options).unwrap();
    assert!(cause(&ask(&mut channel).await.unwrap_err()).contains("not spiffe://acme/coordinator"));
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let fleet = Fleet::new();
    let first = Listener::bind("127.0.0.1:0", fleet.live("coordinator")).await.unwrap();
    let addr = first.local_addr().to_string();
    let error = Listener::bind(&addr, fleet.live("coordinator")).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains(&addr), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address() {
    let fleet = Fleet::new();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(&mut open(free, fleet.client(None))).await.unwrap_err();
    assert!(cause(&error).starts_with(&format!("cannot reach {free}")), "{}", cause(&error));
    assert!(channel("nonsense", fleet.client(None), &ChannelOptions::default()).is_err());
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_up_no_other_on_its_connection() {
    let fleet = Fleet::new();
    let addr = fleet.serve(fleet.live("coordinator")).await.to_string();
    let bulk = ChannelOptions { profile: Profile::Bulk, ..ChannelOptions::default() };
    let mut channel = channel(&addr, fleet.client(None), &bulk).unwrap();
    let long = || http::Request::post("/test.WhoAmI/Ask").header(MIB, 48).body(Body::empty()).unwrap();
    let unread = channel.ready().await.unwrap().call(long()).await.unwrap();
    let mut read = pin!(channel.ready().await.unwrap().call(long()).await.unwrap().into_body());
    let reading = async {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| read.as_mut().poll_frame(context)).await {
            bytes += frame.unwrap().data_ref().map_or(0, |data| data.len());
        }
        bytes
    };
    let bytes = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("it is not held up");
    assert_eq!(bytes, 48 << 20);
    drop(unread);
}

/// A proxy that tunnels one connection to `to` when it is asked for `name` with the right password.
async fn proxy(name: &'static str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            // "me:pw" in base64.
            if head.starts_with(&format!("CONNECT {name} ")) && head.contains("Basic bWU6cHc=") {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            } else {
                client.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").await.unwrap();
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_coordinator_is_reached_through_a_proxy() {
    let fleet = Fleet::new();
    let proxy = proxy("coordinator.test:443", fleet.serve(fleet.live("coordinator")).await).await;
    let through = |password| ChannelOptions {
        proxies: Proxies::new(&format!("http://me:{password}@{proxy}"), "").unwrap(),
        profile: Profile::Bulk,
    };
    let open = |options| channel("coordinator.test:443", fleet.client(None), &options).unwrap();
    assert_eq!(ask(&mut open(through("pw"))).await.unwrap(), "nobody");
    let error = ask(&mut open(through("wrong"))).await.unwrap_err();
    assert!(cause(&error).contains("407"), "{}", cause(&error));
    assert!(!cause(&error).contains("wrong"), "the password stays out of errors");
}
