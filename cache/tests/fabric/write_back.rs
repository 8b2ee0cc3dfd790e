//! What one agent made reaches the homes of its bodies, whatever goes wrong in between.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use meridian_cache::{
    manifest::{Manifest, Voucher, Vouching, VouchingError},
    prefetch::Holder,
    shard::ShardService,
    write_back::{Home, Homes, Queue, Uploader},
};
use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{
    self,
    publish_answer::Answer,
    publish_chunk::Chunk,
    shard_server::{Shard, ShardServer},
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Notify, mpsc},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

use crate::pair::{Place, Team, Trickle, bodies, channel, noise, without_privilege};

/// A manifest of some entries with all that is said around it: less than the smallest body that would be noticed.
const A_MANIFEST_MAX: u64 = 16 << 10;

struct Only(Vec<SocketAddr>);

impl Homes for Only {
    fn homes(&self) -> Option<Vec<Home>> {
        let home = |address: &SocketAddr| Home {
            holder: Holder::new(address.to_string(), channel(*address)),
            takes: Arc::new(|_| true),
        };
        Some(self.0.iter().map(home).collect())
    }
}

fn uploader(place: &Place, queue: &Arc<Queue>, homes: &[SocketAddr]) -> Uploader {
    Uploader {
        queue: Arc::clone(queue),
        store: Arc::clone(&place.store),
        vouching: Arc::clone(&place.team) as _,
        homes: Arc::new(Only(homes.to_vec())),
        outside: None,
    }
}

/// Waits until nothing is queued.
pub(crate) async fn until_empty(queue: &Queue) {
    let emptied = async {
        while !queue.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), emptied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_reaches_its_home_and_answers_there() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[serving.address]).run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
    let task = home.task(None);
    let mut driver = home.driver(&task);
    for (action, body) in bodies() {
        assert_eq!(driver.get(action), Some(body), "{action}");
    }
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_second_manifest_with_the_same_bodies_only_the_manifest_is_sent() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let way = Trickle::before(serving.address).await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let uploading = tokio::spawn(uploader(&maker, &queue, &[way.address]).run());
    let first = maker.build(&bodies()).await;
    queue.push(first.digest);
    until_empty(&queue).await;
    let all: usize = bodies().iter().map(|(_, body)| body.len()).sum();
    let sent = way.asked();
    assert!(sent > all as u64 / 2, "{sent} bytes of {all}");

    // The same bodies under another name, as another package asks for them.
    let renamed =
        bodies().into_iter().map(|(action, body)| (if action == "large" { "other" } else { action }, body));
    let second = maker.build(&renamed.collect::<Vec<_>>()).await;
    assert_ne!(second.digest, first.digest);
    queue.push(second.digest);
    until_empty(&queue).await;
    uploading.abort();
    assert!(home.store.library().names().contains(&second.digest), "it is told all the same");
    let more = way.asked() - sent;
    assert!(more < A_MANIFEST_MAX, "{more} bytes after {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_away_is_tried_again_after_a_restart_of_the_maker() {
    let (maker, home) = (Place::new(), Place::new());
    let gone = home.serve().await.address;
    let path = maker.dir.path().join("queue");
    let queue = Arc::new(Queue::open(&path).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[gone]).run());
    // The other end is refused at once; then the process ends.
    tokio::time::timeout(Duration::from_millis(500), uploading).await.unwrap_err();
    let queue = Arc::new(Queue::open(&path).unwrap());
    assert_eq!(queue.len(), 1);
    let serving = home.serve().await;
    let uploading = tokio::spawn(uploader(&maker, &queue, &[serving.address]).run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
}

/// Knows no membership until it is told one, as an agent that has just started.
#[derive(Default)]
struct Later(Mutex<Option<SocketAddr>>, Notify);

