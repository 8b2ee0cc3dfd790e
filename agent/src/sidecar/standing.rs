//! What a go command beside this agent may use of the cache: asked of the coordinator, and done without where it is away.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::{
    cache::{
        hints::CacheHints,
        scope::{Scope, TaskScopes},
        sidecar::{SidecarAsk, SidecarHints},
    },
    id::{AgentId, ProjectId},
};
use meridian_proto::v1::{self, agents_client::AgentsClient};
use tonic::{Code, transport::Channel};

/// How long the coordinator may take. A go command waits for this before its first answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long it is not asked after it has not answered.
const PAUSE: Duration = Duration::from_secs(10);

/// Asks the coordinator, and remembers what it said of each project.
pub(super) struct Standing {
    channel: Channel,
    agent: AgentId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scopes: HashMap<ProjectId, TaskScopes>,
    failed: Option<Instant>,
}

impl Standing {
    pub(super) fn new(channel: Channel, agent: AgentId) -> Self {
        Self { channel, agent, state: Mutex::default() }
    }

    /// What a go command may use. Without an answer in time: what an earlier one could, or entries of this agent's own,
    /// and no manifest.
    ///
    /// # Errors
    /// When the coordinator says that it may use nothing.
    pub(super) async fn ask(&self, ask: &SidecarAsk) -> Result<SidecarHints, String> {
        let is_paused = |state: &State| state.failed.is_some_and(|failed| failed.elapsed() < PAUSE);
        if self.with(|state| is_paused(state)) {
            return Ok(self.without(&ask.project));
        }
        let mut client = AgentsClient::new(self.channel.clone());
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.sidecar(v1::SidecarRequest::from(ask))).await;
        let why = match answer {
            Ok(Ok(answer)) => match SidecarHints::try_from(answer.into_inner()) {
                Ok(told) => {
                    let scopes = told.hints.scopes.clone();
                    self.with(|state| {
                        state.failed = None;
                        state.scopes.insert(ask.project.clone(), scopes);
                    });
                    return Ok(told);
                }
                Err(error) => error.to_string(),
            },
            Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                self.with(|state| state.scopes.remove(&ask.project));
                return Err(status.message().to_owned());
            }
            Ok(Err(status)) => status.to_string(),
            Err(_) => "no answer in a second".to_owned(),
        };
        tracing::info!(
            why,
            "the coordinator says nothing of a go command: it has this agent's entries alone"
        );
        self.with(|state| state.failed = Some(Instant::now()));
        Ok(self.without(&ask.project))
    }

    fn without(&self, project: &ProjectId) -> SidecarHints {
        let own = || {
            let writes = Scope::Sidecar { team: project.team.clone(), agent: self.agent.clone() };
            TaskScopes { reads: vec![writes.clone()], writes }
        };
        let scopes = self.with(|state| state.scopes.get(project).cloned()).unwrap_or_else(own);
        SidecarHints { hints: CacheHints { scopes, manifest: None, grant: Vec::new() }, written: None }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
