//! What all services share: the content, the word on who may do what, and the uploads under way.

use std::{path::Path, sync::Arc};

use meridian_proto::reapi::{
    bytestream::byte_stream_server::ByteStreamServer,
    v2::{
        action_cache_server::ActionCacheServer, capabilities_server::CapabilitiesServer,
        content_addressable_storage_server::ContentAddressableStorageServer,
    },
};
use tokio::sync::Semaphore;
use tonic::{Request, service::Routes};

use super::{
    authority::{Admission, Authority, Caller},
    content::{Content, ContentConfig},
    disk::Disk,
    error::ReapiError,
    name::Instance,
    reading::READS_MAX,
    uploads::Uploads,
};

/// Most bytes of blobs in one batch. A little less than the 4 MiB that gRPC clients take in one message when nobody
/// told them otherwise, since the digests have to fit as well.
pub(super) const BATCH_LEN_MAX: u64 = (4 << 20) - (64 << 10);

/// Most bytes in one message.
pub(super) const MESSAGE_LEN_MAX: usize = 4 << 20;

/// A cache that speaks the remote execution API. A clone is another handle on the same one.
#[derive(Clone)]
pub struct Reapi {
    pub(super) content: Arc<Content>,
    pub(super) disk: Disk,
    pub(super) uploads: Arc<Uploads>,
    /// Places for reads that take a while.
    pub(super) reads: Arc<Semaphore>,
    authority: Arc<dyn Authority>,
}

impl Reapi {
    /// Opens the content below `dir`, for those whom `authority` admits. Nobody else may have `dir` open.
    ///
    /// # Errors
    /// When the directory is in use or cannot be read.
    pub fn open(
        dir: &Path,
        config: ContentConfig,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, ReapiError> {
        let content = Arc::new(Content::open(dir, config)?);
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Ok(Self { content, disk: Disk::new(), uploads: Arc::default(), reads, authority })
    }

    /// The same content for whom another authority admits, for a second listener.
    #[must_use]
    pub fn with_authority(&self, authority: Arc<dyn Authority>) -> Self {
        Self { authority, ..self.clone() }
    }

    /// The services.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes
            .add_service(
                ContentAddressableStorageServer::new(self.clone()).max_decoding_message_size(MESSAGE_LEN_MAX),
            )
            .add_service(ActionCacheServer::new(self.clone()).max_decoding_message_size(MESSAGE_LEN_MAX))
            .add_service(ByteStreamServer::new(self.clone()).max_decoding_message_size(MESSAGE_LEN_MAX))
            .add_service(CapabilitiesServer::new(self.clone()));
        routes.routes()
    }

    /// What the caller may do with an instance.
    pub(super) fn admit<T>(&self, request: &Request<T>, instance: &str) -> Result<Admission, ReapiError> {
        let caller = Caller { metadata: request.metadata(), extensions: request.extensions() };
        self.authority.admit(caller, &Instance::parse(instance)?)
    }

    /// Admits a caller who is about to write.
    pub(super) fn admit_writer<T>(
        &self,
        request: &Request<T>,
        instance: &str,
    ) -> Result<Instance, ReapiError> {
        let admission = self.admit(request, instance)?;
        match admission.may_write {
            true => Ok(admission.scope),
            false => Err(ReapiError::Forbidden(format!("reading only in the instance {instance:?}"))),
        }
    }
}
