//! Identities that are taken back, for good: a stolen agent's, a member's who left.
//!
//! Not here: who may ask for it, and that a revoked identity's calls are refused (the coordinator's authorization).

use crate::{
    id::{AgentId, RequestId, TaskId},
    keyring::KeyHolder,
    machine::{
        effect::Reply,
        event::EventKind,
        input::{Failure, FailureKind},
        record::{TaskState, TokenGrant},
        step::Turn,
    },
    time::Wall,
};

impl Turn<'_> {
    /// Takes an identity back, and with an agent's every key that it has, in one event: between two of them a thief
    /// could have another key certified. An earlier moment than the one known replaces it, a later one does not.
    pub(super) fn revoke_identity(&mut self, request: RequestId, identity: TokenGrant, since: Option<Wall>) {
        let since = since.unwrap_or(self.now.wall);
        let changed = self.durable.revoked.get(&identity).is_none_or(|revoked| *revoked > since);
        if changed {
            self.emit(EventKind::IdentityRevoked { identity: identity.clone(), since });
            self.refuse_calls_of(identity.clone());
            if let TokenGrant::Agent(agent) = &identity {
                self.note_bar(&KeyHolder::Agent(agent.clone()));
                self.let_go(agent);
                self.note_shards_now();
            }
        }
        let keys = match &identity {
            TokenGrant::Agent(agent) => self.durable.keys_of(agent).count(),
            TokenGrant::Member { .. } => 0,
        };
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        self.reply(request, Reply::IdentityRevoked { changed, keys });
    }

    /// Gives up all that the agent was to do, so that others get it at once, and closes its stream.
    fn let_go(&mut self, agent: &AgentId) {
        const WHY: &str = "the agent's identity was revoked";
        let assigned: Vec<TaskId> = self.durable.assigned(agent).cloned().collect();
        for task in assigned {
            match self.durable.task(&task).map(|record| record.state.clone()) {
                Some(TaskState::Placed { placement, .. }) => self.withdraw(&task, placement, WHY.to_owned()),
                Some(TaskState::Leased { fence, .. }) => {
                    let message = format!("the identity of agent {agent} was revoked");
                    let failure = Failure { kind: FailureKind::Lost, message, hint: String::new() };
                    self.fail_attempt(&task, fence, failure, Vec::new());
                }
                _ => {}
            }
        }
        if let Some(session) = self.observed.session_of(agent) {
            self.close(session, WHY);
            self.detach(session);
        }
    }
}
