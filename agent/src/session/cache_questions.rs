//! Answers to what is asked of this agent's cache over its stream.
//!
//! What takes long is done one after the other, beside builds, and says every few seconds that it goes on. Nothing of it
//! outlives the process, and nothing that a build has in use is touched.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_proto::v1::{self, cache_answer::Answer, cache_question::Question};
use tokio::sync::{Semaphore, mpsc};

use super::worker::Worker;
use crate::fabric::eviction;

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
                    let what = eviction(what)?;
                    let evicted = let_go(worker.forget_binaries(&what), fabric.evict(what.clone())).await;
                    evicted.map(Answer::Evicted)
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

/// Lets binaries go, and what is in the cache whatever became of those; any error is told in the end.
async fn let_go<T>(
    binaries: impl Future<Output = io::Result<()>>,
    cache: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let binaries =
        binaries.await.map_err(|error| format!("not all binaries of earlier builds went: {error}"));
    match (binaries, cache.await) {
        (Err(binaries), Err(cache)) => Err(format!("{cache}; {binaries}")),
        (binaries, cache) => binaries.and(cache),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cache_is_let_go_whatever_became_of_the_binaries_and_each_error_is_told() {
        let let_go = async |binaries: io::Result<()>, cache: Result<u32, &str>| {
            let mut is_cache_done = false;
            let cache = async {
                is_cache_done = true;
                cache.map_err(str::to_owned)
            };
            let ended = let_go(async { binaries }, cache).await;
            assert!(is_cache_done);
            ended
        };
        let stuck = || io::Error::other("stuck");
        assert_eq!(let_go(Ok(()), Ok(1)).await, Ok(1));
        assert_eq!(let_go(Ok(()), Err("full")).await, Err("full".to_owned()));
        let told = "not all binaries of earlier builds went: stuck";
        assert_eq!(let_go(Err(stuck()), Ok(1)).await, Err(told.to_owned()));
        assert_eq!(let_go(Err(stuck()), Err("full")).await, Err(format!("full; {told}")));
    }
}
