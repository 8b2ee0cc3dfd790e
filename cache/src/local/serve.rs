//! One connection of a task's socket: reads calls in order and answers each.
//!
//! A shim opens two, one for gets and one for puts, so neither waits behind the other; within one, order is
//! kept. Plain blocking reads on a thread of its own: a get takes some ten microseconds here, less than a
//! hand-over to an executor would.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, SystemTime},
};

use meridian_core::digest::{Digest, DigestHasher};

use super::{
    daemon::{Ahead, TaskState},
    wire::{Answer, Call, Found, GREETING},
};
use crate::{
    disk::{Body, Incoming},
    entry::{ActionId, Entry},
};

/// The longest that a caller may pause within a call, and the longest that it may leave answers unread.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);

/// Answers calls until the caller hangs up.
pub(super) fn serve(task: &TaskState, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(STALL_MAX))?;
    stream.set_write_timeout(Some(STALL_MAX))?;
    let mut input = BufReader::with_capacity(128 << 10, stream);
    let mut greeting = [0; GREETING.len()];
    io::Read::read_exact(&mut input, &mut greeting)?;
    if greeting != GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a caller of another version"));
    }
    let mut frame = Vec::with_capacity(512);
    let mut ahead = Ahead::default();
    while another(&mut input)? {
        let answer = match Call::read(&mut input)? {
            Call::Get { id, action } => {
                ahead.asked(task, &action);
                Some(get(task, id, &action))
            }
            Call::Put { id, action, output, size } => {
                Some(put(task, &mut input, id, &action, &output, size)?)
            }
            Call::Used { action } => {
                ahead.used(task, &action);
                None
            }
        };
        if let Some(answer) = answer {
            frame.clear();
            answer.encode(&mut frame);
            let mut stream = stream;
            stream.write_all(&frame)?;
        }
        // Whoever has asked already is answered first.
        if input.buffer().is_empty() {
            ahead.tell(task, stream, &mut frame);
        }
    }
    Ok(())
}

/// Waits for the next call, for as long as it takes: a compiler may run for minutes between two.
pub(super) fn another(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Ok(bytes) => return Ok(!bytes.is_empty()),
            Err(error) if is_pause(&error) => {}
            // It hung up and left unread what it was told.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a read ended because of its time-out or a signal, not because the other end is gone.
pub(super) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn get(task: &TaskState, id: u64, action: &ActionId) -> Answer {
    let found = task.find(action);
    task.count_get(found.as_ref().map(|(entry, _)| entry.size));
    match found {
        Some((entry, path)) => Answer::Hit { id, found: Found::new(&entry, path) },
        None => Answer::Miss { id },
    }
}

fn put(
    task: &TaskState,
    input: &mut impl BufRead,
    id: u64,
    action: &ActionId,
    output: &Digest,
    size: u64,
) -> io::Result<Answer> {
    let body = if let Some(body) = task.pin(output, size) {
        // Held and known to be good: nothing is written, but the claim is still checked against the bytes, and
        // before it is given to a caller that may know nothing of it but its name.
        let mut hasher = DigestHasher::new();
        each_piece(input, size, |piece| hasher.update(piece))?;
        if hasher.finish() == *output { Ok(body) } else { Err(io::ErrorKind::InvalidData.into()) }
    } else {
        take_in(task, input, output, size)?
    };
    let time_ns = nanoseconds_now();
    let kept = body.and_then(|body| task.remember(action, Entry { output: *output, size, time_ns }, &body));
    match kept {
        Ok(path) => {
            task.count_put(size);
            Ok(Answer::Stored { id, path })
        }
        Err(error) if task.is_full(&error) => {
            tracing::debug!(%output, size, %error, "there is no room for a body: the build goes on without");
            Ok(Answer::Refused { id })
        }
        Err(error) => {
            tracing::warn!(%output, size, %error, "a body could not be cached: the build goes on without");
            Ok(Answer::Refused { id })
        }
    }
}

/// Reads the whole body even when it cannot be kept, so that the next call is found where it begins. The
/// outer error is the connection's, the inner one the disk's.
fn take_in(
    task: &TaskState,
    input: &mut impl BufRead,
    output: &Digest,
    size: u64,
) -> io::Result<io::Result<Body>> {
    let mut incoming: io::Result<Incoming<'_>> = task.incoming(size);
    each_piece(input, size, |piece| {
        if let Ok(open) = &mut incoming
            && let Err(error) = open.write(piece)
        {
            incoming = Err(error);
        }
    })?;
    let published = incoming.and_then(|incoming| incoming.publish(output));
    if published.is_ok() {
        task.note_pin(output);
    }
    Ok(published)
}

fn each_piece(input: &mut impl BufRead, size: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        take(&bytes[..len]);
        input.consume(len);
        left -= len as u64;
    }
    Ok(())
}

