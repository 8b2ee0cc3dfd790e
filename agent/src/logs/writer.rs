//! Takes what a build prints, and cuts it into segments.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_core::quantity::ByteCount;
use meridian_proto::limits::LOG_SEGMENT_LEN_MAX;
use tokio::{sync::Mutex, task::JoinHandle};

use super::{
    sender::LogSender,
    spool::{LogError, LogSegment, Spool},
};

/// Changes a piece of a log before it leaves this process. It is given whole lines, except of lines longer
/// than a segment.
pub type Mask = Arc<dyn Fn(&mut Vec<u8>) + Send + Sync>;

/// How a log is cut.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// The most bytes that wait for a segment to be cut; at most what the wire takes.
    pub segment_len_max: usize,
    /// How long a finished line may wait, so that the log is live.
    pub cut_every: Duration,
    /// How much of a log is kept. What comes after is dropped, and one line says so.
    pub total_max: ByteCount,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_len_max: LOG_SEGMENT_LEN_MAX,
            cut_every: Duration::from_millis(250),
            total_max: ByteCount::mib(64),
        }
    }
}

struct State {
    /// What was not cut yet.
    pending: Vec<u8>,
    /// When the oldest byte of it came.
    since: Instant,
    taken: u64,
    closed: bool,
}

struct Shared {
    config: LogConfig,
    mask: Mask,
    spool: Arc<Spool>,
    state: Mutex<State>,
}

/// The writing end of one attempt's log. Clones write to the same log.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
    // Ends with the last clone.
    _ticking: Arc<Ticking>,
}

struct Ticking(JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LogWriter {
    /// Begins a log whose segments lie in `dir`, which the caller has made, empty, and removes at the end.
    /// Gives the writer, and the sender that somebody must run. Must be called within a tokio runtime.
    #[must_use]
    pub fn begin(dir: &Path, config: LogConfig, mask: Mask) -> (Self, LogSender) {
        let spool = Spool::new(dir);
        let state = State { pending: Vec::new(), since: Instant::now(), taken: 0, closed: false };
        let shared = Arc::new(Shared { config, mask, spool: Arc::clone(&spool), state: Mutex::new(state) });
        let ticking = tokio::spawn(tick(Arc::clone(&shared)));
        (Self { shared, _ticking: Arc::new(Ticking(ticking)) }, LogSender::new(spool))
    }

    /// Takes the next bytes. Waits for the disk when a segment is full, and for nothing else.
    ///
    /// # Errors
    /// When the spool cannot be written; what was taken stays and is tried again with the next bytes.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), LogError> {
        self.shared.write(bytes).await
    }

    /// Cuts what is left, and gives every segment in order. Nothing can be written afterwards.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub async fn finish(&self) -> Result<Vec<LogSegment>, LogError> {
        let mut state = self.shared.state.lock().await;
        self.shared.cut(&mut state, true).await?;
        state.closed = true;
        self.shared.spool.finish();
        Ok(self.shared.spool.segments().clone())
    }
}

