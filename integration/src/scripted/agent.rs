//! The agent's end of the stream, driven by hand.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::Context as _;
use meridian_agent::transfer::{Access, BlobUpload, TransferConfig, Uploader};
use meridian_core::{
    attestation::{Attestation, Document},
    build::{Artifact, Receipt, Resolution},
    id::{AgentId, Fence, FleetName, PlacementNumber, TaskId},
    keyring::KeyAlgorithm,
    machine::{
        effect::{Order, Work},
        input::{AgentOffer, Outcome},
        record::TaskKind,
    },
    sandbox::Sandbox,
    time::Wall,
};
use meridian_proto::{
    convert::{agent::AgentSaid, coordinator::CoordinatorSaid},
    v1::{self, agents_client::AgentsClient},
};
use meridian_runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::signer::{Claim, HOST, Signer, Sketch, VERSION};

/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(30);
/// Orders and answers that may wait to be sent.
const QUEUED_MAX: usize = 64;

/// A scripted agent that is attached.
pub struct Scripted {
    /// Its connection.
    pub channel: Channel,
    /// Its signer.
    pub signer: Signer,
    to: mpsc::Sender<v1::AgentMessage>,
    from: Streaming<v1::CoordinatorMessage>,
    waiting: VecDeque<Order>,
    placements: BTreeMap<Fence, PlacementNumber>,
    slots: u32,
    salt: u64,
}

