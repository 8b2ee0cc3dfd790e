//! A machine with a clock and a journal that checks, after every single step, what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    attestation::{Attestation, Document, Evidence, OrderedSource, SigningOrder},
    build::{Artifact, BuildFlags, BuildSpec, Rebuild, Receipt, Resolution, Source, Toolchain, Wishes},
    cache::offer::{CacheKey, CacheOffer},
    digest::Digest,
    golang::platform::Platform,
    id::{
        AgentId, BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, ProjectId, RequestId,
        SessionId, TaskId,
    },
    keyring::{Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::{
        Durable, Limits, Machine,
        effect::{Action, Order, Reply},
        event::{Event, EventKind},
        input::{AgentOffer, Failure, FailureKind, Input, Outcome},
        record::{BuildState, TaskState},
    },
    quantity::{ByteCount, Millis},
    requester::Requester,
    sandbox::Sandbox,
    time::{Mono, Now, Wall},
};

pub(crate) const WALL_START_MS: u64 = 1_800_000_000_000;

pub(crate) fn requester() -> Requester {
    "spiffe://acme/team/acme/member/ci".parse().unwrap()
}

pub(crate) fn project() -> ProjectId {
    "acme/web".parse().unwrap()
}

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(crate) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

pub(crate) fn platform(number: usize) -> Platform {
    let text = ["linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"][number % 4];
    Platform::parse(text).unwrap()
}

