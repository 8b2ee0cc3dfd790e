//! The `Agents` service: one stream an agent, and the round-trip probes on it.
//!
//! The stream's reader turns messages into inputs; its writer is fed by the loop and by the prober. When
//! either end stops, the session is detached and the agent's leases run on until they expire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_core::{
    cache::sidecar::SidecarAsk,
    id::{AgentId, Fence, SessionId, TaskId},
    machine::{
        Machine,
        effect::{Refusal, Reply},
        input::{Input, Upkeep},
        views::AgentStatus,
    },
    time::Wall,
};
use meridian_proto::{convert::agent::AgentSaid, v1};
use meridian_runtime::clock::{Clock, Reading};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, sleep_until, timeout, timeout_at},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authorization::Caller,
    cache_desk::CacheDesk,
    handle::Handle,
    holder::Holder,
    probe::Prober,
    processes::{Processes, Speaking},
    services::keys::from_signing,
    signing::{Grants, Results, Signing},
    status::{from_command, from_convert, from_reply, internal, invalid},
};

/// Orders that may wait for one agent. More than any agent has slots; a stream that holds this many back is
/// stuck and is closed.
const ORDERS_QUEUED_MAX: usize = 256;
/// How long an agent may take to say hello, and then to say anything at all: three renewals.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often the round trip is measured once the first measurements are in.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The `Agents` service.
pub(crate) struct AgentsService {
    pub(crate) handle: Handle,
    pub(crate) holder: Holder,
    pub(crate) results: Results,
    pub(crate) signing: Signing,
    pub(crate) caches: CacheDesk,
    pub(crate) processes: Processes,
    pub(crate) clock: Clock,
    /// How long one stream is open before the agent is asked for a new one, on a fresh connection.
    pub(crate) connection_age_max: Duration,
}

/// One attached agent.
struct Session {
    id: SessionId,
    agent: AgentId,
    handle: Handle,
    holder: Holder,
    results: Results,
    /// For an agent that takes part in the cache.
    grants: Option<Grants>,
    caches: CacheDesk,
    /// What the agent is to be asked about its cache.
    questions: mpsc::Receiver<v1::CoordinatorMessage>,
    prober: Prober,
    speaking: Speaking,
    ends_at: Instant,
}

