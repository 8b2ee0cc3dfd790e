//! An agent's shell without its sockets and compilers: attempts, slots, runs that take time and may fail.

use std::collections::{BTreeMap, VecDeque};

use meridian_core::{
    attempt::{Attempt, AttemptEffect, AttemptInput, AttemptLimits, AttemptState},
    build::{Artifact, Receipt, Resolution, Source},
    cache::{
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
    },
    digest::Digest,
    id::{AgentId, Epoch, Fence, SessionId, TaskId},
    machine::{
        effect::{Effect, Order, Work},
        input::{AgentOffer, Failure, FailureKind, Input, Observation, Outcome},
        record::TaskKind,
    },
    quantity::{ByteCount, Millis},
    sandbox::Sandbox,
    schedule::sketch::Sample,
    time::{Mono, Now},
};

use crate::simulation::{draws::Draws, ledger::Ledger};

const SLOTS: u32 = 2;
const RENEW_EVERY: Millis = Millis(700);

/// An agent. Dropping it and making another of the same name is a kill -9.
#[derive(Debug)]
pub struct Agent {
    id: AgentId,
    attempts: BTreeMap<TaskId, Attempt>,
    runs: Vec<Run>,
    session: Option<SessionId>,
    epoch: Epoch,
    renew_at: Mono,
    residency: Vec<Digest>,
    /// Orders on their way here.
    pub inbox: VecDeque<(SessionId, Effect)>,
    /// Messages on their way to the coordinator.
    pub outbox: VecDeque<Input>,
}

#[derive(Debug)]
struct Run {
    task: TaskId,
    fence: Fence,
    ends: Mono,
    outcome: Outcome,
}

impl Agent {
    /// An agent that holds nothing and has no stream.
    #[must_use]
    pub fn new(id: AgentId) -> Self {
        Self {
            id,
            attempts: BTreeMap::new(),
            runs: Vec::new(),
            session: None,
            epoch: Epoch(0),
            renew_at: Mono(0),
            residency: Vec::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &AgentId {
        &self.id
    }

    /// Its present stream.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Opens a stream: what is held is said first, and the attempts know that they are heard again.
    pub fn attach(&mut self, now: Now, session: SessionId, draws: &mut Draws) {
        self.session = Some(session);
        let offer = AgentOffer {
            host: "linux/amd64".to_owned(),
            slots: SLOTS,
            cores: 2,
            version: "simulated".to_owned(),
            sandbox: Sandbox::default(),
            cache: Some(cache_offer(&self.id)),
            labels: std::collections::BTreeSet::new(),
            memory: None,
            heeds_drain: true,
            tells_stops: false,
        };
        let held = self.held();
        self.outbox.push_back(Input::Attach { session, agent: self.id.clone(), offer, held });
        self.tell_all(now, &AttemptInput::StreamOpened, draws);
    }

    /// Breaks the stream; what was on its way is gone.
    pub fn lose_stream(&mut self, now: Now, draws: &mut Draws) {
        if self.session.take().is_some() {
            self.inbox.clear();
            self.outbox.clear();
            self.tell_all(now, &AttemptInput::StreamLost, draws);
        }
    }

    /// Lets time pass: takes orders in, ends runs, renews.
    pub fn turn(&mut self, now: Now, draws: &mut Draws, ledger: &mut Ledger) {
        let mut arrived = draws.below(4);
        while arrived > 0 {
            let Some((session, effect)) = self.inbox.pop_front() else { break };
            if Some(session) == self.session && effect.epoch >= self.epoch {
                self.epoch = effect.epoch;
                self.take_order(now, effect, draws);
            }
            arrived -= 1;
        }
        for run in self.runs.extract_if(.., |run| run.ends <= now.mono).collect::<Vec<_>>() {
            if !matches!(run.outcome, Outcome::Failed { .. }) {
                ledger.note_finished(&run.task, run.fence);
            }
            let input = AttemptInput::Finished { fence: run.fence, outcome: Box::new(run.outcome) };
            self.tell(now, &run.task, input, draws);
        }
        let due: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.next_deadline().is_some_and(|deadline| deadline <= now.mono))
            .map(|(task, _)| task.clone())
            .collect();
        for task in due {
            self.tell(now, &task, AttemptInput::Tick, draws);
        }
        self.hand_out_slots(now, draws);
        if let Some(session) = self.session
            && self.renew_at <= now.mono
        {
            self.renew_at = now.mono.after(RENEW_EVERY);
            self.outbox.push_back(Input::Renew { session, held: self.held() });
        }
    }

    fn held(&self) -> Vec<(TaskId, Fence)> {
        self.attempts.values().filter_map(Attempt::held).collect()
    }

    fn take_order(&mut self, now: Now, effect: Effect, draws: &mut Draws) {
        let meridian_core::machine::effect::Action::Send { order, .. } = effect.action else { return };
        if let Order::Settled { task, fence, accepted: true } = &order
            && let Some(session) = self.session
        {
            // Resolve tasks too: what cannot be is passed over.
            let (task, fence, manifest) = (task.clone(), *fence, manifest_of(task, *fence));
            self.outbox.push_back(Input::ManifestMade {
                session,
                task,
                fence,
                manifest,
                sample: Sample::default(),
            });
            self.residency.push(manifest.digest);
            let residency = self.residency.clone();
            let observation = Observation { residency, ..Observation::default() };
            self.outbox.push_back(Input::Observe { session, observation });
        }
        let Some((task, input)) = AttemptInput::of_order(order) else { return };
        if matches!(input, AttemptInput::Offered { .. }) {
            self.attempts
                .entry(task.clone())
                .or_insert_with(|| Attempt::new(task.clone(), AttemptLimits::default()));
        }
        self.tell(now, &task, input, draws);
    }

    fn hand_out_slots(&mut self, now: Now, draws: &mut Draws) {
        let used = self.attempts.values().filter(|attempt| attempt.uses_slot()).count();
        let waiting: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.state() == AttemptState::Offered)
            .map(|(task, _)| task.clone())
            .take((SLOTS as usize).saturating_sub(used))
            .collect();
        for task in waiting {
            self.tell(now, &task, AttemptInput::SlotFree, draws);
        }
    }

