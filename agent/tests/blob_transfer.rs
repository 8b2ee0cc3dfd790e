//! Blobs up and down against a coordinator that keeps cutting the stream midway.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/served.rs"]
mod served;

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use meridian_agent::transfer::{
    Access, BlobContent, BlobUpload, Downloader, TransferConfig, TransferError, Uploader,
};
use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_proto::{
    limits::CHUNK_LEN_MAX,
    v1::{
        self,
        blobs_server::{Blobs, BlobsServer},
    },
};
use meridian_store::{
    blob::{BlobConfig, DiskBlobs, Durability},
    pack::{PackLimits, PackReader, PackWriter, PartialBlobs},
    tree::{Directory, DirectoryNode, FileNode, TreeLimits},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Endpoint, Server},
};

use served::Served;

/// A coordinator with a real store. It lets only so many bytes of pack through before it cuts a stream, and a
/// little more each time.
#[derive(Clone)]
struct Coordinator {
    partials: PartialBlobs,
    cut_after: Option<u64>,
    streams: Arc<AtomicU64>,
    moved: Arc<AtomicU64>,
    /// Sent with every answer, whoever asked for it.
    slipped_in: Option<Digest>,
}

impl Coordinator {
    fn open(dir: &Path, cut_after: Option<u64>) -> Self {
        let (streams, moved) = (Arc::default(), Arc::default());
        Self { partials: store(dir), cut_after, streams, moved, slipped_in: None }
    }

    fn blobs(&self) -> &DiskBlobs {
        self.partials.blobs()
    }

    fn next_cut(&self) -> u64 {
        let streams = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        self.cut_after.map_or(u64::MAX, |bytes| bytes * streams)
    }

    fn pack_of(&self, request: &v1::DownloadRequest) -> Result<Vec<u8>, Status> {
        let mut digests: Vec<Digest> =
            request.digests.iter().map(|digest| Digest::from_slice(digest).unwrap()).collect();
        digests.splice(0..0, self.slipped_in);
        let mut writer = PackWriter::new(Vec::new()).unwrap();
        while let Some(digest) = digests.pop() {
            let bytes = self.blobs().read(&digest, ByteCount::gib(1));
            let bytes = bytes.map_err(|error| Status::not_found(error.to_string()))?;
            let size = ByteCount(bytes.len() as u64);
            writer.add(&digest, size, ByteCount(0), &mut bytes.as_ref()).unwrap();
            if request.directories {
                let directory = Directory::decode(&bytes).unwrap();
                digests.extend(directory.directories.iter().map(|node| node.digest));
            }
        }
        Ok(writer.finish().unwrap())
    }
}

