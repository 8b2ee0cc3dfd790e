//! A fleet in one thread: a coordinator with a journal whose tail a crash loses, agents that run attempts,
//! and streams between them that break, lose their tails and deliver late.

use std::collections::{BTreeMap, VecDeque};

use meridian_core::{
    attempt::{Attempt, AttemptEffect, AttemptInput, AttemptLimits, AttemptState},
    build::BuildSpec,
    cache::manifest_ref::ManifestRef,
    digest::Digest,
    id::{AgentId, BuildId, Epoch, Fence, JournalIndex, RequestId, SessionId, TaskId},
    machine::{
        Durable, Limits, Machine, Step,
        effect::{Action, Order, Reply},
        event::Event,
        input::{FailureKind, Input, Outcome, Phase, Progress},
        record::TaskKind,
    },
    quantity::ByteCount,
    schedule::sketch::Sample,
    time::{Mono, Now, Wall},
};

use crate::fixture::{
    Audit, WALL_START_MS, agent, built, cached, failed, key, project, requester, resolved, sign, signing_key,
};

/// A request whose answer nobody waits for.
const CERTIFIED: RequestId = RequestId(u64::MAX);

/// A small generator, so that one number replays a whole run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

/// One stream, in both directions. It lives on for a while after it broke.
#[derive(Default)]
pub(crate) struct Link {
    agent: usize,
    /// Counts the agent's processes: what an old one did not read, nobody reads.
    process: u64,
    up: VecDeque<Input>,
    down: VecDeque<Order>,
}

pub(crate) struct Coordinator {
    pub(crate) machine: Machine,
    /// Decided, but not durable yet: a crash loses it, and none of its effects has left.
    pending: Vec<Step>,
}

pub(crate) struct AgentProcess {
    id: AgentId,
    slots: usize,
    process: u64,
    session: Option<SessionId>,
    attempts: BTreeMap<TaskId, Attempt>,
    runs: BTreeMap<TaskId, (Fence, TaskKind)>,
    renewed_ms: u64,
}

#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) now_ms: u64,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) agents: Vec<AgentProcess>,
    pub(crate) links: BTreeMap<SessionId, Link>,
    journal: Vec<(JournalIndex, Event)>,
    audit: Audit,
    /// How often each lease was run, in all processes.
    pub(crate) runs: BTreeMap<(TaskId, Fence), u32>,
    /// Builds whose submit was answered.
    pub(crate) acknowledged: BTreeMap<usize, BuildId>,
    sessions: u64,
}

