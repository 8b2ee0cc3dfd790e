//! The `Builds` service: submit, rebuild, watch, get, list, cancel, explain.

use std::time::Duration;

use bytes::Bytes;
use meridian_core::{
    build::{BuildSpec, Source},
    id::{BuildId, IdempotencyKey, ProjectId},
    machine::{Machine, effect::Reply, input::Input, record::BuildRecord, views::TaskExplanation},
    schedule::delivery::ClientWays,
    trace::Traceparent,
};
use meridian_proto::{
    convert::{client_ways, record::count_log_segments},
    limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX},
    v1,
};
use meridian_runtime::telemetry::propagation;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tracing::Instrument as _;

use crate::{
    authorization::Caller,
    handle::Handle,
    holder::{Holder, HolderError},
    journal_history::JournalHistory,
    services::keys::from_signing,
    signing::Signing,
    status::{from_command, from_convert, from_holder, from_reply, internal, invalid},
    watchers::Watchers,
};

/// How often a watcher's build is looked at while tasks of it wait.
const WAITS_LOOKED_AT_EVERY: Duration = Duration::from_millis(1_500);

/// The `Builds` service.
pub(crate) struct BuildsService {
    pub(crate) handle: Handle,
    pub(crate) watchers: Watchers,
    pub(crate) holder: Holder,
    pub(crate) history: JournalHistory,
    pub(crate) signing: Signing,
}

/// What the machine knows of a build: a record with its soft fields filled in.
fn view(machine: &Machine, build: &BuildId) -> Option<v1::Build> {
    let record = machine.build(build)?;
    let mut view = v1::Build::from(record);
    for (task, wire) in record.tasks.iter().zip(&mut view.tasks) {
        count_log_segments(&mut wire.history);
        wire.progress = machine.progress(&task.id).map(v1::Progress::from);
        if let Some(reason) = machine.wait_reason(&task.id) {
            wire.waits_for = reason.to_string();
            wire.waits_code = reason.code().to_owned();
        }
    }
    Some(view)
}

pub(super) fn parse_build(text: &str, caller: &Caller) -> Result<BuildId, Status> {
    let build: BuildId = text.parse().map_err(invalid)?;
    caller.check_project(&build.project)?;
    Ok(build)
}

impl BuildsService {
    /// Keeps the tree that a build is made from.
    async fn keep_source(&self, project: &ProjectId, source: &Source) -> Result<(), Status> {
        let Source::Tree { root, .. } = source else { return Ok(()) };
        self.holder.keep_tree(project, *root).await.map_err(|error| match error {
            HolderError::Missing { .. } => {
                Status::failed_precondition(format!("source tree {root} is not whole: {error}"))
            }
            other => from_holder(other),
        })
    }

    /// Admits a build whose spec is checked and whose source is kept.
    pub(super) async fn admit(
        &self,
        caller: &Caller,
        project: ProjectId,
        key: IdempotencyKey,
        spec: Box<BuildSpec>,
        (traceparent, ways): (Option<Traceparent>, Option<Box<ClientWays>>),
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let requester = caller.requester(self.signing.fleet())?;
        let submit =
            move |request| Input::Submit { request, project, requester, key, spec, traceparent, ways };
        let reply = self
            .handle
            .request(submit)
            .instrument(tracing::info_span!("decide"))
            .await
            .map_err(from_command)?;
        match reply {
            Reply::Submitted { build } => Ok(Response::new(v1::SubmitResponse { build: build.to_string() })),
            other => Err(from_reply("submit", other)),
        }
    }

    async fn find(&self, build: &BuildId) -> Result<v1::Build, Status> {
        let asked = build.clone();
        let live = self.handle.read(move |machine| view(machine, &asked)).await.map_err(from_command)?;
        if let Some(live) = live {
            return Ok(live);
        }
        let remembered =
            self.history.build(build).await.map_err(|e| internal("history cannot be read", e))?;
        remembered
            .map(|record| {
                let mut build = v1::Build::from(&record);
                build.tasks.iter_mut().for_each(|task| count_log_segments(&mut task.history));
                build
            })
            .ok_or_else(|| Status::not_found(format!("no build {build}")))
    }

