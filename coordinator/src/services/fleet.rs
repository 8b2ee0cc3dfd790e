//! The `Fleet` service: joining, renewing, tokens, status, stop.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use meridian_core::{
    digest::Digest,
    machine::{effect::Reply, input::Input, record::TokenGrant},
    quantity::Millis,
    time::Wall,
};
use meridian_proto::v1;
use meridian_runtime::identity::{Authority, SpiffeId, check_request};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    authorization::Caller,
    handle::Handle,
    status::{from_command, from_reply, internal, invalid},
};

/// How long an identity lives. Agents renew at two thirds of it.
pub(crate) const IDENTITY_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest life of a one-time token.
const TOKEN_LIFETIME_MAX: Millis = Millis::minutes(7 * 24 * 60);

/// The `Fleet` service.
pub(crate) struct FleetService {
    pub(crate) name: Arc<str>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) handle: Handle,
    pub(crate) local: bool,
    pub(crate) started: std::time::Instant,
    pub(crate) stop: CancellationToken,
}

impl FleetService {
    fn certify(&self, request: &[u8], id: &SpiffeId) -> Result<Response<v1::IdentityResponse>, Status> {
        let chain = self.authority.issue(request, id, IDENTITY_LIFETIME, &[]).map_err(invalid)?;
        Ok(Response::new(v1::IdentityResponse {
            chain: chain.into_iter().map(Into::into).collect(),
            authority: self.authority.certificate_der().to_vec().into(),
            id: id.to_string(),
        }))
    }

    fn id_of(&self, caller: &Caller) -> Result<SpiffeId, Status> {
        caller.id(&self.name).ok_or_else(|| Status::unauthenticated("no identity to renew"))
    }
}

fn member_of(member: &v1::MemberGrant) -> Result<TokenGrant, Status> {
    Ok(TokenGrant::Member {
        team: member.team.parse().map_err(invalid)?,
        name: member.name.parse().map_err(invalid)?,
    })
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        let message = request.into_inner();
        // Before the token is spent: a request that cannot be met must not cost it.
        check_request(&message.certificate_request).map_err(invalid)?;
        // Only the hash of the secret is ever kept, compared or logged.
        let hash = Digest::of(message.secret.as_bytes());
        let reply = self
            .handle
            .request(move |request| Input::RedeemToken { request, hash })
            .await
            .map_err(from_command)?;
        let caller = match reply {
            Reply::TokenRedeemed { grant: TokenGrant::Agent(agent) } => Caller::Agent(agent),
            Reply::TokenRedeemed { grant: TokenGrant::Member { team, name } } => {
                Caller::Member { team, name }
            }
            other => return Err(from_reply("enroll", other)),
        };
        tracing::info!(%caller, "a one-time token was used to join");
        self.certify(&message.certificate_request, &self.id_of(&caller)?)
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        let id = self.id_of(&Caller::of(&request))?;
        self.certify(&request.into_inner().certificate_request, &id)
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeResponse>, Status> {
        use v1::revoke_request::Identity;
        let message = request.into_inner();
        let identity = match message.identity.ok_or_else(|| invalid("say whose identity is revoked"))? {
            Identity::Agent(agent) => TokenGrant::Agent(agent.parse().map_err(invalid)?),
            Identity::Member(member) => member_of(&member)?,
        };
        let since = message.since_ms.map(Wall);
        let reply = self
            .handle
            .request(move |request| Input::RevokeIdentity { request, identity, since })
            .await
            .map_err(from_command)?;
        match reply {
            Reply::IdentityRevoked { changed, keys } => {
                Ok(Response::new(v1::RevokeResponse { changed, keys }))
            }
            other => Err(from_reply("revoke", other)),
        }
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        use v1::create_token_request::Grant;
        let message = request.into_inner();
        let grant = match message.grant.ok_or_else(|| invalid("the token must grant something"))? {
            Grant::Agent(agent) => TokenGrant::Agent(agent.parse().map_err(invalid)?),
            Grant::Member(member) => member_of(&member)?,
        };
        let lifetime = Millis(message.lifetime_ms);
        if lifetime == Millis(0) || lifetime > TOKEN_LIFETIME_MAX {
            return Err(invalid("a token lives between 1 ms and 7 days"));
        }
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|e| internal("no randomness", e))?;
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let hash = Digest::of(secret.as_bytes());
        let reply = self
            .handle
            .request(move |request| Input::CreateToken { request, hash, grant, lifetime })
            .await
            .map_err(from_command)?;
        match reply {
            Reply::TokenCreated => {
                let pin = self.authority.pin();
                Ok(Response::new(v1::CreateTokenResponse {
                    token: format!("mrd1.{}.{secret}.{pin}", self.name),
                }))
            }
            other => Err(from_reply("create token", other)),
        }
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let (epoch, index, counts) = self
            .handle
            .read(|machine| (machine.durable().epoch(), machine.durable().last_index(), machine.counts()))
            .await
            .map_err(from_command)?;
        Ok(Response::new(v1::StatusResponse {
            fleet: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: epoch.0,
            journal_index: index.0,
            builds_running: counts.builds_running,
            tasks_queued: counts.tasks_queued,
            tasks_placed: counts.tasks_placed,
            tasks_leased: counts.tasks_leased,
            agents: u32::try_from(counts.agents).unwrap_or(u32::MAX),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            local: self.local,
        }))
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Result<Response<v1::StopResponse>, Status> {
        if request.into_inner().only_when_idle {
            let idle = self.handle.read(|machine| machine.is_idle()).await.map_err(from_command)?;
            if !idle {
                return Ok(Response::new(v1::StopResponse { stopping: false }));
            }
        }
        self.stop.cancel();
        Ok(Response::new(v1::StopResponse { stopping: true }))
    }
}
