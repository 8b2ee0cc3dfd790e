//! A server of the remote execution API that is not of the fleet, as the place where builds' entries are kept.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_cache::{
    manifest::SignedManifest,
    outside::{Outside, OutsideError},
    prefetch::{Beyond, FromOutside, Holder, Prefetch, PrefetchPlan},
    reapi::{ContentConfig, Reapi, StockListener, TokenTable},
};
use meridian_core::digest::Digest;
use meridian_proto::reapi::{
    bytestream::{
        QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
        WriteResponse,
        byte_stream_server::{ByteStream, ByteStreamServer},
    },
    v2::{
        self,
        content_addressable_storage_server::{ContentAddressableStorage, ContentAddressableStorageServer},
    },
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

use crate::pair::{Place, SCOPE, bodies, channel, holder, noise, without_privilege};

const TOKEN: &str = "a-token-of-twenty-and-more";

/// A server with a token, on loopback until it is dropped.
struct Kept {
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        fs::write(&tokens, format!("{TOKEN} builds/eu write\n")).unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
        let table = Arc::new(TokenTable::load(&tokens).unwrap());
        let reapi = Reapi::open(&dir.path().join("reapi"), ContentConfig::default(), table).unwrap();
        let listener = StockListener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let address = listener.local_addr();
        let task = tokio::spawn(async move {
            listener.serve(&reapi, std::future::pending()).await.unwrap();
        });
        Self { address, task, _dir: dir }
    }

    fn client(&self) -> Arc<Outside> {
        let shown = format!("Bearer {TOKEN}").parse().unwrap();
        Arc::new(Outside::new(channel(self.address), "builds/eu".to_owned(), Some(shown)))
    }
}

/// Brings what a manifest names from outside, and from nowhere else.
fn prefetch(
    place: &Place,
    signed: &SignedManifest,
    outside: &Arc<Outside>,
    len: Option<u64>,
) -> Arc<Prefetch> {
    prefetch_then(place, signed, outside, len, Vec::new())
}