fn nanoseconds_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use meridian_core::quantity::ByteCount;

    use super::*;
    use crate::{
        entry::Namespace,
        local::{CacheDaemon, TaskCache, TaskScope, wire::Said},
    };

    fn open(daemon: &CacheDaemon, team: &str) -> TaskCache {
        let scope = TaskScope { toolchain: Digest::of(b"go"), own: team.into(), also_reads: Vec::new() };
        daemon.open_task(&scope).unwrap()
    }

    /// What a caller is answered who says of `body` that its digest is `output`.
    fn claim(task: &TaskCache, output: Digest, body: &[u8]) -> Answer {
        call(task, &Call::Put { id: 1, action: ActionId([7; 32]), output, size: body.len() as u64 }, body)
    }

    fn call(task: &TaskCache, call: &Call, body: &[u8]) -> Answer {
        let stream = UnixStream::connect(task.socket_path()).unwrap();
        let mut frame = GREETING.to_vec();
        call.encode(&mut frame);
        frame.extend_from_slice(body);
        (&stream).write_all(&frame).unwrap();
        match Said::read(&mut BufReader::new(&stream)).unwrap() {
            Said::Answer(answer) => answer,
            ahead @ Said::Ahead { .. } => panic!("{ahead:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_knows_only_the_digest_of_a_body_is_not_given_it() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = CacheDaemon::open(dir.path(), ByteCount::mib(1)).unwrap();
        let (theirs, own) = (open(&daemon, "theirs"), open(&daemon, "own"));
        let output = Digest::of(b"object");
        assert!(matches!(claim(&theirs, output, b"object"), Answer::Stored { .. }));
        assert_eq!(claim(&own, output, b"forged"), Answer::Refused { id: 1 });
        assert_eq!(fs::read_dir(own.view_dir()).unwrap().count(), 0);
        // Whoever has the content is.
        assert!(matches!(claim(&own, output, b"object"), Answer::Stored { .. }));
        assert_eq!(fs::read_dir(own.view_dir()).unwrap().count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_says_a_wrong_size_of_a_body_takes_it_from_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = CacheDaemon::open(dir.path(), ByteCount::mib(1)).unwrap();
        let (theirs, own) = (open(&daemon, "theirs"), open(&daemon, "own"));
        let (action, output) = (ActionId([7; 32]), Digest::of(b"object"));
        assert!(matches!(claim(&theirs, output, b"object"), Answer::Stored { .. }));
        assert_eq!(claim(&own, output, b"object and more"), Answer::Refused { id: 1 });
        // Another agent's manifest may say so as well, and the index with it.
        let store = daemon.store();
        let namespace = Namespace::new(&Digest::of(b"go"), "own");
        store.remember(&namespace, &action, Entry { output, size: 7, time_ns: 0 }).unwrap();
        let get = Call::Get { id: 2, action };
        assert_eq!(call(&own, &get, b""), Answer::Miss { id: 2 });
        assert_eq!(store.entry(&namespace, &action), None);
        assert!(matches!(call(&theirs, &get, b""), Answer::Hit { .. }));
        assert_eq!((store.held(), store.figures().damaged_bodies), (ByteCount(6), 0));
    }
}
