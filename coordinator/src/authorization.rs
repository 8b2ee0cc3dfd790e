//! Who may call which method: one table, and the layer that enforces it before a handler runs.
//!
//! A method without a row is refused, and a test walks the service descriptors to see that each has one.
//! What a caller may do *within* a method (whose builds, whose blobs) is decided by the handler through
//! [`Caller`].

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use meridian_core::{
    id::{AgentId, AgentName, FleetName, ProjectId, TeamName},
    machine::record::TokenGrant,
    requester::Requester,
};
use meridian_runtime::{identity::SpiffeId, tls::PeerIdentity};
use tonic::Status;
use tower::{Layer, Service};

use crate::revocations::Revocations;

/// Who is calling, as the client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No certificate was shown.
    Anonymous,
    /// A person or CI job of a team.
    Member {
        /// The team.
        team: TeamName,
        /// The member's name, for the audit.
        name: AgentName,
    },
    /// An agent.
    Agent(AgentId),
    /// The fleet's administrator.
    Admin,
}

/// A kind of caller, as the table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See [`Caller::Anonymous`].
    Anonymous,
    /// See [`Caller::Member`].
    Member,
    /// See [`Caller::Agent`].
    Agent,
    /// See [`Caller::Admin`].
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "callers without a certificate",
            Self::Member => "members",
            Self::Agent => "agents",
            Self::Admin => "the administrator",
        })
    }
}

use Role::{Admin, Agent, Anonymous, Member};

/// Every method and who may call it.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/meridian.v1.Agents/Attach", &[Agent]),
    ("/meridian.v1.Agents/List", &[Member, Admin]),
    ("/meridian.v1.Agents/Membership", &[Agent]),
    ("/meridian.v1.Agents/Order", &[Agent]),
    ("/meridian.v1.Agents/Sidecar", &[Agent]),
    ("/meridian.v1.Agents/Upkeep", &[Admin]),
    ("/meridian.v1.Blobs/Download", &[Member, Agent, Admin]),
    ("/meridian.v1.Blobs/Missing", &[Member, Agent, Admin]),
    ("/meridian.v1.Blobs/Receipts", &[Member, Agent, Admin]),
    ("/meridian.v1.Blobs/Upload", &[Member, Agent, Admin]),
    ("/meridian.v1.Builds/Cancel", &[Member, Admin]),
    ("/meridian.v1.Builds/Explain", &[Member, Admin]),
    ("/meridian.v1.Builds/Get", &[Member, Admin]),
    ("/meridian.v1.Builds/Holders", &[Member, Admin]),
    ("/meridian.v1.Builds/Keyring", &[Member, Admin]),
    ("/meridian.v1.Builds/List", &[Member, Admin]),
    ("/meridian.v1.Builds/Rebuild", &[Member, Admin]),
    ("/meridian.v1.Builds/Regions", &[Member, Admin]),
    ("/meridian.v1.Builds/Submit", &[Member, Admin]),
    ("/meridian.v1.Builds/Watch", &[Member, Admin]),
    ("/meridian.v1.Caches/Evict", &[Admin]),
    ("/meridian.v1.Caches/Stats", &[Member, Admin]),
    ("/meridian.v1.Caches/Verify", &[Admin]),
    ("/meridian.v1.Caches/Warm", &[Admin]),
    ("/meridian.v1.Fleet/CreateToken", &[Admin]),
    ("/meridian.v1.Fleet/Enroll", &[Anonymous, Member, Agent, Admin]),
    ("/meridian.v1.Fleet/Renew", &[Member, Agent, Admin]),
    ("/meridian.v1.Fleet/Revoke", &[Admin]),
    ("/meridian.v1.Fleet/Status", &[Member, Agent, Admin]),
    ("/meridian.v1.Fleet/Stop", &[Admin]),
    ("/meridian.v1.Keys/Certify", &[Agent]),
    ("/meridian.v1.Keys/Keyring", &[Member, Agent, Admin]),
    ("/meridian.v1.Keys/Revoke", &[Admin]),
    ("/meridian.v1.Logs/Append", &[Agent]),
    ("/meridian.v1.Logs/Read", &[Member, Admin]),
];

