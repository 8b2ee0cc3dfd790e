//! The attempt's states and how it moves between them.

use crate::{
    attempt::{AttemptEffect, AttemptInput, AttemptLimits},
    id::{Fence, PlacementNumber, TaskId},
    machine::{
        Protection, Protections,
        effect::Work,
        input::{Failure, FailureKind, Outcome, Phase, Progress},
    },
    time::{Mono, Now},
};

/// Where an attempt stands, for the agent's own views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// Nothing was offered yet, or all is over: the shell may drop it.
    Gone,
    /// Offered; waits for a slot.
    Offered,
    /// The lease was asked for.
    Leasing,
    /// The run is on.
    Running {
        /// The step it is in, once it has said so.
        phase: Option<Phase>,
    },
    /// The run was killed and has not ended yet.
    Stopping,
    /// The run ended and its report is not settled.
    Reporting,
}

/// One task on this agent.
#[derive(Debug, Clone)]
pub struct Attempt {
    task: TaskId,
    limits: AttemptLimits,
    state: State,
    /// The newest placement that was offered; older offers are stale.
    newest: PlacementNumber,
    /// Since when there is no stream.
    lost: Option<Mono>,
    is_draining: bool,
    protections: Protections,
}

#[derive(Debug, Clone)]
enum State {
    Gone,
    Offered { work: Box<Work>, placement: PlacementNumber },
    Leasing { work: Box<Work>, placement: PlacementNumber, ask_again: Mono },
    Running { fence: Fence, progress: ProgressGate },
    Stopping { fence: Fence, then: AfterStop },
    Reporting { fence: Fence, outcome: Box<Outcome>, send_again: Mono },
}

/// What follows once a killed run has ended.
#[derive(Debug, Clone)]
enum AfterStop {
    Forget,
    TakeUp { work: Box<Work>, placement: PlacementNumber },
    Report { why: String },
}

/// Lets progress out at a bounded rate.
#[derive(Debug, Clone, Default)]
struct ProgressGate {
    newest: Option<Progress>,
    is_sent: bool,
    sent: Option<(Phase, Mono)>,
}

impl ProgressGate {
    /// When what is held back may go out.
    fn due(&self, limits: &AttemptLimits) -> Option<Mono> {
        let newest = self.newest.as_ref().filter(|_| !self.is_sent)?;
        Some(match self.sent {
            Some((phase, at)) if phase == newest.phase => at.after(limits.progress_every),
            _ => Mono(0),
        })
    }

    /// Takes what may go out by `now`.
    fn take(&mut self, now: Mono, limits: &AttemptLimits) -> Option<Progress> {
        if self.due(limits)? > now {
            return None;
        }
        let newest = self.newest.clone()?;
        self.is_sent = true;
        self.sent = Some((newest.phase, now));
        Some(newest)
    }
}

impl Attempt {
    /// An attempt that waits for its first offer.
    #[must_use]
    pub fn new(task: TaskId, limits: AttemptLimits) -> Self {
        let (newest, protections) = (PlacementNumber(0), Protections::default());
        Self { task, limits, state: State::Gone, newest, lost: None, is_draining: false, protections }
    }

