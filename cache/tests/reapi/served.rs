//! A server in this process, and clients of it.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use meridian_cache::reapi::{Admission, Caller, ContentConfig, Instance, Reapi, ReapiError, StockListener};
use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_proto::reapi::{
    bytestream::{ReadRequest, WriteRequest, WriteResponse, byte_stream_client::ByteStreamClient},
    v2::{
        self, action_cache_client::ActionCacheClient, capabilities_client::CapabilitiesClient,
        content_addressable_storage_client::ContentAddressableStorageClient,
    },
};
use tonic::{Code, Status, transport::Channel};

/// A server that stops with this.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) channel: Channel,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    /// Absent where the server is another process.
    task: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) fn config() -> ContentConfig {
    ContentConfig { capacity: ByteCount::mib(256), free_min: ByteCount(0), blob_max: ByteCount::mib(64) }
}

/// Everybody writes, except in instances that begin with `read-only`; nobody comes into those of `closed`.
fn by_instance(_: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
    if instance.as_str().starts_with("closed") {
        return Err(ReapiError::Forbidden("closed".into()));
    }
    Ok(Admission { scope: instance.clone(), may_write: !instance.as_str().starts_with("read-only") })
}

impl Served {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, config()).await
    }

    pub(crate) async fn start_with(dir: &Path, config: ContentConfig) -> Self {
        let reapi = Reapi::open(dir, config, Arc::new(by_instance)).unwrap();
        let listener = StockListener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let addr = listener.local_addr();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            listener.serve(&reapi, async move { drop(stopped.await) }).await.unwrap();
        });
        Self { stop: Some(stop), task: Some(task), ..Self::connect(addr).await }
    }

    /// A server that runs already.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self { addr, channel: channel(addr).await, stop: None, task: None }
    }

    /// Stops the server once its calls are done.
    pub(crate) async fn stop(mut self) {
        drop(self.channel);
        drop(self.stop.take());
        if let Some(task) = self.task {
            task.await.unwrap();
        }
    }

    pub(crate) fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
    }

    pub(crate) fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    pub(crate) fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }

    pub(crate) fn streams(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }

    /// Sends a blob in pieces and expects that it is taken.
    pub(crate) async fn put(&self, instance: &str, content: &[u8]) -> v2::Digest {
        let name = format!("{}uploads/u/blobs/{}", prefix(instance), path_of(content));
        let written = self.write(messages(&name, content, 100_000)).await.unwrap();
        assert_eq!(written.committed_size, i64::try_from(content.len()).unwrap());
        digest_of(content)
    }

    pub(crate) async fn put_zstd(&self, instance: &str, content: &[u8]) -> v2::Digest {
        let name = format!("{}uploads/u/compressed-blobs/zstd/{}", prefix(instance), path_of(content));
        let packed = zstd::encode_all(content, 3).unwrap();
        assert_eq!(self.write(messages(&name, &packed, 10_000)).await.unwrap().committed_size, -1);
        digest_of(content)
    }

    pub(crate) async fn write(&self, messages: Vec<WriteRequest>) -> Result<WriteResponse, Status> {
        let written = self.streams().write(tokio_stream::iter(messages)).await?;
        Ok(written.into_inner())
    }

    pub(crate) async fn read(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
        let request = ReadRequest { resource_name: name.into(), read_offset: offset, read_limit: limit };
        let mut stream = self.streams().read(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(piece) = stream.message().await? {
            all.extend_from_slice(&piece.data);
        }
        Ok(all)
    }

    pub(crate) async fn get(&self, instance: &str, content: &[u8]) -> Result<Vec<u8>, Code> {
        let name = format!("{}blobs/{}", prefix(instance), path_of(content));
        self.read(&name, 0, 0).await.map_err(|status| status.code())
    }

    pub(crate) async fn missing(&self, instance: &str, digests: Vec<v2::Digest>) -> Vec<v2::Digest> {
        let request = v2::FindMissingBlobsRequest {
            instance_name: instance.into(),
            blob_digests: digests,
            digest_function: 0,
        };
        self.cas().find_missing_blobs(request).await.unwrap().into_inner().missing_blob_digests
    }
}

pub(crate) async fn channel(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

pub(crate) fn prefix(instance: &str) -> String {
    if instance.is_empty() { String::new() } else { format!("{instance}/") }
}

/// `HASH/SIZE`.
pub(crate) fn path_of(content: &[u8]) -> String {
    format!("{}/{}", Digest::of(content), content.len())
}

pub(crate) fn digest_of(content: &[u8]) -> v2::Digest {
    v2::Digest { hash: Digest::of(content).to_hex(), size_bytes: i64::try_from(content.len()).unwrap() }
}

/// An upload of `bytes` in messages of `size`.
pub(crate) fn messages(name: &str, bytes: &[u8], size: usize) -> Vec<WriteRequest> {
    let mut offset = 0;
    let mut messages = Vec::new();
    for piece in bytes.chunks(size) {
        messages.push(WriteRequest {
            resource_name: if offset == 0 { name.into() } else { String::new() },
            write_offset: offset,
            finish_write: false,
            data: Bytes::copy_from_slice(piece),
        });
        offset += i64::try_from(piece.len()).unwrap();
    }
    if messages.is_empty() {
        messages.push(WriteRequest { resource_name: name.into(), ..Default::default() });
    }
    messages.last_mut().unwrap().finish_write = true;
    messages
}

/// Bytes that compress to about a half, another sequence for each seed.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(u32::try_from(state >> 32).unwrap().to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes.truncate(length);
    bytes
}

/// The files of the server that hold blobs.
pub(crate) fn blob_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let shelves = std::fs::read_dir(dir.join("blobs")).unwrap();
    shelves
        .flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

/// Writes other bytes of the same length over a file that the server holds.
pub(crate) fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}
