//! The one task that owns the agent's attempts.
//!
//! It feeds each attempt's machine with what the coordinator says, what the runs say and what the clock says,
//! and carries its effects out. It goes on when the stream is down: runs end, reports wait, and a new stream
//! is tried with growing pauses.

mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use meridian_core::{
    attempt::{Attempt, AttemptEffect, AttemptInput, AttemptLimits},
    id::{Epoch, Fence, TaskId},
    machine::{
        effect::{Order, Work},
        input::{Failure, FailureKind, Outcome, Progress},
    },
    quantity::Millis,
    schedule::sketch::HeldSketch,
    time::{Mono, Now, Wall},
};
use meridian_proto::convert::{agent::AgentSaid, coordinator::CoordinatorSaid};
use meridian_runtime::clock::Clock;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    announcements::{Announcements, MadeManifest},
    cache_questions::CacheQuestions,
    cache_view::CacheView,
    drain::Drain,
    link::{Backoff, Introduction},
    link_state::{Heard, LinkState},
    prefetching::Prefetching,
    slots::Slots,
    stops::Stops,
    timing::{clock_deadline, millis, optional_sleep, wall_us},
    worker::Worker,
};
use crate::spans::{attempt_ended, attempt_span, report_span};

/// What runs tell the loop; bounded, runs wait.
const RUN_EVENTS_MAX: usize = 256;
/// How often the agent's own figures are sent.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
/// Renewals until the coordinator has said how often.
const RENEW_EVERY_DEFAULT: Millis = Millis::seconds(10);
/// How long runs may take to end once the agent must stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long a coordinator that is there may take to settle the last reports.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(3);

/// What the loop needs to know.
pub(crate) struct LoopConfig {
    /// With what a stream is opened.
    pub(crate) introduction: Introduction,
    /// The spans of each attempt.
    pub(crate) limits: AttemptLimits,
    /// How long runs may go on after a drain began.
    pub(crate) drain_within: Duration,
}

/// What a run tells the loop.
pub(crate) enum RunEvent {
    /// How far it is.
    Progress(TaskId, Fence, Progress),
    /// It ended and nothing of it is alive; the span shows how long its report takes.
    Finished(TaskId, Fence, Box<Outcome>, tracing::Span),
}

struct Entry {
    attempt: Attempt,
    /// Stops the run, when there is one.
    run: Option<(Fence, CancellationToken)>,
    /// What is fetched before the run asks for it.
    prefetch: Prefetching,
    /// Ends with the entry, which goes when the report is settled.
    report: tracing::Span,
}

/// The one task that owns the agent's attempts.
pub(crate) struct AgentLoop {
    config: LoopConfig,
    worker: Arc<Worker>,
    clock: Clock,
    attempts: BTreeMap<TaskId, Entry>,
    slots: Slots,
    stops: Stops,
    cache: CacheView,
    /// What runs used of the cache, from the worker.
    made: mpsc::Receiver<MadeManifest>,
    announcements: Announcements,
    questions: CacheQuestions,
    /// What was last said over this stream of all that the cache holds.
    told_sketch: Option<Arc<HeldSketch>>,
    link: LinkState,
    backoff: Backoff,
    /// The newest term heard of; orders of an older one are refused.
    epoch: Epoch,
    renew_every: Duration,
    run_events: mpsc::Receiver<RunEvent>,
    run_events_in: mpsc::Sender<RunEvent>,
    is_draining: bool,
    /// Whether an administrator wants the agent empty, by the word of this stream.
    is_drained: bool,
    /// What was given up without the coordinator's knowledge while draining.
    dropped: BTreeSet<TaskId>,
}

impl AgentLoop {
    /// A loop without attempts or a stream.
    pub(crate) fn new(
        config: LoopConfig,
        worker: Arc<Worker>,
        made: mpsc::Receiver<MadeManifest>,
        clock: Clock,
    ) -> Self {
        let (run_events_in, run_events) = mpsc::channel(RUN_EVENTS_MAX);
        Self {
            slots: Slots::new(config.introduction.offer.slots),
            stops: Stops::default(),
            config,
            questions: CacheQuestions::new(Arc::clone(&worker)),
            worker,
            clock,
            attempts: BTreeMap::new(),
            cache: CacheView::default(),
            made,
            announcements: Announcements::default(),
            told_sketch: None,
            link: LinkState::Down(Instant::now()),
            backoff: Backoff::default(),
            epoch: Epoch(0),
            renew_every: millis(RENEW_EVERY_DEFAULT),
            run_events,
            run_events_in,
            is_draining: false,
            is_drained: false,
            dropped: BTreeSet::new(),
        }
    }

