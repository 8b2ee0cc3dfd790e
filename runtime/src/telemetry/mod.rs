//! What a process tells about itself: logs for people, traces for collectors, and the context that ties the traces of
//! several processes together.
//!
//! Not here: metrics, which the roles keep themselves, and masking, which happens before anything is logged.

mod log_file;
pub mod propagation;
mod setup;
mod telling_exporter;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;

pub use setup::{Format, Guard, LogTarget, TelemetryConfig, TelemetryError, build, init};
