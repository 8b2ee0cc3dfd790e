//! How much of what is on its way to or from a server outside is in memory at once.

use std::{io, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes, of all prefetches and uploads of this agent together.
pub(crate) const IN_MEMORY_MAX: u32 = 32 << 20;

/// The room that all share who read from a server outside, or write there. Whoever waits for a place holds none, so that
/// everybody who holds one comes to an end.
pub(crate) struct Room(Arc<Semaphore>);

/// Room for so many bytes, until this is dropped.
pub(crate) struct Place(#[expect(dead_code, reason = "it is held, and nothing else")] OwnedSemaphorePermit);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(IN_MEMORY_MAX as usize)))
    }

    /// Waits for room for `len` bytes.
    pub(crate) async fn take(&self, len: u32) -> io::Result<Place> {
        let place = Arc::clone(&self.0).acquire_many_owned(len.min(IN_MEMORY_MAX)).await;
        place.map(Place).map_err(io::Error::other)
    }

    /// Room for `len` bytes, if there is some now.
    pub(crate) fn take_now(&self, len: u32) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_many_owned(len.min(IN_MEMORY_MAX)).ok().map(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_room_for_so_many_bytes_in_all_and_what_is_given_back_is_for_others() {
        let room = Room::new();
        let first = room.take(20 << 20).await.unwrap();
        let second = room.take_now(12 << 20).unwrap();
        assert!(room.take_now(1).is_none());
        drop(second);
        assert!(room.take_now(12 << 20).is_some());
        drop(first);
        // More than there is at all is all that there is.
        assert!(room.take_now(u32::MAX).is_some());
    }
}