    fn tell_all(&mut self, now: Now, input: &AttemptInput, draws: &mut Draws) {
        for task in self.attempts.keys().cloned().collect::<Vec<_>>() {
            self.tell(now, &task, input.clone(), draws);
        }
    }

    fn tell(&mut self, now: Now, task: &TaskId, input: AttemptInput, draws: &mut Draws) {
        let Some(attempt) = self.attempts.get_mut(task) else { return };
        let effects = attempt.step(now, input);
        if attempt.is_gone() {
            self.attempts.remove(task);
        }
        for effect in effects {
            self.carry_out(now, effect, draws);
        }
    }

    fn carry_out(&mut self, now: Now, effect: AttemptEffect, draws: &mut Draws) {
        let session = self.session;
        let message = match effect {
            AttemptEffect::Run { work, fence } => {
                let ends = now.mono.after(Millis(20 + draws.below(800)));
                let outcome = outcome(&work, fence, draws);
                self.runs.push(Run { task: work.task, fence, ends, outcome });
                None
            }
            AttemptEffect::Kill { fence, .. } => {
                for run in self.runs.iter_mut().filter(|run| run.fence == fence) {
                    // Killing takes a moment; the shell owes the word that it ended.
                    run.ends = now.mono.after(Millis(draws.below(20)));
                    run.outcome = failed(FailureKind::Lost, "killed");
                }
                None
            }
            AttemptEffect::AskLease { task, placement } => {
                session.map(|session| Input::Lease { session, task, placement })
            }
            AttemptEffect::Decline { task, placement, why } => {
                session.map(|session| Input::Decline { session, task, placement, why })
            }
            AttemptEffect::SendReport { task, fence, outcome } => {
                let evidence = Ok(Vec::new());
                session.map(|session| Input::Report { session, task, fence, outcome, evidence })
            }
            AttemptEffect::SendProgress { task, fence, progress } => {
                session.map(|session| Input::Progress { session, task, fence, progress })
            }
            AttemptEffect::Prefetch { .. } | AttemptEffect::Forget | AttemptEffect::Log { .. } => None,
        };
        if let Some(message) = message {
            // Now and then the network delivers a message twice.
            let twice = draws.chance(20).then(|| message.clone());
            self.outbox.push_back(message);
            self.outbox.extend(twice);
        }
    }
}

fn cache_offer(agent: &AgentId) -> CacheOffer {
    let address = format!("{}.{}.test:7444", agent.name, agent.region).parse().ok();
    CacheOffer {
        address,
        key: CacheKey::new(*Digest::of(agent.to_string().as_bytes()).as_bytes()),
        weight: 8,
    }
}

fn manifest_of(task: &TaskId, fence: Fence) -> ManifestRef {
    let digest = Digest::of(format!("manifest of {task} {fence}").as_bytes());
    ManifestRef { digest, size: ByteCount(500), entries: 3, bytes: ByteCount(70_000) }
}

/// What a run will end with: mostly a result that names its task and lease.
fn outcome(work: &Work, fence: Fence, draws: &mut Draws) -> Outcome {
    if draws.chance(80) {
        return failed(FailureKind::Infrastructure, "the network had a bad day");
    }
    match &work.kind {
        TaskKind::Resolve => Outcome::Resolved(Resolution {
            module: "example.test/m".to_owned(),
            version: "v1.0.0".to_owned(),
            sum: format!("h1:{fence}"),
        }),
        TaskKind::Compile(_) => {
            let digest = Digest::of(format!("{} {fence}", work.task).as_bytes());
            let receipt =
                Receipt { holder: "simulated".to_owned(), digest, size: ByteCount(1), mac: vec![0; 32] };
            let artifact = Artifact {
                name: "m_1.0.0_linux_amd64".to_owned(),
                package: match &work.spec.source {
                    Source::Module { package, .. } => package.clone(),
                    Source::Tree { .. } => ".".to_owned(),
                },
                digest,
                size: ByteCount(1),
                receipts: vec![receipt],
                attestation: None,
            };
            Outcome::Built {
                artifacts: vec![artifact],
                go_version: "go1.27.3".to_owned(),
                log: Vec::new(),
                hit_permille: None,
            }
        }
    }
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    let failure = Failure { kind, message: message.to_owned(), hint: String::new() };
    Outcome::Failed { failure, log: Vec::new() }
}