impl Fleet {
    pub(crate) fn new(agents: &[(&str, usize)]) -> Self {
        let process = |(name, slots): &(&str, usize)| AgentProcess {
            id: agent(name),
            slots: *slots,
            process: 0,
            session: None,
            attempts: BTreeMap::new(),
            runs: BTreeMap::new(),
            renewed_ms: 0,
        };
        Self { agents: agents.iter().map(process).collect(), ..Self::default() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms), wall: Wall(WALL_START_MS + self.now_ms) }
    }

    pub(crate) fn start_coordinator(&mut self) {
        let mut durable = Durable::default();
        self.journal.iter().for_each(|(index, event)| durable.apply(*index, event).unwrap());
        let epoch = Epoch(durable.epoch().0 + 1);
        let machine = Machine::new(durable, Limits::default());
        self.coordinator = Some(Coordinator { machine, pending: Vec::new() });
        self.decide(Input::Lead { epoch });
    }

    /// Everything that was not durable is gone, and every stream with it.
    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator = None;
        self.links.clear();
        for number in 0..self.agents.len() {
            self.lose_stream(number);
        }
    }

    /// Tells the machine of an input: before that an agent that attaches has its key certified, and a result is looked at.
    pub(crate) fn decide(&mut self, mut input: Input) {
        let now = self.now();
        if let Some(coordinator) = &mut self.coordinator {
            if let Input::Attach { agent, .. } = &input {
                let certify = Input::CertifyKey { request: CERTIFIED, claim: signing_key(agent) };
                let step = coordinator.machine.step(now, certify);
                coordinator.pending.push(step);
            }
            if let Input::Report { task, fence, outcome, evidence, .. } = &mut input {
                let order = coordinator.machine.durable().signing_order(task, *fence);
                *evidence = Ok(sign(order, outcome));
            }
            let step = coordinator.machine.step(now, input);
            coordinator.pending.push(step);
        }
    }

    pub(crate) fn submit(&mut self, number: usize, spec: BuildSpec) {
        let (request, project) = (RequestId(number as u64), project());
        let key = key(&format!("k{number}"));
        let (requester, spec) = (requester(), Box::new(spec));
        self.decide(Input::Submit { request, project, requester, key, spec, traceparent: None, ways: None });
    }

    /// The journal is synced: what was decided becomes durable, and its effects leave.
    pub(crate) fn commit(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        for step in std::mem::take(&mut coordinator.pending) {
            for (index, event) in step.events {
                self.audit.see(&event.kind);
                self.journal.push((index, event));
            }
            for effect in step.effects {
                match effect.action {
                    Action::Send { session, order } => {
                        if let Some(link) = self.links.get_mut(&session) {
                            link.down.push_back(order);
                        }
                    }
                    Action::Reply { request, reply: Reply::Submitted { build } } => {
                        let number = usize::try_from(request.0).unwrap();
                        let known = self.acknowledged.insert(number, build.clone());
                        assert!(known.is_none_or(|known| known == build), "one key became two builds");
                    }
                    Action::Reply { request: CERTIFIED, .. } => {}
                    Action::Reply { reply, .. } => panic!("{reply:?}"),
                    Action::Close { .. }
                    | Action::BuildChanged { .. }
                    | Action::Warn { .. }
                    | Action::IdentityRevoked { .. } => {}
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, number: usize) {
        if self.coordinator.is_none() || self.agents[number].session.is_some() {
            return;
        }
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let process = &mut self.agents[number];
        let held = process.attempts.values().filter_map(Attempt::held).collect();
        let slots = u32::try_from(process.slots).unwrap();
        let offer = cached(&process.id, slots, slots);
        let attach = Input::Attach { session, agent: process.id.clone(), offer, held };
        process.session = Some(session);
        let mut link = Link { agent: number, process: process.process, ..Link::default() };
        link.up.push_back(attach);
        self.links.insert(session, link);
        self.tell_all(number, &AttemptInput::StreamOpened);
    }

    /// The stream breaks: some of what was on its way up still arrives, perhaps after the next stream's
    /// first message.
    pub(crate) fn break_stream(&mut self, number: usize, arrives: usize) {
        let Some(session) = self.agents[number].session else { return };
        if let Some(link) = self.links.get_mut(&session) {
            let kept = arrives.min(link.up.len());
            link.up.truncate(kept);
            link.up.push_back(Input::Detach { session });
        }
        self.lose_stream(number);
    }

    fn lose_stream(&mut self, number: usize) {
        if self.agents[number].session.take().is_some() {
            self.tell_all(number, &AttemptInput::StreamLost);
        }
    }

    /// The agent's process dies with all that it knew and ran.
    pub(crate) fn kill_agent(&mut self, number: usize, arrives: usize) {
        self.break_stream(number, arrives);
        let process = &mut self.agents[number];
        process.process += 1;
        process.attempts.clear();
        process.runs.clear();
    }

    /// Delivers one message up.
    pub(crate) fn deliver_up(&mut self, session: SessionId) {
        let Some(link) = self.links.get_mut(&session) else { return };
        if let Some(input) = link.up.pop_front() {
            self.decide(input);
        }
    }

    /// Delivers one message down. One of an older stream is dropped, or read late by the same process.
    pub(crate) fn deliver_down(&mut self, session: SessionId, reads_late: bool) {
        let Some(link) = self.links.get_mut(&session) else { return };
        let (number, process) = (link.agent, link.process);
        let Some(order) = link.down.pop_front() else { return };
        let receiver = &self.agents[number];
        let is_current = receiver.session == Some(session);
        let is_late = reads_late && receiver.process == process && receiver.session.is_some();
        if is_current || is_late {
            self.obey(number, order);
        }
    }

    fn obey(&mut self, number: usize, order: Order) {
        if let Order::Settled { task, fence, accepted: true } = &order
            && self.agents[number].session.is_some()
        {
            let (task, fence) = (task.clone(), *fence);
            let digest = Digest::of(task.to_string().as_bytes());
            let manifest = ManifestRef { digest, size: ByteCount(50), entries: 1, bytes: ByteCount(9) };
            self.send(number, |session| Input::ManifestMade {
                session,
                task,
                fence,
                manifest,
                sample: Sample::default(),
            });
        }
        let Some((task, input)) = AttemptInput::of_order(order) else { return };
        if matches!(input, AttemptInput::Offered { .. }) {
            let attempt = || Attempt::new(task.clone(), AttemptLimits::default());
            self.agents[number].attempts.entry(task.clone()).or_insert_with(attempt);
        }
        self.tell(number, &task, input);
    }

    /// Tells every attempt, and only then gives slots away: else one that is not told yet that the stream is
    /// lost could ask for its lease over it.
    fn tell_all(&mut self, number: usize, input: &AttemptInput) {
        let tasks: Vec<_> = self.agents[number].attempts.keys().cloned().collect();
        for task in tasks {
            self.tell_one(number, &task, input.clone());
        }
        self.give_slots(number);
    }

    fn tell(&mut self, number: usize, task: &TaskId, input: AttemptInput) {
        self.tell_one(number, task, input);
        self.give_slots(number);
    }

    fn give_slots(&mut self, number: usize) {
        loop {
            let process = &self.agents[number];
            let used = process.attempts.values().filter(|attempt| attempt.uses_slot()).count();
            let mut waits =
                process.attempts.values().filter(|attempt| attempt.state() == AttemptState::Offered);
            let Some(next) = waits.next().filter(|_| used < process.slots) else { return };
            let task = next.task().clone();
            self.tell_one(number, &task, AttemptInput::SlotFree);
        }
    }

    fn tell_one(&mut self, number: usize, task: &TaskId, input: AttemptInput) {
        let now = self.now();
        let Some(attempt) = self.agents[number].attempts.get_mut(task) else { return };
        let effects = attempt.step(now, input);
        for effect in effects {
            self.carry_out(number, effect);
        }
        self.agents[number].attempts.retain(|_, attempt| !attempt.is_gone());
    }

    fn carry_out(&mut self, number: usize, effect: AttemptEffect) {
        let process = &mut self.agents[number];
        match effect {
            AttemptEffect::Run { work, fence } => {
                let before = process.runs.insert(work.task.clone(), (fence, work.kind));
                assert!(before.is_none(), "{} runs twice in one process", work.task);
                assert!(process.runs.len() <= process.slots, "more runs than slots");
                let times = self.runs.entry((work.task, fence)).or_default();
                *times += 1;
                assert_eq!(*times, 1, "a lease was run twice");
            }
            AttemptEffect::AskLease { task, placement } => {
                self.send(number, |session| Input::Lease { session, task, placement });
            }
            AttemptEffect::Decline { task, placement, why } => {
                self.send(number, |session| Input::Decline { session, task, placement, why });
            }
            AttemptEffect::SendReport { task, fence, outcome } => {
                assert!(self.runs.contains_key(&(task.clone(), fence)), "a report without a run");
                let evidence = Ok(Vec::new());
                self.send(number, |session| Input::Report { session, task, fence, outcome, evidence });
            }
            AttemptEffect::SendProgress { task, fence, progress } => {
                self.send(number, |session| Input::Progress { session, task, fence, progress });
            }
            AttemptEffect::Prefetch { .. }
            | AttemptEffect::Kill { .. }
            | AttemptEffect::Forget
            | AttemptEffect::Log { .. } => {}
        }
    }

    fn send(&mut self, number: usize, message: impl FnOnce(SessionId) -> Input) {
        let session = self.agents[number].session.expect("an attempt is silent while its stream is lost");
        let link = self.links.get_mut(&session).expect("an open stream has a link");
        link.up.push_back(message(session));
    }

    /// A run ends: of itself, or because it was killed.
    pub(crate) fn finish_run(&mut self, number: usize, nth: usize, trouble: bool) {
        let Some((task, (fence, kind))) =
            self.agents[number].runs.iter().nth(nth).map(|(task, run)| (task.clone(), run.clone()))
        else {
            return;
        };
        let progress = Progress { phase: Phase::Upload, done: 1, total: 1, detail: String::new() };
        self.tell(number, &task, AttemptInput::StepProgress { fence, progress });
        self.agents[number].runs.remove(&task);
        let outcome: Outcome = match kind {
            _ if trouble => failed(FailureKind::Infrastructure),
            TaskKind::Resolve => resolved(),
            TaskKind::Compile(_) => built(),
        };
        self.tell(number, &task, AttemptInput::Finished { fence, outcome: Box::new(outcome) });
    }

    /// Time passes: deadlines fire on both sides, and agents renew.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now().mono;
        let is_due =
            |coordinator: &Coordinator| coordinator.machine.next_deadline().is_some_and(|at| at <= now);
        if self.coordinator.as_ref().is_some_and(is_due) {
            self.decide(Input::Tick);
        }
        for number in 0..self.agents.len() {
            self.tell_all(number, &AttemptInput::Tick);
            let process = &mut self.agents[number];
            if process.session.is_some() && self.now_ms - process.renewed_ms >= 10_000 {
                process.renewed_ms = self.now_ms;
                let held = process.attempts.values().filter_map(Attempt::held).collect();
                self.send(number, |session| Input::Renew { session, held });
            }
        }
    }

    /// Whether every lease whose result was accepted was run exactly once, and the journal replays.
    pub(crate) fn check(&self) {
        let mut replayed = Durable::default();
        for (index, event) in &self.journal {
            replayed.apply(*index, event).unwrap();
            if let meridian_core::machine::event::EventKind::TaskSucceeded { task, fence, .. } = &event.kind {
                assert_eq!(self.runs.get(&(task.clone(), *fence)), Some(&1), "a result that nobody made");
            }
        }
        for build in self.acknowledged.values() {
            assert!(replayed.build(build).is_some(), "build {build} was acknowledged and is lost");
        }
        assert_eq!(Durable::from_records(replayed.records()).unwrap(), replayed);
    }
}
