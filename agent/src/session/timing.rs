//! The agent loop's ways to wait, and to read the clock.

use std::{
    future::pending,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use meridian_core::{quantity::Millis, time::Mono};
use meridian_runtime::clock::Clock;
use tokio::time::{Instant, sleep_until};

/// Waits for a moment of the attempts' clock, or for ever.
pub(super) async fn clock_deadline(clock: &Clock, deadline: Option<Mono>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline.0).await,
        None => pending().await,
    }
}

/// Waits for a moment, or for ever.
pub(super) async fn optional_sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// A span as the runtime takes it.
pub(super) const fn millis(span: Millis) -> Duration {
    Duration::from_millis(span.0)
}

/// The wall clock in microseconds.
pub(super) fn wall_us() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}