#[tonic::async_trait]
impl v1::agents_server::Agents for AgentsService {
    type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let Caller::Agent(agent) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents attach"));
        };
        let mut messages = request.into_inner();
        let first = timeout(SILENCE_MAX, messages.next())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello within 30 s"))?
            .ok_or_else(|| Status::invalid_argument("the stream ended before a hello"))??;
        let answers = answers(&first);
        let AgentSaid::Hello { offer, held, process } =
            AgentSaid::try_from(first).map_err(|e| from_convert(&e))?
        else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        let speaking = self.processes.let_in(&agent, process)?;
        let (orders, from_loop) = mpsc::channel(ORDERS_QUEUED_MAX);
        let key = offer.cache.as_ref().map(|cache| cache.key);
        let grants = key.map(|key| Grants::new(self.signing.clone(), agent.clone(), key));
        let id = self.handle.attach(agent.clone(), offer, held, orders).await.map_err(from_command)?;
        tracing::info!(%agent, session = %id, "an agent attached");
        let questions = self.caches.open(&agent, id, answers);
        let session = Session {
            id,
            agent,
            handle: self.handle.clone(),
            holder: self.holder.clone(),
            results: self.results.clone(),
            grants,
            caches: self.caches.clone(),
            questions,
            prober: Prober::default(),
            speaking,
            ends_at: Instant::now() + self.connection_age_max,
        };
        let (outbound, stream) = mpsc::channel(ORDERS_QUEUED_MAX);
        tokio::spawn(session.run(messages, from_loop, outbound));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn order(&self, request: Request<v1::OrderRequest>) -> Result<Response<v1::OrderResponse>, Status> {
        let Caller::Agent(agent) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents are given orders"));
        };
        let lease = request.into_inner().lease.ok_or_else(|| invalid("the lease is missing"))?;
        let (task, fence): (TaskId, _) = (lease.task.parse().map_err(invalid)?, Fence(lease.fence));
        let (caller, now) = (agent.clone(), Wall(self.clock.now().wall_ms));
        let read = move |machine: &Machine| {
            let durable = machine.durable();
            (durable.signing_order(&task, fence), durable.is_barred(&caller, now))
        };
        let (order, is_barred) = self.handle.read(read).await.map_err(from_command)?;
        if is_barred {
            return Err(from_reply("give an order", Reply::Refused(Refusal::AgentBarred { agent })));
        }
        let order = order
            .filter(|order| order.agent == agent)
            .ok_or_else(|| Status::failed_precondition("the lease is not current"))?;
        let order = self.signing.order(&order).map_err(from_signing)?.to_json();
        let keyring = self.signing.keyring().await.map_err(from_signing)?.to_json();
        Ok(Response::new(v1::OrderResponse { order: order.into(), keyring: keyring.into() }))
    }

    async fn sidecar(
        &self,
        request: Request<v1::SidecarRequest>,
    ) -> Result<Response<v1::SidecarResponse>, Status> {
        let Caller::Agent(agent) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents have builds beside them"));
        };
        let ask = SidecarAsk::try_from(request.into_inner()).map_err(|e| from_convert(&e))?;
        let (project, now) = (ask.project.clone(), Wall(self.clock.now().wall_ms));
        let asking = agent.clone();
        let read = move |machine: &Machine| {
            let attached = machine.agents().find(|status| *status.agent == asking)?;
            let key = attached.offer.cache.as_ref()?.key;
            Some((machine.sidecar_hints(&asking, &ask, now), key))
        };
        let found = self.handle.read(read).await.map_err(from_command)?;
        let (hints, key) = found.ok_or_else(|| {
            Status::failed_precondition(format!("agent {agent} is not attached with a cache"))
        })?;
        let hints = hints.ok_or_else(|| {
            Status::permission_denied(format!(
                "go commands beside agent {agent} may not use the cache for {project}: `[cache] sidecars` in coordinator.toml does not name it, or it was revoked"
            ))
        })?;
        let mut response = v1::SidecarResponse::from(&hints);
        if let Some(hints) = &mut response.hints {
            let grant = self.signing.cache_grant(&agent, key, hints, now).map_err(from_signing)?;
            hints.grant = grant.to_json().into();
        }
        Ok(Response::new(response))
    }

    async fn membership(
        &self,
        request: Request<v1::MembershipRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let Caller::Agent(_) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents share the cache"));
        };
        let read = |machine: &Machine| machine.shards().map(Into::into);
        let shards = self.handle.read(read).await.map_err(from_command)?;
        Ok(Response::new(v1::MembershipResponse { shards }))
    }

    async fn list(
        &self,
        _request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let now = self.clock.now();
        let read = move |machine: &Machine| v1::ListAgentsResponse {
            agents: machine.agents().map(|agent| status(&agent, now)).collect(),
            cordons: machine.durable().cordons().map(Into::into).collect(),
            maintenance: machine.durable().maintenance().map(Into::into).collect(),
        };
        self.handle.read(read).await.map(Response::new).map_err(from_command)
    }

    async fn upkeep(
        &self,
        request: Request<v1::UpkeepRequest>,
    ) -> Result<Response<v1::UpkeepResponse>, Status> {
        let caller = Caller::of(&request);
        let by = caller.requester(self.signing.fleet())?;
        let message = request.into_inner();
        let agent: AgentId = message.agent.parse().map_err(invalid)?;
        let upkeep = Upkeep::try_from(message).map_err(|error| from_convert(&error))?;
        tracing::info!(%agent, %by, ?upkeep, "an administrator looks after an agent");
        let input = move |request| Input::Upkeep { request, agent, by, upkeep };
        match self.handle.request(input).await.map_err(from_command)? {
            Reply::UpkeepDone { changed, is_attached, busy, drains } => {
                Ok(Response::new(v1::UpkeepResponse { changed, attached: is_attached, busy, drains }))
            }
            other => Err(from_reply("look after an agent", other)),
        }
    }
}

