//! Which process speaks as an agent.
//!
//! Two processes of one identity, started on a copied state directory or with a name that was given twice, would take
//! each other's stream away for ever, and every build there with it. So the one that is heard of stays, and the
//! other is told why it is not let in. A process that opens a new stream is let in at once, and so is a new process when
//! the connection of the old one has ended: an agent that was restarted need not wait. **Where another was turned away
//! before, a connection that ended is no reason to let it in**: it would only have to knock in the moment in which the
//! first one opens its stream anew. Then it is let in when nothing was heard of the first for [`HEARD_WITHIN`].
//!
//! Nothing here is durable: a coordinator that takes over lets in whoever comes first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meridian_core::id::AgentId;
use tokio::time::Instant;
use tonic::Status;

/// An agent is heard of every 5 s, by its answer to a probe and by its own figures; two of each may be missing.
const HEARD_WITHIN: Duration = Duration::from_secs(12);

/// A process that was let in.
struct Speaker {
    /// Drawn by the process when it started; zero from releases that draw none.
    process: u64,
    heard_at: Instant,
    /// Which of its streams.
    stream: u64,
    /// What it said last is still being looked into, so that nothing more is read of it.
    is_busy: bool,
    /// The process that was turned away last, which tries again and again; zero when there was none.
    turned_away: u64,
}

#[derive(Default)]
struct Table {
    speakers: BTreeMap<AgentId, Speaker>,
    streams: u64,
}

/// Who speaks as which agent. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Processes {
    table: Arc<Mutex<Table>>,
}

/// That a stream may speak as its agent; dropped, another process may, if none was turned away.
pub(crate) struct Speaking {
    processes: Processes,
    agent: AgentId,
    stream: u64,
}

/// That what a stream said is being looked into.
pub(crate) struct Busy<'s> {
    speaking: &'s Speaking,
}

impl Processes {
    /// Lets a new stream of an agent's `process` in; zero is a process that does not say which it is.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` while another process of the agent is heard of.
    pub(crate) fn let_in(&self, agent: &AgentId, process: u64) -> Result<Speaking, Status> {
        let now = Instant::now();
        let mut table = self.table();
        if let Some(other) = table.speakers.get_mut(agent)
            && process != 0
            && other.process != 0
            && other.process != process
            && (other.is_busy || now.duration_since(other.heard_at) < HEARD_WITHIN)
        {
            if std::mem::replace(&mut other.turned_away, process) != process {
                tracing::warn!(%agent, "a second process wants to attach as this agent and is not let in");
            }
            return Err(Status::already_exists(format!(
                "another process is attached as agent {agent}, and this one is not let in while that one is heard of: stop one of the two, or give this one a name and a token of its own"
            )));
        }
        table.streams += 1;
        let stream = table.streams;
        let before = table.speakers.get(agent).filter(|before| before.process == process);
        let turned_away = before.map_or(0, |before| before.turned_away);
        let speaker = Speaker { process, heard_at: now, stream, is_busy: false, turned_away };
        table.speakers.insert(agent.clone(), speaker);
        drop(table);
        Ok(Speaking { processes: self.clone(), agent: agent.clone(), stream })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Speaking {
    /// The agent was heard of on this stream.
    fn heard(&self) {
        self.note(false);
    }

    /// The agent was heard of, and counts as heard of until this is dropped: nothing more is read of it meanwhile.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.note(true);
        Busy { speaking: self }
    }

    fn note(&self, is_busy: bool) {
        let mut table = self.processes.table();
        if let Some(speaker) = table.speakers.get_mut(&self.agent).filter(|it| it.stream == self.stream) {
            speaker.heard_at = Instant::now();
            speaker.is_busy = is_busy;
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.speaking.heard();
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.heard();
        let mut table = self.processes.table();
        let is_last = |speaker: &Speaker| speaker.stream == self.stream && speaker.turned_away == 0;
        if table.speakers.get(&self.agent).is_some_and(is_last) {
            table.speakers.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        "eu-central/builder-1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_process_is_let_in_only_when_the_first_has_gone_or_is_silent() {
        let processes = Processes::default();
        let first = processes.let_in(&agent(), 1).unwrap();
        tokio::time::advance(HEARD_WITHIN / 2).await;
        let refused = processes.let_in(&agent(), 2).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::AlreadyExists);
        assert!(refused.message().contains("eu-central/builder-1"), "{refused}");

        first.heard();
        tokio::time::advance(HEARD_WITHIN / 2).await;
        assert!(processes.let_in(&agent(), 2).is_err(), "it was heard of in the meantime");

        tokio::time::advance(HEARD_WITHIN).await;
        let second = processes.let_in(&agent(), 2).expect("nothing was heard of the first");
        // The late end of the first stream says nothing about the second.
        first.heard();
        drop(first);
        assert!(processes.let_in(&agent(), 3).is_err());
        drop(second);
        assert!(processes.let_in(&agent(), 3).is_err(), "the second may be opening a new stream");
        tokio::time::advance(HEARD_WITHIN).await;
        assert!(processes.let_in(&agent(), 3).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_was_restarted_need_not_wait_and_whoever_waits_gains_nothing_when_a_stream_ends() {
        let processes = Processes::default();
        drop(processes.let_in(&agent(), 1).unwrap());
        let restarted = processes.let_in(&agent(), 2).expect("nobody else wanted to attach");
        assert!(processes.let_in(&agent(), 3).is_err());
        // As when the coordinator has a stream opened anew.
        drop(restarted);
        assert!(processes.let_in(&agent(), 3).is_err());
        let anew = processes.let_in(&agent(), 2).expect("it is the same process");
        drop(anew);
        assert!(processes.let_in(&agent(), 3).is_err(), "it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_counts_as_heard_of_however_long_that_takes() {
        let processes = Processes::default();
        let first = processes.let_in(&agent(), 1).unwrap();
        let busy = first.busy();
        tokio::time::advance(2 * HEARD_WITHIN).await;
        assert!(processes.let_in(&agent(), 2).is_err());
        drop(busy);
        assert!(processes.let_in(&agent(), 2).is_err(), "it had no time to say anything since");
        tokio::time::advance(HEARD_WITHIN).await;
        assert!(processes.let_in(&agent(), 2).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_may_open_a_new_stream_at_once_and_one_that_says_nothing_may_too() {
        let processes = Processes::default();
        let old = processes.let_in(&agent(), 1).unwrap();
        let new = processes.let_in(&agent(), 1).unwrap();
        drop(old);
        assert!(processes.let_in(&agent(), 2).is_err(), "the newer stream of the first is open");
        let unknown = processes.let_in(&agent(), 0).unwrap();
        drop(new);
        assert!(processes.let_in(&agent(), 2).is_ok(), "nobody knows which process this is");
        drop(unknown);
    }
}
