//! An exporter that says when traces begin to be lost and when they arrive again, once each, and that sends none with a
//! secret in it.
//!
//! Not here: keeping what could not be sent. A trace is worth no memory.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

use super::masking::Masking;

/// See the module.
#[derive(Debug)]
pub(super) struct TellingExporter<E> {
    inner: E,
    masking: Masking,
    is_losing: AtomicBool,
}

impl<E> TellingExporter<E> {
    pub(super) const fn new(inner: E, masking: Masking) -> Self {
        Self { inner, masking, is_losing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for TellingExporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        self.masking.spans(&mut batch);
        let result = self.inner.export(batch).await;
        let was_losing = self.is_losing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_losing => {
                tracing::warn!("the OTLP collector does not take our traces; they are lost until it does");
                tracing::debug!(%error, "what the collector said");
            }
            Ok(()) if was_losing => tracing::info!("the OTLP collector takes our traces again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;
    use crate::telemetry::written::Written;

    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<bool>>);

    impl SpanExporter for Scripted {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let taken = self.0.lock().unwrap().pop_front().expect("an expected call");
            if taken { Ok(()) } else { Err(OTelSdkError::InternalFailure("away".to_owned())) }
        }
    }

    #[test]
    fn a_loss_is_said_once_and_so_is_its_end() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().with_writer(written.writer()).finish();
        let script = Scripted(Mutex::new([true, false, false, true, true].into()));
        let exporter = TellingExporter::new(script, Masking::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5 {
                // What it returns is the script's.
                let _ = runtime.block_on(exporter.export(Vec::new()));
            }
        });
        let text = written.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("does not take") && text.contains("takes our traces again"), "{text}");
    }
}
