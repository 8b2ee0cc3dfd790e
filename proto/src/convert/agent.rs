//! What an agent says on its stream.

use std::collections::BTreeSet;

use meridian_core::{
    build::WISHED_MAX,
    cache::{manifest_ref::ManifestRef, sidecar::SIDECAR_MANIFESTS_MAX},
    id::{Fence, Label, PlacementNumber, SessionId, TaskId},
    machine::{
        PEERS_MAX, RESIDENCY_MAX,
        input::{AgentOffer, Input, Observation, Outcome, PeerFigures, Progress},
    },
    quantity::ByteCount,
    sandbox::Sandbox,
    schedule::sketch::{HeldSketch, Sample},
};

use super::field::{
    ConvertError, digests, digests_bytes, list, message, messages, optional, required, sample,
    sample_message, text, texts,
};
use crate::v1;

/// Most labels of one agent: several times what one request may ask for.
const LABELS_MAX: usize = 4 * WISHED_MAX;

/// What an agent said, checked for its shape. Whose stream it came on is the listener's knowledge.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentSaid {
    /// Its first words.
    Hello {
        /// What it can do.
        offer: AgentOffer,
        /// The leases it believes it holds.
        held: Vec<(TaskId, Fence)>,
        /// Which process of the agent speaks: a number that it drew when it started, or zero.
        process: u64,
    },
    /// What it measured itself; round trip and clock offset are for the listener to add.
    Observed(Observation),
    /// It takes up a placement.
    Lease {
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
    },
    /// It cannot take a placement.
    Decline {
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
        /// Why.
        why: String,
    },
    /// It still works on these.
    Renewal {
        /// The leases it holds.
        held: Vec<(TaskId, Fence)>,
    },
    /// How far an attempt is.
    Progressed {
        /// The task.
        task: TaskId,
        /// Under which lease.
        fence: Fence,
        /// How far.
        progress: Progress,
    },
    /// An attempt ended.
    Report {
        /// The task.
        task: TaskId,
        /// Under which lease.
        fence: Fence,
        /// How.
        outcome: Box<Outcome>,
    },
    /// Which cache entries a build used whose result was accepted.
    ManifestMade {
        /// The task.
        task: TaskId,
        /// Under which lease it was built.
        fence: Fence,
        /// The manifest.
        manifest: ManifestRef,
        /// Some of what it lists.
        sample: Sample,
    },
    /// It takes no new work.
    Drain,
    /// What became of a run whose lease was taken back.
    Stopped {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// Why something of it is still alive; empty when nothing is.
        remaining: String,
    },
    /// It heard whether it is drained.
    Drained {
        /// Whether it is.
        is_drained: bool,
    },
    /// It answers a question about its cache. The coordinator decides nothing by it and hands it on as it is.
    CacheAnswer(Box<v1::CacheAnswer>),
    /// It answers a probe.
    Echo {
        /// The probe's number.
        number: u64,
        /// Its wall clock when the probe came, in microseconds.
        received_wall_us: u64,
        /// Its wall clock when it answered, in microseconds.
        sent_wall_us: u64,
    },
}

impl AgentSaid {
    /// The machine's input, for what needs nothing but the stream it came on.
    ///
    /// # Errors
    /// Gives the words back when they are no input by themselves: `Hello` needs the agent's certificate,
    /// `Observed` the measurements of the coordinator's side, of which `Echo` is one, `Report` somebody who looks
    /// at what it names, and `CacheAnswer` whoever asked.
    pub fn into_input(self, session: SessionId) -> Result<Input, Box<Self>> {
        Ok(match self {
            Self::Lease { task, placement } => Input::Lease { session, task, placement },
            Self::Decline { task, placement, why } => Input::Decline { session, task, placement, why },
            Self::Renewal { held } => Input::Renew { session, held },
            Self::Progressed { task, fence, progress } => Input::Progress { session, task, fence, progress },
            Self::ManifestMade { task, fence, manifest, sample } => {
                Input::ManifestMade { session, task, fence, manifest, sample }
            }
            Self::Drain => Input::Drain { session },
            Self::Stopped { task, fence, remaining } => Input::Stopped { session, task, fence, remaining },
            Self::Drained { is_drained } => Input::Drained { session, is_drained },
            other @ (Self::Hello { .. }
            | Self::Observed(_)
            | Self::Report { .. }
            | Self::CacheAnswer(_)
            | Self::Echo { .. }) => return Err(Box::new(other)),
        })
    }
}

