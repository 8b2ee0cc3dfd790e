//! The coordinator's shell without its sockets: steps, one append for several of them, effects after it.
//!
//! It keeps the order of the real step loop: decide and apply in one step, hold what the step wants done, append, and let
//! go only what the journal has. Every place between two of these is one where the process can die.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meridian_core::{
    id::{AgentId, Epoch, JournalIndex, RequestId, SessionId},
    machine::{
        Machine, Step,
        effect::{Action, Effect},
        event::{Event, EventKind},
        input::Input,
    },
    time::{Mono, Now, Wall},
};
use meridian_proto::convert::journal::{encode_event, encode_record};
use meridian_store::journal::JournalError;

use crate::sim::{
    audit::{Findings, Rule},
    cause::Cause,
    happening::Care,
    ledger::Ledger,
    mutation::{self, Mutation},
    setup::Setup,
    shadow::Shadow,
    signer,
    store::Store,
};

/// A request whose answer nobody waits for.
pub const NOBODY: RequestId = RequestId(u64::MAX);
/// The wall clock at the beginning: forty minutes before midnight, when the budgets of a day begin anew.
const WALL_START_MS: u64 = 1_800_055_200_000;
/// A process's own clock does not begin at zero, and in no two processes at the same number.
const MONO_START_MS: u64 = 5_000;
/// Reasons of waiting tasks that are checked after each step, in turn, besides those that the step changed.
const REASONS_PER_STEP: usize = 1;

/// A machine on which a coordinator's process may run.
#[derive(Debug, Default)]
pub struct Host {
    /// How far its wall clock is off.
    pub wall_off_ms: i64,
    /// Counts its processes.
    pub process: u32,
    /// The process, when there is one.
    pub coordinator: Option<Coordinator>,
}

/// What an answer is for.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// A client asked for its build.
    Build {
        /// Which client.
        wish: u32,
        /// Whether it hears the answer.
        heard: bool,
    },
    /// A client gave its build up.
    Cancel {
        /// Which client.
        wish: u32,
    },
    /// An administrator did something about an agent.
    Upkeep {
        /// Which doing it is.
        number: u32,
        /// What.
        care: Care,
    },
}

/// A coordinator's process.
#[derive(Debug)]
pub struct Coordinator {
    machine: Machine,
    shadow: Shadow,
    started: u64,
    /// What each step decided that the journal does not have yet.
    pending: VecDeque<Vec<(JournalIndex, Event)>>,
    /// What may leave once the journal has what it depends on.
    held: VecDeque<(JournalIndex, Effect)>,
    durable: JournalIndex,
    since_snapshot: u64,
    /// The streams, by the numbers that they were given.
    pub sessions: BTreeMap<SessionId, u32>,
    next_session: u64,
    /// Callers that wait.
    pub requests: BTreeMap<RequestId, Asked>,
    next_request: u64,
    mutation: Option<Mutation>,
    looked_at: Option<meridian_core::id::TaskId>,
}

impl Host {
    /// What the process's clocks say.
    #[must_use]
    pub fn now(&self, at: u64) -> Now {
        let started = self.coordinator.as_ref().map_or(at, |coordinator| coordinator.started);
        let wall = WALL_START_MS.saturating_add(at).saturating_add_signed(self.wall_off_ms);
        Now { mono: Mono(at - started + MONO_START_MS * u64::from(self.process)), wall: Wall(wall) }
    }

    /// Starts a process: it reads the journal, and what it reads is what must be there; then it claims leadership.
    pub fn start(
        &mut self,
        at: u64,
        store: &mut Store,
        ledger: &mut Ledger,
        mutation: Option<Mutation>,
        findings: &mut Findings,
    ) {
        let recovered = match store.recover() {
            Ok(recovered) => recovered,
            Err(error) => return findings.add(Rule::Replay, error),
        };
        ledger.adopt(&recovered.events, findings);
        ledger.check_recovery(&recovered.durable, findings);
        self.process += 1;
        let (durable, limits) = (recovered.durable, Setup::limits());
        let (epoch, last) = (Epoch(durable.epoch().0 + 1), durable.last_index());
        let wall = Wall(WALL_START_MS.saturating_add(at).saturating_add_signed(self.wall_off_ms));
        let now = Now { mono: Mono(MONO_START_MS * u64::from(self.process)), wall };
        let shadow = Shadow::new(&durable, limits.clone(), now);
        self.coordinator = Some(Coordinator {
            machine: mutation::machine(Machine::new(durable, limits), mutation),
            shadow,
            started: at,
            pending: VecDeque::new(),
            held: VecDeque::new(),
            durable: last,
            since_snapshot: recovered.events.len() as u64,
            sessions: BTreeMap::new(),
            next_session: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            mutation,
            looked_at: None,
        });
        let now = self.now(at);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.step(now, Input::Lead { epoch }, findings);
        }
    }
}

impl Coordinator {
    /// The machine, for reads.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// When the machine wants to be told of the time, as a span from `now`; `None` when never.
    #[must_use]
    pub fn deadline_in(&self, now: Now) -> Option<u64> {
        Some(self.machine.next_deadline()?.since(now.mono).0)
    }

