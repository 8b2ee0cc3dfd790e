//! Where agents are asked about their caches, and their answers are handed on.
//!
//! Agents dial and are never dialled, so a question goes over the stream that the agent keeps. Nothing here is decided or
//! remembered: the machine hears of none of it, and a question whose stream ends is told so and asked by nobody again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meridian_core::id::{AgentId, SessionId};
use meridian_proto::v1::{self, cache_question::Question, coordinator_message::Message};
use tokio::sync::mpsc;

/// Questions that may wait for one agent's stream.
const QUESTIONS_QUEUED_MAX: usize = 16;
/// Answers that may wait for whoever asked. More are words on the way, which can be missed.
const ANSWERS_QUEUED_MAX: usize = 16;

/// Why an agent was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAsked {
    /// There is no stream.
    #[error("it is not attached")]
    Away,
    /// It knows no such questions.
    #[error("its release knows no questions about its cache: upgrade it")]
    TooOld,
    /// Many have asked before.
    #[error("too many questions wait for it: try again in a while")]
    Busy,
}

struct Seat {
    session: SessionId,
    answers: bool,
    questions: mpsc::Sender<v1::CoordinatorMessage>,
}

struct Waiting {
    agent: AgentId,
    answers: mpsc::Sender<v1::CacheAnswer>,
}

#[derive(Default)]
struct Table {
    seats: BTreeMap<AgentId, Seat>,
    waiting: HashMap<u64, Waiting>,
    asked: u64,
}

/// Asks agents and hands on what they answer. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct CacheDesk {
    table: Arc<Mutex<Table>>,
}

/// The answers to one question. Dropped, it is not waited for any more.
pub(crate) struct Answers {
    desk: CacheDesk,
    number: u64,
    answers: mpsc::Receiver<v1::CacheAnswer>,
}

impl CacheDesk {
    /// An agent's stream is open; gives what is to be asked over it.
    pub(crate) fn open(
        &self,
        agent: &AgentId,
        session: SessionId,
        answers: bool,
    ) -> mpsc::Receiver<v1::CoordinatorMessage> {
        let (questions, asked) = mpsc::channel(QUESTIONS_QUEUED_MAX);
        let mut table = self.table();
        // Whoever waits for the old stream's answers waits in vain.
        table.waiting.retain(|_, waiting| waiting.agent != *agent);
        table.seats.insert(agent.clone(), Seat { session, answers, questions });
        asked
    }

    /// A stream has ended, unless a newer one of its agent is open.
    pub(crate) fn close(&self, agent: &AgentId, session: SessionId) {
        let mut table = self.table();
        if table.seats.get(agent).is_some_and(|seat| seat.session == session) {
            table.seats.remove(agent);
            table.waiting.retain(|_, waiting| waiting.agent != *agent);
        }
    }

    /// Asks an agent.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn ask(&self, agent: &AgentId, question: Question) -> Result<Answers, NotAsked> {
        let mut table = self.table();
        table.asked += 1;
        let number = table.asked;
        let seat = table.seats.get(agent).ok_or(NotAsked::Away)?;
        if !seat.answers {
            return Err(NotAsked::TooOld);
        }
        let question = v1::CacheQuestion { number, question: Some(question) };
        let message = Some(Message::CacheQuestion(question));
        let message = v1::CoordinatorMessage { epoch: 0, sequence: 0, message };
        seat.questions.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotAsked::Busy,
            mpsc::error::TrySendError::Closed(_) => NotAsked::Away,
        })?;
        let (answers, heard) = mpsc::channel(ANSWERS_QUEUED_MAX);
        table.waiting.insert(number, Waiting { agent: agent.clone(), answers });
        Ok(Answers { desk: self.clone(), number, answers: heard })
    }

    /// An agent has answered. An answer that nobody waits for is dropped, and so is one to another agent's question.
    pub(crate) fn answered(&self, agent: &AgentId, answer: v1::CacheAnswer) {
        let table = self.table();
        if let Some(waiting) = table.waiting.get(&answer.number).filter(|waiting| waiting.agent == *agent) {
            // Whoever does not keep up misses words on the way, and then waits in vain for the last one.
            let _ = waiting.answers.try_send(answer);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    /// The next answer; nothing when the agent's stream has ended. May be dropped at any point without losing one.
    pub(crate) async fn next(&mut self) -> Option<v1::CacheAnswer> {
        self.answers.recv().await
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.desk.table().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Question {
        Question::Stats(v1::CacheStatsQuestion {})
    }

    fn number(message: Option<v1::CoordinatorMessage>) -> u64 {
        match message.and_then(|message| message.message) {
            Some(Message::CacheQuestion(question)) => question.number,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_answer_reaches_whoever_asked_and_nobody_answers_for_another() {
        let desk = CacheDesk::default();
        let [a, b]: [AgentId; 2] = ["eu/a", "eu/b"].map(|agent| agent.parse().unwrap());
        let mut asked = desk.open(&a, SessionId(1), true);
        let _other = desk.open(&b, SessionId(2), true);
        let mut answers = desk.ask(&a, stats()).unwrap();
        let number = number(asked.recv().await);
        let answer = |why: &str| v1::CacheAnswer {
            number,
            answer: Some(v1::cache_answer::Answer::Failed(why.to_owned())),
        };
        desk.answered(&b, answer("forged"));
        desk.answered(&a, answer("genuine"));
        assert_eq!(answers.next().await, Some(answer("genuine")));
        drop(answers);
        assert!(desk.table().waiting.is_empty());
        desk.answered(&a, answer("late"));
    }

    #[tokio::test]
    async fn whoever_waits_hears_at_once_that_the_stream_has_ended() {
        let desk = CacheDesk::default();
        let agent: AgentId = "eu/a".parse().unwrap();
        assert_eq!(desk.ask(&agent, stats()).err(), Some(NotAsked::Away));
        let _first = desk.open(&agent, SessionId(1), true);
        let mut answers = desk.ask(&agent, stats()).unwrap();
        let _second = desk.open(&agent, SessionId(2), true);
        assert_eq!(answers.next().await, None);
        // The old stream's end says nothing of the new one.
        desk.close(&agent, SessionId(1));
        let mut answers = desk.ask(&agent, stats()).unwrap();
        desk.close(&agent, SessionId(2));
        assert_eq!(answers.next().await, None);
        assert_eq!(desk.ask(&agent, stats()).err(), Some(NotAsked::Away));
    }

    #[tokio::test]
    async fn an_agent_of_an_earlier_release_and_one_that_takes_no_questions_are_not_asked() {
        let desk = CacheDesk::default();
        let agent: AgentId = "eu/a".parse().unwrap();
        let _asked = desk.open(&agent, SessionId(1), false);
        assert_eq!(desk.ask(&agent, stats()).err(), Some(NotAsked::TooOld));
        let _asked = desk.open(&agent, SessionId(2), true);
        let held: Vec<_> = (0..QUESTIONS_QUEUED_MAX).map(|_| desk.ask(&agent, stats()).unwrap()).collect();
        assert_eq!(desk.ask(&agent, stats()).err(), Some(NotAsked::Busy));
        drop(held);
    }
}
