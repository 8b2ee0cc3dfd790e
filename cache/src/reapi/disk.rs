//! Where the services wait for the disk.
//!
//! **A place here is held only while the disk works, never while a client or another place is waited for**, so
//! uploads cannot lock each other out.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::error::ReapiError;

/// Most pieces of work that wait for the disk at once.
const PLACES: usize = 32;

/// How long a piece of work waits for its place.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A bounded number of threads that may wait for the disk.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Semaphore>);

impl Disk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }

    /// Does `work` where waiting is allowed. It goes on when the caller is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ReapiError> + Send + 'static,
    ) -> Result<T, ReapiError> {
        let place = timeout(WAIT_MAX, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(ReapiError::Unavailable("the disk has too much to do".into()));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.unwrap_or_else(|error| Err(ReapiError::Unavailable(error.to_string())))
    }
}
