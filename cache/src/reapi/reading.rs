//! A blob on its way out: from the form it has on disk to the one that is wanted, piece by piece.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use meridian_proto::reapi::bytestream::ReadResponse;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::Stream;
use tonic::Status;

use super::{
    content::{Content, Source},
    disk::Disk,
    error::ReapiError,
    name::{BlobName, Form, Instance},
    zstd_stream::{Deflater, Inflater, STEP},
};

/// How many pieces are read at one go.
const AT_ONCE: usize = 4;

/// How many pieces wait for a client to take them.
const AHEAD: usize = 2 * AT_ONCE;

/// Most reads under way of blobs that are more than one piece. One more is refused, not made to wait.
pub(super) const READS_MAX: usize = 512;

/// How long a client may take nothing.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);

/// Which part of a blob is wanted, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) blob: BlobName,
    pub(super) form: Form,
    /// In the blob as it is, not compressed.
    pub(super) offset: u64,
    /// 0 for no limit.
    pub(super) limit: u64,
}

struct Inflating {
    inflater: Inflater,
    input: Bytes,
    out: Vec<u8>,
    /// How many bytes are not wanted yet.
    skip: u64,
}

struct Deflating {
    deflater: Deflater,
    input: Bytes,
}

/// A blob that is being read. Its calls wait for the disk.
pub(super) struct Reading {
    content: Arc<Content>,
    source: Source,
    inflating: Option<Inflating>,
    deflating: Option<Deflating>,
    /// How many bytes are still to come, before any compression.
    left: u64,
    is_over: bool,
}

