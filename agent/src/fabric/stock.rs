//! The port for clients of the remote execution API that are not Meridian's: a cache beside the builds' own.

use std::{path::Path, sync::Arc};

use meridian_cache::reapi::{ContentConfig, Reapi, StockListener, TokenTable};
use meridian_core::quantity::ByteCount;
use tokio_util::sync::CancellationToken;

use crate::config::StockSettings;

/// A bound port, and what it serves.
pub(crate) struct StockPort {
    listener: StockListener,
    reapi: Reapi,
}

impl StockPort {
    /// Opens the cache in `dir` and listens.
    ///
    /// # Errors
    /// When the tokens, the certificate or the directory cannot be used, or the address cannot be listened on.
    pub(crate) async fn open(
        dir: &Path,
        settings: &StockSettings,
        free_min: ByteCount,
    ) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("the cache for stock clients (`[reapi]`): {error}");
        let (dir, tokens) = (dir.to_owned(), settings.tokens.clone());
        let config = ContentConfig { capacity: settings.capacity, free_min, ..ContentConfig::default() };
        let opened = tokio::task::spawn_blocking(move || {
            let table = TokenTable::load(&tokens).map_err(|error| error.to_string())?;
            Reapi::open(&dir, config, Arc::new(table)).map_err(|error| error.to_string())
        });
        let reapi = opened.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let bound = StockListener::bind(settings.listen, settings.tls.as_ref()).await;
        Ok(Self { listener: bound.map_err(|error| failed(&error))?, reapi })
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        tracing::info!(address = %self.listener.local_addr(), "stock clients of the remote execution API are served");
        if let Err(error) = self.listener.serve(&self.reapi, stop.cancelled_owned()).await {
            tracing::error!(%error, "the port for stock clients failed");
        }
    }
}
