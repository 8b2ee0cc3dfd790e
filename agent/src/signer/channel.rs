//! The line between the agent and its signer: whole messages over a socket pair, each with at most one file.
//!
//! The socket has no name, so nobody but the two processes that were born with it can speak on it: no build step
//! can find it, whatever it sees of the file system. A file travels as a descriptor, so that the signer reads the
//! very bytes that it signs, and the agent cannot send it to look at a path that means something else by then.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message, in bytes: a keyring of ten thousand keys has about 5 MB.
const MESSAGE_LEN_MAX: usize = 16 << 20;

/// One end of the line.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// How long a message may take from its first byte to its last, and how long one is waited for.
    pub(super) fn set_deadline(&self, deadline: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(deadline)?;
        self.0.set_write_timeout(deadline)
    }

    /// Sends a message, and a file with it.
    pub(super) fn send(&self, message: &impl Serialize, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MESSAGE_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        let head = (body.len() as u64).to_be_bytes();
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        // Eight bytes on a stream socket go whole or not at all.
        let sent = sendmsg(self.0.as_fd(), &[IoSlice::new(&head)], &mut ancillary, SendFlags::NOSIGNAL)?;
        if sent != head.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        io::Write::write_all(&mut &self.0, &body)
    }

    /// Receives a message and the file that came with it; `None` when the other end is gone.
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Option<OwnedFd>)>> {
        let mut head = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            self.0.as_fd(),
            &mut [IoSliceMut::new(&mut head)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut file = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.last().or(file);
            }
        }
        io::Read::read_exact(&mut &self.0, &mut head[received.bytes..])?;
        let len = usize::try_from(u64::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len > MESSAGE_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let mut body = vec![0; len];
        io::Read::read_exact(&mut &self.0, &mut body)?;
        Ok(Some((serde_json::from_slice(&body)?, file)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, Write as _},
    };

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn a_message_arrives_whole_with_its_file_and_the_next_one_without() {
        let (agent, signer) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"artifact").unwrap();
        let long = "x".repeat(3 << 20);
        let sending = std::thread::spawn(move || {
            agent.send(&("one", &long), Some(file.as_fd())).unwrap();
            agent.send(&("two", ""), None).unwrap();
        });
        let ((name, text), file): ((String, String), _) = signer.receive().unwrap().unwrap();
        assert_eq!((name.as_str(), text.len()), ("one", 3 << 20));
        let mut file = File::from(file.unwrap());
        file.rewind().unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "artifact");
        let ((name, _), file): ((String, String), _) = signer.receive().unwrap().unwrap();
        assert_eq!((name.as_str(), file.is_none()), ("two", true));
        sending.join().unwrap();
        assert!(signer.receive::<String>().unwrap().is_none(), "the agent is gone");
    }

    #[test]
    fn a_length_that_nobody_means_is_refused_before_anything_is_kept() {
        let (agent, signer) = pair();
        (&agent.0).write_all(&u64::MAX.to_be_bytes()).unwrap();
        assert_eq!(signer.receive::<String>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_silent_signer_is_not_waited_for_for_ever() {
        let (agent, _signer) = pair();
        agent.set_deadline(Some(Duration::from_millis(20))).unwrap();
        let error = agent.receive::<String>().unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
}