impl Homes for Later {
    fn homes(&self) -> Option<Vec<Home>> {
        self.1.notify_one();
        let home = (*self.0.lock().unwrap())?;
        Only(vec![home]).homes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_kept_while_nobody_knows_yet_whose_homes_are_where() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let homes = Arc::new(Later::default());
    let uploader = Uploader { homes: homes.clone(), ..uploader(&maker, &queue, &[]) };
    let uploading = tokio::spawn(uploader.run());
    homes.1.notified().await;
    assert_eq!(queue.len(), 1);
    *homes.0.lock().unwrap() = Some(serving.address);
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_away_for_so_long_that_it_is_none_is_brought_what_it_missed_once_it_is_back() {
    let (maker, home) = (Place::new(), Place::new());
    let gone = home.serve().await.address;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let homes = Arc::new(Changing(Mutex::new(vec![gone]), Notify::new()));
    let uploader = Uploader { homes: homes.clone(), ..uploader(&maker, &queue, &[]) };
    let uploading = tokio::spawn(uploader.run());
    homes.1.notified().await;
    // The first try fails; for the second there is no home at all.
    homes.0.lock().unwrap().clear();
    homes.1.notified().await;
    let serving = home.serve_at(gone).await;
    homes.0.lock().unwrap().push(gone);
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
    drop(serving);
}

/// Homes that come and go.
struct Changing(Mutex<Vec<SocketAddr>>, Notify);

impl Homes for Changing {
    fn homes(&self) -> Option<Vec<Home>> {
        let homes = Only(self.0.lock().unwrap().clone()).homes();
        self.1.notify_one();
        homes
    }
}

/// Believes what the team does, and counts how often it is asked whether a manifest counts.
struct Counting(Arc<Team>, AtomicUsize);

impl Vouching for Counting {
    fn sign(&self, scope: &str, manifest: &[u8]) -> Result<Voucher, VouchingError> {
        self.0.sign(scope, manifest)
    }

    fn check(&self, manifest: &Manifest, bytes: &[u8], voucher: &Voucher) -> Result<(), VouchingError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.check(manifest, bytes, voucher)
    }

    fn grant_to_read(&self, scope: &str) -> Option<Bytes> {
        self.0.grant_to_read(scope)
    }

    fn grant_to_write(&self, scope: &str) -> Option<Bytes> {
        self.0.grant_to_write(scope)
    }

    fn may_read(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        self.0.may_read(scope, grant, caller)
    }

    fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        self.0.may_write(scope, grant, caller)
    }
}

/// One home that was silent, for the first try; after that nobody knows the homes.
struct Silent(Holder, AtomicUsize, Notify);

