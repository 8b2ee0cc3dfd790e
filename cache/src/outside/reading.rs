//! A blob that comes from a server outside piece by piece.

use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_proto::reapi::bytestream::ReadResponse;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::client::{ANSWER_WITHIN, Outside, OutsideError};

/// A blob on its way. It may be waited for only so long in all: what the reader does between two pieces does not count.
pub(crate) struct Reading<'a, S = Streaming<ReadResponse>> {
    outside: &'a Outside,
    pieces: S,
    /// How many bytes are still to come.
    lacking: u64,
    /// For how long they may still be waited for.
    time_left: Duration,
}

impl<'a, S: Stream<Item = Result<ReadResponse, Status>> + Unpin> Reading<'a, S> {
    pub(super) const fn new(outside: &'a Outside, pieces: S, size: u64, within: Duration) -> Self {
        Self { outside, pieces, lacking: size, time_left: within }
    }

    /// The next piece; nothing when the blob has ended. Gives up one that is longer or shorter than it says.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OutsideError> {
        let asked = Instant::now();
        let next = timeout(ANSWER_WITHIN.min(self.time_left), self.pieces.next()).await;
        self.time_left = self.time_left.saturating_sub(asked.elapsed());
        let next = match next {
            Ok(next) => next.transpose()?,
            Err(_) if self.time_left.is_zero() => return Err(self.outside.slow()),
            Err(_) => return Err(self.outside.silent()),
        };
        let Some(ReadResponse { data }) = next else {
            let is_whole = self.lacking == 0;
            return if is_whole { Ok(None) } else { Err(OutsideError::Confused("a blob was cut short")) };
        };
        let longer = OutsideError::Confused("a blob is longer than its name says");
        self.lacking = self.lacking.checked_sub(data.len() as u64).ok_or(longer)?;
        Ok(Some(data))
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;
    use tonic::transport::Endpoint;

    use super::*;

    const SIZE: u64 = 100_000;

    fn outside() -> Outside {
        Outside::new(Endpoint::from_static("http://127.0.0.1:1").connect_lazy(), String::new(), None)
    }

    fn pieces(count: usize, len: usize) -> impl Stream<Item = Result<ReadResponse, Status>> + Unpin {
        let piece = ReadResponse { data: Bytes::from(vec![7; len]) };
        tokio_stream::iter(vec![Ok(piece); count])
    }

    #[tokio::test]
    async fn a_blob_that_drips_is_given_up_and_its_server_left_alone() {
        let outside = outside();
        let drips = Box::pin(pieces(100_000, 1).throttle(Duration::from_millis(2)));
        let mut reading = Reading::new(&outside, drips, SIZE, Duration::from_millis(200));
        let ended = loop {
            match reading.next().await {
                Ok(piece) => assert!(piece.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, OutsideError::Slow), "{ended}");
        assert!(matches!(outside.kept(&Digest::of(b"any")).await, Err(OutsideError::Resting)));
    }

    #[tokio::test]
    async fn what_its_reader_takes_is_not_held_against_it() {
        let outside = outside();
        let mut reading = Reading::new(&outside, pieces(4, 25_000), SIZE, Duration::from_millis(100));
        let mut read = 0;
        while let Some(piece) = reading.next().await.unwrap() {
            read += piece.len() as u64;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(read, SIZE);
    }

    #[tokio::test]
    async fn a_blob_of_another_length_is_not_the_one_that_was_asked_for() {
        let outside = outside();
        for count in [3, 5] {
            let mut reading = Reading::new(&outside, pieces(count, 25_000), SIZE, Duration::from_secs(60));
            let ended = loop {
                match reading.next().await {
                    Ok(piece) => assert!(piece.is_some()),
                    Err(error) => break error,
                }
            };
            assert!(matches!(ended, OutsideError::Confused(_)), "{ended}");
        }
    }
}
