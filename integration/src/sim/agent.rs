//! The agent's shell without its sockets and compilers: attempts, slots, and runs whose end is told from outside.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    attempt::{Attempt, AttemptEffect, AttemptInput, AttemptLimits, AttemptState},
    cache::{
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
    },
    digest::Digest,
    id::{AgentId, Epoch, Fence, Label, SessionId, TaskId},
    machine::{
        effect::{Order, Work},
        input::{AgentOffer, Input, Observation},
    },
    quantity::ByteCount,
    sandbox::Sandbox,
    schedule::sketch::Sample,
    time::{Mono, Now, Wall},
};

use crate::sim::{
    audit::{Findings, Rule},
    happening::End,
    ledger::Ledger,
    mutation::{self, Mutation},
    runs::{outcome, wish_of},
    setup::AgentSetup,
};

/// The session of a message before it arrives; the coordinator knows on which stream it came.
pub const UNKNOWN: SessionId = SessionId(0);
/// Manifests of which an agent says that it has them.
const RESIDENCY_MAX: usize = 8;

/// An agent.
#[derive(Debug)]
pub struct Agent {
    id: AgentId,
    slots: u32,
    /// Counts its processes.
    pub process: u32,
    /// Whether its process lives.
    pub is_up: bool,
    started: u64,
    attempts: BTreeMap<TaskId, Attempt>,
    runs: BTreeMap<Fence, Run>,
    /// Its present stream.
    pub link: Option<u32>,
    /// Whether the coordinator has accepted it.
    pub is_open: bool,
    epoch: Epoch,
    is_draining: bool,
    /// Whether it was told to drain and has said that it heard it.
    is_drained: bool,
    is_old: bool,
    /// What its configuration says, and what its process has read.
    labels: [BTreeSet<Label>; 2],
    /// Runs whose end it owes a word of.
    stops: BTreeSet<Fence>,
    residency: Vec<Digest>,
    mutation: Option<Mutation>,
}

#[derive(Debug)]
struct Run {
    work: Work,
    is_killed: bool,
}

/// What the shell did that others must know.
#[derive(Debug)]
pub enum Did {
    /// It said something.
    Said(Box<Input>),
    /// It began a run.
    Began(Fence, u32),
    /// It told a run to stop.
    Killed(Fence),
}

/// What the agent's steps are taken with.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The time.
    pub at: u64,
    /// The outside's memory.
    pub ledger: &'a mut Ledger,
    /// What is wrong.
    pub findings: &'a mut Findings,
    /// What the shell does.
    pub did: Vec<Did>,
}

impl Scene<'_> {
    fn say(&mut self, said: Input) {
        self.did.push(Did::Said(Box::new(said)));
    }
}

