//! The one task that owns the machine.
//!
//! It takes commands from a bounded queue, steps the machine, hands the new events to the journal, and lets
//! effects and the answers of reads go only when the journal index they were decided at is durable. While a
//! commit is under way it goes on deciding; what gathers meanwhile is the next commit (group commit).
//!
//! If an append fails, the loop ends with the error. Nothing that depended on the failed events has left the
//! process, so a restart from the journal is right.
//!
//! Not here: what an effect means on the wire ([`crate::services`]), and any decision.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use meridian_core::{
    id::{AgentId, Epoch, Fence, JournalIndex, RequestId, SessionId, TaskId},
    machine::{
        Machine, Step,
        effect::{Action, Effect, Reply},
        event::EventKind,
        input::{AgentOffer, Input},
        record::Placement,
    },
    time::{Mono, Now, Wall},
};
use meridian_proto::{
    convert::{
        coordinator::CoordinatorSaid,
        journal::{encode_event, encode_record},
    },
    v1,
};
use meridian_runtime::{clock::Clock, telemetry::propagation};
use meridian_store::journal::{CommitProgress, GroupCommit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    journal_history::JournalHistory, live_logs::LiveLogs, metrics::Metrics, revocations::Revocations,
    watchers::Watchers,
};

/// Commands taken in one go before the events gathered so far are handed to the journal.
const COMMANDS_PER_BATCH: usize = 256;

/// Events after which the state is written out.
const EVENTS_PER_SNAPSHOT: u64 = 10_000;
/// Events that are kept for history behind a snapshot.
const EVENTS_KEPT: u64 = 1_000_000;

/// What waits for a journal index: an effect to perform or an answer to send.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// A question about the machine's state. It runs in the loop, and gives the answer's sending back.
pub(crate) type Read = Box<dyn FnOnce(&Machine) -> Release + Send>;

/// What the loop is asked to do.
pub(crate) enum Command {
    /// Step with an input that somebody waits on.
    Request {
        /// Makes the input once its number is known.
        input: Box<dyn FnOnce(RequestId) -> Input + Send>,
        /// Where the machine's reply goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Step with an input that nobody waits on.
    Input(Input),
    /// An agent's stream opened.
    Attach {
        /// Whose.
        agent: AgentId,
        /// What it can do.
        offer: AgentOffer,
        /// The leases it believes it holds.
        held: Vec<(TaskId, Fence)>,
        /// Where its orders go. Bounded: a stream that does not keep up is closed.
        orders: mpsc::Sender<v1::CoordinatorMessage>,
        /// Where the stream's number goes.
        session: oneshot::Sender<SessionId>,
    },
    /// Ask about the state.
    Read(Read),
}

enum Held {
    Effect(Effect),
    Release(Release),
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum StepLoopError {
    /// The journal did not take an append: another coordinator leads, or the disk failed.
    #[error("the journal did not take the coordinator's decisions, so it stops: {0}")]
    Journal(String),
}

/// The loop's state.
pub(crate) struct StepLoop {
    machine: Machine,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    commit: GroupCommit,
    progress: watch::Receiver<CommitProgress>,
    durable: JournalIndex,
    held: VecDeque<(JournalIndex, Held)>,
    batch: Vec<Bytes>,
    replies: HashMap<RequestId, oneshot::Sender<Reply>>,
    sessions: HashMap<SessionId, mpsc::Sender<v1::CoordinatorMessage>>,
    watchers: Watchers,
    revocations: Revocations,
    metrics: Metrics,
    logs: LiveLogs,
    snapshots: Snapshots,
    next_request: u64,
    next_session: u64,
}

/// Who hears of what the loop does, besides callers and agents.
pub(crate) struct Outlets {
    /// Woken when a build changed.
    pub(crate) watchers: Watchers,
    /// Told of identities that are taken back.
    pub(crate) revocations: Revocations,
    /// Told of each step.
    pub(crate) metrics: Metrics,
    /// Asked how far back events must be kept.
    pub(crate) history: JournalHistory,
    /// Asked what arrived of the logs of attempts that were given up.
    pub(crate) logs: LiveLogs,
}

/// When the state was last written out, and how far back events must be kept.
struct Snapshots {
    last: JournalIndex,
    history: JournalHistory,
}

impl StepLoop {
    /// A loop that has decided nothing yet.
    pub(crate) fn new(
        machine: Machine,
        clock: Clock,
        commands: mpsc::Receiver<Command>,
        commit: GroupCommit,
        outlets: Outlets,
    ) -> Self {
        let Outlets { watchers, revocations, metrics, history, logs } = outlets;
        let snapshots = Snapshots { last: machine.durable().last_index(), history };
        let progress = commit.progress();
        let durable = progress.borrow().durable;
        Self {
            machine,
            clock,
            commands,
            commit,
            progress,
            durable,
            held: VecDeque::new(),
            batch: Vec::new(),
            replies: HashMap::new(),
            sessions: HashMap::new(),
            watchers,
            revocations,
            metrics,
            logs,
            snapshots,
            next_request: 0,
            next_session: 0,
        }
    }