impl Caller {
    /// Reads a caller out of a verified certificate's identity.
    ///
    /// # Errors
    /// When the identity is of another fleet or of a shape that no role has.
    pub fn from_identity(fleet: &str, identity: Option<&SpiffeId>) -> Result<Self, Status> {
        let Some(identity) = identity else { return Ok(Self::Anonymous) };
        let refused =
            || Status::permission_denied(format!("identity {identity} has no role in fleet {fleet}"));
        if identity.fleet() != fleet {
            return Err(refused());
        }
        let parts: Vec<&str> = identity.segments().collect();
        match parts.as_slice() {
            ["admin"] => Ok(Self::Admin),
            ["agent", region, name] => {
                format!("{region}/{name}").parse().map(Self::Agent).map_err(|_| refused())
            }
            ["team", team, "member", name] => Ok(Self::Member {
                team: team.parse().map_err(|_| refused())?,
                name: name.parse().map_err(|_| refused())?,
            }),
            _ => Err(refused()),
        }
    }

    /// The identity that a token gave the caller, where one did.
    #[must_use]
    pub fn granted(&self) -> Option<TokenGrant> {
        match self {
            Self::Anonymous | Self::Admin => None,
            Self::Member { team, name } => {
                Some(TokenGrant::Member { team: team.clone(), name: name.clone() })
            }
            Self::Agent(agent) => Some(TokenGrant::Agent(agent.clone())),
        }
    }

    /// The caller as somebody who asks for builds: the SPIFFE id of their certificate.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for callers who cannot ask for any.
    pub fn requester(&self, fleet: &FleetName) -> Result<Requester, Status> {
        let asks = matches!(self, Self::Admin | Self::Member { .. });
        self.id(fleet.as_str())
            .filter(|_| asks)
            .and_then(|id| id.as_str().parse().ok())
            .ok_or_else(|| Status::permission_denied(format!("{self} cannot ask for builds")))
    }

    /// The id that the caller's certificate has in a fleet: what [`Self::from_identity`] reads.
    #[must_use]
    pub fn id(&self, fleet: &str) -> Option<SpiffeId> {
        let path = match self {
            Self::Anonymous => return None,
            Self::Member { team, name } => format!("team/{team}/member/{name}"),
            Self::Agent(agent) => format!("agent/{agent}"),
            Self::Admin => "admin".to_owned(),
        };
        SpiffeId::new(fleet, &[&path]).ok()
    }

    /// The caller's kind.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Anonymous => Anonymous,
            Self::Member { .. } => Member,
            Self::Agent(_) => Agent,
            Self::Admin => Admin,
        }
    }

    /// Lets a member at their own team's projects, and an administrator at all.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for everybody else.
    pub fn check_project(&self, project: &ProjectId) -> Result<(), Status> {
        match self {
            Self::Admin => Ok(()),
            Self::Member { team, .. } if *team == project.team => Ok(()),
            _ => Err(Status::permission_denied(format!("{self} has no access to project {project}"))),
        }
    }

    /// The caller of a request, as the layer found it.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or(Self::Anonymous)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("a caller without a certificate"),
            Self::Member { team, name } => write!(f, "member {name} of team {team}"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Admin => f.write_str("the administrator"),
        }
    }
}

/// Decides on one call.
///
/// # Errors
/// `UNAUTHENTICATED` without a certificate where one is needed, `PERMISSION_DENIED` for the wrong role and
/// for a method without a row.
pub fn authorize(path: &str, caller: &Caller) -> Result<(), Status> {
    let Some((_, roles)) = TABLE.iter().find(|(method, _)| *method == path) else {
        return Err(Status::permission_denied(format!("no rule allows {path}")));
    };
    if roles.contains(&caller.role()) {
        return Ok(());
    }
    let those: Vec<String> = roles.iter().map(Role::to_string).collect();
    let message = format!("{caller} may not call {path}, which is for {}", those.join(" and "));
    Err(match caller {
        Caller::Anonymous => Status::unauthenticated(message),
        _ => Status::permission_denied(message),
    })
}