    /// The same attempt without one of its protections, for a test that shows what it is good for.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn without(self, protection: Protection) -> Self {
        Self { protections: self.protections.without(protection), ..self }
    }

    /// The task.
    #[must_use]
    pub const fn task(&self) -> &TaskId {
        &self.task
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> AttemptState {
        match &self.state {
            State::Gone => AttemptState::Gone,
            State::Offered { .. } => AttemptState::Offered,
            State::Leasing { .. } => AttemptState::Leasing,
            State::Running { progress, .. } => {
                AttemptState::Running { phase: progress.newest.as_ref().map(|newest| newest.phase) }
            }
            State::Stopping { .. } => AttemptState::Stopping,
            State::Reporting { .. } => AttemptState::Reporting,
        }
    }

    /// The lease to list when attaching and renewing.
    #[must_use]
    pub fn held(&self) -> Option<(TaskId, Fence)> {
        let fence = match &self.state {
            State::Running { fence, .. }
            | State::Reporting { fence, .. }
            | State::Stopping { fence, then: AfterStop::Report { .. } } => *fence,
            State::Gone | State::Offered { .. } | State::Leasing { .. } | State::Stopping { .. } => {
                return None;
            }
        };
        Some((self.task.clone(), fence))
    }

    /// Whether a slot is kept for it.
    #[must_use]
    pub const fn uses_slot(&self) -> bool {
        matches!(self.state, State::Leasing { .. } | State::Running { .. } | State::Stopping { .. })
    }

    /// Whether it is over and may be dropped.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// When [`AttemptInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if let Some(lost) = self.lost {
            return (!self.is_gone()).then(|| lost.after(self.limits.orphan_limit));
        }
        match &self.state {
            State::Leasing { ask_again, .. } => Some(*ask_again),
            State::Running { progress, .. } => progress.due(&self.limits),
            State::Reporting { send_again, .. } => Some(*send_again),
            State::Gone | State::Offered { .. } | State::Stopping { .. } => None,
        }
    }

    /// Decides what follows from an input. An input that does not fit the state is stale or repeated and
    /// changes nothing.
    pub fn step(&mut self, now: Now, input: AttemptInput) -> Vec<AttemptEffect> {
        let now = now.mono;
        match input {
            AttemptInput::Offered { work, placement } => self.offered(work, placement),
            AttemptInput::SlotFree => self.slot_free(now),
            AttemptInput::Granted { placement, fence } => self.granted(placement, fence),
            AttemptInput::Revoked { fence, why } => self.revoked(fence, &why),
            AttemptInput::Settled { fence, accepted } => self.settled(fence, accepted),
            AttemptInput::StepProgress { fence, progress } => self.step_progress(now, fence, progress),
            AttemptInput::Finished { fence, outcome } => self.finished(now, fence, outcome),
            AttemptInput::StreamLost => self.stream_lost(now),
            AttemptInput::StreamOpened => self.stream_opened(now),
            AttemptInput::Drain => self.drain(),
            AttemptInput::Resume => {
                self.is_draining = false;
                Vec::new()
            }
            AttemptInput::Abandon { why } => self.abandon(why),
            AttemptInput::Tick => self.tick(now),
        }
    }

    fn offered(&mut self, work: Box<Work>, placement: PlacementNumber) -> Vec<AttemptEffect> {
        if placement <= self.newest || work.task != self.task {
            return Vec::new();
        }
        self.newest = placement;
        if self.is_draining {
            let decline = self.decline(placement, "the agent takes no new work");
            return match self.state {
                State::Offered { .. } | State::Leasing { .. } => self.forget(vec![decline]),
                _ => vec![decline],
            };
        }
        let prefetch = AttemptEffect::Prefetch { work: work.clone() };
        match &mut self.state {
            State::Running { .. } if !self.protections.keeps(Protection::Superseded) => Vec::new(),
            // A newer placement means that the lease was lost there: the run is void, and must have ended
            // before the task can be taken up again.
            State::Running { fence, .. } => {
                let fence = *fence;
                self.state = State::Stopping { fence, then: AfterStop::TakeUp { work, placement } };
                let why = "the task was placed anew, so its lease is over".to_owned();
                vec![AttemptEffect::Kill { fence, why }, prefetch]
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::TakeUp { work, placement };
                vec![prefetch]
            }
            State::Gone | State::Offered { .. } | State::Leasing { .. } | State::Reporting { .. } => {
                self.state = State::Offered { work, placement };
                vec![prefetch]
            }
        }
    }

    fn slot_free(&mut self, now: Mono) -> Vec<AttemptEffect> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Offered { work, placement } => {
                let ask_again = now.after(self.limits.ask_again);
                self.state = State::Leasing { work, placement, ask_again };
                vec![AttemptEffect::AskLease { task: self.task.clone(), placement }]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn granted(&mut self, granted: PlacementNumber, fence: Fence) -> Vec<AttemptEffect> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Leasing { work, placement, .. } if placement == granted => {
                self.state = State::Running { fence, progress: ProgressGate::default() };
                vec![AttemptEffect::Run { work, fence }]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn revoked(&mut self, revoked: Option<Fence>, why: &str) -> Vec<AttemptEffect> {
        match (&mut self.state, revoked) {
            (State::Offered { .. } | State::Leasing { .. }, None) => self.forget(Vec::new()),
            (State::Running { fence, .. }, Some(revoked)) if *fence == revoked => {
                self.state = State::Stopping { fence: revoked, then: AfterStop::Forget };
                vec![AttemptEffect::Kill { fence: revoked, why: why.to_owned() }]
            }
            (State::Reporting { fence, .. }, Some(revoked)) if *fence == revoked => {
                let line = format!("the report of task {} was dropped: {why}", self.task);
                self.forget(vec![AttemptEffect::Log { line }])
            }
            (State::Stopping { then, .. }, None) if matches!(then, AfterStop::TakeUp { .. }) => {
                *then = AfterStop::Forget;
                Vec::new()
            }
            (State::Stopping { fence, then: then @ AfterStop::Report { .. } }, Some(revoked))
                if *fence == revoked =>
            {
                *then = AfterStop::Forget;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn settled(&mut self, settled: Fence, accepted: bool) -> Vec<AttemptEffect> {
        match &self.state {
            State::Reporting { fence, .. } if *fence == settled => {
                let line = format!("the report of task {} did not count", self.task);
                let log = (!accepted).then_some(AttemptEffect::Log { line });
                self.forget(log.into_iter().collect())
            }
            _ => self.revoked(Some(settled), "the task was settled already"),
        }
    }

    fn step_progress(&mut self, now: Mono, fence: Fence, progress: Progress) -> Vec<AttemptEffect> {
        match &mut self.state {
            State::Running { fence: running, progress: gate } if *running == fence => {
                gate.newest = Some(progress);
                gate.is_sent = false;
                self.send_progress(now)
            }
            _ => Vec::new(),
        }
    }

    fn send_progress(&mut self, now: Mono) -> Vec<AttemptEffect> {
        let State::Running { fence, progress: gate } = &mut self.state else { return Vec::new() };
        if self.lost.is_some() {
            return Vec::new();
        }
        let (task, fence) = (self.task.clone(), *fence);
        let ready = gate.take(now, &self.limits);
        ready.map(|progress| AttemptEffect::SendProgress { task, fence, progress }).into_iter().collect()
    }

    fn finished(&mut self, now: Mono, finished: Fence, outcome: Box<Outcome>) -> Vec<AttemptEffect> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Running { fence, .. } if fence == finished => self.start_report(now, fence, outcome),
            State::Stopping { fence, then } if fence == finished => match then {
                AfterStop::Forget => self.forget(Vec::new()),
                AfterStop::TakeUp { work, placement } => {
                    self.state = State::Offered { work, placement };
                    Vec::new()
                }
                AfterStop::Report { why } => {
                    let failure = Failure { kind: FailureKind::Lost, message: why, hint: String::new() };
                    let outcome = Outcome::Failed { failure, log: Vec::new() };
                    self.start_report(now, fence, Box::new(outcome))
                }
            },
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn start_report(&mut self, now: Mono, fence: Fence, outcome: Box<Outcome>) -> Vec<AttemptEffect> {
        self.state = State::Reporting { fence, outcome, send_again: now };
        self.send_report(now)
    }

    fn send_report(&mut self, now: Mono) -> Vec<AttemptEffect> {
        let State::Reporting { fence, outcome, send_again } = &mut self.state else { return Vec::new() };
        if self.lost.is_some() || *send_again > now {
            return Vec::new();
        }
        *send_again = now.after(self.limits.ask_again);
        let (task, fence, outcome) = (self.task.clone(), *fence, outcome.clone());
        vec![AttemptEffect::SendReport { task, fence, outcome }]
    }

    fn stream_lost(&mut self, now: Mono) -> Vec<AttemptEffect> {
        self.lost.get_or_insert(now);
        match &mut self.state {
            // What was not granted is offered again over the next stream, if it still stands.
            State::Offered { .. } | State::Leasing { .. } => self.forget(Vec::new()),
            State::Stopping { then, .. } if matches!(then, AfterStop::TakeUp { .. }) => {
                *then = AfterStop::Forget;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn stream_opened(&mut self, now: Mono) -> Vec<AttemptEffect> {
        self.lost = None;
        if let State::Reporting { send_again, .. } = &mut self.state {
            *send_again = now;
        }
        let mut effects = self.send_report(now);
        effects.extend(self.send_progress(now));
        effects
    }

    fn drain(&mut self) -> Vec<AttemptEffect> {
        self.is_draining = true;
        let why = "the agent takes no new work";
        match &mut self.state {
            State::Offered { placement, .. } => {
                let placement = *placement;
                let decline = self.decline(placement, why);
                self.forget(vec![decline])
            }
            State::Stopping { then, .. } => match std::mem::replace(then, AfterStop::Forget) {
                AfterStop::TakeUp { placement, .. } => vec![self.decline(placement, why)],
                kept => {
                    *then = kept;
                    Vec::new()
                }
            },
            _ => Vec::new(),
        }
    }

    fn abandon(&mut self, why: String) -> Vec<AttemptEffect> {
        let mut effects = self.drain();
        match &self.state {
            State::Leasing { placement, .. } => {
                let decline = self.decline(*placement, &why);
                effects.extend(self.forget(vec![decline]));
            }
            State::Running { fence, .. } => {
                let fence = *fence;
                self.state = State::Stopping { fence, then: AfterStop::Report { why: why.clone() } };
                effects.push(AttemptEffect::Kill { fence, why });
            }
            _ => {}
        }
        effects
    }

    fn tick(&mut self, now: Mono) -> Vec<AttemptEffect> {
        if let Some(lost) = self.lost {
            let is_orphan = lost.after(self.limits.orphan_limit) <= now;
            return if is_orphan { self.orphaned(now) } else { Vec::new() };
        }
        if let State::Leasing { placement, ask_again, .. } = &mut self.state
            && *ask_again <= now
        {
            *ask_again = now.after(self.limits.ask_again);
            return vec![AttemptEffect::AskLease { task: self.task.clone(), placement: *placement }];
        }
        let mut effects = self.send_report(now);
        effects.extend(self.send_progress(now));
        effects
    }

    fn orphaned(&mut self, now: Mono) -> Vec<AttemptEffect> {
        // The next deadline counts from here, in case the killed run takes its time to end.
        self.lost = Some(now);
        let why = format!("no coordinator for {}", self.limits.orphan_limit);
        match &mut self.state {
            State::Running { fence, .. } => {
                let fence = *fence;
                self.state = State::Stopping { fence, then: AfterStop::Forget };
                vec![AttemptEffect::Kill { fence, why }]
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Forget;
                Vec::new()
            }
            State::Gone => Vec::new(),
            State::Offered { .. } | State::Leasing { .. } | State::Reporting { .. } => {
                let line = format!("task {} was dropped: {why}", self.task);
                self.forget(vec![AttemptEffect::Log { line }])
            }
        }
    }

    fn decline(&self, placement: PlacementNumber, why: &str) -> AttemptEffect {
        AttemptEffect::Decline { task: self.task.clone(), placement, why: why.to_owned() }
    }

    fn forget(&mut self, mut effects: Vec<AttemptEffect>) -> Vec<AttemptEffect> {
        self.state = State::Gone;
        effects.push(AttemptEffect::Forget);
        effects
    }
}