fn spec(source: Source, platforms: usize) -> BuildSpec {
    BuildSpec {
        source,
        packages: vec![".".to_owned()],
        platforms: (0..platforms).map(platform).collect(),
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}

/// A build of a tree: its compile tasks exist at once.
pub(crate) fn tree(platforms: usize) -> BuildSpec {
    let root = Digest::of(b"tree");
    let (work_dir, workspace, origin, receipts) = (String::new(), false, None, Vec::new());
    spec(Source::Tree { root, work_dir, workspace, origin, receipts }, platforms)
}

/// A build of a module: one resolve task first.
pub(crate) fn module(platforms: usize) -> BuildSpec {
    let (package, query) = ("example.com/mod/cmd/tool".to_owned(), "latest".to_owned());
    spec(Source::Module { package, query }, platforms)
}

pub(crate) fn in_region(mut spec: BuildSpec, region: &str) -> BuildSpec {
    spec.wishes.region = Some(region.parse().unwrap());
    spec
}

/// A build that repeats one which `builder` made.
pub(crate) fn repeated(spec: BuildSpec, builder: &str) -> BuildSpec {
    let rebuild = Rebuild {
        of: "acme/web/1".parse().unwrap(),
        resolution: matches!(spec.source, Source::Module { .. }).then(resolution),
        builders: spec.platforms.iter().map(|platform| (platform.clone(), agent(builder))).collect(),
    };
    BuildSpec { from_scratch: true, rebuild: Some(rebuild), ..spec }
}

pub(crate) fn resolution() -> Resolution {
    Resolution {
        module: "example.com/mod".to_owned(),
        version: "v1.2.3".to_owned(),
        sum: "h1:abc".to_owned(),
    }
}

pub(crate) fn resolved() -> Outcome {
    Outcome::Resolved(resolution())
}

pub(crate) fn built() -> Outcome {
    let (digest, size) = (Digest::of(b"binary"), ByteCount(6));
    let receipt = Receipt { holder: "coordinator".to_owned(), digest, size, mac: vec![1] };
    let artifact = Artifact {
        name: "tool_1.2.3_linux_amd64".to_owned(),
        package: "example.com/mod/cmd/tool".to_owned(),
        digest,
        size,
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

/// The signing key of an agent's signer.
pub(crate) fn signing_key(agent: &AgentId) -> KeyClaim {
    KeyClaim {
        algorithm: KeyAlgorithm::EcdsaP256,
        spki: agent.to_string().into_bytes(),
        usage: KeyUse::Artifact,
        holder: KeyHolder::Agent(agent.clone()),
        grade: Grade::Production,
    }
}

/// What an honest agent's signer adds to a result, and what is read from it. Without an order there is nothing to
/// sign, and whatever is reported then is refused by its fence.
pub(crate) fn sign(order: Option<SigningOrder>, outcome: &mut Outcome) -> Vec<Evidence> {
    let (Outcome::Built { artifacts, .. }, Some(order)) = (outcome, order) else { return Vec::new() };
    let key = KeyId::of(&signing_key(&order.agent).spki);
    let document = |content: &[u8]| {
        let (digest, size) = (Digest::of(content), ByteCount(content.len() as u64));
        let receipt = Receipt { holder: "coordinator".to_owned(), digest, size, mac: vec![1] };
        Document { digest, size, receipts: vec![receipt] }
    };
    let mut evidence = Vec::new();
    for artifact in artifacts {
        artifact.package = match &order.source {
            OrderedSource::Module { package, .. } => package.clone(),
            OrderedSource::Tree { .. } => order.packages[0].clone(),
        };
        let (provenance, sbom) = (document(b"provenance"), document(b"sbom"));
        artifact.attestation = Some(Attestation { key, signature: vec![1], provenance, sbom });
        evidence.push(Evidence {
            key,
            name: artifact.name.clone(),
            digest: artifact.digest,
            package: artifact.package.clone(),
            order: order.clone(),
            sandbox: Sandbox::default(),
        });
    }
    evidence
}

pub(crate) fn failed(kind: FailureKind) -> Outcome {
    let failure = Failure { kind, message: format!("{kind:?} happened"), hint: String::new() };
    Outcome::Failed { failure, log: vec![Digest::of(b"log")] }
}

pub(crate) fn offer(slots: u32) -> AgentOffer {
    AgentOffer {
        host: "linux/amd64".to_owned(),
        slots,
        cores: 2,
        version: "0.1.0".to_owned(),
        sandbox: Sandbox::default(),
        cache: None,
        labels: Default::default(),
        memory: None,
        heeds_drain: true,
        tells_stops: true,
    }
}

/// What an agent offers that takes part in the cache.
pub(crate) fn cached(agent: &AgentId, slots: u32, weight: u32) -> AgentOffer {
    let address = format!("{}.{}.example:7444", agent.name, agent.region).parse().unwrap();
    let key = CacheKey::new(*Digest::of(agent.to_string().as_bytes()).as_bytes());
    AgentOffer { cache: Some(CacheOffer { address: Some(address), key, weight }), ..offer(slots) }
}

/// A machine with a clock and a journal.
pub(crate) struct Fleet {
    pub(crate) machine: Machine,
    pub(crate) now: Now,
    pub(crate) journal: Vec<(JournalIndex, Event)>,
    /// Orders that were sent and not looked at yet.
    pub(crate) sent: Vec<(SessionId, Order)>,
    pub(crate) closed: Vec<SessionId>,
    pub(crate) warned: Vec<String>,
    replies: BTreeMap<RequestId, Reply>,
    requests: u64,
    sequence: u64,
    audit: Audit,
}

/// What every journal must keep, whatever happened.
#[derive(Default)]
pub(crate) struct Audit {
    last_fence: Fence,
    leases: BTreeMap<TaskId, Fence>,
    ended: BTreeSet<TaskId>,
    results: BTreeMap<TaskId, Fence>,
}

impl Audit {
    /// Looks at the next event.
    pub(crate) fn see(&mut self, event: &EventKind) {
        match event {
            EventKind::LeaseGranted { task, fence, .. } => {
                assert!(*fence > self.last_fence, "fence {fence} was given twice");
                self.last_fence = *fence;
                let live = self.leases.insert(task.clone(), *fence);
                assert_eq!(live, None, "task {task} has two live leases");
            }
            EventKind::AttemptFailed { task, fence, .. } => {
                assert_eq!(self.leases.remove(task), Some(*fence), "{task}: failed under another lease");
            }
            EventKind::SourceResolved { task, fence, .. } | EventKind::TaskSucceeded { task, fence, .. } => {
                assert_eq!(self.leases.remove(task), Some(*fence), "{task}: accepted under another lease");
                assert!(self.ended.insert(task.clone()), "task {task} has two results");
                self.results.insert(task.clone(), *fence);
            }
            EventKind::ManifestMade { task, fence, .. } => {
                assert_eq!(self.results.get(task), Some(fence), "{task}: a manifest of what nobody built");
            }
            EventKind::TaskFailed { task, .. } => {
                self.leases.remove(task);
                assert!(self.ended.insert(task.clone()), "task {task} has two results");
            }
            EventKind::BuildCancelled { build, .. } => self.leases.retain(|task, _| task.build != *build),
            _ => {}
        }
    }
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let mut fleet = Self {
            machine: Machine::new(Durable::default(), limits),
            now: Now { mono: Mono(1_000), wall: Wall(WALL_START_MS) },
            journal: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            warned: Vec::new(),
            replies: BTreeMap::new(),
            requests: 0,
            sequence: 0,
            audit: Audit::default(),
        };
        fleet.step(Input::Lead { epoch: Epoch(1) });
        fleet
    }

    /// One step, after which everything that must always hold is checked.
    pub(crate) fn step(&mut self, input: Input) {
        if let Input::Attach { agent, .. } = &input {
            // Its signer's key comes first; asking again changes nothing.
            let claim = signing_key(agent);
            self.ask(|request| Input::CertifyKey { request, claim });
        }
        let step = self.machine.step(self.now, input);
        for (index, event) in step.events {
            assert_eq!(index.0, self.journal.len() as u64 + 1, "the journal has no gaps");
            self.audit.see(&event.kind);
            self.journal.push((index, event));
        }
        for effect in step.effects {
            self.sequence += 1;
            assert_eq!((effect.epoch, effect.sequence), (self.machine.durable().epoch(), self.sequence));
            match effect.action {
                Action::Send { session, order } => self.sent.push((session, order)),
                Action::Reply { request, reply } => {
                    assert!(self.replies.insert(request, reply).is_none(), "{request} was answered twice");
                }
                Action::Close { session, .. } => self.closed.push(session),
                Action::Warn { line } => self.warned.push(line),
                Action::BuildChanged { .. } | Action::IdentityRevoked { .. } => {}
            }
        }
    }

    /// The state that a replay of the journal gives, and the one that a snapshot of it gives.
    pub(crate) fn check_replay(&self) {
        let mut replayed = Durable::default();
        for (index, event) in &self.journal {
            replayed.apply(*index, event).unwrap();
        }
        assert_eq!(&replayed, self.machine.durable());
        assert_eq!(fingerprint(&replayed), fingerprint(self.machine.durable()));
        // Equality covers the index, so this also says that the index never drifts from the records.
        assert_eq!(&Durable::from_records(replayed.records()).unwrap(), self.machine.durable());
    }

    /// Every task of a running build is queued, placed or leased, and every queued one is counted.
    pub(crate) fn check_no_task_is_lost(&self) {
        let mut queued = 0;
        for build in self.machine.builds() {
            assert!(!build.tasks.is_empty());
            let open = build.tasks.iter().filter(|task| !task.state.is_ended()).count();
            assert_eq!(open > 0, build.state == BuildState::Running, "{}: {:?}", build.id, build.state);
            queued += build.tasks.iter().filter(|task| task.state == TaskState::Queued).count() as u64;
        }
        assert_eq!(self.machine.counts().tasks_queued, queued);
        assert_eq!(self.machine.durable().queued().count() as u64, queued);
    }

    /// The coordinator dies and another takes over from the journal, or from a snapshot of it.
    pub(crate) fn restart(&mut self, from_snapshot: bool) {
        let mut durable = Durable::default();
        if from_snapshot {
            durable = Durable::from_records(self.machine.durable().records()).unwrap();
        } else {
            self.journal.iter().for_each(|(index, event)| durable.apply(*index, event).unwrap());
        }
        let epoch = Epoch(durable.epoch().0 + 1);
        self.machine = Machine::new(durable, self.machine.limits().clone());
        self.sequence = 0;
        self.sent.clear();
        // Another process has another monotonic clock.
        self.now.mono = Mono(50);
        self.step(Input::Lead { epoch });
    }

    pub(crate) fn pass(&mut self, span: Millis) {
        self.now = Now { mono: self.now.mono.after(span), wall: self.now.wall.after(span) };
    }

    /// Lets time pass tick by tick, as a shell does.
    pub(crate) fn wait(&mut self, span: Millis) {
        let until = self.now.mono.after(span);
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= until) {
            self.pass(deadline.since(self.now.mono));
            self.step(Input::Tick);
        }
        self.pass(until.since(self.now.mono));
        self.step(Input::Tick);
    }

    pub(crate) fn ask(&mut self, input: impl FnOnce(RequestId) -> Input) -> Reply {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.step(input(request));
        self.replies.remove(&request).expect("every request is answered in its own step")
    }

    pub(crate) fn submit_as(&mut self, text: &str, spec: BuildSpec) -> Reply {
        let (project, key, spec) = (project(), key(text), Box::new(spec));
        self.ask(|request| Input::Submit {
            request,
            project,
            requester: requester(),
            key,
            spec,
            traceparent: None,
            ways: None,
        })
    }

    /// Submits what nobody else submits: two that ask for the very same would wait for each other.
    pub(crate) fn submit(&mut self, mut spec: BuildSpec) -> BuildId {
        let text = format!("auto-{}", self.requests);
        if spec.version.is_empty() {
            spec.version.clone_from(&text);
        }
        match self.submit_as(&text, spec) {
            Reply::Submitted { build } => build,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attach(&mut self, session: u64, name: &str, slots: u32) {
        self.attach_with(session, name, slots, Vec::new());
    }

    pub(crate) fn attach_with(&mut self, session: u64, name: &str, slots: u32, held: Vec<(TaskId, Fence)>) {
        let session = SessionId(session);
        self.step(Input::Attach { session, agent: agent(name), offer: offer(slots), held });
    }

    /// Takes the offers that went to a session.
    pub(crate) fn offers(&mut self, session: u64) -> Vec<(TaskId, PlacementNumber)> {
        self.take(session, |order| match order {
            Order::Offer { work, placement, .. } => Some((work.task.clone(), *placement)),
            _ => None,
        })
    }

    /// Takes the grants that went to a session.
    pub(crate) fn grants(&mut self, session: u64) -> Vec<(TaskId, Fence)> {
        self.take(session, |order| match order {
            Order::Grant { task, fence, .. } => Some((task.clone(), *fence)),
            _ => None,
        })
    }

    /// Takes the revokes that went to a session.
    pub(crate) fn revokes(&mut self, session: u64) -> Vec<(TaskId, Option<Fence>)> {
        self.take(session, |order| match order {
            Order::Revoke { task, fence, .. } => Some((task.clone(), *fence)),
            _ => None,
        })
    }

    /// Takes the answers to reports that went to a session.
    pub(crate) fn settled(&mut self, session: u64) -> Vec<bool> {
        self.take(session, |order| match order {
            Order::Settled { accepted, .. } => Some(*accepted),
            _ => None,
        })
    }

    fn take<T>(&mut self, session: u64, wanted: impl Fn(&Order) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.sent.retain(|(to, order)| match wanted(order).filter(|_| to.0 == session) {
            Some(found) => {
                taken.push(found);
                false
            }
            None => true,
        });
        taken
    }

    pub(crate) fn ask_lease(&mut self, session: u64, task: &TaskId, placement: PlacementNumber) {
        self.step(Input::Lease { session: SessionId(session), task: task.clone(), placement });
    }

    /// Takes up every offer that went to a session.
    pub(crate) fn lease_all(&mut self, session: u64) -> Vec<(TaskId, Fence)> {
        for (task, placement) in self.offers(session) {
            self.ask_lease(session, &task, placement);
        }
        self.grants(session)
    }

    /// Waits until a task was offered to a session, and takes it up.
    pub(crate) fn lease_next(&mut self, session: u64) -> (TaskId, Fence) {
        for _ in 0..60 {
            if let Some(lease) = self.lease_all(session).pop() {
                return lease;
            }
            self.wait(Millis::seconds(1));
        }
        panic!("nothing was offered to session {session}");
    }

    /// Reports and says whether it counted.
    pub(crate) fn report(&mut self, session: u64, task: &TaskId, fence: Fence, outcome: Outcome) -> bool {
        let (task, mut outcome) = (task.clone(), Box::new(outcome));
        let evidence = Ok(sign(self.machine.durable().signing_order(&task, fence), &mut outcome));
        self.step(Input::Report { session: SessionId(session), task, fence, outcome, evidence });
        self.settled(session).pop().expect("every report over an open stream is answered")
    }

    pub(crate) fn state(&self, task: &TaskId) -> &TaskState {
        &self.machine.task(task).expect("the task is not forgotten").state
    }

    pub(crate) fn build_state(&self, build: &BuildId) -> BuildState {
        self.machine.build(build).expect("the build is not forgotten").state
    }
}

/// A digest over everything in the state, in its own order.
pub(crate) fn fingerprint(durable: &Durable) -> Digest {
    Digest::of(format!("{:?}", durable.records()).as_bytes())
}

pub(crate) fn task(build: &BuildId, ordinal: u32) -> TaskId {
    TaskId { build: build.clone(), ordinal }
}