/// The same, and then what is lacking from agents.
fn prefetch_then(
    place: &Place,
    signed: &SignedManifest,
    outside: &Arc<Outside>,
    len: Option<u64>,
    holders: Vec<Holder>,
) -> Arc<Prefetch> {
    let plan =
        PrefetchPlan { manifest: signed.digest, scope: SCOPE.into(), holders, from: 0, is_exact: true };
    let from = FromOutside { outside: Arc::clone(outside), manifest_len: len, is_first: true };
    let (store, vouching) = (Arc::clone(&place.store), Arc::clone(&place.team) as _);
    Arc::new(Prefetch::begin_with(store, vouching, plan, Beyond { outside: Some(from), ..Beyond::default() }))
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = bodies();
    all.extend(noise(12));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_agent_put_outside_another_brings_from_there() {
    let server = Kept::start().await;
    let (maker, outside) = (Place::new(), server.client());
    let signed = maker.build(&all()).await;
    outside.put(&maker.store, &signed).await.unwrap();
    // With everything there it is only a question.
    outside.put(&maker.store, &signed).await.unwrap();
    for len in [Some(signed.bytes.len() as u64), None] {
        let cold = Place::new();
        let prefetch = prefetch(&cold, &signed, &server.client(), len);
        let task = cold.task(Some(&prefetch));
        let mut driver = cold.driver(&task);
        for (action, body) in all() {
            assert_eq!(driver.get(action).as_deref(), Some(&body[..]), "{action}");
        }
        driver.close();
        assert!(prefetch.arrivals().is_whole());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_come_one_after_the_other_over_one_connection() {
    let server = Kept::start().await;
    let (maker, outside) = (Place::new(), server.client());
    // More than a connection takes that nobody reads from, and small ones between them.
    let long = |body: &[u8]| [body, &body[1..], &body[2..], &body[3..]].concat();
    let bodies: Vec<(&str, Vec<u8>)> = noise(7)
        .into_iter()
        .map(|(name, body)| if name == "2" { (name, body) } else { (name, long(&body)) })
        .collect();
    let signed = maker.build(&bodies).await;
    outside.put(&maker.store, &signed).await.unwrap();
    let cold = Place::new();
    let prefetch = prefetch(&cold, &signed, &server.client(), Some(signed.bytes.len() as u64));
    prefetch.ended().await;
    assert!(prefetch.arrivals().is_whole(), "{:?}", prefetch.figures());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_went_here_meanwhile_is_left_out_there_and_the_rest_is_kept() {
    let server = Kept::start().await;
    let (maker, outside) = (Place::new(), server.client());
    let signed = maker.build(&bodies()).await;
    for gone in ["archive", "large"] {
        let (_, body) = bodies().into_iter().find(|(name, _)| *name == gone).unwrap();
        fs::remove_file(maker.body_path(&body)).unwrap();
    }
    outside.put(&maker.store, &signed).await.unwrap();
    // Its manifest's length is known from what keeps it there.
    let cold = Place::new();
    let prefetch = prefetch(&cold, &signed, &outside, None);
    prefetch.ended().await;
    let task = cold.task(Some(&prefetch));
    let mut driver = cold.driver(&task);
    for (action, body) in bodies() {
        let is_gone = ["archive", "twice", "large"].contains(&action);
        assert_eq!(driver.get(action), (!is_gone).then_some(body), "{action}");
    }
    driver.close();
}

/// Else it would be taken for one that cannot be read now, and tried for hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_here_with_another_size_than_the_manifest_says_is_left_out_like_one_that_went() {
    let server = Kept::start().await;
    let (maker, outside) = (Place::new(), server.client());
    let signed = maker.build(&bodies()).await;
    let mut manifest = signed.manifest.clone();
    let (_, body) = bodies().into_iter().find(|(name, _)| *name == "large").unwrap();
    for listed in &mut manifest.entries {
        listed.entry.size += u64::from(listed.entry.output == Digest::of(&body));
    }
    let signed = manifest.sign(&*maker.team).unwrap();
    outside.put(&maker.store, &signed).await.unwrap();
    let cold = Place::new();
    let prefetch = prefetch(&cold, &signed, &outside, None);
    prefetch.ended().await;
    let task = cold.task(Some(&prefetch));
    let mut driver = cold.driver(&task);
    assert_eq!(driver.get("large"), None);
    assert!(driver.get("archive").is_some() && driver.get("last").is_some());
    driver.close();
    assert!(maker.body_path(&body).exists(), "it is good here");
}

#[test]
fn what_cannot_be_read_now_is_brought_there_later_and_nothing_is_kept_without_it() {
    let bring = |server: &Kept, maker: &Place, signed: &Arc<SignedManifest>, runtime: &Runtime| {
        runtime.block_on(async { server.client().put(&maker.store, signed).await })
    };
    let runtime = Runtime::new().unwrap();
    let (server, maker) = (runtime.block_on(Kept::start()), Place::new());
    let signed = runtime.block_on(maker.build(&bodies()));
    let (_, body) = bodies().into_iter().find(|(name, _)| *name == "archive").unwrap();
    let path = maker.body_path(&body);
    let shelf = path.parent().unwrap();
    fs::set_permissions(shelf, fs::Permissions::from_mode(0o000)).unwrap();
    let refused = without_privilege(|| bring(&server, &maker, &signed, &Runtime::new().unwrap()));
    fs::set_permissions(shelf, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(refused, Err(OutsideError::Disk(_))), "{refused:?}");
    bring(&server, &maker, &signed, &runtime).unwrap();
    runtime.block_on(async {
        let cold = Place::new();
        let prefetch = prefetch(&cold, &signed, &server.client(), None);
        prefetch.ended().await;
        assert!(prefetch.arrivals().is_whole());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_somebody_else_counts_nothing_wherever_it_lies() {
    let server = Kept::start().await;
    let (mut maker, outside) = (Place::new(), server.client());
    maker.team = Arc::new(crate::pair::Team(ed25519_dalek::SigningKey::from_bytes(&[8; 32])));
    let signed = maker.build(&bodies()).await;
    outside.put(&maker.store, &signed).await.unwrap();
    let cold = Place::new();
    let prefetch = prefetch(&cold, &signed, &outside, None);
    prefetch.ended().await;
    assert!(prefetch.arrivals().manifest().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_shown_no_token_refuses_and_one_that_is_dead_is_asked_once() {
    let server = Kept::start().await;
    let maker = Place::new();
    let signed = maker.build(&bodies()).await;
    let stranger = Outside::new(channel(server.address), "builds/eu".to_owned(), None);
    match stranger.put(&maker.store, &signed).await {
        Err(OutsideError::Refused(status)) => assert_eq!(status.code(), Code::Unauthenticated),
        other => panic!("{other:?}"),
    }
    let dead = server.client();
    server.task.abort();
    drop(server);
    match dead.put(&maker.store, &signed).await {
        // Under which name depends on when the connection broke.
        Err(OutsideError::Refused(_)) => {}
        other => panic!("{other:?}"),
    }
    let again = dead.put(&maker.store, &signed).await;
    assert!(matches!(again, Err(OutsideError::Resting)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_connections_and_never_answers_costs_a_build_one_bounded_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let outside = Arc::new(Outside::new(channel(address), String::new(), None));
    let maker = Place::new();
    let signed = maker.build(&bodies()).await;
    for bound in [Duration::from_secs(4), Duration::from_secs(1)] {
        let cold = Place::new();
        let since = Instant::now();
        let prefetch = prefetch(&cold, &signed, &outside, Some(1_000));
        let task = cold.task(Some(&prefetch));
        let mut driver = cold.driver(&task);
        for (action, _) in bodies() {
            assert_eq!(driver.get(action), None);
        }
        assert!(since.elapsed() < bound, "{:?}", since.elapsed());
        driver.close();
        prefetch.ended().await;
    }
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_are_asked_after_a_server_that_never_answers_are_asked_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let maker = Place::new();
    let signed = maker.build(&bodies()).await;
    let serving = maker.serve().await;
    for len in [None, Some(1_000)] {
        let cold = Place::new();
        let outside = Arc::new(Outside::new(channel(listener.local_addr().unwrap()), String::new(), None));
        let since = Instant::now();
        let prefetch = prefetch_then(&cold, &signed, &outside, len, vec![holder(&serving.address)]);
        prefetch.ended().await;
        // It has ten seconds for an answer where nobody waits behind it.
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        assert!(prefetch.arrivals().is_whole());
        let again = outside.put(&maker.store, &signed).await;
        assert!(matches!(again, Err(OutsideError::Resting)), "it is left alone: {again:?}");
    }
}

/// Answers with what it was given under each digest, true or not.
#[derive(Clone)]
struct Liar(Arc<HashMap<String, Bytes>>);

#[tonic::async_trait]
impl ContentAddressableStorage for Liar {
    type GetTreeStream = tokio_stream::Empty<Result<v2::GetTreeResponse, Status>>;

    async fn batch_read_blobs(
        &self,
        request: Request<v2::BatchReadBlobsRequest>,
    ) -> Result<Response<v2::BatchReadBlobsResponse>, Status> {
        let answer = |digest: v2::Digest| v2::batch_read_blobs_response::Response {
            data: self.0.get(&digest.hash).cloned().unwrap_or_default(),
            digest: Some(digest),
            ..v2::batch_read_blobs_response::Response::default()
        };
        let responses = request.into_inner().digests.into_iter().map(answer).collect();
        Ok(Response::new(v2::BatchReadBlobsResponse { responses }))
    }

    async fn find_missing_blobs(
        &self,
        _: Request<v2::FindMissingBlobsRequest>,
    ) -> Result<Response<v2::FindMissingBlobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_update_blobs(
        &self,
        _: Request<v2::BatchUpdateBlobsRequest>,
    ) -> Result<Response<v2::BatchUpdateBlobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_tree(
        &self,
        _: Request<v2::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ByteStream for Liar {
    type ReadStream = tokio_stream::Iter<std::vec::IntoIter<Result<ReadResponse, Status>>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let name = request.into_inner().resource_name;
        let hash = name.split('/').rev().nth(1).unwrap_or_default();
        let data = self.0.get(hash).cloned().ok_or_else(|| Status::not_found(name.clone()))?;
        Ok(Response::new(tokio_stream::iter(vec![Ok(ReadResponse { data })])))
    }

    async fn write(&self, _: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_was_asked_for_never_gets_in() {
    let maker = Place::new();
    let signed = maker.build(&bodies()).await;
    let mut held: HashMap<String, Bytes> = HashMap::new();
    held.insert(signed.digest.to_hex(), signed.bytes.clone());
    for (action, body) in bodies() {
        let name = Digest::of(&body).to_hex();
        let mut told = body.clone();
        // One bit of each, but of one.
        if action != "index" && !told.is_empty() {
            let middle = told.len() / 2;
            told[middle] ^= 1;
        }
        held.insert(name, told.into());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let liar = Liar(Arc::new(held));
    let served = Server::builder()
        .add_service(ContentAddressableStorageServer::new(liar.clone()))
        .add_service(ByteStreamServer::new(liar))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(served);
    let outside = Arc::new(Outside::new(channel(address), String::new(), None));
    let cold = Place::new();
    let prefetch = prefetch(&cold, &signed, &outside, Some(signed.bytes.len() as u64));
    let task = cold.task(Some(&prefetch));
    let mut driver = cold.driver(&task);
    for (action, body) in bodies() {
        let is_true = body.is_empty() || action == "index";
        assert_eq!(driver.get(action), is_true.then_some(body), "{action}");
    }
    driver.close();
    assert!(prefetch.figures().refused >= 3, "{:?}", prefetch.figures());
    serving.abort();
}
