//! Spans that reach a collector in this process, and logs that reach their writer.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tower::{Layer as _, ServiceExt as _};

use super::{propagation, propagation::TraceRequests, written::Written, *};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn config(log: LogTarget, otlp_endpoint: Option<String>) -> TelemetryConfig {
    TelemetryConfig {
        service: "test".into(),
        filter: "info".into(),
        format: Format::Text,
        log,
        otlp_endpoint,
        masking: Masking::default(),
    }
}

fn hiding_hunter2() -> Masking {
    let masking = Masking::default();
    masking.set(Box::new(|text| text.replace("hunter2", "***")));
    masking
}

#[test]
fn a_log_line_is_masked_in_either_format_from_when_the_secret_is_known() {
    for format in [Format::Text, Format::Json] {
        let (written, masking) = (Written::default(), Masking::default());
        let log = LogTarget::Writer(written.writer());
        let config = TelemetryConfig { format, masking: masking.clone(), ..config(log, None) };
        let (dispatch, _guard) = build(config).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(url = "u:hunter2@h", "before");
            masking.set(Box::new(|text| text.replace("hunter2", "***")));
            let span = tracing::info_span!("fetch", key = "hunter2");
            let _entered = span.enter();
            tracing::warn!(error = %"no hunter2 here", list = ?["hunter2"], "after hunter2");
        });
        let text = written.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("hunter2"), "{text}");
        assert!(!lines[1].contains("hunter2") && lines[1].matches("***").count() >= 3, "{text}");
    }
}

#[test]
fn a_span_leaves_without_the_secret_in_its_attributes_events_and_status() {
    use opentelemetry::{
        KeyValue,
        trace::{Event, SpanContext, SpanId, SpanKind, Status},
    };
    use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
    let mut events = SpanEvents::default();
    let attributes = vec![KeyValue::new("error", "bad hunter2")];
    events.events.push(Event::new("hunter2 failed", std::time::UNIX_EPOCH, attributes, 0));
    let mut span = SpanData {
        span_context: SpanContext::NONE,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "fetch".into(),
        start_time: std::time::UNIX_EPOCH,
        end_time: std::time::UNIX_EPOCH,
        attributes: vec![KeyValue::new("url", "u:hunter2@h"), KeyValue::new("count", 7)],
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: Status::error("hunter2"),
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    };
    hiding_hunter2().spans(std::slice::from_mut(&mut span));
    let told = format!("{span:?}");
    assert!(!told.contains("hunter2") && told.matches("***").count() == 4, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_metadata_layer_and_plain_text_and_reaches_the_collector() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(serving);

    let (dispatch, guard) =
        build(config(LogTarget::Writer(Written::default().writer()), Some(endpoint))).unwrap();
    let traced = std::thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, one_trace);
        drop(guard);
    });
    tokio::task::spawn_blocking(|| traced.join()).await.unwrap().unwrap();
    serving.abort();

    let spans = collector.0.lock().unwrap();
    let by_name: BTreeMap<_, _> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let names = ["build", "order", "rpc-by-metadata", "test.Builds/Submit"];
    assert_eq!(by_name.keys().copied().collect::<Vec<_>>(), names);
    let root = by_name["build"];
    assert!(root.parent_span_id.is_empty());
    for name in &names[1..] {
        assert_eq!(by_name[name].trace_id, root.trace_id, "{name}");
        assert_eq!(by_name[name].parent_span_id, root.span_id, "{name}");
    }
}

/// A caller, a server by its layer, one by hand, and an agent that was handed an order.
fn one_trace() {
    let mut metadata = MetadataMap::new();
    let traceparent = tracing::info_span!("build").in_scope(|| {
        propagation::inject(&mut metadata);
        propagation::current_traceparent().expect("traces are collected")
    });
    let service = tower::service_fn(|_: http::Request<()>| async { Ok::<_, Infallible>(()) });
    let mut request = http::Request::post("/test.Builds/Submit").body(()).unwrap();
    *request.headers_mut() = metadata.clone().into_headers();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(TraceRequests.layer(service).oneshot(request)).unwrap();

    let by_metadata = tracing::info_span!("rpc-by-metadata");
    propagation::join_metadata(&by_metadata, &metadata);
    by_metadata.in_scope(|| ());
    let order = tracing::info_span!("order");
    propagation::join(&order, &traceparent);
    order.in_scope(|| ());
}

#[test]
fn logs_are_filtered_and_take_the_form_that_was_asked_for() {
    let written = Written::default();
    let (dispatch, _guard) = build(TelemetryConfig {
        format: Format::Json,
        filter: "warn,meridian_runtime=debug".into(),
        ..config(LogTarget::Writer(written.writer()), None)
    })
    .unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::debug!(count = 3, "kept");
        tracing::info!(target: "elsewhere", "dropped");
        assert_eq!(propagation::current_traceparent(), None, "nothing is collected");
        propagation::join(&tracing::info_span!("x"), "not a context");
    });
    let text = written.text();
    assert!(text.contains("\"count\":3") && text.contains("kept") && text.starts_with('{'), "{text}");
    assert!(!text.contains("dropped"), "{text}");
}

#[test]
fn what_cannot_be_set_up_is_said() {
    let bad = |change: fn(&mut TelemetryConfig)| {
        let mut config = config(LogTarget::Stderr, None);
        change(&mut config);
        build(config).unwrap_err().to_string()
    };
    assert!(bad(|config| config.filter = "meridian=loud".into()).contains("meridian=loud"));
    assert!(bad(|config| config.log = LogTarget::File("/nonexistent/x.log".into())).contains("/nonexistent"));
}

#[test]
fn a_collector_that_cannot_be_used_is_said_without_its_password_and_is_no_error() {
    for endpoint in ["https://u:hunter2@collector.test:1", "http://u:hunter2@bad host"] {
        let written = Written::default();
        let (dispatch, guard) =
            build(config(LogTarget::Writer(written.writer()), Some(endpoint.into()))).unwrap();
        tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("untold").in_scope(|| ()));
        drop(guard);
        let text = written.text();
        assert!(text.contains("traces are not sent") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_collector_that_is_away_or_silent_does_not_hold_up_the_end() {
    // Nobody accepts, but the system does: what is sent there is never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for endpoint in ["http://127.0.0.1:1".to_owned(), format!("http://{}", silent.local_addr().unwrap())] {
        let (dispatch, guard) =
            build(config(LogTarget::Writer(Written::default().writer()), Some(endpoint.clone()))).unwrap();
        tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("lost").in_scope(|| ()));
        let start = std::time::Instant::now();
        drop(guard);
        assert!(start.elapsed() < std::time::Duration::from_secs(4), "{endpoint}: {:?}", start.elapsed());
    }
}