impl Reading {
    pub(super) fn open(
        content: Arc<Content>,
        instance: &Instance,
        wanted: Wanted,
    ) -> Result<Self, ReapiError> {
        let mut source = content.source(instance, &wanted.blob, wanted.form)?;
        if wanted.form == Form::Zstd && source.form == Form::Zstd && wanted.offset == 0 {
            let left = source.length;
            return Ok(Self { content, source, inflating: None, deflating: None, left, is_over: false });
        }
        let rest = wanted.blob.size - wanted.offset;
        let left = if wanted.limit == 0 { rest } else { rest.min(wanted.limit) };
        let inflating = match source.form {
            Form::Plain => {
                if left < wanted.blob.size {
                    content.seek(&mut source, wanted.offset)?;
                }
                None
            }
            Form::Zstd => Some(Inflating {
                inflater: Inflater::new(wanted.blob.size)?,
                input: Bytes::new(),
                out: Vec::with_capacity(STEP),
                skip: wanted.offset,
            }),
        };
        let deflating = match wanted.form {
            Form::Plain => None,
            Form::Zstd => Some(Deflating { deflater: Deflater::new(left)?, input: Bytes::new() }),
        };
        Ok(Self { content, source, inflating, deflating, left, is_over: false })
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, ReapiError> {
        let piece = match self.deflating.take() {
            None => self.next_plain()?,
            Some(mut deflating) => {
                let piece = self.next_deflated(&mut deflating)?;
                self.deflating = Some(deflating);
                piece
            }
        };
        self.is_over |= piece.is_empty() || self.deflating.is_none() && self.left == 0;
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn next_plain(&mut self) -> Result<Bytes, ReapiError> {
        let piece = match self.inflating.take() {
            None => {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(STEP);
                if most == 0 { Bytes::new() } else { self.content.read(&mut self.source, most)? }
            }
            Some(mut inflating) => {
                let piece = self.next_inflated(&mut inflating)?;
                self.inflating = Some(inflating);
                piece
            }
        };
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    fn next_inflated(&mut self, inflating: &mut Inflating) -> Result<Bytes, ReapiError> {
        // What is on disk was whole when it came.
        let damaged = |error| match error {
            ReapiError::Invalid(what) => ReapiError::Damaged(what),
            other => other,
        };
        while self.left > 0 {
            if inflating.input.is_empty() {
                inflating.input = self.content.read(&mut self.source, STEP)?;
            }
            let at_end = inflating.input.is_empty();
            let mut rest = &inflating.input[..];
            inflating.inflater.step(&mut rest, &mut inflating.out).map_err(damaged)?;
            let taken = inflating.input.len() - rest.len();
            inflating.input.advance(taken);
            if inflating.out.is_empty() && at_end {
                inflating.inflater.finish().map_err(damaged)?;
            }
            let given = std::mem::replace(&mut inflating.out, Vec::with_capacity(STEP));
            let mut piece = Bytes::from(given);
            let skipped = usize::try_from(inflating.skip).unwrap_or(usize::MAX).min(piece.len());
            piece.advance(skipped);
            inflating.skip -= skipped as u64;
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            if !piece.is_empty() {
                return Ok(piece);
            }
        }
        Ok(Bytes::new())
    }

    fn next_deflated(&mut self, deflating: &mut Deflating) -> Result<Bytes, ReapiError> {
        let mut out = Vec::with_capacity(STEP);
        while out.len() < STEP {
            if deflating.input.is_empty() {
                deflating.input = self.next_plain()?;
            }
            if deflating.input.is_empty() {
                if deflating.deflater.finish(&mut out)? {
                    break;
                }
                continue;
            }
            let mut rest = &deflating.input[..];
            deflating.deflater.step(&mut rest, &mut out)?;
            let taken = deflating.input.len() - rest.len();
            deflating.input.advance(taken);
        }
        Ok(out.into())
    }

    fn next_few(&mut self) -> Result<Vec<Bytes>, ReapiError> {
        let mut pieces = Vec::with_capacity(AT_ONCE);
        while pieces.len() < AT_ONCE && !self.is_over {
            pieces.extend(self.next()?);
        }
        Ok(pieces)
    }
}

/// A blob as a stream of responses. Public only in that the service's trait names it.
pub struct Pieces {
    first: Option<Bytes>,
    rest: Option<mpsc::Receiver<Result<Bytes, ReapiError>>>,
    /// Set once everything is on its way. A stream that ends without it was given up.
    is_whole: Arc<AtomicBool>,
}

impl Pieces {
    /// One piece, which may be empty.
    pub(super) fn one(piece: Bytes) -> Self {
        let first = (!piece.is_empty()).then_some(piece);
        Self { first, rest: None, is_whole: Arc::new(AtomicBool::new(true)) }
    }

    /// Begins to read. What can be known at once, such as that there is no such blob, is an error right here.
    pub(super) async fn start(
        disk: &Disk,
        reads: &Arc<Semaphore>,
        open: impl FnOnce() -> Result<Reading, ReapiError> + Send + 'static,
    ) -> Result<Self, ReapiError> {
        let opened = move || {
            let mut reading = open()?;
            Ok((reading.next()?, (!reading.is_over).then_some(reading)))
        };
        let (first, reading) = disk.run(opened).await.map_err(ReapiError::before_the_first_byte)?;
        let Some(reading) = reading else { return Ok(Self::one(first.unwrap_or_default())) };
        let too_many = || ReapiError::Unavailable(format!("{READS_MAX} reads are under way"));
        let place = Arc::clone(reads).try_acquire_owned().map_err(|_| too_many())?;
        let (sender, rest) = mpsc::channel(AHEAD);
        let is_whole = Arc::new(AtomicBool::new(false));
        let (disk, whole) = (disk.clone(), Arc::clone(&is_whole));
        tokio::spawn(async move {
            pump(disk, reading, sender, whole).await;
            drop(place);
        });
        Ok(Self { first, rest: Some(rest), is_whole })
    }
}

/// Reads ahead of the client, by no more than [`AHEAD`] pieces and one go.
async fn pump(
    disk: Disk,
    mut reading: Reading,
    sender: mpsc::Sender<Result<Bytes, ReapiError>>,
    is_whole: Arc<AtomicBool>,
) {
    while !reading.is_over {
        let read = disk.run(move || Ok((reading.next_few()?, reading))).await;
        let pieces = match read {
            Ok((pieces, back)) => {
                reading = back;
                pieces
            }
            Err(error) => {
                let _ = timeout(STALL_MAX, sender.send(Err(error))).await;
                return;
            }
        };
        for piece in pieces {
            // Nobody wants it any more, or nobody took anything for too long.
            let Ok(Ok(())) = timeout(STALL_MAX, sender.send(Ok(piece))).await else { return };
        }
    }
    is_whole.store(true, Ordering::Release);
}

impl Stream for Pieces {
    type Item = Result<ReadResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(data) = self.first.take() {
            return Poll::Ready(Some(Ok(ReadResponse { data })));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        match std::task::ready!(rest.poll_recv(context)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(ReadResponse { data }))),
            Some(Err(error)) => {
                self.rest = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.rest = None;
                match self.is_whole.load(Ordering::Acquire) {
                    true => Poll::Ready(None),
                    false => Poll::Ready(Some(Err(ReapiError::Stalled(STALL_MAX.as_secs()).into()))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use tonic::Code;

    use super::*;

    /// A stream that just ended would be taken for a whole blob by a client that does not count.
    #[tokio::test]
    async fn a_stream_that_was_given_up_does_not_end_as_if_it_were_whole() {
        for is_whole in [true, false] {
            let (sender, rest) = mpsc::channel(1);
            sender.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
            drop(sender);
            let first = Some(Bytes::from_static(b"first"));
            let mut pieces =
                Pieces { first, rest: Some(rest), is_whole: Arc::new(AtomicBool::new(is_whole)) };
            assert_eq!(pieces.next().await.unwrap().unwrap().data, "first");
            assert_eq!(pieces.next().await.unwrap().unwrap().data, "second");
            let end = pieces.next().await.map(|end| end.unwrap_err().code());
            assert_eq!(end, (!is_whole).then_some(Code::DeadlineExceeded));
            assert!(pieces.next().await.is_none());
        }
    }
}
