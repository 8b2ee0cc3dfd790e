//! Between a blocking reader or writer of a pack and an async stream of chunks: a bounded channel.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use meridian_proto::limits::CHUNK_LEN_MAX;
use tokio::sync::mpsc;

/// Chunks that may wait between the two ends; with [`CHUNK_LEN_MAX`] it bounds the memory of a transfer.
pub(super) const CHUNKS_WAITING_MAX: usize = 4;

/// Gathers what is written into chunks and sends them. Blocks while the other end is slow.
pub(super) struct ChunkWriter {
    chunks: mpsc::Sender<Bytes>,
    gathered: BytesMut,
}

impl ChunkWriter {
    pub(super) fn new(chunks: mpsc::Sender<Bytes>) -> Self {
        Self { chunks, gathered: BytesMut::with_capacity(CHUNK_LEN_MAX) }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = self.gathered.split().freeze();
        self.gathered.reserve(CHUNK_LEN_MAX);
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(CHUNK_LEN_MAX - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..len]);
        if self.gathered.len() == CHUNK_LEN_MAX {
            self.send()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.send() }
    }
}

/// Reads what chunks bring. Blocks until the next comes; ends when the sender is gone.
pub(super) struct ChunkReader {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl ChunkReader {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
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
    fn bytes_survive_the_channel_in_chunks_that_the_wire_takes() {
        let sent: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let expected = sent.clone();
        let writing = std::thread::spawn(move || {
            let mut writer = ChunkWriter::new(sender);
            for piece in sent.chunks(7001) {
                writer.write_all(piece).unwrap();
            }
            writer.flush().unwrap();
        });
        let mut received = Vec::new();
        ChunkReader::new(receiver).read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == expected);
    }

    #[test]
    fn a_writer_whose_reader_is_gone_fails_instead_of_waiting() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut writer = ChunkWriter::new(sender);
        writer.write_all(b"x").unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