    /// Serves until `stop`, after which every run is ended and reported as lost, or until `drain` and the last
    /// report; says of which tasks the coordinator does not know how they ended here.
    pub(crate) async fn run(mut self, drain: CancellationToken, stop: CancellationToken) -> Vec<TaskId> {
        let mut observe = interval(OBSERVE_EVERY);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew_at = Instant::now() + self.renew_every;
        let mut draining: Option<Drain> = None;
        loop {
            if self.is_draining && self.attempts.is_empty() {
                break;
            }
            let deadline = self.attempts.values().filter_map(|entry| entry.attempt.next_deadline()).min();
            let is_running = self.attempts.values().any(|entry| entry.attempt.uses_slot());
            let drained_by = draining.as_mut().map(|drain| drain.deadline(Instant::now(), is_running));
            tokio::select! {
                () = stop.cancelled() => break,
                () = drain.cancelled(), if !self.is_draining => {
                    self.begin_drain();
                    draining = Some(Drain::begin(Instant::now(), self.config.drain_within));
                }
                () = optional_sleep(drained_by) => break,
                heard = next_of(&mut self.link, &self.config, &self.attempts) => self.heard(heard),
                Some(event) = self.run_events.recv() => self.run_said(event),
                Some(made) = self.made.recv() => if let Some(made) = self.announcements.made(made) {
                    self.announce(made);
                },
                answer = self.questions.next() => {
                    // Whoever hears that something went, or came, must not be told otherwise by what was said before.
                    self.observe();
                    self.say(&AgentSaid::CacheAnswer(Box::new(answer)));
                }
                () = clock_deadline(&self.clock, deadline) => self.tick(),
                () = sleep_until(renew_at) => {
                    self.renew();
                    renew_at = Instant::now() + self.renew_every;
                }
                () = optional_sleep(self.stops.deadline()) => {
                    self.stops.late(Instant::now()).iter().for_each(|said| self.say(said));
                }
                _ = observe.tick() => self.observe(),
            }
            self.fill_slots();
        }
        self.abandon_all().await;
        let unsettled = self.attempts.values().filter_map(|entry| Some(entry.attempt.held()?.0));
        self.dropped.into_iter().chain(unsettled).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn now(&self) -> Now {
        let reading = self.clock.now();
        Now { mono: Mono(reading.mono_ms), wall: Wall(reading.wall_ms) }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Opened(link) => {
                tracing::info!("attached to the coordinator");
                self.backoff.reset();
                self.link = LinkState::Up(link);
                self.told_sketch = None;
                self.step_all(|| AttemptInput::StreamOpened);
                // What another stream said may not be so any more; before any offer this one says it anew.
                self.heed_drain(false);
                if self.is_draining {
                    self.say(&AgentSaid::Drain);
                }
                self.observe();
            }
            Heard::NotOpened(why) => {
                let wait = self.backoff.next();
                tracing::warn!(why, wait_ms = wait.as_millis(), "no stream to the coordinator; trying again");
                self.link = LinkState::Down(Instant::now() + wait);
            }
            Heard::Lost(why) => {
                tracing::warn!(why, "the stream to the coordinator is lost; builds go on");
                self.link = LinkState::Down(Instant::now() + self.backoff.next());
                self.step_all(|| AttemptInput::StreamLost);
            }
            Heard::TryNow(opening) => self.link = LinkState::Opening(opening),
            Heard::Said(CoordinatorSaid::Probe { number }) => {
                let now_us = wall_us();
                self.say(&AgentSaid::Echo { number, received_wall_us: now_us, sent_wall_us: wall_us() });
            }
            Heard::Said(CoordinatorSaid::CacheQuestion(question)) => self.questions.take(*question),
            Heard::Said(CoordinatorSaid::Order { epoch, order, .. }) => {
                if epoch < self.epoch {
                    tracing::warn!(%epoch, newest = %self.epoch, "an order of an older leader is refused");
                    return;
                }
                self.epoch = epoch;
                self.ordered(order);
            }
        }
    }

