//! Between a blocking reader or writer of a pack and an async stream of chunks: a bounded channel.
//!
//! Both ends of every transfer need it, and it knows nothing of the wire but how long a chunk may be.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

/// Chunks that may wait between the two ends; with a chunk's length it bounds the memory of a transfer.
pub const CHUNKS_WAITING_MAX: usize = 4;

/// Gathers what is written into chunks and sends them. Blocks while the other end is slow.
pub struct ChunkWriter {
    chunks: mpsc::Sender<Bytes>,
    gathered: BytesMut,
    len_max: usize,
}

impl ChunkWriter {
    /// Sends into `chunks`, at most `len_max` bytes at a time; at least one.
    #[must_use]
    pub fn new(chunks: mpsc::Sender<Bytes>, len_max: usize) -> Self {
        let len_max = len_max.max(1);
        Self { chunks, gathered: BytesMut::with_capacity(len_max), len_max }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = self.gathered.split().freeze();
        self.gathered.reserve(self.len_max);
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.len_max - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..len]);
        if self.gathered.len() == self.len_max {
            self.send()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.send() }
    }
}

/// Reads what chunks bring. Blocks until the next comes; ends when the sender is gone, or with the error that
/// it sent.
pub struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl ChunkReader {
    /// Reads from `chunks`.
    #[must_use]
    pub fn new(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let len = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_channel_in_chunks_of_the_length_asked_for() {
        let sent: Vec<u8> = (0..100_003_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (sender, mut written) = mpsc::channel(CHUNKS_WAITING_MAX);
        let (forward, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let expected = sent.clone();
        let writing = std::thread::spawn(move || {
            let mut writer = ChunkWriter::new(sender, 1000);
            for piece in sent.chunks(701) {
                writer.write_all(piece).unwrap();
            }
            writer.flush().unwrap();
        });
        let forwarding = std::thread::spawn(move || {
            while let Some(chunk) = written.blocking_recv() {
                assert!(chunk.len() <= 1000);
                forward.blocking_send(Ok(chunk)).unwrap();
            }
        });
        let mut received = Vec::new();
        ChunkReader::new(receiver).read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        forwarding.join().unwrap();
        assert!(received == expected);
    }

    #[test]
    fn an_error_of_the_sender_ends_the_reading_with_it() {
        let (sender, receiver) = mpsc::channel(2);
        sender.blocking_send(Ok(Bytes::from_static(b"part"))).unwrap();
        sender.blocking_send(Err(io::ErrorKind::ConnectionAborted.into())).unwrap();
        let error = ChunkReader::new(receiver).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_writer_whose_reader_is_gone_fails_instead_of_waiting() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut writer = ChunkWriter::new(sender, 10);
        writer.write_all(b"x").unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