impl Session {
    async fn run(
        mut self,
        mut messages: Streaming<v1::AgentMessage>,
        mut from_loop: mpsc::Receiver<v1::CoordinatorMessage>,
        outbound: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    ) {
        // The first few probes come quickly, so that the first placement already has a figure.
        let mut probe = tokio::time::interval(Duration::from_millis(200));
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quick_probes = 8;
        let mut heard_at = Instant::now();
        let why = loop {
            let outgoing = tokio::select! {
                order = from_loop.recv() => match order {
                    Some(mut order) => {
                        self.grants.iter_mut().for_each(|grants| grants.add_to(&mut order));
                        order
                    }
                    None => break "the coordinator closed it".to_owned(),
                },
                Some(mut question) = self.questions.recv() => {
                    self.grants.iter_mut().for_each(|grants| grants.add_to(&mut question));
                    question
                }
                () = sleep_until(self.ends_at) => break "it is to be opened anew, so that the agent shows who it is".to_owned(),
                _ = probe.tick() => {
                    if quick_probes > 0 {
                        quick_probes -= 1;
                        if quick_probes == 0 {
                            probe = tokio::time::interval_at(Instant::now() + PROBE_EVERY, PROBE_EVERY);
                        }
                    }
                    self.prober.next(now_us())
                }
                message = timeout_at(heard_at + SILENCE_MAX, messages.next()) => {
                    heard_at = Instant::now();
                    match message {
                        Err(_) => break "it was silent for 30 s".to_owned(),
                        Ok(None) => break "the agent closed it".to_owned(),
                        Ok(Some(Err(status))) => break status.to_string(),
                        Ok(Some(Ok(message))) => if let Err(status) = self.take(message).await {
                            // The agent learns what was wrong with its message, if it is still there.
                            let _ = outbound.try_send(Err(status.clone()));
                            break status.to_string();
                        },
                    }
                    continue;
                }
            };
            if timeout(SILENCE_MAX, outbound.send(Ok(outgoing))).await.is_err() {
                break "it took no message for 30 s".to_owned();
            }
        };
        tracing::info!(agent = %self.agent, session = %self.id, why, "an agent's stream ended");
        self.caches.close(&self.agent, self.id);
        // When the loop has stopped, so has every session.
        let _ = self.handle.input(Input::Detach { session: self.id }).await;
    }

    async fn take(&mut self, message: v1::AgentMessage) -> Result<(), Status> {
        let _busy = self.speaking.busy();
        let session = self.id;
        let input = match AgentSaid::try_from(message).map_err(|e| from_convert(&e))? {
            AgentSaid::Hello { .. } => return Err(Status::invalid_argument("a second hello")),
            AgentSaid::Echo { number, received_wall_us, sent_wall_us } => {
                let echo = v1::Echo { number, received_wall_us, sent_wall_us };
                let Some(observation) = self.prober.echoed(&echo, now_us()) else { return Ok(()) };
                Input::Observe { session, observation }
            }
            AgentSaid::CacheAnswer(answer) => {
                self.caches.answered(&self.agent, *answer);
                return Ok(());
            }
            AgentSaid::Observed(figures) => {
                Input::Observe { session, observation: self.prober.observed(&figures) }
            }
            AgentSaid::Report { task, fence, outcome } => {
                let outcome = self.holder.check_outcome(&task, outcome).await;
                let outcome = outcome.map_err(|error| internal("the report cannot be checked", error))?;
                let evidence = self.results.evidence(&task, fence, &outcome).await;
                Input::Report { session, task, fence, outcome, evidence }
            }
            said => said
                .into_input(session)
                .map_err(|said| Status::invalid_argument(format!("not expected here: {said:?}")))?,
        };
        self.handle.input(input).await.map_err(from_command)
    }
}

/// Whether whoever says hello answers questions about its cache. An earlier release would end the stream at one.
const fn answers(first: &v1::AgentMessage) -> bool {
    matches!(&first.message, Some(v1::agent_message::Message::Hello(hello)) if hello.answers)
}

fn status(agent: &AgentStatus<'_>, now: Reading) -> v1::AgentStatus {
    v1::AgentStatus {
        agent: agent.agent.to_string(),
        offer: Some(agent.offer.into()),
        draining: agent.is_draining,
        busy: agent.busy,
        rtt_us: agent.observation.rtt_us,
        clock_offset_us: agent.observation.clock_offset_us,
        disk_free: agent.observation.disk_free.map(|bytes| bytes.0),
        cache_hits: agent.observation.cache_hits,
        cache_lookups: agent.observation.cache_lookups,
        residency: u32::try_from(agent.observation.residency.len()).unwrap_or(u32::MAX),
        shard: agent.observation.shard.as_ref().map(Into::into),
        closed: agent.closed.map(Into::into).or_else(|| agent.set_aside.map(Into::into)),
        drained: agent.is_drained,
        attached_ms: now.wall_ms.saturating_sub(now.mono_ms.saturating_sub(agent.since.0)),
    }
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}