    fn ordered(&mut self, mut order: Order) {
        self.cache.learn(&mut order);
        match &order {
            Order::Shards { shards } => return self.worker.take_shards(shards),
            Order::Drain { why } => {
                tracing::info!(why, running = self.attempts.len(), "told to take no new work");
                self.heed_drain(true);
                return self.say(&AgentSaid::Drained { is_drained: true });
            }
            Order::Resume => {
                tracing::info!("told to take new work again");
                self.heed_drain(false);
                return self.say(&AgentSaid::Drained { is_drained: false });
            }
            _ => {}
        }
        if let Order::Settled { task, fence, accepted } = &order
            && let Some(made) = self.announcements.settled(task, *fence, *accepted)
        {
            self.announce(made);
        }
        if let Order::Welcome { renew_every, .. } = order {
            self.renew_every = millis(renew_every).max(Duration::from_millis(100));
            return;
        }
        if matches!(order, Order::Settled { accepted: false, .. }) {
            self.worker.ask_about_key();
        }
        let Some((task, input)) = AttemptInput::of_order(order) else { return };
        if let AttemptInput::Revoked { fence: Some(fence), .. } = &input {
            let run = self.attempts.get(&task).and_then(|entry| entry.run.as_ref());
            let is_running = run.is_some_and(|(running, _)| running == fence);
            let said = self.stops.revoked(&task, *fence, is_running, Instant::now());
            said.iter().for_each(|said| self.say(said));
        }
        if matches!(input, AttemptInput::Offered { .. }) {
            let limits = self.config.limits.clone();
            self.attempts.entry(task.clone()).or_insert_with(|| Entry {
                attempt: Attempt::new(task.clone(), limits),
                run: None,
                prefetch: Prefetching::default(),
                report: tracing::Span::none(),
            });
            if self.is_draining || self.is_drained {
                self.step(&task, AttemptInput::Drain);
            }
        }
        self.step(&task, input);
    }

    fn run_said(&mut self, event: RunEvent) {
        match event {
            RunEvent::Progress(task, fence, progress) => {
                self.step(&task, AttemptInput::StepProgress { fence, progress });
            }
            RunEvent::Finished(task, fence, outcome, report) => {
                self.stops.ended(&task, fence, &outcome).iter().for_each(|said| self.say(said));
                if let Some(entry) = self.attempts.get_mut(&task)
                    && entry.run.as_ref().is_some_and(|(running, _)| *running == fence)
                {
                    entry.run = None;
                    entry.report = report;
                }
                self.step(&task, AttemptInput::Finished { fence, outcome });
            }
        }
    }

    fn step_all(&mut self, input: impl Fn() -> AttemptInput) {
        let tasks: Vec<TaskId> = self.attempts.keys().cloned().collect();
        for task in tasks {
            self.step(&task, input());
        }
    }

    fn step(&mut self, task: &TaskId, input: AttemptInput) {
        let now = self.now();
        let Some(entry) = self.attempts.get_mut(task) else { return };
        let was_held = entry.attempt.held().is_some();
        let effects = entry.attempt.step(now, input);
        let is_dropped = was_held && entry.attempt.held().is_none();
        // While there is a stream, it is the coordinator that takes a lease back or settles it.
        if is_dropped && self.is_draining && !matches!(self.link, LinkState::Up(_)) {
            self.dropped.insert(task.clone());
        }
        for effect in effects {
            self.perform(task, effect);
        }
        if self.attempts.get(task).is_some_and(|entry| entry.attempt.is_gone()) {
            self.forget(task);
        }
    }

    fn perform(&mut self, task: &TaskId, effect: AttemptEffect) {
        match effect {
            AttemptEffect::Prefetch { work } => self.prefetch(task, *work),
            AttemptEffect::AskLease { task, placement } => {
                self.say(&AgentSaid::Lease { task, placement });
            }
            AttemptEffect::Decline { task, placement, why } => {
                self.say(&AgentSaid::Decline { task, placement, why });
            }
            AttemptEffect::Run { work, fence } => self.start(task, *work, fence),
            AttemptEffect::Kill { fence, why } => {
                tracing::info!(%task, %fence, why, "a run is stopped");
                if let Some(Entry { run: Some((running, cancel)), prefetch, .. }) = self.attempts.get(task)
                    && *running == fence
                {
                    cancel.cancel();
                    // It may still fetch what the run waits for.
                    prefetch.stop();
                }
            }
            AttemptEffect::SendReport { task, fence, outcome } => {
                self.say(&AgentSaid::Report { task, fence, outcome });
            }
            AttemptEffect::SendProgress { task, fence, progress } => {
                self.say(&AgentSaid::Progressed { task, fence, progress });
            }
            AttemptEffect::Forget => self.forget(task),
            AttemptEffect::Log { line } => tracing::info!(%task, "{line}"),
        }
    }

    fn say(&self, said: &AgentSaid) {
        if let LinkState::Up(link) = &self.link
            && !link.say(said)
        {
            // Leases and reports are asked and sent again by their attempts, the rest is soft.
            tracing::debug!("the stream is behind; a message was dropped");
        }
    }

