//! The cache for clients of the remote execution API, beside the builds' own: for stock clients at a port of their own,
//! and for other agents at their shards' port.

use std::{path::Path, sync::Arc};

use meridian_cache::reapi::{
    Admission, ContentConfig, Instance, Reapi, ReapiError, StockListener, TokenTable,
};
use meridian_core::quantity::ByteCount;
use tokio_util::sync::CancellationToken;

use crate::config::StockSettings;

/// A bound port, and what it serves.
pub(crate) struct StockPort {
    listener: StockListener,
    reapi: Reapi,
}

/// Opens the cache in `dir` for nobody yet: whoever serves it says for whom.
///
/// # Errors
/// When the directory cannot be used.
pub(crate) async fn open_reapi(
    dir: &Path,
    capacity: ByteCount,
    free_min: ByteCount,
) -> Result<Reapi, String> {
    let dir = dir.to_owned();
    let config = ContentConfig { capacity, free_min, ..ContentConfig::default() };
    let nobody = |_: meridian_cache::reapi::Caller<'_>, _: &Instance| -> Result<Admission, ReapiError> {
        Err(ReapiError::Unauthenticated)
    };
    let opened = tokio::task::spawn_blocking(move || Reapi::open(&dir, config, Arc::new(nobody)));
    let opened = opened.await.map_err(|error| error.to_string())?;
    opened.map_err(|error| format!("the cache for clients of the remote execution API: {error}"))
}

impl StockPort {
    /// Listens for stock clients that show a token.
    ///
    /// # Errors
    /// When the tokens or the certificate cannot be used, or the address cannot be listened on.
    pub(crate) async fn open(reapi: &Reapi, settings: &StockSettings) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("the cache for stock clients (`[reapi]`): {error}");
        let tokens = settings.tokens.clone();
        let table = tokio::task::spawn_blocking(move || TokenTable::load(&tokens)).await;
        let table = table.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let bound = StockListener::bind(settings.listen, settings.tls.as_ref()).await;
        let listener = bound.map_err(|error| failed(&error))?;
        Ok(Self { listener, reapi: reapi.with_authority(Arc::new(table)) })
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        tracing::info!(address = %self.listener.local_addr(), "stock clients of the remote execution API are served");
        if let Err(error) = self.listener.serve(&self.reapi, stop.cancelled_owned()).await {
            tracing::error!(%error, "the port for stock clients failed");
        }
    }
}
