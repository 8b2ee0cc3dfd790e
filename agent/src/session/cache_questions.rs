//! Answers to what is asked of this agent's cache over its stream.
//!
//! What takes long is done one after the other, beside builds, and says every few seconds that it goes on. Nothing of it
//! outlives the process, and nothing that a build has in use is touched.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_proto::v1::{self, cache_answer::Answer, cache_eviction::What, cache_question::Question};
use tokio::sync::{Semaphore, mpsc};

use super::worker::Worker;

/// Answers that may wait for the stream.
const ANSWERS_QUEUED_MAX: usize = 32;
/// How many questions that take long may wait for one another.
const WAITING_MAX: usize = 8;
/// How often somebody who waits is told that it goes on.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// After so long nobody waits for a verification any more.
const VERIFY_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// What is asked of this agent's cache.
pub(super) struct CacheQuestions {
    worker: Arc<Worker>,
    /// Held by the one that works.
    turn: Arc<Semaphore>,
    /// Held by all that wait or work.
    places: Arc<Semaphore>,
    answers_in: mpsc::Sender<v1::CacheAnswer>,
    answers: mpsc::Receiver<v1::CacheAnswer>,
}

/// Where the answers to one question go.
struct Reply {
    number: u64,
    answers: mpsc::Sender<v1::CacheAnswer>,
    /// How far it is.
    bytes: Arc<AtomicU64>,
}

impl CacheQuestions {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        let (answers_in, answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let (turn, places) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(WAITING_MAX)));
        Self { worker, turn, places, answers_in, answers }
    }

    /// The next answer. May be dropped at any point without losing one.
    pub(super) async fn next(&mut self) -> v1::CacheAnswer {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The other end is held here.
            None => std::future::pending().await,
        }
    }

    /// Begins to answer.
    pub(super) fn take(&self, question: v1::CacheQuestion) {
        let v1::CacheQuestion { number, question } = question;
        let bytes = Arc::<AtomicU64>::default();
        let reply = Reply { number, answers: self.answers_in.clone(), bytes: Arc::clone(&bytes) };
        let fabric = self.worker.fabric().clone();
        match question {
            Some(Question::Stats(_)) => reply.last(Answer::Stats(fabric.stats(self.worker.cache_use()))),
            Some(Question::Warm(v1::CacheWarming { hints: Some(hints), platform })) => {
                self.work(reply, async move {
                    let hints = hints.try_into();
                    let hints = hints
                        .map_err(|error: meridian_proto::convert::field::ConvertError| error.to_string())?;
                    fabric.warm(hints, platform).await.map(Answer::Warmed)
                });
            }
            Some(Question::Evict(what)) => {
                let worker = Arc::clone(&self.worker);
                self.work(reply, async move {
                    let age = match what.what {
                        // What was linked from an entry that was not true is in one of them still.
                        Some(What::All(true)) => Some(None),
                        Some(What::UnusedMs(age)) => Some(Some(Duration::from_millis(age))),
                        _ => None,
                    };
                    if let Some(age) = age {
                        worker.forget_binaries(age).await.map_err(|error| error.to_string())?;
                    }
                    fabric.evict(what).await.map(Answer::Evicted)
                });
            }
            Some(Question::Verify(_)) => self.work(reply, async move {
                let begun = Instant::now();
                let told = move |read| {
                    bytes.store(read, Ordering::Relaxed);
                    begun.elapsed() < VERIFY_WITHIN
                };
                fabric.verify(told).await.map(Answer::Verified)
            }),
            Some(Question::Warm(_)) | None => {
                reply.last(Answer::Failed("this release does not know what is asked".to_owned()));
            }
        }
    }

    /// Works when its turn comes.
    fn work(&self, reply: Reply, work: impl Future<Output = Result<Answer, String>> + Send + 'static) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return reply
                .last(Answer::Failed("it has much to do for others: try again in a while".to_owned()));
        };
        let turn = Arc::clone(&self.turn);
        tokio::spawn(async move {
            let work = async {
                let _turn = turn.acquire().await;
                work.await
            };
            tokio::pin!(work);
            let mut tick = tokio::time::interval(TOLD_EVERY);
            let answer = loop {
                tokio::select! {
                    done = &mut work => break done.unwrap_or_else(Answer::Failed),
                    _ = tick.tick() => reply.working(),
                }
            };
            drop(place);
            reply.last(answer);
        });
    }
}

impl Reply {
    /// Says that it goes on. A word that finds no room is followed by another.
    fn working(&self) {
        let working = v1::CacheWorking { bytes: self.bytes.load(Ordering::Relaxed) };
        let answer = v1::CacheAnswer { number: self.number, answer: Some(Answer::Working(working)) };
        let _ = self.answers.try_send(answer);
    }

    /// Says the last word. Where there is no room for it whoever asked gives up, as when the stream is gone.
    fn last(&self, answer: Answer) {
        let answer = v1::CacheAnswer { number: self.number, answer: Some(answer) };
        if self.answers.try_send(answer).is_err() {
            tracing::warn!("an answer about the build cache found no room on the stream");
        }
    }
}
