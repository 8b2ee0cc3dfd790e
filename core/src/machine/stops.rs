//! Leases that were taken back from agents that run them, until each agent has said that nothing of it is alive.
//!
//! To cancel a build is to end processes on other machines. An agent that is told so says when they have ended; while it
//! does not, `explain` says what is waited for, and after `stop_within` why: the agent is away, or says itself that the
//! system does not end a process. Nothing is decided by it: the lease is void already, and its fence refuses whatever
//! comes late.
//!
//! An agent that was away is told again when it attaches. One of an earlier release says nothing about it, so nothing is
//! waited for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, Fence, SessionId, TaskId},
    machine::{effect::Order, lease::clamp, step::Turn},
    time::Mono,
};

/// Most leases that are remembered; of more, the first tasks' are dropped.
const STOPS_MAX: usize = 10_000;
/// Most bytes of what an agent says about one.
const WORDS_MAX: usize = 1_024;

/// What agents were told to stop and have not said to have.
#[derive(Debug, Clone, Default)]
pub(super) struct Stops {
    by_lease: BTreeMap<(TaskId, Fence), Stop>,
    /// When the next agent is late.
    pub(super) due: Option<Mono>,
}

#[derive(Debug, Clone)]
struct Stop {
    agent: AgentId,
    why: String,
    /// When it is late; `None` when that was said.
    due: Option<Mono>,
    /// Why it has not ended, when that is known.
    words: Option<String>,
}

impl Stops {
    /// What is waited for of a task, in words.
    pub(super) fn told(&self, task: &TaskId) -> Vec<String> {
        let of_task = self.by_lease.range((task.clone(), Fence(0))..=(task.clone(), Fence(u64::MAX)));
        let told = of_task.map(|(_, Stop { agent, words, .. })| match words {
            None => format!("agent {agent} is told to stop it"),
            Some(words) => format!("agent {agent} has not stopped it: {words}"),
        });
        told.collect()
    }

    fn insert(&mut self, task: &TaskId, fence: Fence, stop: Stop) {
        self.by_lease.insert((task.clone(), fence), stop);
        if self.by_lease.len() > STOPS_MAX {
            self.by_lease.pop_first();
        }
        self.arm();
    }

    fn arm(&mut self) {
        self.due = self.by_lease.values().filter_map(|stop| stop.due).min();
    }
}

impl Turn<'_> {
    /// Takes a lease back that an agent runs. Whether it is attached is found out here; one that is away learns of it
    /// when it attaches.
    pub(super) fn revoke_lease(&mut self, agent: &AgentId, task: &TaskId, fence: Fence, why: &str) {
        let due = Some(self.now.mono.after(self.limits.stop_within));
        let stop = |due, words| Stop { agent: agent.clone(), why: why.to_owned(), due, words };
        let Some(attached) = self.observed.agents.get(agent) else {
            let words = Some("it is not attached, and learns of it when it is".to_owned());
            self.observed.stops.insert(task, fence, stop(due, words));
            return;
        };
        let session = attached.session;
        if attached.offer.tells_stops {
            self.observed.stops.insert(task, fence, stop(due, None));
        }
        let (task, why) = (task.clone(), why.to_owned());
        self.send(session, Order::Revoke { task, fence: Some(fence), why });
    }

    /// An agent says what became of a run that it was told to stop: that nothing of it is alive, or why not.
    pub(super) fn stopped(&mut self, session: SessionId, task: &TaskId, fence: Fence, remaining: &str) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let key = (task.clone(), fence);
        let Some(stop) = self.observed.stops.by_lease.get_mut(&key).filter(|stop| stop.agent == agent) else {
            return;
        };
        if remaining.is_empty() {
            self.observed.stops.by_lease.remove(&key);
        } else {
            let words = clamp(remaining, WORDS_MAX).to_owned();
            let line = stop_line(task, &stop.agent, &stop.why, &words);
            stop.words = Some(words);
            stop.due = None;
            self.warn(line);
        }
        self.observed.stops.arm();
        self.touch(&task.build);
    }

    /// Says of agents that are late that they are.
    pub(super) fn look_at_stops(&mut self) {
        if self.observed.stops.due.is_none_or(|due| due > self.now.mono) {
            return;
        }
        let (now, within) = (self.now.mono, self.limits.stop_within);
        let mut late = Vec::new();
        for ((task, _), stop) in &mut self.observed.stops.by_lease {
            if stop.due.is_some_and(|due| due <= now) {
                stop.due = None;
                let words = stop.words.get_or_insert_with(|| format!("it has said nothing for {within}"));
                late.push((task.clone(), stop_line(task, &stop.agent, &stop.why, words)));
            }
        }
        self.observed.stops.arm();
        for (task, line) in late {
            self.warn(line);
            self.touch(&task.build);
        }
    }

    /// An agent is there again: it is told what it may not know. What it says it holds it is told of besides.
    pub(super) fn restate_stops(&mut self, agent: &AgentId, held: &BTreeSet<(TaskId, Fence)>) {
        let of_agent = |(key, stop): &(&(TaskId, Fence), &Stop)| stop.agent == *agent && !held.contains(*key);
        let all: Vec<_> = self.observed.stops.by_lease.iter().filter(of_agent).collect();
        let all: Vec<_> = all.into_iter().map(|(key, stop)| (key.clone(), stop.why.clone())).collect();
        for ((task, fence), why) in all {
            self.observed.stops.by_lease.remove(&(task.clone(), fence));
            self.revoke_lease(agent, &task, fence, &why);
        }
        self.observed.stops.arm();
    }
}

fn stop_line(task: &TaskId, agent: &AgentId, why: &str, words: &str) -> String {
    format!("task {task} is not stopped on agent {agent} ({why}): {words}")
}
