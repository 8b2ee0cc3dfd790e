//! The plain HTTP side: `/metrics`, `/healthz`, `/readyz`.
//!
//! `/healthz` says that the process runs; `/readyz` that it leads and that its journal answers. Nothing here
//! tells anything of a project, so it needs no certificate; it listens on loopback unless told otherwise.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    handle::Handle,
    metrics::{CONTENT_TYPE, Metrics},
};

#[derive(Clone)]
struct Shared {
    handle: Handle,
    metrics: Metrics,
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    handle: Handle,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Shared { handle, metrics });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Binds the HTTP port.
///
/// # Errors
/// With the address in the text when the port is taken.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen for HTTP on {address}: {error}; choose another `http`"))
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    match shared.handle.read(|machine| machine.durable().epoch()).await {
        Ok(epoch) => (StatusCode::OK, format!("leading in epoch {epoch}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn scrape(State(shared): State<Shared>) -> Result<impl IntoResponse, (StatusCode, String)> {
    let content_type = [(header::CONTENT_TYPE, CONTENT_TYPE)];
    shared
        .metrics
        .scrape(&shared.handle)
        .await
        .map(|text| (content_type, text))
        .map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")))
}