    /// Claims leadership for `epoch` and serves until told to stop.
    ///
    /// # Errors
    /// When the journal refuses an append. The state in memory is then ahead of the journal and is dropped.
    pub(crate) async fn run(mut self, epoch: Epoch, stop: CancellationToken) -> Result<(), StepLoopError> {
        self.step(Input::Lead { epoch });
        loop {
            self.commit_batch().await?;
            self.snapshot_when_due().await;
            let tick = self.machine.next_deadline();
            tokio::select! {
                biased;
                changed = self.progress.changed() => {
                    changed.map_err(|_| StepLoopError::Journal("its thread ended".to_owned()))?;
                    self.release_durable()?;
                }
                () = stop.cancelled() => return self.close().await,
                // Before the commands: a queue that is never empty must not keep a lost lease from expiring.
                () = sleep_until(&self.clock, tick) => self.step(Input::Tick),
                command = self.commands.recv() => {
                    let Some(command) = command else { return self.close().await };
                    self.take(command);
                    for _ in 1..COMMANDS_PER_BATCH {
                        let Ok(command) = self.commands.try_recv() else { break };
                        self.take(command);
                    }
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Input(input) => self.step(input),
            Command::Request { input, reply } => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.replies.insert(request, reply);
                self.step(input(request));
            }
            Command::Attach { agent, offer, held, orders, session } => {
                self.next_session += 1;
                let id = SessionId(self.next_session);
                self.sessions.insert(id, orders);
                // A caller that is gone by now is noticed when its stream's end is reported, or by its lease.
                let _ = session.send(id);
                self.step(Input::Attach { session: id, agent, offer, held });
            }
            Command::Read(read) => {
                let release = read(&self.machine);
                self.hold(Held::Release(release));
            }
        }
    }

    fn step(&mut self, input: Input) {
        if let Input::Detach { session } = &input {
            self.sessions.remove(session);
        }
        let started = std::time::Instant::now();
        let Step { events, effects } = self.machine.step(self.now(), input);
        self.metrics.stepped(started.elapsed(), events.len());
        events.iter().for_each(|(_, event)| trace_placement(&self.machine, &event.kind));
        self.batch.extend(events.iter().map(|(_, event)| encode_event(event)));
        for effect in effects {
            self.hold(Held::Effect(effect));
        }
        let unknown = events.into_iter().filter_map(|(_, event)| without_log(event.kind));
        for (task, fence) in unknown.collect::<Vec<_>>() {
            let log = self.logs.arrived(&task, fence);
            if !log.is_empty() {
                self.step(Input::LogArrived { task, fence, log });
            }
        }
    }

    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { mono: Mono(now.mono_ms), wall: Wall(now.wall_ms) }
    }

    /// Keeps `held` until everything decided so far is durable; performs it now when that is so already.
    fn hold(&mut self, held: Held) {
        let decided = self.machine.durable().last_index();
        if self.held.is_empty() && self.durable >= decided {
            self.perform(held);
        } else {
            self.held.push_back((decided, held));
        }
    }

    /// Hands what was decided to the journal. Waits only while its queue is full, and takes no commands
    /// meanwhile: that is how a slow disk slows its callers down.
    async fn commit_batch(&mut self) -> Result<(), StepLoopError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.commit.submit(batch).await.map_err(|error| StepLoopError::Journal(error.to_string()))?;
        Ok(())
    }

