//! The machine and its one entrance.

use std::collections::BTreeSet;

use crate::{
    id::{BuildId, JournalIndex, RequestId, SessionId, TaskId},
    machine::{
        durable::Durable,
        effect::{Action, Effect, Order, Reply},
        event::{Event, EventKind},
        input::Input,
        limits::Limits,
        observed::Observed,
        protections::Protections,
        record::TokenGrant,
        submit::Submission,
    },
    time::{Mono, Now},
};

/// The coordinator's machine.
///
/// The shell feeds it one input at a time and keeps two promises: it makes the events of each [`Step`]
/// durable in order, and it lets a step's effects (and any read that was made after it) out only when that
/// is done. If the journal refuses an event, the machine is thrown away.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) durable: Durable,
    pub(super) observed: Observed,
    pub(super) limits: Limits,
    protections: Protections,
    is_leading: bool,
    sequence: u64,
    /// The time of the last step.
    pub(super) now: Now,
}

/// What one input led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// What was decided, with its positions in the journal. Already applied to the machine.
    pub events: Vec<(JournalIndex, Event)>,
    /// What may leave the process once those events are durable.
    pub effects: Vec<Effect>,
}

/// One step while it is being decided. The deciders are its methods, each in a file of its own.
pub(super) struct Turn<'m> {
    pub(super) durable: &'m mut Durable,
    pub(super) observed: &'m mut Observed,
    pub(super) limits: &'m Limits,
    pub(super) protections: Protections,
    pub(super) now: Now,
    events: Vec<(JournalIndex, Event)>,
    actions: Vec<Action>,
    changed: BTreeSet<BuildId>,
}

impl Machine {
    /// A machine that continues from a state. It decides nothing before [`Input::Lead`].
    #[must_use]
    pub fn new(durable: Durable, limits: Limits) -> Self {
        let (observed, protections, now) = (Observed::default(), Protections::default(), Now::default());
        Self { durable, observed, limits, protections, is_leading: false, sequence: 0, now }
    }

    /// The same machine without one of its protections, for a test that shows what it is good for.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn without(self, protection: super::Protection) -> Self {
        Self { protections: self.protections.without(protection), ..self }
    }

    /// Decides what follows from an input.
    ///
    /// Before [`Input::Lead`] every other input is dropped without an effect, because nobody who does not
    /// lead may decide or answer. A `Lead` whose epoch is not greater than the journal's is dropped as well,
    /// and so is a second one.
    ///
    /// # Panics
    /// When an event that was decided here does not apply: the machine's own invariants are broken, and to
    /// go on could lose or double a result.
    pub fn step(&mut self, now: Now, input: Input) -> Step {
        let may_lead = matches!(&input, Input::Lead { epoch } if *epoch > self.durable.epoch());
        if self.is_leading == matches!(input, Input::Lead { .. }) || !(self.is_leading || may_lead) {
            return Step::default();
        }
        self.is_leading = true;
        self.now = now;
        let mut turn = Turn {
            durable: &mut self.durable,
            observed: &mut self.observed,
            limits: &self.limits,
            protections: self.protections,
            now,
            events: Vec::new(),
            actions: Vec::new(),
            changed: BTreeSet::new(),
        };
        turn.decide(input);
        turn.keep_up();
        turn.place_tasks();
        turn.tell_shards();
        turn.forget_old_builds();
        turn.arm_tokens();
        let Turn { events, mut actions, changed, .. } = turn;
        actions.extend(changed.into_iter().map(|build| Action::BuildChanged { build }));
        Step { events, effects: actions.into_iter().map(|action| self.number(action)).collect() }
    }

    /// When [`Input::Tick`] is due. A tick then leaves a later deadline, or none.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let observed = &self.observed;
        let timers = [
            observed.timers.next(),
            observed.token_deadline,
            observed.membership.due,
            observed.closures.due,
            observed.shunned.due,
            observed.stops.due,
            observed.budgets.due(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Whether this machine decides.
    #[must_use]
    pub const fn is_leading(&self) -> bool {
        self.is_leading
    }

    /// The durable state, for snapshots and reads.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The bounds that the machine keeps.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    fn number(&mut self, action: Action) -> Effect {
        self.sequence += 1;
        Effect { epoch: self.durable.epoch(), sequence: self.sequence, action }
    }
}

