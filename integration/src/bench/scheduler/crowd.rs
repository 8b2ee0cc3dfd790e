//! A fleet and a queue of any size around the coordinator's machine, without processes.

use meridian_core::{
    attestation::Evidence,
    build::{Artifact, BuildFlags, BuildSpec, Receipt, Source, Toolchain, Wishes},
    cache::{
        lineage::Lineage,
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
        scope::Scope,
    },
    digest::Digest,
    golang::platform::Platform,
    id::{
        AgentId, BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, ProjectId, RequestId,
        SessionId, TaskId,
    },
    machine::{
        Durable, Limits, Machine, Step,
        effect::{Action, Order},
        event::{Event, EventKind},
        input::{AgentOffer, Failure, FailureKind, Input, Observation, Outcome},
        record::Placement,
    },
    quantity::{ByteCount, Millis},
    requester::Requester,
    sandbox::Sandbox,
    schedule::sketch::{self, HeldSketch, Sample},
    time::{Mono, Now, Wall},
};

/// Teams that share the fleet.
const TEAMS: u64 = 10;
/// Lineages that are built again and again.
pub(super) const LINEAGES: u64 = 200;
/// Agents that hold what the last build of a lineage left.
const HOLDERS: u64 = 3;
const REGIONS: [&str; 5] = ["eu-central", "us-east", "sa-east", "ap-south", "ap-east"];
const SLOTS: u32 = 2;
const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "riscv64", "ppc64le"];
/// Blobs of a manifest.
const BLOBS: u64 = 400;

/// A fleet and a queue of any size.
pub(super) struct Crowd {
    pub(super) machine: Machine,
    agents: u64,
    platforms: usize,
    now: Now,
    requests: u64,
    /// Placements that nobody asked the lease of yet.
    offers: Vec<(SessionId, TaskId, PlacementNumber)>,
    /// Leases, by the place in which they were granted.
    leases: Vec<(SessionId, TaskId, Fence)>,
}

impl Crowd {
    /// As many agents, all idle, and a state that knows every lineage. Each build is for so many platforms.
    pub(super) fn new(agents: u64, queued_max: u64, platforms: usize) -> Self {
        let limits = Limits {
            queued_tasks_max: queued_max,
            builds_kept: 100,
            offer: Millis::days(1),
            lease: Millis::days(1),
            ..Limits::default()
        };
        let machine = Machine::new(known_state(agents), limits);
        let now = Now { mono: Mono(1_000), wall: Wall(1_800_000_000_000) };
        let mut crowd =
            Self { machine, agents, platforms, now, requests: 0, offers: Vec::new(), leases: Vec::new() };
        crowd.step(Input::Lead { epoch: Epoch(2) });
        for number in 0..agents {
            crowd.attach(number);
        }
        crowd
    }

    fn attach(&mut self, number: u64) {
        let (session, agent) = (SessionId(number), agent(number));
        let held: Vec<u64> = (0..LINEAGES).filter(|lineage| holds(number, *lineage, self.agents)).collect();
        let key = CacheKey::new(*Digest::of(agent.to_string().as_bytes()).as_bytes());
        let cache = CacheOffer { address: "cache.example:7444".parse().ok(), key, weight: 100 };
        let offer = AgentOffer {
            host: "linux/amd64".to_owned(),
            slots: SLOTS,
            cores: 4,
            version: "0".to_owned(),
            sandbox: Sandbox::default(),
            cache: Some(cache),
            labels: std::collections::BTreeSet::new(),
            memory: None,
            heeds_drain: true,
            tells_stops: true,
        };
        self.step(Input::Attach { session, agent, offer, held: Vec::new() });
        let observation = Observation {
            rtt_us: Some(2_000 + number % 97 * 1_000),
            clock_offset_us: Some(0),
            residency: held.iter().map(|lineage| manifest(*lineage).digest).collect(),
            sketch: Some(HeldSketch::of(held.iter().flat_map(|lineage| blobs(*lineage)))),
            ..Observation::default()
        };
        self.step(Input::Observe { session, observation });
    }

    /// Submits a build, of one project after the other.
    pub(super) fn submit(&mut self) {
        self.requests += 1;
        let lineage = self.requests * 7_919 % LINEAGES;
        let request = RequestId(self.requests);
        let key = IdempotencyKey::new(&format!("k{}", self.requests)).expect("a short key is one");
        let project = project(lineage);
        let requester: Requester =
            format!("spiffe://fleet/team/{}/member/ci", project.team).parse().expect("an id of a member");
        let platforms = ARCHITECTURES.iter().take(self.platforms).map(|arch| platform(arch)).collect();
        let spec = Box::new(BuildSpec { platforms, ..spec(lineage, self.requests) });
        self.step(Input::Submit { request, project, requester, key, spec, traceparent: None, ways: None });
    }

    /// Has every agent take up what is placed with it.
    pub(super) fn lease_all(&mut self) {
        for (session, task, placement) in std::mem::take(&mut self.offers) {
            self.step(Input::Lease { session, task, placement });
        }
    }

    /// Ends one of the leases, without a result that needs a signature; with it goes the next placement. Whether there was
    /// one.
    pub(super) fn end_one(&mut self, draw: u64) -> bool {
        if self.leases.is_empty() {
            return false;
        }
        let place = usize::try_from(draw % self.leases.len() as u64).unwrap_or(0);
        let (session, task, fence) = self.leases.swap_remove(place);
        let message = String::new();
        let failure = Failure { kind: FailureKind::Compile, message, hint: String::new() };
        let outcome = Box::new(Outcome::Failed { failure, log: Vec::new() });
        let evidence: Result<Vec<Evidence>, String> = Ok(Vec::new());
        self.step(Input::Report { session, task, fence, outcome, evidence });
        true
    }