impl Homes for Silent {
    fn homes(&self) -> Option<Vec<Home>> {
        if self.1.fetch_add(1, Ordering::Relaxed) > 0 {
            self.2.notify_one();
            return None;
        }
        self.0.attempt().unwrap().silent();
        Some(vec![Home { holder: self.0.clone(), takes: Arc::new(|_| true) }])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_no_home_may_be_asked_the_manifest_is_not_opened() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let signed = maker.build(&bodies()).await;
    // It is in no memory any more.
    let maker = maker.restarted();
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    queue.push(signed.digest);
    let silent = Holder::new("silent".into(), channel(serving.address));
    let homes = Arc::new(Silent(silent, AtomicUsize::new(0), Notify::new()));
    let vouching = Arc::new(Counting(Arc::clone(&maker.team), AtomicUsize::new(0)));
    let uploader = Uploader {
        vouching: Arc::clone(&vouching) as _,
        homes: Arc::clone(&homes) as _,
        ..uploader(&maker, &queue, &[])
    };
    let uploading = tokio::spawn(uploader.run());
    homes.2.notified().await;
    uploading.abort();
    assert_eq!(vouching.1.load(Ordering::Relaxed), 0);
    assert_eq!(queue.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_brought_away_is_not_used_by_that() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let waits = maker.build(&bodies()).await;
    let newer = maker.build(&bodies()[..2]).await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    queue.push(waits.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[serving.address]).run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [waits.digest]);
    assert_eq!(maker.store.library().names(), [newer.digest, waits.digest], "the one used last first");
}

/// A shard that lacks everything, and takes no more after the first frame, as one whose disk is full.
#[derive(Clone, Default)]
struct Full {
    tries: Arc<AtomicUsize>,
    tried: Arc<Notify>,
}

#[tonic::async_trait]
impl Shard for Full {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<v1::FetchChunk, Status>> + Send>>;
    type PublishStream = ReceiverStream<Result<v1::PublishAnswer, Status>>;

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn discover(
        &self,
        _: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let mut chunks = request.into_inner();
        let Some(Chunk::Header(header)) = chunks.next().await.unwrap()?.chunk else { panic!("no header") };
        let (answers, stream) = mpsc::channel(2);
        let lacking = v1::PublishAnswer { answer: Some(Answer::Lacking(header.offered)), epoch: None };
        answers.send(Ok(lacking)).await.unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            assert!(matches!(
                chunks.next().await,
                Some(Ok(v1::PublishChunk { chunk: Some(Chunk::Frame(_)) }))
            ));
            answers.send(Err(Status::resource_exhausted("full"))).await.unwrap();
            this.tries.fetch_add(1, Ordering::Relaxed);
            this.tried.notify_one();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_took_bodies_for_nothing_is_not_sent_them_again_soon() {
    let maker = Place::new();
    let full = Full::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(ShardServer::new(full.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(server);
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    // More than waits in between, so that it is told while it is sent.
    queue.push(maker.build(&noise(16)).await.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[address]).run());
    full.tried.notified().await;
    // One that was only away would be asked again after a second or two.
    tokio::time::timeout(Duration::from_secs(4), full.tried.notified()).await.unwrap_err();
    assert_eq!((full.tries.load(Ordering::Relaxed), queue.len()), (1, 1));
    uploading.abort();
    serving.abort();
}

/// A shard whose answers to whoever brings it something are told here as well.
struct Watched {
    shard: ShardService,
    answered: mpsc::UnboundedSender<Result<Option<Answer>, Code>>,
}

#[tonic::async_trait]
impl Shard for Watched {
    type FetchStream = <ShardService as Shard>::FetchStream;
    type PublishStream = ReceiverStream<Result<v1::PublishAnswer, Status>>;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        self.shard.ping(request).await
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        self.shard.fetch(request).await
    }

    async fn discover(
        &self,
        request: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        self.shard.discover(request).await
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let mut said = self.shard.publish(request).await?.into_inner();
        let (answers, stream) = mpsc::channel(2);
        let answered = self.answered.clone();
        tokio::spawn(async move {
            while let Some(answer) = said.next().await {
                let told = answer.as_ref().map(|answer| answer.answer.clone()).map_err(Status::code);
                let _gone = answers.send(answer).await;
                let _over = answered.send(told);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Serves a place as a home; gives where, and what it answers at the end of each upload.
async fn watched(place: &Place) -> (SocketAddr, mpsc::UnboundedReceiver<Result<Option<Answer>, Code>>) {
    let (answered, answers) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let home = Server::builder().add_service(ShardServer::new(Watched { shard: place.service(), answered }));
    tokio::spawn(home.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, answers)
}

/// What a home said at the end of an upload.
async fn last_word(
    answers: &mut mpsc::UnboundedReceiver<Result<Option<Answer>, Code>>,
) -> Result<Option<Answer>, Code> {
    loop {
        match answers.recv().await.unwrap() {
            Ok(Some(Answer::Lacking(_))) => {}
            word => return word,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_without_room_says_so_and_what_it_was_sent_goes_on_waiting_however_little_it_is() {
    let (maker, home) = (Place::new(), Place::with_capacity(ByteCount::kib(64)));
    let (address, mut answers) = watched(&home).await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    // One frame: it is on its way to the disk when the upload is over.
    queue.push(maker.build(&[("package", vec![7; 100 << 10])]).await.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[address]).run());
    assert_eq!(last_word(&mut answers).await, Err(Code::ResourceExhausted));
    assert_eq!(queue.len(), 1);
    uploading.abort();
}

#[test]
fn what_only_cannot_be_read_now_is_brought_to_a_home_later() {
    let runtime = Runtime::new().unwrap();
    let (maker, home) = (Place::new(), Place::new());
    let (address, mut answers) = runtime.block_on(watched(&home));
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = runtime.block_on(maker.build(&bodies()));
    queue.push(signed.digest);
    let (_, body) = bodies().into_iter().find(|(name, _)| *name == "archive").unwrap();
    let path = maker.body_path(&body);
    let shelf = path.parent().unwrap();
    // No frame is ready, so each is made of what can be read.
    let frames = maker.dir.path().join("cache/frames");
    fs::remove_dir_all(&frames).unwrap();
    fs::create_dir(&frames).unwrap();
    fs::set_permissions(shelf, fs::Permissions::from_mode(0o000)).unwrap();
    let word = without_privilege(|| {
        Runtime::new().unwrap().block_on(async {
            let uploading = tokio::spawn(uploader(&maker, &queue, &[address]).run());
            let word = last_word(&mut answers).await;
            let again = tokio::time::timeout(Duration::from_secs(20), last_word(&mut answers)).await;
            uploading.abort();
            again.expect("it is offered again").and(word)
        })
    });
    fs::set_permissions(shelf, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(word, Ok(Some(Answer::Taken(_)))), "what could be read is there: {word:?}");
    runtime.block_on(async {
        let uploading = tokio::spawn(uploader(&maker, &queue, &[address]).run());
        until_empty(&queue).await;
        uploading.abort();
    });
    assert_eq!(home.store.library().names(), [signed.digest], "with all that it names");
}
