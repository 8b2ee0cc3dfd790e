//! A coordinator in a temporary directory, callers with identities, and an agent that does as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    path::Path,
    time::Duration,
};

use meridian_coordinator::{App, AppError, CoordinatorConfig, Running};
use meridian_core::{
    attestation::{Attestation, Document},
    build::{Artifact, Receipt},
    cache::{hints::CacheHints, offer::CacheOffer},
    digest::Digest,
    id::{Fence, FleetName, PlacementNumber},
    machine::{
        Limits,
        effect::{Order, Work},
        input::{AgentOffer, Outcome},
        record::TaskKind,
    },
    quantity::ByteCount,
    sandbox::Sandbox,
};
use meridian_proto::{
    convert::{agent::AgentSaid, coordinator::CoordinatorSaid},
    v1,
};
use meridian_runtime::{
    clock::Clock,
    identity::{Identity, LiveIdentity, SpiffeId, new_key_and_csr},
    tls::{self, ChannelOptions, ClientTls},
};
use meridian_store::pack::PackWriter;
use meridian_trust::statement::Provenance;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

use crate::signed::{Signed, Signer, resolution};

pub(crate) struct Fixture {
    pub(crate) running: Running,
    stop: CancellationToken,
    state: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), limits).await
    }

    async fn start_in(state: TempDir, limits: Limits) -> Self {
        Self::start_as(state, |config| config.limits = limits).await
    }

    /// A coordinator whose configuration is changed before it starts.
    pub(crate) async fn start_as(state: TempDir, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let stop = CancellationToken::new();
        let running = Self::try_start(&state, change, stop.clone()).await.unwrap();
        Self { running, stop, state }
    }

    async fn try_start(
        state: &TempDir,
        change: impl FnOnce(&mut CoordinatorConfig),
        stop: CancellationToken,
    ) -> Result<Running, AppError> {
        tls::install_crypto();
        let mut config = CoordinatorConfig::new(FleetName::new("acme").unwrap(), state.path().to_owned());
        change(&mut config);
        config.http_listen = Some("127.0.0.1:0".parse().unwrap());
        App::start(config, Clock::system(), stop).await
    }

    /// Stops the coordinator and starts another one on the same state.
    pub(crate) async fn restart(self, limits: Limits) -> Self {
        self.restart_after(limits, || {}).await
    }

    /// The same, with something done to the state while nobody has it open.
    pub(crate) async fn restart_after(self, limits: Limits, meanwhile: impl FnOnce()) -> Self {
        let Self { running, stop, state } = self;
        stop.cancel();
        running.ended().await.unwrap();
        meanwhile();
        Self::start_in(state, limits).await
    }

    /// Stops the coordinator and waits until nobody has its state open.
    pub(crate) async fn stop(self) -> TempDir {
        let Self { running, stop, state } = self;
        stop.cancel();
        running.ended().await.unwrap();
        // The history's follower ends by itself, a little after the rest.
        let index = File::open(state.path().join("history/db")).unwrap();
        tokio::task::spawn_blocking(move || index.lock()).await.unwrap().unwrap();
        state
    }

    /// Why no coordinator starts on `state`.
    pub(crate) async fn refusal(state: &TempDir) -> String {
        let stop = CancellationToken::new();
        match Self::try_start(state, |_| {}, stop.clone()).await {
            Ok(_) => {
                stop.cancel();
                panic!("it starts");
            }
            Err(error) => error.to_string(),
        }
    }

    pub(crate) async fn start_on(state: TempDir) -> Self {
        Self::start_in(state, Limits::default()).await
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// A channel with an identity that the authority issues on the spot.
    pub(crate) fn channel(&self, path: &str) -> Channel {
        let authority = &self.running.authority;
        let id: SpiffeId = format!("spiffe://acme/{path}").parse().unwrap();
        let (key, request) = new_key_and_csr().unwrap();
        let chain = authority.issue(&request, &id, Duration::from_secs(3600), &[]).unwrap();
        let identity = Identity::new(key, &chain, authority.certificate_der()).unwrap();
        self.channel_with(Some(LiveIdentity::new(identity).unwrap()))
    }

    pub(crate) fn channel_with(&self, identity: Option<LiveIdentity>) -> Channel {
        let tls = ClientTls {
            authority: self.running.authority.certificate_der().to_vec(),
            identity,
            server: "spiffe://acme/coordinator".parse().unwrap(),
        };
        tls::channel(&self.running.address.to_string(), tls, &ChannelOptions::default()).unwrap()
    }

    pub(crate) async fn agent(&self, name: &str) -> FakeAgent {
        self.agent_with(name, None).await
    }

    /// An agent that takes part in the cache, or does not know of it.
    pub(crate) async fn agent_with(&self, name: &str, cache: Option<CacheOffer>) -> FakeAgent {
        let channel = self.channel(&format!("agent/eu/{name}"));
        let (to, messages) = mpsc::channel(64);
        let offer = AgentOffer {
            host: "linux/amd64".into(),
            slots: 4,
            cores: 4,
            version: "0".into(),
            sandbox: Sandbox::default(),
            cache,
            labels: std::collections::BTreeSet::new(),
            memory: None,
            heeds_drain: true,
            tells_stops: true,
        };
        to.send((&AgentSaid::Hello { offer, held: Vec::new(), process: 0 }).into()).await.unwrap();
        let mut client = v1::agents_client::AgentsClient::new(channel.clone());
        let from = client.attach(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let signer = Signer::new(format!("eu/{name}").parse().unwrap());
        signer.certify(&channel).await.unwrap();
        FakeAgent {
            channel,
            to,
            from,
            waiting: VecDeque::new(),
            hints: None,
            placements: BTreeMap::new(),
            signer,
        }
    }
}

/// An agent whose builds are made up, and whose uploads and reports are real.
pub(crate) struct FakeAgent {
    pub(crate) channel: Channel,
    to: mpsc::Sender<v1::AgentMessage>,
    from: Streaming<v1::CoordinatorMessage>,
    pub(crate) waiting: VecDeque<Order>,
    /// What the task that was last taken came with.
    pub(crate) hints: Option<Box<CacheHints>>,
    /// The placement from which each lease came.
    placements: BTreeMap<Fence, PlacementNumber>,
    pub(crate) signer: Signer,
}

impl FakeAgent {
    pub(crate) async fn say(&self, said: AgentSaid) {
        self.to.send((&said).into()).await.unwrap();
    }

    /// The first order that `pick` takes, within 20 s. Others wait for whoever wants them; probes are answered.
    pub(crate) async fn order<T>(&mut self, pick: impl Fn(&Order) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        if let Some(position) = self.waiting.iter().position(|order| pick(order).is_some()) {
            let order = self.waiting.remove(position).unwrap();
            return pick(&order).unwrap();
        }
        loop {
            let message = tokio::time::timeout_at(deadline, self.from.message()).await;
            let message = message.expect("an order within 20 s").unwrap().expect("the stream is open");
            match CoordinatorSaid::try_from(message).unwrap() {
                CoordinatorSaid::Order { order, .. } => match pick(&order) {
                    Some(picked) => return picked,
                    None => self.waiting.push_back(order),
                },
                CoordinatorSaid::Probe { number } => {
                    let now = Clock::system().now().wall_ms * 1_000;
                    self.say(AgentSaid::Echo { number, received_wall_us: now, sent_wall_us: now }).await;
                }
                CoordinatorSaid::CacheQuestion(question) => panic!("nobody asks for {question:?} here"),
            }
        }
    }

    /// The next question about its cache, within 20 s. Orders wait for whoever wants them; probes are not answered.
    pub(crate) async fn question(&mut self) -> v1::CacheQuestion {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let message = tokio::time::timeout_at(deadline, self.from.message()).await;
            let message = message.expect("a question within 20 s").unwrap().expect("the stream is open");
            match CoordinatorSaid::try_from(message).unwrap() {
                CoordinatorSaid::Order { order, .. } => self.waiting.push_back(order),
                CoordinatorSaid::Probe { .. } => {}
                CoordinatorSaid::CacheQuestion(question) => return *question,
            }
        }
    }

    /// Takes up the next offer and gives the work with its lease.
    pub(crate) async fn take(&mut self) -> (Work, Fence) {
        let (work, placement, hints) = self
            .order(|order| match order {
                Order::Offer { work, placement, cache } => {
                    Some((Work::clone(work), *placement, cache.clone()))
                }
                _ => None,
            })
            .await;
        self.hints = hints;
        let wanted = work.task.clone();
        self.say(AgentSaid::Lease { task: wanted.clone(), placement }).await;
        let fence = self
            .order(|order| match order {
                Order::Grant { task, fence, .. } if *task == wanted => Some(*fence),
                _ => None,
            })
            .await;
        self.placements.insert(fence, placement);
        (work, fence)
    }

    /// Reports, and says whether the report became the task's result.
    pub(crate) async fn report(&mut self, work: &Work, fence: Fence, outcome: Outcome) -> bool {
        let reported = work.task.clone();
        self.say(AgentSaid::Report { task: reported.clone(), fence, outcome: Box::new(outcome) }).await;
        self.order(|order| match order {
            Order::Settled { task, accepted, .. } if *task == reported => Some(*accepted),
            _ => None,
        })
        .await
    }

    /// Makes, signs and uploads what a lease asks for.
    pub(crate) async fn artifact(&self, work: &Work, fence: Fence) -> Artifact {
        self.lying_artifact(work, fence, |_| {}).await
    }

    /// The same with a statement that was changed before it was signed.
    pub(crate) async fn lying_artifact(
        &self,
        work: &Work,
        fence: Fence,
        lie: impl FnOnce(&mut Provenance),
    ) -> Artifact {
        let placement = self.placement(fence);
        self.keep(work, fence, self.signer.sign(work, fence, placement, lie)).await
    }

    /// The placement from which a lease came.
    pub(crate) fn placement(&self, fence: Fence) -> PlacementNumber {
        self.placements[&fence]
    }

    /// Uploads a signed file under a lease.
    pub(crate) async fn keep(&self, work: &Work, fence: Fence, signed: Signed) -> Artifact {
        let scope = v1::Scope { task: work.task.to_string(), fence: fence.0 };
        let blobs = [&signed.executable[..], &signed.provenance, &signed.sbom];
        let project = work.task.build.project.to_string();
        let receipts = upload(&self.channel, &project, Some(scope), &blobs).await.unwrap();
        let held = |bytes: &[u8]| Document {
            digest: Digest::of(bytes),
            size: ByteCount(bytes.len() as u64),
            receipts: receipts
                .iter()
                .filter(|receipt| receipt.digest == Digest::of(bytes))
                .cloned()
                .collect(),
        };
        let Document { digest, size, receipts: own } = held(&signed.executable);
        Artifact {
            name: signed.name,
            package: signed.package,
            digest,
            size,
            receipts: own,
            attestation: Some(Attestation {
                key: signed.key,
                signature: signed.signature,
                provenance: held(&signed.provenance),
                sbom: held(&signed.sbom),
            }),
        }
    }

    /// Does whatever comes until `tasks` tasks are done.
    pub(crate) async fn work_off(&mut self, tasks: usize) {
        for _ in 0..tasks {
            let (work, fence) = self.take().await;
            let outcome = match &work.kind {
                TaskKind::Resolve => Outcome::Resolved(resolution()),
                TaskKind::Compile(_) => built(self.artifact(&work, fence).await),
            };
            assert!(self.report(&work, fence, outcome).await);
        }
    }
}

