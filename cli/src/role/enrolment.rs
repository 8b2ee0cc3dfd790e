//! How an agent comes by its identity: it has kept one, or it gives a one-time token for one.
//!
//! In two steps, because a token that is given is spent: what the agent is to be is known before, and everything else that
//! could keep it from starting is looked at in between.

use std::{path::Path, time::SystemTime};

use meridian_core::id::FleetName;
use meridian_runtime::identity::Identity;

use crate::{
    fleet::join::{Token, enroll, make_room},
    trouble::Trouble,
};

/// What an agent has to show for itself.
pub(super) enum Credential {
    /// An identity that is still good.
    Kept(Box<Identity>),
    /// A token, which is good once.
    Token(Token),
}

impl Credential {
    /// What there is: the identity that was kept in `kept`, or else the token.
    ///
    /// # Errors
    /// When there is neither.
    pub(super) fn find(kept: &Path, token: Option<&str>) -> Result<Self, Trouble> {
        let now = SystemTime::now();
        let found = Identity::load(kept).map_err(Trouble::broken)?;
        if let Some(identity) = found.filter(|identity| identity.not_after() > now) {
            return Ok(Self::Kept(Box::new(identity)));
        }
        let token = token.ok_or_else(|| {
            Trouble::refused(
                "this agent has not joined a fleet, or was away for so long that its identity expired",
            )
            .hint("make a token with `meridian token create --agent REGION/NAME` and give it with --token")
        })?;
        Token::parse(token).map(Self::Token)
    }

    /// The fleet that it is good for.
    ///
    /// # Errors
    /// When that has no name that a fleet can have.
    pub(super) fn fleet(&self) -> Result<FleetName, Trouble> {
        match self {
            Self::Kept(identity) => FleetName::new(identity.id().fleet()).map_err(Trouble::broken),
            Self::Token(token) => FleetName::new(&token.fleet).map_err(Trouble::usage),
        }
    }

    /// The identity. A token is spent for it, and what comes of it is saved in `kept`.
    ///
    /// # Errors
    /// When the identity could not be saved, where the token is left alone; when the token is not good or was for no agent.
    pub(super) async fn redeem(self, kept: &Path, coordinator: &str) -> Result<Identity, Trouble> {
        let token = match self {
            Self::Kept(identity) => return Ok(*identity),
            Self::Token(token) => token,
        };
        make_room(kept)?;
        let identity = enroll(&token, coordinator).await?;
        if identity.id().segments().next() != Some("agent") {
            let id = identity.id();
            return Err(Trouble::usage(format_args!(
                "this token was for {id}, which is no agent; it is used up now"
            ))
            .hint("make one with `meridian token create --agent REGION/NAME`"));
        }
        identity.save(kept).map_err(Trouble::broken)?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn an_agent_without_an_identity_needs_a_token_and_knows_its_fleet_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("identity");
        let trouble = Credential::find(&kept, None).err().unwrap();
        assert!(trouble.exit == ExitCode::Refused && trouble.to_string().contains("--token"), "{trouble}");
        let token = format!("mrd1.acme.secret.{}", meridian_runtime::identity::Pin([7; 32]));
        let credential = Credential::find(&kept, Some(&token)).unwrap();
        assert_eq!(credential.fleet().unwrap().as_str(), "acme");
        assert!(!kept.exists(), "nothing is made before all else was looked at");
    }
}