#[tonic::async_trait]
impl Blobs for Coordinator {
    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let digests = request.into_inner().digests;
        let missing = digests.into_iter().filter_map(|wire| {
            let digest = Digest::from_slice(&wire).unwrap();
            let have = self.partials.partial_len(&digest).0;
            (!self.blobs().contains(&digest)).then_some(v1::MissingBlob { digest: wire, have })
        });
        Ok(Response::new(v1::MissingResponse { missing: missing.collect() }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let mut incoming = request.into_inner();
        let header = incoming.message().await?.unwrap().header.unwrap();
        assert_eq!(header.project, "acme/web");
        let cut = self.next_cut();
        let (mut pack, mut whole) = (Vec::new(), true);
        while let Some(message) = incoming.message().await? {
            assert!(message.chunk.len() <= CHUNK_LEN_MAX && message.header.is_none());
            pack.extend_from_slice(&message.chunk);
            if pack.len() as u64 > cut {
                whole = false;
                break;
            }
        }
        self.moved.fetch_add(pack.len() as u64, Ordering::Relaxed);
        let mut reader = PackReader::new(Cursor::new(pack), self.partials.clone(), PackLimits::default());
        while let Ok(Some(_)) = reader.next_blob() {}
        if whole { Ok(Response::new(v1::UploadResponse::default())) } else { Err(Status::unavailable("cut")) }
    }

    async fn receipts(
        &self,
        request: Request<v1::ReceiptsRequest>,
    ) -> Result<Response<v1::ReceiptsResponse>, Status> {
        let receipt = |wire: Bytes| {
            let digest = Digest::from_slice(&wire).unwrap();
            let held = self.blobs().get(&digest).ok_or_else(|| Status::not_found(digest.to_hex()))?;
            Ok(v1::Receipt {
                holder: "c".into(),
                digest: wire,
                size: held.size.0,
                mac: Bytes::from_static(&[1; 32]),
            })
        };
        let receipts: Result<_, Status> = request.into_inner().digests.into_iter().map(receipt).collect();
        Ok(Response::new(v1::ReceiptsResponse { receipts: receipts? }))
    }

    type DownloadStream = ReceiverStream<Result<v1::PackChunk, Status>>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let pack = self.pack_of(&request.into_inner())?;
        let cut = self.next_cut();
        let (sender, stream) = mpsc::channel(2);
        let moved = Arc::clone(&self.moved);
        tokio::spawn(async move {
            let mut sent = 0;
            for chunk in pack.chunks(CHUNK_LEN_MAX) {
                if sent > cut {
                    let _ = sender.send(Err(Status::unavailable("cut"))).await;
                    return;
                }
                sent += chunk.len() as u64;
                moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                let chunk = Bytes::copy_from_slice(chunk);
                if sender.send(Ok(v1::PackChunk { chunk })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn serve(coordinator: Coordinator) -> Served {
    Served::start(Server::builder().add_service(BlobsServer::new(coordinator))).await
}

fn store(dir: &Path) -> PartialBlobs {
    PartialBlobs::open(DiskBlobs::open(dir, BlobConfig::default()).unwrap()).unwrap()
}

fn access() -> Access {
    Access { project: "acme/web".parse().unwrap(), lease: None }
}

fn quick() -> TransferConfig {
    TransferConfig {
        give_up_after: Duration::from_secs(60),
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
        ..TransferConfig::default()
    }
}

/// Bytes that do not compress, so that a pack is as long as what is in it.
fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(next).collect()
}

fn contents() -> Vec<Bytes> {
    let mut contents: Vec<Bytes> = (0..60).map(|n| noise(20_000 + n * 977, n as u64 + 1)).collect();
    contents.extend([Bytes::new(), noise(5_000_000, 99), noise((1 << 20) + 1, 98)]);
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_through_streams_that_break_ends_with_a_receipt_for_each_blob() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::open(&dir.path().join("far"), Some(1_200_000));
    let served = serve(coordinator.clone()).await;
    let contents = contents();
    let mut blobs: Vec<BlobUpload> = contents.iter().cloned().map(BlobUpload::of).collect();
    let path = dir.path().join("large");
    std::fs::write(&path, &contents[61]).unwrap();
    blobs[61].content = BlobContent::File(path);
    blobs.push(blobs[0].clone());

    let uploader = Uploader::new(served.channel.clone(), access(), quick());
    let receipts = uploader.put(&blobs, |_| {}).await.unwrap();
    let receipted: Vec<Digest> = receipts.iter().map(|receipt| receipt.digest).collect();
    assert_eq!(receipted, blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>());
    assert!(contents.iter().all(|bytes| coordinator.blobs().contains(&Digest::of(bytes))));
    assert!(coordinator.streams.load(Ordering::Relaxed) > 2);
    // What had arrived is not sent again, so all tries together are not much more than one.
    let total: u64 = contents.iter().map(|bytes| bytes.len() as u64).sum();
    let moved = coordinator.moved.load(Ordering::Relaxed);
    assert!(moved < total * 2, "{moved} of {total}");

    let streams = coordinator.streams.load(Ordering::Relaxed);
    uploader.put(&blobs, |_| {}).await.unwrap();
    assert_eq!(coordinator.streams.load(Ordering::Relaxed), streams, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_since_it_was_hashed_is_an_error_not_a_loop() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(Coordinator::open(&dir.path().join("far"), None)).await;
    let path = dir.path().join("file");
    std::fs::write(&path, b"after").unwrap();
    let changed =
        BlobUpload { digest: Digest::of(b"befor"), size: ByteCount(5), content: BlobContent::File(path) };
    let uploader = Uploader::new(served.channel.clone(), access(), quick());
    let error = uploader.put(&[changed], |_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Source(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_through_streams_that_break_brings_every_blob() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::open(&dir.path().join("far"), Some(700_000));
    let contents = contents();
    for bytes in &contents {
        coordinator.blobs().put(bytes, Durability::Volatile).unwrap();
    }
    let served = serve(coordinator.clone()).await;
    let near = store(&dir.path().join("near"));
    let downloader = Downloader::new(served.channel.clone(), access(), quick(), near.clone());
    downloader.fetch(contents.iter().map(|bytes| Digest::of(bytes))).await.unwrap();
    for bytes in &contents {
        assert!(near.blobs().read(&Digest::of(bytes), ByteCount::mib(64)).unwrap() == *bytes);
    }
    assert!(coordinator.streams.load(Ordering::Relaxed) > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_asked_for_is_not_kept_and_ends_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::open(&dir.path().join("far"), None);
    let put = |bytes: &[u8]| coordinator.blobs().put(bytes, Durability::Volatile).unwrap();
    let (wanted, slipped_in) = (put(b"wanted"), put(b"slipped in"));
    coordinator.slipped_in = Some(slipped_in);
    let served = serve(coordinator.clone()).await;
    let near = store(&dir.path().join("near"));
    let once = TransferConfig { give_up_after: Duration::ZERO, ..quick() };
    let downloader = Downloader::new(served.channel.clone(), access(), once, near.clone());
    let error = downloader.fetch([wanted]).await.unwrap_err();
    let TransferError::GaveUp { status, .. } = &error else { panic!("{error}") };
    assert!(status.message().contains("was not asked for"), "{error}");
    // It is sent last here, and what came before it stays.
    assert!(near.blobs().contains(&wanted) && !near.blobs().contains(&slipped_in));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_the_coordinator_lacks_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(Coordinator::open(&dir.path().join("far"), None)).await;
    let near = store(&dir.path().join("near"));
    let downloader = Downloader::new(served.channel.clone(), access(), quick(), near);
    let error = downloader.fetch([Digest::of(b"nobody has this")]).await.unwrap_err();
    assert!(matches!(error, TransferError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_is_away_is_given_up_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let channel = Endpoint::try_from("http://127.0.0.1:1").unwrap().connect_lazy();
    let config = TransferConfig { give_up_after: Duration::from_millis(50), ..quick() };
    let downloader = Downloader::new(channel, access(), config, store(dir.path()));
    let error = downloader.fetch([Digest::of(b"x")]).await.unwrap_err();
    assert!(matches!(error, TransferError::GaveUp { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_whole_directories_first() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::open(&dir.path().join("far"), Some(200_000));
    let put = |bytes: &[u8]| coordinator.blobs().put(bytes, Durability::Volatile).unwrap();
    let mut files = BTreeMap::new();
    let mut below = Directory::default();
    for n in 0..30_u64 {
        let name = format!("{n:02}.go");
        let bytes = noise(30_000, n + 7);
        let size = ByteCount(bytes.len() as u64);
        below.files.push(FileNode { name: name.clone(), digest: put(&bytes), size, executable: false });
        files.insert(format!("pkg/{name}"), bytes);
    }
    let mut top = Directory::default();
    top.directories.push(DirectoryNode { name: "pkg".into(), digest: put(&below.encode().unwrap()) });
    let root = put(&top.encode().unwrap());

    let served = serve(coordinator.clone()).await;
    let near = store(&dir.path().join("near"));
    let downloader = Downloader::new(served.channel.clone(), access(), quick(), near.clone());
    let tree = downloader.fetch_tree(&root, TreeLimits::default()).await.unwrap();
    assert_eq!(tree.files.len(), files.len());
    for (path, file) in &tree.files {
        assert_eq!(near.blobs().read(&file.digest, ByteCount::mib(1)).unwrap(), files[path]);
    }
}