impl Shared {
    async fn write(&self, mut bytes: &[u8]) -> Result<(), LogError> {
        let mut state = self.state.lock().await;
        while !bytes.is_empty() && !state.closed {
            let left = self.config.total_max.0.saturating_sub(state.taken);
            if left == 0 {
                return self.close_full(&mut state).await;
            }
            if state.pending.is_empty() {
                state.since = Instant::now();
            }
            let room = self.segment_len().saturating_sub(state.pending.len());
            let len = bytes.len().min(room).min(usize::try_from(left).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(len);
            state.pending.extend_from_slice(now);
            state.taken += len as u64;
            bytes = later;
            if state.pending.len() >= self.segment_len() {
                self.cut(&mut state, false).await?;
            }
        }
        Ok(())
    }

    async fn close_full(&self, state: &mut State) -> Result<(), LogError> {
        state.closed = true;
        let shown = self.config.total_max;
        state.pending.extend_from_slice(format!("\nmeridian: the log was cut here, at {shown}\n").as_bytes());
        self.cut(state, true).await
    }

    fn segment_len(&self) -> usize {
        self.config.segment_len_max.clamp(1, LOG_SEGMENT_LEN_MAX)
    }

    /// Cuts whole lines, or with `all` everything. A line that fills a segment alone is cut where it is.
    async fn cut(&self, state: &mut State, all: bool) -> Result<(), LogError> {
        let full = state.pending.len() >= self.segment_len();
        let line_end = state.pending.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let len = match line_end {
            _ if all => state.pending.len(),
            Some(end) => end,
            None if full => state.pending.len(),
            None => return Ok(()),
        };
        let mut text = state.pending[..len].to_vec();
        (self.mask)(&mut text);
        // A mask may make text longer than a segment. An empty one is no segment.
        let pieces: Vec<Vec<u8>> = text.chunks(LOG_SEGMENT_LEN_MAX).map(<[u8]>::to_vec).collect();
        for piece in pieces {
            self.spool.append(piece).await?;
        }
        state.pending.drain(..len);
        state.since = Instant::now();
        Ok(())
    }
}

/// Cuts lines that have waited long enough.
async fn tick(shared: Arc<Shared>) {
    let every = shared.config.cut_every.max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut state = shared.state.lock().await;
        if !state.pending.is_empty()
            && let Err(error) = shared.cut(&mut state, false).await
        {
            // The bytes stay pending, and the next write or the end reports it to whoever waits.
            tracing::warn!(%error, "a log segment could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn no_mask() -> Mask {
        Arc::new(|_| {})
    }

    fn text(segments: &[LogSegment]) -> Vec<u8> {
        let each = segments.iter().map(|segment| {
            let text = fs::read(&segment.path).unwrap();
            assert_eq!((segment.digest, segment.len), (meridian_core::digest::Digest::of(&text), text.len()));
            text
        });
        each.flatten().collect()
    }

    fn config(segment_len_max: usize, total_max: u64) -> LogConfig {
        LogConfig { segment_len_max, cut_every: Duration::from_secs(600), total_max: ByteCount(total_max) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn segments_joined_are_what_was_written(pieces in prop::collection::vec("[a-z\n]{0,40}", 0..30), len in 1_usize..50) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let written: String = pieces.concat();
            let joined = runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let (writer, _sender) = LogWriter::begin(dir.path(), config(len, 1 << 20), no_mask());
                for piece in &pieces {
                    writer.write(piece.as_bytes()).await.unwrap();
                }
                let segments = writer.finish().await.unwrap();
                assert!(segments.iter().all(|segment| segment.len <= len && segment.len > 0));
                text(&segments)
            });
            prop_assert_eq!(String::from_utf8(joined).unwrap(), written);
        }
    }

    #[tokio::test]
    async fn a_log_over_its_bound_ends_with_one_line_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _sender) = LogWriter::begin(dir.path(), config(100, 1000), no_mask());
        for _ in 0..50 {
            writer.write(&[b'x'; 77]).await.unwrap();
        }
        let text = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
        assert_eq!(text.matches("the log was cut here").count(), 1);
        assert!(text.starts_with(&"x".repeat(1000)) && text.len() < 1100);
    }

    #[tokio::test]
    async fn a_secret_on_a_line_is_masked_wherever_the_writes_fall() {
        let dir = tempfile::tempdir().unwrap();
        let mask: Mask = Arc::new(|text| {
            let masked = String::from_utf8_lossy(text).replace("hunter2", "***");
            *text = masked.into_bytes();
        });
        let (writer, _sender) = LogWriter::begin(
            dir.path(),
            LogConfig { cut_every: Duration::from_millis(1), ..config(64, 1 << 20) },
            mask,
        );
        for byte in "the password is hunter2, they say\n".repeat(20).as_bytes() {
            writer.write(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let text = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
        assert_eq!(text, "the password is ***, they say\n".repeat(20));
    }

    #[tokio::test]
    async fn a_line_is_cut_soon_without_more_writes() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { cut_every: Duration::from_millis(5), ..LogConfig::default() };
        let (writer, sender) = LogWriter::begin(dir.path(), config, no_mask());
        writer.write(b"compiling\nhalf a li").await.unwrap();
        let mut reach = sender.reach();
        let cut = tokio::time::timeout(Duration::from_secs(10), reach.wait_for(|reach| reach.cut == 1)).await;
        cut.unwrap().unwrap();
        assert_eq!(text(&writer.finish().await.unwrap()), b"compiling\nhalf a li");
    }
}