    /// A snapshot bounds how long the next start replays. One that fails costs nothing but that.
    async fn snapshot_when_due(&mut self) {
        let index = self.machine.durable().last_index();
        if index.0 < self.snapshots.last.0 + EVENTS_PER_SNAPSHOT {
            return;
        }
        self.snapshots.last = index;
        let records = self.machine.durable().records().iter().map(encode_record).collect();
        let keep_from = index.0.saturating_sub(EVENTS_KEPT).min(self.snapshots.history.persisted().0) + 1;
        match self.commit.save_snapshot(index, records, JournalIndex(keep_from)).await {
            Ok(()) => tracing::debug!(%index, "snapshot saved"),
            Err(error) => tracing::warn!(%error, "no snapshot could be saved"),
        }
    }

    /// Makes what was decided durable and lets the journal go. Whoever still waits learns that it stops.
    async fn close(mut self) -> Result<(), StepLoopError> {
        self.commit_batch().await?;
        self.commit.close().await.map(|_| ()).map_err(|error| StepLoopError::Journal(error.to_string()))
    }

    fn release_durable(&mut self) -> Result<(), StepLoopError> {
        let CommitProgress { durable, failure } = self.progress.borrow_and_update().clone();
        if let Some(error) = failure {
            return Err(StepLoopError::Journal(error.to_string()));
        }
        self.durable = durable;
        while self.held.front().is_some_and(|(needs, _)| *needs <= durable) {
            if let Some((_, held)) = self.held.pop_front() {
                self.perform(held);
            }
        }
        Ok(())
    }

    fn perform(&mut self, held: Held) {
        let effect = match held {
            Held::Release(release) => return release(),
            Held::Effect(effect) => effect,
        };
        match effect.action {
            Action::Reply { request, reply } => {
                if let Some(waiting) = self.replies.remove(&request) {
                    // The caller may have given up; the decision stands all the same.
                    let _ = waiting.send(reply);
                }
            }
            Action::Send { session, order } => {
                let Effect { epoch, sequence, .. } = effect;
                let message =
                    v1::CoordinatorMessage::from(&CoordinatorSaid::Order { epoch, sequence, order });
                let sent = self.sessions.get(&session).is_none_or(|orders| orders.try_send(message).is_ok());
                if !sent {
                    // Dropping the sender ends the stream. The agent attaches again and is told everything
                    // that still holds, so nothing is lost by not queueing without bound here.
                    tracing::warn!(%session, "an agent does not take its orders; its stream is closed");
                    self.sessions.remove(&session);
                }
            }
            Action::Close { session, why } => {
                tracing::info!(%session, why, "an agent's stream is closed");
                self.sessions.remove(&session);
            }
            Action::IdentityRevoked { identity } => {
                tracing::warn!(%identity, "an identity is revoked");
                self.revocations.add(identity);
            }
            Action::Warn { line } => tracing::warn!("{line}"),
            Action::BuildChanged { build } => self.watchers.changed(&build),
        }
    }
}

/// The attempt that ended without a result and without a word of its log.
fn without_log(decided: EventKind) -> Option<(TaskId, Fence)> {
    match decided {
        EventKind::AttemptFailed { task, fence, log, .. } if log.is_empty() => Some((task, fence)),
        _ => None,
    }
}

/// Shows a placement in the trace of its build: where and why. It takes no time of its own.
fn trace_placement(machine: &Machine, decided: &EventKind) {
    let EventKind::TaskPlaced { task, placement } = decided else { return };
    let Some(traceparent) = machine.build(&task.build).and_then(|build| build.traceparent.as_ref()) else {
        return;
    };
    let Placement { agent, because, .. } = placement;
    let span = tracing::info_span!(parent: None, "placement", %task, %agent, because);
    propagation::join(&span, traceparent.as_str());
}

/// Sleeps until the monotonic moment `at`; for ever when there is none.
async fn sleep_until(clock: &Clock, at: Option<Mono>) {
    match at {
        None => std::future::pending().await,
        Some(at) => clock.sleep_until(at.0).await,
    }
}