    pub(super) fn check_spec(&self, project: &ProjectId, spec: &BuildSpec) -> Result<(), Status> {
        spec.check().map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Status::invalid_argument(lines.join("; "))
        })?;
        if let Source::Tree { root, receipts, .. } = &spec.source
            && !receipts
                .iter()
                .any(|receipt| receipt.digest == *root && self.holder.vouches(project, receipt))
        {
            return Err(Status::failed_precondition(format!(
                "no durable holder vouches for source tree {root}: upload it and ask for receipts first"
            )));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::builds_server::Builds for BuildsService {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = Caller::of(&request);
        let traceparent = trace_of(request.metadata());
        let message = request.into_inner();
        let project: ProjectId = message.project.parse().map_err(invalid)?;
        caller.check_project(&project)?;
        let key = IdempotencyKey::new(&message.key).map_err(invalid)?;
        let spec = message.spec.ok_or_else(|| Status::invalid_argument("spec is missing"))?;
        let spec = Box::new(BuildSpec::try_from(spec).map_err(|e| from_convert(&e))?);
        if spec.rebuild.is_some() {
            // What a rebuild says of the first build is the coordinator's own word.
            return Err(invalid("a rebuild is asked for with Rebuild, by the build to repeat"));
        }
        let ways = client_ways::from_wire(&message.ways).map_err(|e| from_convert(&e))?.map(Box::new);
        self.check_spec(&project, &spec)?;
        self.keep_source(&project, &spec.source).await?;
        self.admit(&caller, project, key, spec, (traceparent, ways)).await
    }

    async fn rebuild(
        &self,
        request: Request<v1::RebuildRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = Caller::of(&request);
        let traceparent = trace_of(request.metadata());
        self.repeat(&caller, request.into_inner(), traceparent).await
    }

    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let build = parse_build(&message.build, &caller)?;
        // Subscribed before the first read, so that no change falls between them.
        let mut changes = self.watchers.watch(&build);
        let first = self.find(&build).await?;
        let (sender, stream) = mpsc::channel(1);
        let handle = self.handle.clone();
        let seen = message.after_revision;
        tokio::spawn(async move {
            let mut waits = waits_of(&first);
            let mut next = Some(first).filter(|first| first.revision != seen || has_ended(first));
            loop {
                if let Some(build) = next.take() {
                    let ended = has_ended(&build);
                    waits = waits_of(&build);
                    let sent = sender.send(Ok(v1::WatchResponse { build: Some(build) })).await;
                    if ended || sent.is_err() {
                        return;
                    }
                }
                let mut is_look = false;
                tokio::select! {
                    () = sender.closed() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                    // What a task waits for changes with the agents and with others' tasks, and not with its build.
                    () = tokio::time::sleep(WAITS_LOOKED_AT_EVERY), if !waits.is_empty() => is_look = true,
                }
                let asked = build.clone();
                match handle.read(move |machine| view(machine, &asked)).await {
                    Ok(Some(build)) => {
                        next = Some(build).filter(|build| !is_look || waits_of(build) != waits)
                    }
                    // Forgotten meanwhile: it ended long ago, and get still knows it.
                    Ok(None) => return,
                    Err(error) => {
                        // The watcher resumes from its cursor; if it has gone, nobody needs to know.
                        let _ = sender.send(Err(from_command(error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get(&self, request: Request<v1::GetBuildRequest>) -> Result<Response<v1::Build>, Status> {
        let caller = Caller::of(&request);
        let build = parse_build(&request.into_inner().build, &caller)?;
        self.find(&build).await.map(Response::new)
    }

    async fn list(
        &self,
        request: Request<v1::ListBuildsRequest>,
    ) -> Result<Response<v1::ListBuildsResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project: ProjectId = message.project.parse().map_err(invalid)?;
        caller.check_project(&project)?;
        let size = match message.page_size {
            0 => PAGE_SIZE_DEFAULT,
            size @ 1..=PAGE_SIZE_MAX => size,
            size => return Err(invalid(format!("page_size {size} is over {PAGE_SIZE_MAX}"))),
        };
        let size = u64::from(size);
        let asked = project.clone();
        let last = self.handle.read(move |machine| machine.last_build(&asked)).await.map_err(from_command)?;
        // A project's builds are numbered from 1 without gaps, so the token is simply the next number down.
        let newest = match message.page_token.as_str() {
            "" => last,
            token => token
                .parse::<u64>()
                .map_err(|_| invalid(format!("page_token {token:?} is not ours")))?
                .min(last),
        };
        let oldest = newest.saturating_sub(size - 1).max(1);
        let mut builds = Vec::new();
        for number in (oldest..=newest).rev() {
            match self.find(&BuildId { project: project.clone(), number }).await {
                Ok(build) => builds.push(build),
                // Older than the journal keeps: so are all below it.
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(status) => return Err(status),
            }
        }
        let complete = builds.len() as u64 == size && oldest > 1;
        let next_page_token = if complete { (oldest - 1).to_string() } else { String::new() };
        Ok(Response::new(v1::ListBuildsResponse { builds, next_page_token }))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelBuildRequest>,
    ) -> Result<Response<v1::CancelBuildResponse>, Status> {
        let caller = Caller::of(&request);
        let build = parse_build(&request.into_inner().build, &caller)?;
        let by = caller.requester(self.signing.fleet())?;
        let reply = self
            .handle
            .request(move |request| Input::Cancel { request, build, by })
            .await
            .map_err(from_command)?;
        match reply {
            Reply::Cancelled { changed } => Ok(Response::new(v1::CancelBuildResponse { changed })),
            other => Err(from_reply("cancel", other)),
        }
    }

    async fn keyring(
        &self,
        request: Request<v1::BuildKeyringRequest>,
    ) -> Result<Response<v1::BuildKeyringResponse>, Status> {
        let caller = Caller::of(&request);
        let build = parse_build(&request.into_inner().build, &caller)?;
        let asked = build.clone();
        let known = self.handle.read(move |machine| machine.build(&asked).cloned()).await;
        let record = match known.map_err(from_command)? {
            Some(record) => record,
            None => {
                let found = self.history.build(&build).await;
                let found = found.map_err(|e| internal("history cannot be read", e))?;
                found.ok_or_else(|| Status::not_found(format!("no build {build}")))?
            }
        };
        let file = self.signing.keyring_file(&record).await.map_err(from_signing)?.to_json();
        Ok(Response::new(v1::BuildKeyringResponse { file: file.into() }))
    }

    async fn holders(
        &self,
        request: Request<v1::ArtifactHoldersRequest>,
    ) -> Result<Response<v1::ArtifactHoldersResponse>, Status> {
        let caller = Caller::of(&request);
        let build = parse_build(&request.into_inner().build, &caller)?;
        let bearer = caller.requester(self.signing.fleet())?;
        let holders = self.handle.read(move |machine| machine.artifact_holders(&build)).await;
        let holders = holders.map_err(from_command)?;
        let artifacts = holders.iter().flat_map(|holder| holder.artifacts.iter().copied()).collect();
        let grant = self.signing.artifact_grant(bearer, artifacts).map_err(from_signing)?;
        let holders = holders.iter().map(|holder| v1::ArtifactHolder {
            agent: holder.agent.to_string(),
            address: holder.address.to_string(),
            digests: holder.artifacts.iter().map(|one| Bytes::copy_from_slice(one.as_bytes())).collect(),
        });
        let holders = holders.collect();
        Ok(Response::new(v1::ArtifactHoldersResponse { holders, grant: grant.to_json().into() }))
    }

    async fn regions(
        &self,
        request: Request<v1::RegionsRequest>,
    ) -> Result<Response<v1::RegionsResponse>, Status> {
        let caller = Caller::of(&request);
        let project: ProjectId = request.into_inner().project.parse().map_err(invalid)?;
        caller.check_project(&project)?;
        let regions = self.handle.read(move |machine| machine.reachable_regions(&project.team)).await;
        let regions = regions.map_err(from_command)?.into_iter().map(|(region, agents)| {
            let agents = agents.iter().map(|(agent, address)| v1::regions_response::Agent {
                agent: agent.to_string(),
                address: address.to_string(),
            });
            v1::regions_response::Region { name: region.to_string(), agents: agents.collect() }
        });
        Ok(Response::new(v1::RegionsResponse { regions: regions.collect() }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let caller = Caller::of(&request);
        let build = parse_build(&request.into_inner().build, &caller)?;
        let asked = build.clone();
        let explained = self
            .handle
            .read(move |machine| {
                let build = machine.build(&asked)?;
                Some(explanation(build, &machine.explain(&asked)?))
            })
            .await
            .map_err(from_command)?;
        if let Some(explained) = explained {
            return Ok(Response::new(explained));
        }
        let record = self.history.build(&build).await.map_err(|e| internal("history cannot be read", e))?;
        let record = record.ok_or_else(|| Status::not_found(format!("no build {build}")))?;
        let tasks: Vec<_> =
            record.tasks.iter().map(|task| TaskExplanation::of_record(&record, task)).collect();
        Ok(Response::new(explanation(&record, &tasks)))
    }
}

/// The trace that a new build belongs to: the caller's, else the one of this call, when traces are collected here. A context
/// that is malformed is none: a trace is never worth a failure.
fn trace_of(metadata: &MetadataMap) -> Option<Traceparent> {
    propagation::traceparent(metadata)
        .and_then(|text| text.parse().ok())
        .or_else(|| propagation::current_traceparent()?.parse().ok())
}

/// What the tasks of a build wait for.
fn waits_of(build: &v1::Build) -> Vec<(u32, String)> {
    let waiting = build.tasks.iter().filter(|task| !task.waits_for.is_empty());
    waiting.map(|task| (task.ordinal, task.waits_for.clone())).collect()
}

fn has_ended(build: &v1::Build) -> bool {
    build.state() != v1::BuildState::Running
}

fn explanation(build: &BuildRecord, tasks: &[TaskExplanation]) -> v1::ExplainResponse {
    let rebuild_of = build.spec.rebuild.as_ref().map(|rebuild| rebuild.of.to_string()).unwrap_or_default();
    let told = |task: &TaskExplanation| {
        let mut told = v1::TaskExplanation::from(task);
        count_log_segments(&mut told.history);
        told
    };
    v1::ExplainResponse { tasks: tasks.iter().map(told).collect(), rebuild_of }
}
