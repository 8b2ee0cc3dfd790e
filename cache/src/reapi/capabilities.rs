//! Capabilities: what this server does, for clients that adapt to it.

use meridian_proto::reapi::{
    semver::SemVer,
    v2::{
        ActionCacheUpdateCapabilities, CacheCapabilities, GetCapabilitiesRequest, ServerCapabilities,
        capabilities_server::Capabilities, compressor::Value as Compressor,
        digest_function::Value as DigestFunction,
        symlink_absolute_path_strategy::Value as SymlinkAbsolutePathStrategy,
    },
};
use tonic::{Request, Response, Status, async_trait};

use super::server::{BATCH_LEN_MAX, Reapi};

/// The lowest version said, since old clients refuse a server whose lowest version is above theirs. Nothing that 2.0
/// has is lacking here.
const LOW: SemVer = SemVer { major: 2, minor: 0, patch: 0, prerelease: String::new() };

/// The version that has compressed blobs in batches.
const HIGH: SemVer = SemVer { major: 2, minor: 3, patch: 0, prerelease: String::new() };

#[async_trait]
impl Capabilities for Reapi {
    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        let admission = self.admit(&request, &request.get_ref().instance_name)?;
        let cache = CacheCapabilities {
            digest_functions: vec![DigestFunction::Sha256.into()],
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
                update_enabled: admission.may_write,
            }),
            max_batch_total_size_bytes: i64::try_from(BATCH_LEN_MAX).unwrap_or_default(),
            symlink_absolute_path_strategy: SymlinkAbsolutePathStrategy::Allowed.into(),
            supported_compressors: vec![Compressor::Zstd.into()],
            supported_batch_update_compressors: vec![Compressor::Zstd.into()],
            max_cas_blob_size_bytes: i64::try_from(self.content.blob_max()).unwrap_or(i64::MAX),
            ..Default::default()
        };
        Ok(Response::new(ServerCapabilities {
            cache_capabilities: Some(cache),
            low_api_version: Some(LOW),
            high_api_version: Some(HIGH),
            ..Default::default()
        }))
    }
}
