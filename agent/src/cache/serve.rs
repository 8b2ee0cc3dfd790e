//! One connection of a task's socket: reads calls in order and answers each.
//!
//! A shim opens two, one for gets and one for puts, so neither waits behind the other; within one, order is
//! kept. Plain blocking reads on a thread of its own: a get takes some ten microseconds here, less than a
//! hand-over to an executor would.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use meridian_core::digest::{Digest, DigestHasher};

use super::{
    bodies::Incoming,
    daemon::TaskState,
    index::Entry,
    wire::{ActionId, Answer, Call, GREETING},
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
    while another(&mut input)? {
        let answer = match Call::read(&mut input)? {
            Call::Get { id, action } => get(task, id, &action),
            Call::Put { id, action, output, size } => put(task, &mut input, id, &action, &output, size)?,
        };
        frame.clear();
        answer.encode(&mut frame);
        let mut stream = stream;
        stream.write_all(&frame)?;
    }
    Ok(())
}

/// Waits for the next call, for as long as it takes: a compiler may run for minutes between two.
pub(super) fn another(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Ok(bytes) => return Ok(!bytes.is_empty()),
            Err(error) if is_pause(&error) => {}
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
        Some((Entry { output, size, time_ns }, path)) => Answer::Hit { id, output, size, time_ns, path },
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
    let path = if let Some(path) = task.held(output, size) {
        // Held and known to be good: nothing is written, but the claim is still checked against the bytes.
        let mut hasher = DigestHasher::new();
        each_piece(input, size, |piece| hasher.update(piece))?;
        if hasher.finish() == *output { Ok(path) } else { Err(io::ErrorKind::InvalidData.into()) }
    } else {
        take_in(task, input, output, size)?
    };
    let time_ns = nanoseconds_now();
    let kept = path.and_then(|path| task.remember(action, Entry { output: *output, size, time_ns }, path));
    match kept {
        Ok(path) => {
            task.count_put(size);
            Ok(Answer::Stored { id, path })
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
) -> io::Result<io::Result<PathBuf>> {
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
