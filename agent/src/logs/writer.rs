//! Takes what a build prints, and cuts it into segments.

use std::{path::Path, sync::Arc, time::Duration};

use meridian_core::quantity::ByteCount;
use meridian_proto::limits::LOG_SEGMENT_LEN_MAX;
use tokio::{sync::Mutex, task::JoinHandle};

use super::{
    sender::LogSender,
    spool::{LogError, LogSegment, Spool},
};
use crate::redaction::{Redaction, Redactor};

/// How a log is cut.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// The most bytes of a segment; at most what the wire takes.
    pub segment_len_max: usize,
    /// How long a finished line may wait, so that the log is live. A line whose end may be the begin of a
    /// secret waits for what follows it.
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
    /// Holds what may be the begin of a secret; no segment is ever cut within it.
    redactor: Redactor,
    /// What was masked and not cut yet.
    pending: Vec<u8>,
    taken: u64,
    closed: bool,
}

struct Shared {
    config: LogConfig,
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
    /// Begins a log whose segments lie in `dir`, which the caller has made, empty, and removes at the end. What
    /// `redaction` finds is masked before anything is written. Gives the writer, and the sender that somebody
    /// must run. Must be called within a tokio runtime.
    #[must_use]
    pub fn begin(dir: &Path, config: LogConfig, redaction: &Redaction) -> (Self, LogSender) {
        let spool = Spool::new(dir);
        let state = State { redactor: redaction.redactor(), pending: Vec::new(), taken: 0, closed: false };
        let shared = Arc::new(Shared { config, spool: Arc::clone(&spool), state: Mutex::new(state) });
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

    /// Says that text was lost here, so that what follows does not continue what came before. What is held back
    /// may be half of a secret whose other half is lost, and is left out too.
    pub async fn skip(&self) {
        self.shared.state.lock().await.redactor.skip();
    }

    /// Cuts what is left, and gives every segment in order. Nothing can be written afterwards.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub async fn finish(&self) -> Result<Vec<LogSegment>, LogError> {
        let mut state = self.shared.state.lock().await;
        let State { redactor, pending, .. } = &mut *state;
        redactor.finish(pending);
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
            let len = bytes.len().min(self.segment_len()).min(usize::try_from(left).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(len);
            let State { redactor, pending, .. } = &mut *state;
            redactor.push(now, pending);
            state.taken += len as u64;
            bytes = later;
            while state.pending.len() >= self.segment_len() {
                self.cut(&mut state, false).await?;
            }
        }
        Ok(())
    }

    async fn close_full(&self, state: &mut State) -> Result<(), LogError> {
        state.closed = true;
        // The rest of what is held back will not come.
        state.redactor.skip();
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
        let mut len = match line_end {
            _ if all => state.pending.len(),
            Some(end) => end,
            None if full => state.pending.len(),
            None => return Ok(()),
        };
        // More than a segment may have been released at once. An empty text is no segment.
        while len > 0 {
            let piece = len.min(self.segment_len());
            self.spool.append(state.pending[..piece].to_vec()).await?;
            state.pending.drain(..piece);
            len -= piece;
        }
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
    use crate::redaction::Secret;

    fn redaction() -> Redaction {
        let secrets =
            ["hunter2", "first half\nsecond half"].map(|value| Secret::new("S", value.as_bytes()).unwrap());
        Redaction::new(&secrets).unwrap()
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
                let (writer, _sender) = LogWriter::begin(dir.path(), config(len, 1 << 20), &Redaction::default());
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
        let (writer, _sender) = LogWriter::begin(dir.path(), config(100, 1000), &Redaction::default());
        for _ in 0..50 {
            writer.write(&[b'z'; 77]).await.unwrap();
        }
        let text = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
        assert_eq!(text.matches("the log was cut here").count(), 1);
        assert!(text.starts_with(&"z".repeat(1000)) && text.len() < 1100);
    }

    #[tokio::test]
    async fn a_secret_is_masked_wherever_writes_cuts_and_segments_fall() {
        // In one line that fills many segments, and over line breaks at which segments are cut.
        for (said, masked) in [
            ("the password is hunter2, they say; ", "the password is ***, they say; "),
            ("first half\nsecond half\n--token abc\n", "***\n--token ***\n"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let config = LogConfig { cut_every: Duration::from_millis(1), ..config(16, 1 << 20) };
            let (writer, _sender) = LogWriter::begin(dir.path(), config, &redaction());
            for byte in said.repeat(20).as_bytes() {
                writer.write(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let text = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
            assert_eq!(text, masked.repeat(20));
        }
    }

    #[tokio::test]
    async fn half_a_secret_is_not_kept_when_the_log_ends_or_breaks_within_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _sender) = LogWriter::begin(dir.path(), config(100, 21), &redaction());
        writer.write(b"the password is hunter2, they say\n").await.unwrap();
        let cut = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
        assert!(cut.starts_with("the password is \nmeridian: the log was cut here"), "{cut}");

        let dir = tempfile::tempdir().unwrap();
        let (writer, _sender) = LogWriter::begin(dir.path(), config(100, 1000), &redaction());
        writer.write(b"the password is hunt").await.unwrap();
        writer.skip().await;
        writer.write(b"they say\n").await.unwrap();
        let broken = String::from_utf8(text(&writer.finish().await.unwrap())).unwrap();
        assert_eq!(broken, "the password is they say\n");
    }

    #[tokio::test]
    async fn a_line_is_cut_soon_without_more_writes() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { cut_every: Duration::from_millis(5), ..LogConfig::default() };
        let (writer, sender) = LogWriter::begin(dir.path(), config, &Redaction::default());
        writer.write(b"compiling\nhalf a li").await.unwrap();
        let mut reach = sender.reach();
        let cut = tokio::time::timeout(Duration::from_secs(10), reach.wait_for(|reach| reach.cut == 1)).await;
        cut.unwrap().unwrap();
        assert_eq!(text(&writer.finish().await.unwrap()), b"compiling\nhalf a li");
    }
}
