//! ContentAddressableStorage: which blobs are missing, small ones in batches, and trees.

use std::{collections::HashSet, sync::Arc};

use meridian_core::digest::Digest;
use meridian_proto::reapi::{
    rpc,
    v2::{
        BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlobsRequest, BatchUpdateBlobsResponse,
        Directory, FindMissingBlobsRequest, FindMissingBlobsResponse, GetTreeRequest, GetTreeResponse,
        batch_read_blobs_response, batch_update_blobs_request, batch_update_blobs_response,
        compressor::Value as Compressor, content_addressable_storage_server::ContentAddressableStorage,
    },
};
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::{
    content::Content,
    disk::Disk,
    error::ReapiError,
    name::{BlobName, Form, Instance},
    reading::STALL_MAX,
    server::{BATCH_LEN_MAX, MESSAGE_LEN_MAX, Reapi},
    zstd_stream::STEP,
};

/// About what a part of a response takes beside its blob.
const PART_OVERHEAD: usize = 128;

/// Most directories in one response, unless the client wants fewer.
const PAGE_MAX: usize = 1000;

/// Most directories in a tree.
const DIRECTORIES_MAX: usize = 1_000_000;

#[async_trait]
impl ContentAddressableStorage for Reapi {
    type GetTreeStream = ReceiverStream<Result<GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<FindMissingBlobsRequest>,
    ) -> Result<Response<FindMissingBlobsResponse>, Status> {
        let scope = self.admit(&request, &request.get_ref().instance_name)?.scope;
        let FindMissingBlobsRequest { blob_digests, digest_function, .. } = request.into_inner();
        let content = Arc::clone(&self.content);
        let find = move || {
            let mut missing = Vec::new();
            for digest in blob_digests {
                if !content.touch(&scope, &BlobName::read(Some(&digest), digest_function)?) {
                    missing.push(digest);
                }
            }
            Ok(FindMissingBlobsResponse { missing_blob_digests: missing })
        };
        Ok(Response::new(self.disk.run(find).await?))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<BatchUpdateBlobsRequest>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        let scope = self.admit_writer(&request, &request.get_ref().instance_name)?;
        let BatchUpdateBlobsRequest { requests, digest_function, .. } = request.into_inner();
        let content = Arc::clone(&self.content);
        let update = move || {
            let mut responses = Vec::with_capacity(requests.len());
            for part in requests {
                let updated = update_one(&content, &scope, &part, digest_function);
                let status = Some(status_of(updated.err()));
                responses.push(batch_update_blobs_response::Response { digest: part.digest, status });
            }
            Ok(BatchUpdateBlobsResponse { responses })
        };
        Ok(Response::new(self.disk.run(update).await?))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<BatchReadBlobsRequest>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        let scope = self.admit(&request, &request.get_ref().instance_name)?.scope;
        let BatchReadBlobsRequest { digests, acceptable_compressors, digest_function, .. } =
            request.into_inner();
        let names: Result<Vec<_>, _> =
            digests.iter().map(|digest| BlobName::read(Some(digest), digest_function)).collect();
        let names = names?;
        let total = names.iter().fold(0_u64, |total, name| total.saturating_add(name.size));
        if total > BATCH_LEN_MAX {
            return Err(too_large(total).into());
        }
        let zstd = acceptable_compressors.contains(&(Compressor::Zstd as i32));
        let content = Arc::clone(&self.content);
        let read = move || {
            let mut responses = Vec::with_capacity(names.len());
            let mut length = 0;
            for name in names {
                let part = read_one(&content, &scope, name, zstd, MESSAGE_LEN_MAX - length);
                length = (length + part.data.len() + PART_OVERHEAD).min(MESSAGE_LEN_MAX);
                responses.push(part);
            }
            Ok(BatchReadBlobsResponse { responses })
        };
        Ok(Response::new(self.disk.run(read).await?))
    }

    async fn get_tree(
        &self,
        request: Request<GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        let scope = self.admit(&request, &request.get_ref().instance_name)?.scope;
        let GetTreeRequest { root_digest, page_size, page_token, digest_function, .. } = request.into_inner();
        let root = BlobName::read(root_digest.as_ref(), digest_function)?;
        let bad = || ReapiError::Invalid(format!("{page_token:?} is no token of a page"));
        let skip = if page_token.is_empty() { 0 } else { page_token.parse::<usize>().map_err(|_| bad())? };
        let page = usize::try_from(page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let walk = Walk {
            content: Arc::clone(&self.content),
            scope,
            waiting: vec![root],
            seen: HashSet::from([root.digest]),
            given: 0,
            skip,
            page,
        };
        let (first, walk) = self.disk.run(move || walk.begin()).await?;
        let (sender, responses) = mpsc::channel(2);
        let disk = self.disk.clone();
        tokio::spawn(send_pages(disk, first, walk, sender));
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Sends page after page until one has no token. A client that takes none for too long gets no more; it can go on
/// with the last token that it has.
async fn send_pages(
    disk: Disk,
    first: GetTreeResponse,
    mut walk: Walk,
    sender: mpsc::Sender<Result<GetTreeResponse, Status>>,
) {
    let mut next = Ok(first);
    loop {
        let is_last = next.as_ref().map_or(true, |page: &GetTreeResponse| page.next_page_token.is_empty());
        let sent = timeout(STALL_MAX, sender.send(next.map_err(ReapiError::into))).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        let work = move || {
            let page = walk.next_page()?;
            Ok((page, walk))
        };
        match disk.run(work).await {
            Ok((page, back)) => (next, walk) = (Ok(page), back),
            Err(error) => {
                let _ = timeout(STALL_MAX, sender.send(Err(error.into()))).await;
                return;
            }
        }
    }
}

fn too_large(total: u64) -> ReapiError {
    ReapiError::Invalid(format!("{total} bytes in one batch, {BATCH_LEN_MAX} is the most"))
}

fn update_one(
    content: &Content,
    scope: &Instance,
    part: &batch_update_blobs_request::Request,
    function: i32,
) -> Result<(), ReapiError> {
    let name = BlobName::read(part.digest.as_ref(), function)?;
    let form = match Compressor::try_from(part.compressor) {
        Ok(Compressor::Identity) => Form::Plain,
        Ok(Compressor::Zstd) => Form::Zstd,
        _ => return Err(ReapiError::Invalid(format!("no compressor {} here", part.compressor))),
    };
    match content.touch(scope, &name) {
        true => Ok(()),
        false => content.put(scope, name, form, &part.data),
    }
}

fn read_one(
    content: &Content,
    scope: &Instance,
    name: BlobName,
    zstd: bool,
    room: usize,
) -> batch_read_blobs_response::Response {
    let digest = Some(name.to_wire());
    let read = content.read_small(scope, &name, zstd).and_then(|(data, form)| {
        let fits = data.len() + PART_OVERHEAD <= room;
        fits.then_some((data, form))
            .ok_or_else(|| ReapiError::Full("this message; ask for it by itself".into()))
    });
    let status = Some(status_of(None));
    match read {
        Ok((data, form)) => {
            let compressor = if form == Form::Zstd { Compressor::Zstd } else { Compressor::Identity };
            batch_read_blobs_response::Response { digest, data, status, compressor: compressor.into() }
        }
        Err(error) => batch_read_blobs_response::Response {
            digest,
            status: Some(status_of(Some(error))),
            ..Default::default()
        },
    }
}

fn status_of(error: Option<ReapiError>) -> rpc::Status {
    error.map_or_else(rpc::Status::default, |error| rpc::Status {
        code: error.code() as i32,
        message: error.to_string(),
        details: Vec::new(),
    })
}

/// A walk through a tree of directories, always in the same order.
struct Walk {
    content: Arc<Content>,
    scope: Instance,
    waiting: Vec<BlobName>,
    seen: HashSet<Digest>,
    /// How many directories were found.
    given: usize,
    /// How many of them the client has already.
    skip: usize,
    page: usize,
}

impl Walk {
    fn begin(mut self) -> Result<(GetTreeResponse, Self), ReapiError> {
        let root = self.waiting.clone();
        for root in root {
            self.read(&root)?;
        }
        let first = self.next_page()?;
        Ok((first, self))
    }

    fn read(&self, name: &BlobName) -> Result<Directory, ReapiError> {
        let bytes = self.content.read_whole(&self.scope, name, MESSAGE_LEN_MAX as u64)?;
        Directory::decode(bytes)
            .map_err(|error| ReapiError::Precondition(format!("a directory in {name} ({error})")))
    }

    /// The next page. The token is empty on the last one.
    fn next_page(&mut self) -> Result<GetTreeResponse, ReapiError> {
        let mut directories = Vec::new();
        let mut length = 0;
        while directories.len() < self.page && length < STEP {
            let Some(name) = self.waiting.pop() else {
                return Ok(GetTreeResponse { directories, next_page_token: String::new() });
            };
            let directory = match self.read(&name) {
                Ok(directory) => directory,
                // The API has us give what is there.
                Err(ReapiError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            // The last one first, since the walk goes on from the end.
            for child in directory.directories.iter().rev() {
                let child = BlobName::read(child.digest.as_ref(), 0)?;
                if self.seen.insert(child.digest) {
                    self.waiting.push(child);
                }
            }
            if self.seen.len() > DIRECTORIES_MAX {
                return Err(ReapiError::Invalid(format!(
                    "more than {DIRECTORIES_MAX} directories in one tree"
                )));
            }
            self.given += 1;
            if self.given > self.skip {
                length += directory.encoded_len();
                directories.push(directory);
            }
        }
        let next_page_token = if self.waiting.is_empty() { String::new() } else { self.given.to_string() };
        Ok(GetTreeResponse { directories, next_page_token })
    }
}