/// A result of one artifact.
pub(crate) fn built(artifact: Artifact) -> Outcome {
    Outcome::Built {
        artifacts: vec![artifact],
        go_version: "go1.27.3".into(),
        log: Vec::new(),
        hit_permille: None,
    }
}

/// Uploads blobs as one pack.
pub(crate) async fn upload(
    channel: &Channel,
    project: &str,
    scope: Option<v1::Scope>,
    blobs: &[&[u8]],
) -> Result<Vec<Receipt>, tonic::Status> {
    let mut pack = PackWriter::new(Vec::new()).unwrap();
    for blob in blobs {
        let size = ByteCount(blob.len() as u64);
        pack.add(&Digest::of(blob), size, ByteCount(0), &mut &blob[..]).unwrap();
    }
    upload_pack(channel, project, scope, pack.finish().unwrap()).await
}

/// Uploads bytes that may or may not be a pack.
pub(crate) async fn upload_pack(
    channel: &Channel,
    project: &str,
    scope: Option<v1::Scope>,
    pack: Vec<u8>,
) -> Result<Vec<Receipt>, tonic::Status> {
    let header = v1::UploadHeader { project: project.to_owned(), scope };
    let mut messages = vec![v1::UploadRequest { header: Some(header), chunk: Default::default() }];
    messages.extend(
        pack.chunks(1000).map(|chunk| v1::UploadRequest { header: None, chunk: chunk.to_vec().into() }),
    );
    let mut client = v1::blobs_client::BlobsClient::new(channel.clone());
    let answer = client.upload(tokio_stream::iter(messages)).await?.into_inner();
    Ok(answer.receipts.into_iter().map(|receipt| Receipt::try_from(receipt).unwrap()).collect())
}

/// A request to build a module's package for some platforms.
pub(crate) fn module_build(project: &str, key: &str, platforms: &[&str]) -> v1::SubmitRequest {
    let platforms = platforms
        .iter()
        .map(|text| (&meridian_core::golang::platform::Platform::parse(text).unwrap()).into());
    v1::SubmitRequest {
        project: project.to_owned(),
        key: key.to_owned(),
        spec: Some(v1::BuildSpec {
            source: Some(v1::build_spec::Source::Module(v1::ModuleSource {
                package: "example.com/tool".into(),
                query: "latest".into(),
            })),
            packages: vec![".".into()],
            platforms: platforms.collect(),
            toolchain: Some(v1::Toolchain {
                choice: Some(v1::toolchain::Choice::Default(v1::toolchain::Default {})),
            }),
            flags: Some(v1::BuildFlags::default()),
            name: None,
            version: String::new(),
            wishes: Some(v1::Wishes::default()),
            ..v1::BuildSpec::default()
        }),
        ways: Vec::new(),
    }
}
