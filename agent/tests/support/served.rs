//! A coordinator of a test's own making, behind a real port.

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, server::Router};

/// Services that answer on loopback until this is dropped.
pub(crate) struct Served {
    /// Reaches them.
    pub(crate) channel: Channel,
    serving: JoinHandle<()>,
}

impl Served {
    /// Serves these.
    pub(crate) async fn start(services: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            services.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy();
        Self { channel, serving }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