impl Scripted {
    /// Attaches over an agent's connection and has a fresh key of its signer certified.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn attach(
        channel: Channel,
        fleet: FleetName,
        agent: AgentId,
        algorithm: KeyAlgorithm,
        slots: u32,
    ) -> anyhow::Result<Self> {
        let signer = Signer::new(algorithm, fleet, agent)?;
        signer.certify(&channel).await?;
        let (to, from) = open(&channel, slots).await?;
        let (waiting, placements) = (VecDeque::new(), BTreeMap::new());
        Ok(Self { channel, signer, to, from, waiting, placements, slots, salt: 0 })
    }

    /// Opens a new stream in the place of one that the coordinator ended. What was leased before is not held any more.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn attach_again(&mut self) -> anyhow::Result<()> {
        (self.to, self.from) = open(&self.channel, self.slots).await?;
        self.waiting.clear();
        Ok(())
    }

    async fn say(&self, said: &AgentSaid) -> anyhow::Result<()> {
        self.to.send(said.into()).await.context("the stream is closed")
    }

    /// The first order that `pick` takes. Others wait for whoever wants them; probes are answered.
    async fn order<T>(&mut self, pick: impl Fn(&Order) -> Option<T>) -> anyhow::Result<T> {
        if let Some(at) = self.waiting.iter().position(|order| pick(order).is_some())
            && let Some(picked) = self.waiting.remove(at).as_ref().and_then(&pick)
        {
            return Ok(picked);
        }
        let deadline = tokio::time::Instant::now() + ORDER_WITHIN;
        loop {
            let message = tokio::time::timeout_at(deadline, self.from.message()).await;
            let message = message.context("no order came in time")??.context("the stream ended")?;
            match CoordinatorSaid::try_from(message)? {
                CoordinatorSaid::Order { order, .. } => match pick(&order) {
                    Some(picked) => return Ok(picked),
                    None => self.waiting.push_back(order),
                },
                CoordinatorSaid::Probe { number } => {
                    let now_us = Clock::system().now().wall_ms * 1_000;
                    let echo = AgentSaid::Echo { number, received_wall_us: now_us, sent_wall_us: now_us };
                    self.say(&echo).await?;
                }
                // Its cache is nobody's business.
                CoordinatorSaid::CacheQuestion(_) => {}
            }
        }
    }

    /// Takes up the next offer and gives the work with its lease.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn take(&mut self) -> anyhow::Result<(Work, Fence)> {
        let offered = |order: &Order| match order {
            Order::Offer { work, placement, .. } => Some((Work::clone(work), *placement)),
            _ => None,
        };
        let (work, placement) = self.order(offered).await?;
        let wanted = work.task.clone();
        self.say(&AgentSaid::Lease { task: wanted.clone(), placement }).await?;
        let fence = self
            .order(|order| match order {
                Order::Grant { task, fence, .. } if *task == wanted => Some(*fence),
                _ => None,
            })
            .await?;
        self.placements.insert(fence, placement);
        Ok((work, fence))
    }

    /// Takes up the next compile; what has to be resolved before is resolved to `found`.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn take_compile(&mut self, found: &Resolution) -> anyhow::Result<(Work, Fence)> {
        loop {
            let (work, fence) = self.take().await?;
            if matches!(work.kind, TaskKind::Compile(_)) {
                return Ok((work, fence));
            }
            let accepted = self.report(&work.task, fence, Outcome::Resolved(found.clone())).await?;
            anyhow::ensure!(accepted, "what an agent resolved was refused");
        }
    }

    /// Reports, and says whether the report became the task's result.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn report(&mut self, task: &TaskId, fence: Fence, outcome: Outcome) -> anyhow::Result<bool> {
        let said = AgentSaid::Report { task: task.clone(), fence, outcome: Box::new(outcome) };
        self.say(&said).await?;
        self.order(|order| match order {
            Order::Settled { task: settled, fence: under, accepted }
                if settled == task && *under == fence =>
            {
                Some(*accepted)
            }
            _ => None,
        })
        .await
    }

    /// What an attempt under a lease is to be made of. The executable is another one each time.
    #[must_use]
    pub fn sketch<'a>(&mut self, work: &'a Work, fence: Fence, modules: &'a str, now: Wall) -> Sketch<'a> {
        self.salt += 1;
        let placement = self.placements.get(&fence).copied().unwrap_or(PlacementNumber(0));
        Sketch { work, fence, placement, modules, now, salt: self.salt }
    }

    /// Uploads a claim under a lease: what would be reported of it.
    ///
    /// # Errors
    /// When the coordinator does not take it.
    pub async fn keep(&self, work: &Work, fence: Fence, claim: &Claim) -> anyhow::Result<Artifact> {
        let access =
            Access { project: work.task.build.project.clone(), lease: Some((work.task.clone(), fence)) };
        let uploader = Uploader::new(self.channel.clone(), access, TransferConfig::default());
        let parts = [&claim.executable, &claim.provenance, &claim.sbom];
        let uploads = parts.map(|bytes| BlobUpload::of(bytes.clone().into()));
        let receipts = uploader.put(&uploads, |_| {}).await?;
        let [own, provenance, sbom]: [Receipt; 3] =
            receipts.try_into().map_err(|_| anyhow::anyhow!("three receipts were expected"))?;
        let document = |receipt: Receipt| Document {
            digest: receipt.digest,
            size: receipt.size,
            receipts: vec![receipt],
        };
        Ok(Artifact {
            name: claim.name.clone(),
            package: claim.package.clone(),
            digest: own.digest,
            size: own.size,
            receipts: vec![own],
            attestation: Some(Attestation {
                key: claim.key,
                signature: claim.signature.clone(),
                provenance: document(provenance),
                sbom: document(sbom),
            }),
        })
    }
}

/// A stream on which the hello was said.
async fn open(
    channel: &Channel,
    slots: u32,
) -> anyhow::Result<(mpsc::Sender<v1::AgentMessage>, Streaming<v1::CoordinatorMessage>)> {
    let (to, messages) = mpsc::channel(QUEUED_MAX);
    let (host, version, sandbox) = (HOST.into(), VERSION.into(), Sandbox::default());
    let offer = AgentOffer {
        host,
        slots,
        cores: 1,
        version,
        sandbox,
        cache: None,
        labels: Default::default(),
        memory: None,
        heeds_drain: false,
        tells_stops: false,
    };
    to.send((&AgentSaid::Hello { offer, held: Vec::new(), process: 0 }).into()).await?;
    let from = AgentsClient::new(channel.clone()).attach(ReceiverStream::new(messages)).await?;
    Ok((to, from.into_inner()))
}

/// A result of one artifact.
#[must_use]
pub fn built(artifact: Artifact) -> Outcome {
    let go_version = format!("go{}", meridian_core::golang::toolchain_pins::DEFAULT_VERSION);
    Outcome::Built { artifacts: vec![artifact], go_version, log: Vec::new(), hit_permille: None }
}