impl Agent {
    /// An agent whose process does not live yet.
    #[must_use]
    pub fn new(setup: &AgentSetup, mutation: Option<Mutation>) -> Self {
        Self {
            id: setup.id(),
            slots: setup.slots,
            process: 0,
            is_up: false,
            started: 0,
            attempts: BTreeMap::new(),
            runs: BTreeMap::new(),
            link: None,
            is_open: false,
            epoch: Epoch(0),
            is_draining: false,
            is_drained: false,
            is_old: setup.is_old,
            labels: [setup.labels(), BTreeSet::new()],
            stops: BTreeSet::new(),
            residency: Vec::new(),
            mutation,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &AgentId {
        &self.id
    }

    /// Starts its process.
    pub fn start(&mut self, at: u64) {
        self.is_up = true;
        self.started = at;
        self.process += 1;
        self.labels[1] = self.labels[0].clone();
    }

    /// Gives its next process a label, or takes it away.
    pub fn set_label(&mut self, label: Label, has: bool) {
        if has {
            self.labels[0].insert(label);
        } else {
            self.labels[0].remove(&label);
        }
    }

    /// What its process offers.
    #[must_use]
    pub const fn labels(&self) -> &BTreeSet<Label> {
        &self.labels[1]
    }

    /// Kills its process, with all that it knew and ran.
    pub fn kill(&mut self) {
        self.is_up = false;
        self.attempts.clear();
        self.runs.clear();
        self.link = None;
        self.is_open = false;
        self.epoch = Epoch(0);
        self.is_draining = false;
        self.is_drained = false;
        self.stops.clear();
        self.residency.clear();
    }

    fn now(&self, at: u64) -> Now {
        Now { mono: Mono(at - self.started + 1_000), wall: Wall(at) }
    }

    /// Whether it takes no new work.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// When its attempts want to be told of the time, as a span from `at`.
    #[must_use]
    pub fn deadline_in(&self, at: u64) -> Option<u64> {
        let next = self.attempts.values().filter_map(Attempt::next_deadline).min()?;
        Some(next.since(self.now(at).mono).0)
    }

    /// The leases that it believes it holds.
    #[must_use]
    pub fn held(&self) -> Vec<(TaskId, Fence)> {
        self.attempts.values().filter_map(Attempt::held).collect()
    }

    /// Its first words on a new stream.
    #[must_use]
    pub fn hello(&self) -> Input {
        let address = format!("{}.{}.test:7444", self.id.name, self.id.region).parse().ok();
        let key = CacheKey::new(*Digest::of(self.id.to_string().as_bytes()).as_bytes());
        let offer = AgentOffer {
            host: "linux/amd64".to_owned(),
            slots: self.slots,
            cores: self.slots,
            version: "simulated".to_owned(),
            sandbox: Sandbox::default(),
            cache: Some(CacheOffer { address, key, weight: 8 }),
            labels: self.labels().clone(),
            memory: None,
            heeds_drain: !self.is_old,
            tells_stops: !self.is_old,
        };
        Input::Attach { session: UNKNOWN, agent: self.id.clone(), offer, held: self.held() }
    }

    /// The stream is accepted.
    pub fn opened(&mut self, scene: &mut Scene<'_>) {
        self.is_open = true;
        self.tell_all(&AttemptInput::StreamOpened, scene);
        // What another stream said may not be so any more; before any offer this one says it anew.
        self.heed_drain(false, scene);
        if self.is_draining {
            scene.say(Input::Drain { session: UNKNOWN });
        }
    }

    /// The stream is gone.
    pub fn lost(&mut self, scene: &mut Scene<'_>) {
        self.link = None;
        if std::mem::take(&mut self.is_open) {
            self.tell_all(&AttemptInput::StreamLost, scene);
        }
    }

    /// Time has passed.
    pub fn wake(&mut self, scene: &mut Scene<'_>) {
        self.tell_all(&AttemptInput::Tick, scene);
    }

    /// Renews what it holds.
    pub fn renew(&mut self, scene: &mut Scene<'_>) {
        if self.is_open {
            scene.say(Input::Renew { session: UNKNOWN, held: self.held() });
        }
    }

    /// Says how it does.
    pub fn observe(&mut self, rtt_us: u32, clock_off_ms: i32, scene: &mut Scene<'_>) {
        if self.is_open {
            let observation = Observation {
                rtt_us: Some(u64::from(rtt_us)),
                clock_offset_us: Some(i64::from(clock_off_ms) * 1_000),
                cache_hits: u64::from(rtt_us % 70),
                cache_lookups: 100,
                residency: self.residency.clone(),
                ..Observation::default()
            };
            scene.say(Input::Observe { session: UNKNOWN, observation });
        }
    }

    /// Takes no new work.
    pub fn drain(&mut self, scene: &mut Scene<'_>) {
        self.is_draining = true;
        if self.is_open {
            scene.say(Input::Drain { session: UNKNOWN });
        }
        self.tell_all(&AttemptInput::Drain, scene);
    }

    /// Declines offers from now on, or takes them again. Who is being stopped takes none, whatever is said.
    fn heed_drain(&mut self, is_drained: bool, scene: &mut Scene<'_>) {
        if std::mem::replace(&mut self.is_drained, is_drained) != is_drained && !self.is_draining {
            let input = if is_drained { AttemptInput::Drain } else { AttemptInput::Resume };
            self.tell_all(&input, scene);
        }
    }

    /// Says what becomes of a run whose lease was taken back: at once when there is none, else when it has ended.
    fn note_stop(&mut self, task: &TaskId, fence: Fence, scene: &mut Scene<'_>) {
        if self.runs.contains_key(&fence) {
            self.stops.insert(fence);
        } else {
            self.say_stopped(task, fence, scene);
        }
    }

    fn say_stopped(&self, task: &TaskId, fence: Fence, scene: &mut Scene<'_>) {
        if self.is_open && !self.is_old {
            let (task, remaining) = (task.clone(), String::new());
            scene.say(Input::Stopped { session: UNKNOWN, task, fence, remaining });
        }
    }

    /// Takes an order in.
    pub fn ordered(&mut self, epoch: Epoch, order: Order, scene: &mut Scene<'_>) {
        if epoch < self.epoch && self.mutation != Some(Mutation::EpochCheck) {
            return;
        }
        self.epoch = self.epoch.max(epoch);
        match &order {
            Order::Drain { .. } | Order::Resume => {
                let is_drained = matches!(order, Order::Drain { .. });
                self.heed_drain(is_drained, scene);
                return scene.say(Input::Drained { session: UNKNOWN, is_drained });
            }
            Order::Settled { task, fence, accepted: true } => self.announce(task, *fence, scene),
            Order::Settled { task, fence, accepted: false } => {
                scene.ledger.note_stopped(task, *fence, scene.findings);
            }
            Order::Revoke { task, fence: Some(fence), .. } => {
                scene.ledger.note_stopped(task, *fence, scene.findings);
                self.note_stop(task, *fence, scene);
            }
            _ => {}
        }
        let Some((task, input)) = AttemptInput::of_order(order) else { return };
        let is_offer = matches!(input, AttemptInput::Offered { .. });
        if is_offer {
            let fresh =
                || mutation::attempt(Attempt::new(task.clone(), AttemptLimits::default()), self.mutation);
            self.attempts.entry(task.clone()).or_insert_with(fresh);
            if self.is_draining || self.is_drained {
                self.step(&task, AttemptInput::Drain, scene);
            }
        }
        self.step(&task, input, scene);
        if is_offer {
            let still = self.runs.iter().find(|(_, run)| run.work.task == task && !run.is_killed);
            if let Some((fence, _)) = still
                && self.attempts.get(&task).is_some_and(|attempt| attempt.state() != AttemptState::Reporting)
            {
                let text = format!("{} is offered {task} anew and goes on with it under {fence}", self.id);
                scene.findings.add(Rule::OneHolder, text);
            }
        }
        self.fill_slots(scene);
    }

    /// A run has ended.
    pub fn finish(&mut self, fence: Fence, end: End, scene: &mut Scene<'_>) {
        let Some(run) = self.runs.remove(&fence) else { return };
        let outcome = outcome(&run.work, fence, if run.is_killed { End::Killed } else { end });
        if !run.is_killed {
            scene.ledger.note_finished(&run.work.task, fence);
        }
        let input = AttemptInput::Finished { fence, outcome: Box::new(outcome) };
        if self.stops.remove(&fence) {
            self.say_stopped(&run.work.task, fence, scene);
        }
        self.step(&run.work.task, input, scene);
        self.fill_slots(scene);
    }

    /// Whether a run was told to stop and has not ended.
    #[must_use]
    pub fn runs(&self, fence: Fence) -> bool {
        self.runs.contains_key(&fence)
    }

    fn announce(&mut self, task: &TaskId, fence: Fence, scene: &mut Scene<'_>) {
        if !self.is_open {
            return;
        }
        let digest = Digest::of(format!("manifest of {task} {fence}").as_bytes());
        let manifest = ManifestRef { digest, size: ByteCount(500), entries: 3, bytes: ByteCount(70_000) };
        self.residency.insert(0, digest);
        self.residency.truncate(RESIDENCY_MAX);
        // Resolve tasks too: what cannot be is passed over.
        let task = task.clone();
        scene.say(Input::ManifestMade { session: UNKNOWN, task, fence, manifest, sample: Sample::default() });
    }

    fn fill_slots(&mut self, scene: &mut Scene<'_>) {
        loop {
            let used = self.attempts.values().filter(|attempt| attempt.uses_slot()).count();
            if used >= self.slots as usize {
                return;
            }
            let mut waiting =
                self.attempts.values().filter(|attempt| attempt.state() == AttemptState::Offered);
            let Some(task) = waiting.next().map(|attempt| attempt.task().clone()) else { return };
            scene.findings.expect(!self.is_drained, Rule::OutOfService, || {
                format!("{} said that it takes nothing more, and takes {task} up", self.id)
            });
            self.step(&task, AttemptInput::SlotFree, scene);
        }
    }

    fn tell_all(&mut self, input: &AttemptInput, scene: &mut Scene<'_>) {
        for task in self.attempts.keys().cloned().collect::<Vec<_>>() {
            self.step(&task, input.clone(), scene);
        }
        self.fill_slots(scene);
    }

    fn step(&mut self, task: &TaskId, input: AttemptInput, scene: &mut Scene<'_>) {
        let now = self.now(scene.at);
        let Some(attempt) = self.attempts.get_mut(task) else { return };
        let effects = attempt.step(now, input);
        if attempt.is_gone() {
            self.attempts.remove(task);
        }
        for effect in effects {
            self.carry_out(effect, scene);
        }
    }

    fn carry_out(&mut self, effect: AttemptEffect, scene: &mut Scene<'_>) {
        let session = UNKNOWN;
        let said = match effect {
            AttemptEffect::Run { work, fence } => {
                scene.ledger.note_run(&self.id, &work.task, fence, scene.findings);
                let is_running = self.runs.values().any(|run| run.work.task == work.task);
                scene.findings.expect(!is_running, Rule::OneHolder, || {
                    format!("{} runs {} twice at the same time", self.id, work.task)
                });
                scene.findings.expect(!self.is_drained, Rule::OutOfService, || {
                    format!("{} said that it takes nothing more, and begins {}", self.id, work.task)
                });
                let lacking: Vec<_> = work.spec.wishes.labels.difference(self.labels()).collect();
                scene.findings.expect(lacking.is_empty(), Rule::Wishes, || {
                    format!("{} begins {} and lacks {lacking:?}", self.id, work.task)
                });
                scene.did.push(Did::Began(fence, wish_of(&work)));
                self.runs.insert(fence, Run { work: *work, is_killed: false });
                scene.findings.expect(self.runs.len() <= self.slots as usize, Rule::Capacity, || {
                    format!("{} runs more than it has slots", self.id)
                });
                return;
            }
            AttemptEffect::Kill { fence, .. } => {
                if let Some(run) = self.runs.get_mut(&fence) {
                    run.is_killed = true;
                    scene.did.push(Did::Killed(fence));
                }
                return;
            }
            AttemptEffect::AskLease { task, placement } => Input::Lease { session, task, placement },
            AttemptEffect::Decline { task, placement, why } => {
                Input::Decline { session, task, placement, why }
            }
            AttemptEffect::SendReport { task, fence, outcome } => {
                Input::Report { session, task, fence, outcome, evidence: Ok(Vec::new()) }
            }
            AttemptEffect::SendProgress { task, fence, progress } => {
                Input::Progress { session, task, fence, progress }
            }
            AttemptEffect::Prefetch { .. } | AttemptEffect::Forget | AttemptEffect::Log { .. } => return,
        };
        if self.is_open {
            scene.say(said);
        }
    }
}