impl From<&AgentSaid> for v1::AgentMessage {
    fn from(said: &AgentSaid) -> Self {
        use v1::agent_message::Message;
        let message = match said {
            AgentSaid::Hello { offer, held, process } => Message::Hello(v1::Hello {
                offer: Some(offer.into()),
                held: leases(held),
                // Whoever speaks this version answers.
                answers: true,
                process: *process,
            }),
            AgentSaid::Observed(observation) => Message::Observation(observation.into()),
            AgentSaid::Lease { task, placement } => {
                Message::Lease(v1::LeaseRequest { task: task.to_string(), placement: placement.0 })
            }
            AgentSaid::Decline { task, placement, why } => Message::Decline(v1::Decline {
                task: task.to_string(),
                placement: placement.0,
                why: why.clone(),
            }),
            AgentSaid::Renewal { held } => Message::Renewal(v1::Renewal { held: leases(held) }),
            AgentSaid::Progressed { task, fence, progress } => Message::Progress(v1::ProgressReport {
                lease: Some(lease_message(task, *fence)),
                progress: Some(progress.into()),
            }),
            AgentSaid::Report { task, fence, outcome } => Message::Report(v1::Report {
                lease: Some(lease_message(task, *fence)),
                outcome: Some(outcome.as_ref().into()),
            }),
            AgentSaid::ManifestMade { task, fence, manifest, sample } => {
                Message::ManifestMade(v1::ManifestMade {
                    lease: Some(lease_message(task, *fence)),
                    manifest: Some(manifest.into()),
                    sample: sample_message(sample),
                })
            }
            AgentSaid::Drain => Message::Drain(v1::Drain {}),
            AgentSaid::Stopped { task, fence, remaining } => Message::Stopped(v1::Stopped {
                lease: Some(lease_message(task, *fence)),
                remaining: remaining.clone(),
            }),
            AgentSaid::Drained { is_drained } => Message::Drained(v1::Drained { drained: *is_drained }),
            AgentSaid::CacheAnswer(answer) => Message::CacheAnswer(answer.as_ref().clone()),
            AgentSaid::Echo { number, received_wall_us, sent_wall_us } => Message::Echo(v1::Echo {
                number: *number,
                received_wall_us: *received_wall_us,
                sent_wall_us: *sent_wall_us,
            }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::AgentMessage> for AgentSaid {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentMessage) -> Result<Self, ConvertError> {
        use v1::agent_message::Message;
        Ok(match required(wire.message, "message")? {
            Message::Hello(hello) => Self::Hello {
                offer: message(hello.offer, "hello.offer")?,
                held: held(hello.held, "hello.held")?,
                process: hello.process,
            },
            Message::Observation(observation) => Self::Observed(
                observation.try_into().map_err(|error: ConvertError| error.within("observation"))?,
            ),
            Message::Lease(request) => Self::Lease {
                task: text(&request.task, "lease.task")?,
                placement: PlacementNumber(request.placement),
            },
            Message::Decline(decline) => Self::Decline {
                task: text(&decline.task, "decline.task")?,
                placement: PlacementNumber(decline.placement),
                why: decline.why,
            },
            Message::Renewal(renewal) => Self::Renewal { held: held(renewal.held, "renewal.held")? },
            Message::Progress(report) => {
                let (task, fence) = lease(required(report.lease, "progress.lease")?, "progress.lease.task")?;
                Self::Progressed { task, fence, progress: message(report.progress, "progress.progress")? }
            }
            Message::Report(report) => {
                let (task, fence) = lease(required(report.lease, "report.lease")?, "report.lease.task")?;
                Self::Report { task, fence, outcome: Box::new(message(report.outcome, "report.outcome")?) }
            }
            Message::ManifestMade(made) => {
                let lease_made = required(made.lease, "manifest_made.lease")?;
                let (task, fence) = lease(lease_made, "manifest_made.lease.task")?;
                let manifest = message(made.manifest, "manifest_made.manifest")?;
                Self::ManifestMade { task, fence, manifest, sample: sample(made.sample) }
            }
            Message::Drain(_) => Self::Drain,
            Message::Stopped(stopped) => {
                let (task, fence) = lease(required(stopped.lease, "stopped.lease")?, "stopped.lease.task")?;
                Self::Stopped { task, fence, remaining: stopped.remaining }
            }
            Message::Drained(v1::Drained { drained }) => Self::Drained { is_drained: drained },
            Message::CacheAnswer(answer) => Self::CacheAnswer(Box::new(answer)),
            Message::Echo(v1::Echo { number, received_wall_us, sent_wall_us }) => {
                Self::Echo { number, received_wall_us, sent_wall_us }
            }
        })
    }
}

fn lease_message(task: &TaskId, fence: Fence) -> v1::Lease {
    v1::Lease { task: task.to_string(), fence: fence.0 }
}

fn leases(held: &[(TaskId, Fence)]) -> Vec<v1::Lease> {
    held.iter().map(|(task, fence)| lease_message(task, *fence)).collect()
}

fn lease(wire: v1::Lease, field: &'static str) -> Result<(TaskId, Fence), ConvertError> {
    Ok((text(&wire.task, field)?, Fence(wire.fence)))
}

fn held(wire: Vec<v1::Lease>, field: &'static str) -> Result<Vec<(TaskId, Fence)>, ConvertError> {
    wire.into_iter().map(|wire| lease(wire, field)).collect()
}

/// Round trip and clock offset are the coordinator's own measurements and stay here.
impl From<&Observation> for v1::Observation {
    fn from(observation: &Observation) -> Self {
        Self {
            disk_free: observation.disk_free.map(|bytes| bytes.0),
            cache_hits: observation.cache_hits,
            cache_lookups: observation.cache_lookups,
            residency: digests_bytes(&observation.residency),
            shard: observation.shard.as_ref().map(Into::into),
            sidecars: messages(&observation.sidecars),
            cache: observation.cache.as_ref().map(Into::into),
            sketch: observation.sketch.as_ref().map(|sketch| v1::Sketch {
                numbers: sketch.numbers().to_vec(),
                complete_to: sketch.complete_to(),
            }),
            peers: messages(&observation.peers),
        }
    }
}

impl TryFrom<v1::Observation> for Observation {
    type Error = ConvertError;

    fn try_from(mut wire: v1::Observation) -> Result<Self, ConvertError> {
        wire.residency.truncate(RESIDENCY_MAX);
        wire.sidecars.truncate(SIDECAR_MANIFESTS_MAX);
        wire.peers.truncate(PEERS_MAX);
        Ok(Self {
            rtt_us: None,
            clock_offset_us: None,
            disk_free: wire.disk_free.map(ByteCount),
            cache_hits: wire.cache_hits,
            cache_lookups: wire.cache_lookups,
            residency: digests(&wire.residency, "residency")?,
            shard: wire.shard.map(Into::into),
            sidecars: list(wire.sidecars, "sidecars")?,
            cache: wire.cache.map(Into::into),
            sketch: wire.sketch.map(|sketch| HeldSketch::received(&sketch.numbers, sketch.complete_to)),
            peers: list(wire.peers, "peers")?,
        })
    }
}

impl From<&PeerFigures> for v1::PeerFigures {
    fn from(peer: &PeerFigures) -> Self {
        Self { agent: peer.agent.to_string(), rtt_us: peer.rtt_us, bytes_per_s: peer.bytes_per_s.0 }
    }
}

impl TryFrom<v1::PeerFigures> for PeerFigures {
    type Error = ConvertError;

    fn try_from(wire: v1::PeerFigures) -> Result<Self, ConvertError> {
        let v1::PeerFigures { agent, rtt_us, bytes_per_s } = wire;
        Ok(Self { agent: text(&agent, "agent")?, rtt_us, bytes_per_s: ByteCount(bytes_per_s) })
    }
}

impl From<&AgentOffer> for v1::AgentOffer {
    fn from(offer: &AgentOffer) -> Self {
        Self {
            host: offer.host.clone(),
            slots: offer.slots,
            cores: offer.cores,
            version: offer.version.clone(),
            sandbox: Some(v1::Sandbox {
                kind: offer.sandbox.kind.clone(),
                features: offer.sandbox.features.clone(),
            }),
            cache: offer.cache.as_ref().map(Into::into),
            labels: offer.labels.iter().map(ToString::to_string).collect(),
            memory: offer.memory.map(|memory| memory.0),
            heeds_drain: offer.heeds_drain,
            tells_stops: offer.tells_stops,
        }
    }
}

impl TryFrom<v1::AgentOffer> for AgentOffer {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentOffer) -> Result<Self, ConvertError> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'/';
        if wire.host.len() > 64 || !wire.host.contains('/') || !wire.host.bytes().all(is_allowed) {
            return Err(ConvertError::new("host", "is not GOOS/GOARCH"));
        }
        if wire.version.len() > 64 || wire.version.chars().any(char::is_control) {
            return Err(ConvertError::new("version", "is longer than 64 bytes or holds a control character"));
        }
        let sandbox =
            wire.sandbox.map(|v1::Sandbox { kind, features }| Sandbox { kind, features }).unwrap_or_default();
        if !sandbox.is_well_formed() {
            return Err(ConvertError::new("sandbox", "is not a kind and a sorted list of features"));
        }
        let cache = optional(wire.cache, "cache")?;
        let labels: BTreeSet<Label> = texts(&wire.labels, "labels")?;
        if labels.len() > LABELS_MAX {
            return Err(ConvertError::new("labels", format_args!("more than {LABELS_MAX} labels")));
        }
        let v1::AgentOffer { host, slots, cores, version, memory, heeds_drain, tells_stops, .. } = wire;
        let memory = memory.map(ByteCount);
        Ok(Self { host, slots, cores, version, sandbox, cache, labels, memory, heeds_drain, tells_stops })
    }
}
