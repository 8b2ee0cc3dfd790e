//! Puts the subscriber together.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Runtime;
use tracing::{Dispatch, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, fmt::writer::BoxMakeWriter, layer::SubscriberExt as _,
};

use super::{
    log_file::{FILE_LEN_MAX, LogFile},
    masking::{MaskedWriters, Masking},
    telling_exporter::TellingExporter,
};

/// How long the last spans may take to leave when the process ends.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(1500);
/// How long one batch may take.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Debug, Default)]
pub enum LogTarget {
    /// Standard error, coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Stderr,
    /// A file, mode 0600, of at most 16 MiB beside a predecessor of as much.
    File(PathBuf),
    /// Anything else, for tests and embedding.
    Writer(BoxMakeWriter),
}

/// What to tell, and where.
#[derive(Debug)]
pub struct TelemetryConfig {
    /// The service's name in traces: `meridian-coordinator`.
    pub service: String,
    /// Which log lines: `info,meridian_agent=debug`, as `tracing` filters are written.
    pub filter: String,
    /// How they look.
    pub format: Format,
    /// Where they go.
    pub log: LogTarget,
    /// The collector that traces are sent to by OTLP over gRPC (`http://host:4317`); `None` sends none.
    pub otlp_endpoint: Option<String>,
    /// What is taken out of log lines and traces.
    pub masking: Masking,
}

impl TelemetryConfig {
    /// For `service`: on standard error at level info, unless `MERIDIAN_LOG` gives a filter, as text, unless `MERIDIAN_LOG_FORMAT`
    /// is `json`; traces go where `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, else `OTEL_EXPORTER_OTLP_ENDPOINT` says, unless
    /// `OTEL_SDK_DISABLED` is `true`.
    #[must_use]
    pub fn from_env(service: &str) -> Self {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            service: service.to_owned(),
            filter: var("MERIDIAN_LOG").unwrap_or_else(|| "info".to_owned()),
            format: match var("MERIDIAN_LOG_FORMAT").as_deref() {
                Some("json") => Format::Json,
                _ => Format::Text,
            },
            log: LogTarget::Stderr,
            otlp_endpoint: var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                .or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"))
                .filter(|_| var("OTEL_SDK_DISABLED").as_deref() != Some("true")),
            masking: Masking::default(),
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log filter {filter:?} is not understood: {reason}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log file cannot be written.
    #[error("cannot write the log {}: {source}", path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process has telemetry already.
    #[error("telemetry was set up twice in this process")]
    Twice,
}

/// Keep it until the process ends: dropping it sends the spans that are left, within a second and a half.
#[derive(Debug, Default)]
pub struct Guard {
    traces: Option<(SdkTracerProvider, Runtime)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((provider, runtime)) = self.traces.take() {
            if let Err(error) = provider.shutdown_with_timeout(FLUSH_TIME_MAX) {
                tracing::debug!(%error, "the last spans were not sent");
            }
            runtime.shutdown_background();
        }
    }
}

/// Sets the whole process's telemetry up. Traces that cannot be sent are said in the log and are no error: nobody's build fails
/// because of a collector.
///
/// # Errors
/// When the configuration cannot be carried out, or it was done before.
pub fn init(config: TelemetryConfig) -> Result<Guard, TelemetryError> {
    let (dispatch, guard) = build(config)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

/// The same for a part of the process, which the caller enters by `tracing::dispatcher::set_default`.
///
/// # Errors
/// When the configuration cannot be carried out.
pub fn build(config: TelemetryConfig) -> Result<(Dispatch, Guard), TelemetryError> {
    let filter = EnvFilter::builder().parse(&config.filter).map_err(|error| TelemetryError::Filter {
        filter: config.filter.clone(),
        reason: error.to_string(),
    })?;
    let masking = config.masking;
    let logs = log_layer(config.format, config.log, masking.clone())?.with_filter(filter);
    let exporter = |endpoint: String| exporter(&config.service, &endpoint, masking);
    let (traces, refused) = match config.otlp_endpoint.map(exporter) {
        None => (None, None),
        Some(Ok(traces)) => (Some(traces), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    let spans = traces.as_ref().map(|(provider, _)| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("meridian"));
        // Only our own spans: those of the libraries below would include the export of spans itself.
        layer.with_filter(Targets::new().with_target("meridian", LevelFilter::INFO))
    });
    let dispatch = Dispatch::new(Registry::default().with(logs).with(spans));
    if let Some(reason) = refused {
        tracing::dispatcher::with_default(&dispatch, || tracing::warn!(reason, "traces are not sent"));
    }
    Ok((dispatch, Guard { traces }))
}

fn log_layer(
    format: Format,
    target: LogTarget,
    masking: Masking,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    let (writer, colour) = match target {
        LogTarget::Stderr => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            (BoxMakeWriter::new(io::stderr), !plain && io::stderr().is_terminal())
        }
        LogTarget::File(path) => {
            let file = LogFile::open(&path, FILE_LEN_MAX)
                .map_err(|source| TelemetryError::LogFile { path, source })?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        LogTarget::Writer(writer) => (writer, false),
    };
    let writer = MaskedWriters { inner: writer, masking };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    Ok(match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().boxed(),
    })
}

/// A batching exporter with a runtime of its own, so that the last spans can leave while the caller's runtime stands
/// still in a destructor.
fn exporter(service: &str, endpoint: &str, masking: Masking) -> Result<(SdkTracerProvider, Runtime), String> {
    // The endpoint itself is not repeated: it may hold a password.
    if !endpoint.starts_with("http://") {
        return Err(
            "the OTLP endpoint is not http://: only a collector on this host or network is spoken to".into(),
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otlp")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let entered = runtime.enter();
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIME_MAX).build();
    drop(entered);
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(_) => {
            runtime.shutdown_background();
            return Err("the OTLP endpoint is not http://HOST:PORT".to_owned());
        }
    };
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(TellingExporter::new(exporter, masking))
        .with_resource(resource)
        .build();
    Ok((provider, runtime))
}