    fn prefetch(&mut self, task: &TaskId, work: Work) {
        let Some(entry) = self.attempts.get_mut(task) else { return };
        // That of an earlier placement belongs to the run that is being stopped.
        if entry.prefetch.is_stopped() {
            entry.prefetch = Prefetching::default();
        }
        entry.prefetch.begin(self.worker.clone(), work, self.cache.hints(task));
    }

    fn start(&mut self, task: &TaskId, work: Work, fence: Fence) {
        let Some(entry) = self.attempts.get_mut(task) else { return };
        let cancel = CancellationToken::new();
        entry.run = Some((fence, cancel.clone()));
        let prefetch = entry.prefetch.clone();
        let (worker, events, hints) =
            (self.worker.clone(), self.run_events_in.clone(), self.cache.hints(task));
        let task = task.clone();
        tokio::spawn(async move {
            let heard = events.clone();
            let (run_task, run_work) = (task.clone(), work);
            let progress = move |progress: Progress| {
                // Progress is soft: when the loop is behind, the next one tells as much.
                let _ = heard.try_send(RunEvent::Progress(run_task.clone(), fence, progress));
            };
            let (span, told) = (attempt_span(&run_work, fence), run_work.clone());
            let run = async move {
                // It is large, and is moved several times until it runs.
                Box::pin(worker.run(run_work, hints, fence, Box::new(progress), cancel)).await
            };
            let run = tokio::spawn(run.instrument(span.clone()));
            let outcome = run.await.unwrap_or_else(|error| Outcome::Failed {
                failure: Failure {
                    kind: FailureKind::Infrastructure,
                    message: format!("the agent's own run ended unexpectedly: {error}"),
                    hint: "this is a bug in Meridian; the agent's log has the place".to_owned(),
                },
                log: Vec::new(),
            });
            prefetch.ended().await;
            attempt_ended(&span, &outcome);
            let report = report_span(&span, &told, fence);
            // The loop outlives its runs, or nobody needs to know.
            let _ = events.send(RunEvent::Finished(task, fence, Box::new(outcome), report)).await;
        });
    }

    fn forget(&mut self, task: &TaskId) {
        self.cache.forget(task);
        self.worker.forget(task);
        if let Some(entry) = self.attempts.remove(task) {
            entry.prefetch.stop();
            if let Some((_, cancel)) = entry.run {
                cancel.cancel();
            }
        }
    }

    /// Gives free slots to offers, the oldest build first.
    fn fill_slots(&mut self) {
        loop {
            let used = self.attempts.values().filter(|entry| entry.attempt.uses_slot()).count();
            let Some(task) = self.slots.next(used, self.attempts.values().map(|entry| &entry.attempt)) else {
                return;
            };
            self.step(&task, AttemptInput::SlotFree);
        }
    }

    fn tick(&mut self) {
        self.step_all(|| AttemptInput::Tick);
    }

    fn renew(&self) {
        let held: Vec<(TaskId, Fence)> =
            self.attempts.values().filter_map(|entry| entry.attempt.held()).collect();
        self.say(&AgentSaid::Renewal { held });
    }

    fn begin_drain(&mut self) {
        tracing::info!(running = self.attempts.len(), "draining: no new work is taken");
        self.is_draining = true;
        self.say(&AgentSaid::Drain);
        self.step_all(|| AttemptInput::Drain);
    }

    /// Ends every run and says so, so that the coordinator need not wait for the leases to expire.
    async fn abandon_all(&mut self) {
        self.step_all(|| AttemptInput::Abandon { why: "the agent was stopped".to_owned() });
        let deadline = Instant::now() + STOP_WITHIN;
        while self.attempts.values().any(|entry| entry.run.is_some()) {
            tokio::select! {
                Some(event) = self.run_events.recv() => self.run_said(event),
                () = sleep_until(deadline) => {
                    tracing::warn!("some runs did not end in time; their processes die with the agent");
                    break;
                }
            }
        }
        let deadline = Instant::now() + LAST_WORDS_WITHIN;
        while matches!(self.link, LinkState::Up(_)) && !self.attempts.is_empty() {
            tokio::select! {
                heard = next_of(&mut self.link, &self.config, &self.attempts) => self.heard(heard),
                () = sleep_until(deadline) => return,
            }
        }
    }
}

/// Waits for what the link does next. May be dropped at any point without losing a message.
async fn next_of(link: &mut LinkState, config: &LoopConfig, attempts: &BTreeMap<TaskId, Entry>) -> Heard {
    let held = || attempts.values().filter_map(|entry| entry.attempt.held()).collect();
    link.next(&config.introduction, held).await
}