    /// How many steps wait for the journal.
    #[must_use]
    pub fn undurable(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    /// How many events are in the journal behind the last snapshot.
    #[must_use]
    pub const fn since_snapshot(&self) -> u64 {
        self.since_snapshot
    }

    /// Gives a stream its number.
    pub fn open_session(&mut self, link: u32) -> SessionId {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        self.sessions.insert(session, link);
        session
    }

    /// Gives a caller its number.
    pub fn open_request(&mut self, asked: Asked) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.requests.insert(request, asked);
        request
    }

    /// Tells the machine of an input: before that an agent that attaches has its signer's key certified, and a result has
    /// been looked at.
    pub fn take(&mut self, now: Now, mut input: Input, findings: &mut Findings) {
        match &mut input {
            Input::Attach { agent, .. } => self.certify(now, &agent.clone(), findings),
            Input::Report { task, fence, outcome, evidence, .. } => {
                let order = self.machine.durable().signing_order(task, *fence);
                *evidence = Ok(signer::sign(order.as_ref(), outcome));
            }
            _ => {}
        }
        self.step(now, input, findings);
    }

    fn certify(&mut self, now: Now, agent: &AgentId, findings: &mut Findings) {
        let is_live = self.machine.durable().keys_of(agent).any(|key| key.is_live(now.wall));
        if !is_live {
            let claim = signer::claim(agent);
            self.step(now, Input::CertifyKey { request: NOBODY, claim }, findings);
        }
    }

    fn step(&mut self, now: Now, input: Input, findings: &mut Findings) {
        let cause = Cause::of(&input);
        let step = self.machine.step(now, input);
        self.shadow.follow(now, &cause, &step, &self.machine, findings);
        self.check_reasons(&cause, &step, findings);
        let Step { events, effects } = step;
        if !events.is_empty() {
            self.pending.push_back(events);
        }
        let decided = self.machine.durable().last_index();
        self.held.extend(effects.into_iter().map(|effect| (decided, effect)));
    }

    /// Every waiting task after a change of the fleet; else those that the step touched, and the others in turn.
    fn check_reasons(&mut self, cause: &Cause, step: &Step, findings: &mut Findings) {
        let is_change = matches!(
            cause,
            Cause::Attach(..) | Cause::Detach(_) | Cause::Drain(_) | Cause::Upkeep | Cause::Tick
        );
        let queued = self.machine.durable().queued();
        if is_change {
            for task in queued {
                self.shadow.check_reason(task, &self.machine, findings);
            }
            self.shadow.check_busy(&self.machine, findings);
            return;
        }
        for (_, event) in &step.events {
            if let EventKind::AttemptFailed { task, .. }
            | EventKind::PlacementWithdrawn { task, .. }
            | EventKind::TaskPlaced { task, .. } = &event.kind
            {
                self.shadow.check_reason(task, &self.machine, findings);
            }
        }
        let ends = self.machine.durable().queued().take(REASONS_PER_STEP);
        for task in ends {
            self.shadow.check_reason(task, &self.machine, findings);
        }
        self.looked_at = self.shadow.waiting_after(self.looked_at.as_ref());
        if let Some(task) = &self.looked_at {
            self.shadow.check_reason(task, &self.machine, findings);
        }
    }

    /// The first `steps` of what is not durable, as the journal takes it.
    fn records(&self, steps: u32) -> (JournalIndex, Vec<Bytes>) {
        let events = self.pending.iter().take(steps as usize).flatten();
        (JournalIndex(self.durable.0 + 1), events.map(|(_, event)| encode_event(event)).collect())
    }

    /// Appends the first `steps` of what is not durable.
    ///
    /// # Errors
    /// The journal's: the process stops, and nothing that depended on it has left.
    pub fn commit(
        &mut self,
        steps: u32,
        store: &mut Store,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) -> Result<(), JournalError> {
        let (expected, records) = self.records(steps);
        if records.is_empty() {
            return Ok(());
        }
        let last = store.append(expected, &records)?;
        self.since_snapshot += records.len() as u64;
        for (number, (_, event)) in
            (0..).zip(self.pending.drain(..(steps as usize).min(self.pending.len())).flatten())
        {
            ledger.take(JournalIndex(last.0 + 1 - records.len() as u64 + number), &event, findings);
        }
        self.durable = JournalIndex(expected.0 + records.len() as u64 - 1);
        Ok(())
    }

    /// All that the journal does not have yet, and where it belongs.
    #[must_use]
    pub fn undurable_records(&self) -> (JournalIndex, Vec<Bytes>) {
        self.records(u32::MAX)
    }

    /// What may leave now.
    pub fn release(&mut self) -> Option<Effect> {
        let (needs, _) = self.held.front()?;
        if *needs > self.durable && self.mutation != Some(Mutation::Outbox) {
            return None;
        }
        self.held.pop_front().map(|(_, effect)| effect)
    }

    /// Writes the state out, when all of it is durable.
    ///
    /// # Errors
    /// The journal's.
    pub fn snapshot(&mut self, store: &mut Store) -> Result<(), JournalError> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        self.since_snapshot = 0;
        let records: Vec<_> = self.machine.durable().records().iter().map(encode_record).collect();
        store.save_snapshot(self.durable, &records)
    }

    /// Whether an effect is for nobody.
    #[must_use]
    pub fn is_unheard(effect: &Effect) -> bool {
        matches!(&effect.action, Action::Reply { request, .. } if *request == NOBODY)
    }
}