/// Puts [`authorize`] in front of every service, and refuses identities that were taken back.
#[derive(Debug, Clone)]
pub(crate) struct AuthorizationLayer {
    fleet: Arc<str>,
    revocations: Revocations,
}

impl AuthorizationLayer {
    /// For the identities of one fleet.
    #[must_use]
    pub(crate) fn new(fleet: &str, revocations: Revocations) -> Self {
        Self { fleet: fleet.into(), revocations }
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized { fleet: self.fleet.clone(), revocations: self.revocations.clone(), inner }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub(crate) struct Authorized<S> {
    fleet: Arc<str>,
    revocations: Revocations,
    inner: S,
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let identity = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.id.clone());
        let decision = Caller::from_identity(&self.fleet, identity.as_ref())
            .and_then(|caller| authorize(request.uri().path(), &caller).map(|()| caller))
            .and_then(|caller| self.revocations.check(&caller).map(|()| caller));
        match decision {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(text: &str) -> Result<Caller, Status> {
        Caller::from_identity("acme", Some(&text.parse().unwrap()))
    }

    #[test]
    fn each_role_is_read_from_its_identity_and_nothing_else_is() {
        assert_eq!(caller("spiffe://acme/admin").unwrap(), Caller::Admin);
        assert_eq!(caller("spiffe://acme/agent/eu/a1").unwrap().role(), Role::Agent);
        assert_eq!(caller("spiffe://acme/team/web/member/ann").unwrap().role(), Role::Member);
        for other in
            ["spiffe://evil/admin", "spiffe://acme/root", "spiffe://acme/agent/eu", "spiffe://acme/admin/x"]
        {
            assert!(caller(other).is_err(), "{other}");
        }
        for id in ["spiffe://acme/admin", "spiffe://acme/agent/eu/a1", "spiffe://acme/team/web/member/ann"] {
            assert_eq!(caller(id).unwrap().id("acme").unwrap().as_str(), id);
        }
    }

    #[test]
    fn whoever_may_ask_for_a_build_is_named_as_their_certificate_names_them() {
        let fleet = FleetName::new("acme").unwrap();
        for id in ["spiffe://acme/admin", "spiffe://acme/team/web/member/ann"] {
            assert_eq!(caller(id).unwrap().requester(&fleet).unwrap().as_str(), id);
        }
        for other in [Caller::Anonymous, caller("spiffe://acme/agent/eu/a1").unwrap()] {
            assert!(other.requester(&fleet).is_err(), "{other}");
        }
    }

    #[test]
    fn a_member_reaches_only_the_projects_of_their_team() {
        let ann = caller("spiffe://acme/team/web/member/ann").unwrap();
        assert!(ann.check_project(&"web/shop".parse().unwrap()).is_ok());
        assert!(ann.check_project(&"infra/dns".parse().unwrap()).is_err());
        assert!(
            caller("spiffe://acme/agent/eu/a1").unwrap().check_project(&"web/shop".parse().unwrap()).is_err()
        );
    }

    #[test]
    fn whoever_may_not_call_is_told_who_may() {
        let ann = caller("spiffe://acme/team/web/member/ann").unwrap();
        let refused = authorize("/meridian.v1.Caches/Evict", &ann).unwrap_err();
        assert_eq!(
            refused.message(),
            "member ann of team web may not call /meridian.v1.Caches/Evict, which is for the administrator"
        );
        let agent = caller("spiffe://acme/agent/eu/a1").unwrap();
        let refused = authorize("/meridian.v1.Builds/Submit", &agent).unwrap_err();
        assert!(refused.message().ends_with("which is for members and the administrator"), "{refused}");
    }

    #[test]
    fn a_method_without_a_row_is_refused_to_everybody() {
        assert!(authorize("/meridian.v1.Builds/Destroy", &Caller::Admin).is_err());
    }

    #[test]
    fn without_a_certificate_only_enrolment_is_allowed() {
        let allowed: Vec<&str> = TABLE
            .iter()
            .map(|(method, _)| *method)
            .filter(|method| authorize(method, &Caller::Anonymous).is_ok())
            .collect();
        assert_eq!(allowed, ["/meridian.v1.Fleet/Enroll"]);
    }
}
