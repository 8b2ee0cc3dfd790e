//! Waiting for a condition, never for luck.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a server may take until it listens.
const PORT_MAX: Duration = Duration::from_secs(30);

/// Returns what `look` finds, as soon as it finds something.
///
/// # Panics
/// When `within` has passed; the message says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
    match try_wait_for(within, look) {
        Some(found) => found,
        None => panic!("waited {within:?} in vain for {what}"),
    }
}

/// Returns what `look` finds, or `None` once `within` has passed.
pub fn try_wait_for<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until something listens.
///
/// # Panics
/// When nothing does in time.
#[track_caller]
pub fn wait_for_port(address: SocketAddr) {
    wait_for(&format!("a server on {address}"), PORT_MAX, || TcpStream::connect(address).ok().map(drop));
}