impl Turn<'_> {
    fn decide(&mut self, input: Input) {
        match input {
            Input::Lead { epoch } => self.lead(epoch),
            Input::Submit { request, project, requester, key, spec, traceparent, ways } => {
                let asked = Submission { project, requester, key, spec, traceparent, ways };
                self.submit(request, asked);
            }
            Input::Cancel { request, build, by } => self.cancel(request, &build, by),
            Input::CreateToken { request, hash, grant, lifetime } => {
                self.create_token(request, hash, grant, lifetime);
            }
            Input::RedeemToken { request, hash } => self.redeem_token(request, hash),
            Input::CertifyKey { request, claim } => self.certify_key(request, claim),
            Input::RevokeKey { request, key, since } => self.revoke_key(request, key, since),
            Input::RevokeIdentity { request, identity, since } => {
                self.revoke_identity(request, identity, since);
            }
            Input::Attach { session, agent, offer, held } => self.attach(session, agent, offer, held),
            Input::Detach { session } => self.detach(session),
            Input::Observe { session, observation } => self.observe(session, observation),
            Input::Upkeep { request, agent, by, upkeep } => self.upkeep(request, agent, by, upkeep),
            Input::Drain { session } => self.drain(session),
            Input::Drained { session, is_drained } => self.drained(session, is_drained),
            Input::Stopped { session, task, fence, remaining } => {
                self.stopped(session, &task, fence, &remaining);
            }
            Input::Lease { session, task, placement } => self.lease(session, &task, placement),
            Input::Decline { session, task, placement, why } => {
                self.decline(session, &task, placement, &why);
            }
            Input::Renew { session, held } => self.renew(session, held),
            Input::Progress { session, task, fence, progress } => {
                self.take_progress(session, task, fence, progress);
            }
            Input::Report { session, task, fence, outcome, evidence } => {
                self.report(session, task, fence, *outcome, evidence);
            }
            Input::LogArrived { task, fence, log } => self.log_arrived(task, fence, &log),
            Input::ManifestMade { session, task, fence, manifest, sample } => {
                self.manifest_made(session, task, fence, manifest, sample);
            }
            Input::Tick => self.tick(),
        }
    }

    /// Decides on an event: applies it, lets the observed state follow, and remembers it for the journal.
    ///
    /// # Panics
    /// See [`Machine::step`].
    pub(super) fn emit(&mut self, kind: EventKind) {
        let index = JournalIndex(self.durable.last_index().0.saturating_add(1));
        let event = Event { at: self.now.wall, kind };
        self.durable.apply(index, &event).expect("the machine decides only on events that apply");
        self.follow(&event.kind);
        self.events.push((index, event));
    }

    fn follow(&mut self, kind: &EventKind) {
        let Some(build) = kind.build() else { return };
        self.changed.insert(build.clone());
        let tasks: Vec<TaskId> = match kind {
            EventKind::TaskPlaced { task, .. }
            | EventKind::LeaseGranted { task, .. }
            | EventKind::PlacementWithdrawn { task, .. }
            | EventKind::AttemptFailed { task, .. }
            | EventKind::TaskSucceeded { task, .. }
            | EventKind::TaskFailed { task, .. } => vec![task.clone()],
            EventKind::BuildSubmitted { .. }
            | EventKind::SourceResolved { .. }
            | EventKind::BuildCancelled { .. } => self.task_ids(build),
            _ => return,
        };
        for task in tasks {
            self.observed.follow(self.durable, self.limits, self.now, &task);
        }
        self.observed.build_ended(self.durable, self.limits, self.now, build);
    }

    fn task_ids(&self, build: &BuildId) -> Vec<TaskId> {
        self.durable.build(build).map_or_else(Vec::new, |b| b.tasks.iter().map(|t| t.id.clone()).collect())
    }

    /// Answers a waiting caller.
    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.actions.push(Action::Reply { request, reply });
    }

    /// Tells an agent something over its stream.
    pub(super) fn send(&mut self, session: SessionId, order: Order) {
        self.actions.push(Action::Send { session, order });
    }

    /// Has every further call of an identity refused.
    pub(super) fn refuse_calls_of(&mut self, identity: TokenGrant) {
        self.actions.push(Action::IdentityRevoked { identity });
    }

    /// Closes a stream.
    pub(super) fn close(&mut self, session: SessionId, why: &str) {
        self.actions.push(Action::Close { session, why: why.to_owned() });
    }

    /// Has a line written into the coordinator's own log.
    pub(super) fn warn(&mut self, line: String) {
        self.actions.push(Action::Warn { line });
    }

    /// Wakes a build's watchers for a change that is not durable.
    pub(super) fn touch(&mut self, build: &BuildId) {
        self.changed.insert(build.clone());
    }

    /// Lets the oldest ended builds go. History still knows them.
    fn forget_old_builds(&mut self) {
        while self.durable.index.ended.len() > self.limits.builds_kept {
            let Some((_, build)) = self.durable.index.ended.first_key_value() else { return };
            let build = build.clone();
            self.emit(EventKind::BuildForgotten { build });
        }
    }
}
