//! One trace over several processes: the W3C trace context, in RPC metadata and as plain text.
//!
//! A caller puts its context in with [`traced`], a server takes it out with the [`TraceRequests`] layer;
//! what travels otherwise (an order to an agent) carries [`current_traceparent`] and is joined by [`join`]. Where traces are not
//! collected nothing is written and nothing is read wrongly.

use std::task::{Context as TaskContext, Poll};

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataKey, KeyRef, MetadataMap},
    service::interceptor::InterceptedService,
    transport::Channel,
};
use tracing::{Instrument as _, Span, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// Writes the current span's context into a request's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Outgoing(metadata));
}

/// A channel whose every call carries the context of the span that it is made in.
pub type TracedChannel = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// `channel` as a client takes it: `BuildsClient::new(traced(channel))`.
#[must_use]
pub fn traced(channel: Channel) -> TracedChannel {
    InterceptedService::new(channel, inject_request)
}

/// [`inject`] as an interceptor: `BuildsClient::with_interceptor(channel, inject_request)`.
///
/// # Errors
/// Never; interceptors must be able to.
pub fn inject_request(mut request: Request<()>) -> Result<Request<()>, Status> {
    inject(request.metadata_mut());
    Ok(request)
}

/// Makes the context in `metadata` the parent of `span`, which must not have been entered yet. Without a context nothing
/// changes.
pub fn join_metadata(span: &Span, metadata: &MetadataMap) {
    adopt(span, &TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(metadata)));
}

/// The current span's context as a `traceparent`; `None` where traces are not collected.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let mut metadata = MetadataMap::new();
    inject(&mut metadata);
    traceparent(&metadata).map(str::to_owned)
}

/// The `traceparent` in a request's metadata, as it was sent: whoever keeps it checks it first.
#[must_use]
pub fn traceparent(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(TRACEPARENT)?.to_str().ok()
}

/// Makes a `traceparent` the parent of `span`, which must not have been entered yet. What is not a trace context is ignored: a
/// trace is never worth a failure.
pub fn join(span: &Span, traceparent: &str) {
    let Ok(value) = traceparent.parse() else { return };
    let mut metadata = MetadataMap::new();
    metadata.insert(TRACEPARENT, value);
    join_metadata(span, &metadata);
}

fn adopt(span: &Span, context: &Context) {
    if context.span().span_context().is_valid() {
        // It fails only where traces are not collected, which is no trouble.
        let _ = span.set_parent(context.clone());
    }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            return;
        }
        if let (Ok(key), Ok(value)) = (key.parse::<AsciiMetadataKey>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a MetadataMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let ascii = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(ascii).collect()
    }
}

/// The server's side as a layer: each request runs in a span named after its method, below the caller's.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceRequests;

impl<S> tower::Layer<S> for TraceRequests {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner }
    }
}

/// What [`TraceRequests`] makes of a service.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
}

impl<S, B> tower::Service<http::Request<B>> for Traced<S>
where
    S: tower::Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/');
        let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server");
        let headers = Headers(request.headers());
        adopt(&span, &TraceContextPropagator::new().extract_with_context(&Context::new(), &headers));
        let called = span.in_scope(|| self.inner.call(request));
        called.instrument(span)
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
