//! Carries the bytes of one direction of one connection.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc::{Receiver, Sender, channel},
    time::{sleep, sleep_until},
};

use super::{link::Link, schedule::Lane, shape::Way};

/// How many pieces may be under way. With whole pieces this is 64 MiB, which a link between continents fills at
/// some gigabits a second.
const UNDER_WAY_MAX: usize = 2_048;

/// Bytes with the time at which they leave; none at the end of the stream.
struct Parcel {
    bytes: Vec<u8>,
    leaves: Instant,
}

/// Carries until the end of the stream, and passes that on too.
///
/// # Errors
/// When an end fails.
pub(super) async fn pump(
    link: &Link,
    way: Way,
    seed: u64,
    open_at: Instant,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (sender, receiver) = channel(UNDER_WAY_MAX);
    let taking = take_in(link, way, Lane::new(seed), open_at, from, sender);
    tokio::try_join!(taking, hand_over(link, way, to, receiver)).map(drop)
}

async fn take_in(
    link: &Link,
    way: Way,
    mut lane: Lane,
    open_at: Instant,
    mut from: impl AsyncRead + Unpin,
    sender: Sender<Parcel>,
) -> io::Result<()> {
    loop {
        let crowded_for = link.crowded_for(way, Instant::now());
        if crowded_for > Duration::ZERO {
            sleep(crowded_for).await;
            continue;
        }
        let mut piece = vec![0; link.piece_len(way)];
        let len = from.read(&mut piece).await?;
        let now = Instant::now();
        if len == 0 {
            let leaves = lane.end(now.max(open_at), &link.shape());
            // The other half ends by itself when nothing more can be written.
            let _ended = sender.send(Parcel { bytes: Vec::new(), leaves }).await;
            return Ok(());
        }
        piece.truncate(len);
        let mut at = 0;
        for part in link.take_in(way, &mut lane, &mut piece, now, open_at) {
            let bytes = piece[at..at + part.len].to_vec();
            at += part.len;
            if sender.send(Parcel { bytes, leaves: part.at }).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn hand_over(
    link: &Link,
    way: Way,
    mut to: impl AsyncWrite + Unpin,
    mut receiver: Receiver<Parcel>,
) -> io::Result<()> {
    let mut trouble = link.trouble.subscribe();
    while let Some(Parcel { bytes, leaves }) = receiver.recv().await {
        if leaves > Instant::now() {
            sleep_until(leaves.into()).await;
        }
        // The link outlives its connections, so the sender is there.
        drop(trouble.wait_for(|trouble| !trouble.is_blackholed).await);
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        link.handed_over(way, Instant::now());
        to.write_all(&bytes).await?;
        link.taken(way, Instant::now());
    }
    Ok(())
}
