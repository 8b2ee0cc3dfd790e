//! What a process tells about itself: logs for people, traces for collectors, and the context that ties the traces of
//! several processes together.
//!
//! Not here: metrics, which the roles keep themselves, and which text is secret: whoever knows sets a [`Masking`].

mod log_file;
mod masking;
pub mod propagation;
mod setup;
mod telling_exporter;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;

pub use masking::{Mask, Masking};
pub use setup::{Format, Guard, LogTarget, TelemetryConfig, TelemetryError, build, init};