    /// How many placements wait to be taken up.
    pub(super) fn offered(&self) -> usize {
        self.offers.len()
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, span: Millis) {
        self.now = Now { mono: self.now.mono.after(span), wall: self.now.wall.after(span) };
    }

    fn step(&mut self, input: Input) {
        let Step { effects, .. } = self.machine.step(self.now, input);
        for effect in effects {
            let Action::Send { session, order } = effect.action else { continue };
            match order {
                Order::Offer { work, placement, .. } => self.offers.push((session, work.task, placement)),
                Order::Grant { task, fence, .. } => self.leases.push((session, task, fence)),
                _ => {}
            }
        }
    }
}

/// A state in which each lineage was built three times and left a manifest.
fn known_state(agents: u64) -> Durable {
    let mut known = Known { durable: Durable::default(), at: Wall(1_790_000_000_000) };
    known.apply(EventKind::EpochBegan { epoch: Epoch(1) });
    for lineage in 0..LINEAGES {
        for round in 0..3 {
            known.build(lineage, round, agents);
        }
    }
    known.durable
}

struct Known {
    durable: Durable,
    at: Wall,
}

impl Known {
    fn apply(&mut self, kind: EventKind) {
        let index = JournalIndex(self.durable.last_index().0 + 1);
        self.durable.apply(index, &Event { at: self.at, kind }).expect("what happened can have happened");
    }

    fn build(&mut self, lineage: u64, round: u64, agents: u64) {
        let build = BuildId { project: project(lineage), number: lineage * 3 + round + 1 };
        let task = TaskId { build: build.clone(), ordinal: 0 };
        let number = lineage * 3 + round + 1;
        let key = IdempotencyKey::new(&format!("known-{number}")).expect("a short key is one");
        let (fence, placement) = (Fence(number), PlacementNumber(number));
        let agent = agent(lineage * HOLDERS % agents.max(1));
        self.apply(EventKind::BuildSubmitted {
            build: build.clone(),
            key,
            request_digest: Digest::of(b""),
            spec: Box::new(spec(lineage, number)),
            traceparent: None,
            requester: None,
        });
        let placement = Placement {
            number: placement,
            agent: agent.clone(),
            because: String::new(),
            candidates: Vec::new(),
            refused: Vec::new(),
            egress: None,
        };
        self.apply(EventKind::TaskPlaced { task: task.clone(), placement });
        self.apply(EventKind::LeaseGranted { task: task.clone(), agent, fence });
        self.at = self.at.after(Millis::seconds(5 + lineage % 40));
        let outcome = Outcome::Built {
            artifacts: vec![artifact()],
            go_version: String::new(),
            log: Vec::new(),
            hit_permille: Some(u32::try_from(round * 450).unwrap_or(0)),
        };
        self.apply(EventKind::TaskSucceeded { task: task.clone(), fence, outcome: Box::new(outcome) });
        let scope = Scope::Trusted(build.project.team.clone());
        let lineage_of =
            Lineage::of(&scope, &build.project, &spec(lineage, number), &platform(ARCHITECTURES[0]));
        let sample = Sample::of(blobs(lineage).into_iter().map(|number| (number, ByteCount(90_000))));
        self.apply(EventKind::ManifestMade {
            task,
            fence,
            lineage: lineage_of,
            manifest: manifest(lineage),
            sample,
        });
        self.apply(EventKind::BuildForgotten { build });
    }
}

fn agent(number: u64) -> AgentId {
    let region = REGIONS[usize::try_from(number % REGIONS.len() as u64).unwrap_or(0)];
    format!("{region}/agent-{number:05}").parse().expect("a name of an agent")
}

fn holds(agent: u64, lineage: u64, agents: u64) -> bool {
    (0..HOLDERS).any(|holder| (lineage * HOLDERS + holder) % agents.max(1) == agent)
}

fn project(lineage: u64) -> ProjectId {
    format!("team-{}/service-{lineage}", lineage % TEAMS).parse().expect("a name of a project")
}

fn platform(arch: &str) -> Platform {
    Platform { os: "linux".to_owned(), arch: arch.to_owned(), level: "v1".to_owned() }
}

fn manifest(lineage: u64) -> ManifestRef {
    let digest = Digest::of(format!("manifest {lineage}").as_bytes());
    ManifestRef { digest, size: ByteCount(60_000), entries: BLOBS, bytes: ByteCount::mib(40) }
}

fn blobs(lineage: u64) -> Vec<u32> {
    let name = |blob| Digest::of(format!("{lineage} {blob}").as_bytes());
    (0..BLOBS).map(|blob| sketch::number(&name(blob))).collect()
}

fn artifact() -> Artifact {
    let receipt = Receipt {
        holder: "coordinator".to_owned(),
        digest: Digest::of(b"a"),
        size: ByteCount(1),
        mac: Vec::new(),
    };
    Artifact {
        name: "a".to_owned(),
        package: ".".to_owned(),
        digest: receipt.digest,
        size: receipt.size,
        receipts: vec![receipt],
        attestation: None,
    }
}

fn spec(lineage: u64, version: u64) -> BuildSpec {
    let root = Digest::of(format!("tree {lineage} {version}").as_bytes());
    BuildSpec {
        source: Source::Tree {
            root,
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        },
        packages: vec![".".to_owned()],
        platforms: vec![platform(ARCHITECTURES[0])],
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: format!("v0.0.{version}"),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}
