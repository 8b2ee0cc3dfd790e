//! The identities that were taken back, as every call is checked against them.
//!
//! A certificate is good until it expires, so a stolen one is refused here. The machine decides and remembers; the loop
//! adds an identity once that is durable. A call that had begun by then goes on to its end; an agent's stream is
//! closed.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use meridian_core::machine::record::TokenGrant;
use tonic::Status;

use crate::authorization::Caller;

/// Shared by the loop, which adds, and the layer in front of the services, which asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocations(Arc<RwLock<HashSet<TokenGrant>>>);

impl Revocations {
    /// Those that the durable state has.
    pub(crate) fn of<'a>(revoked: impl Iterator<Item = &'a TokenGrant>) -> Self {
        Self(Arc::new(RwLock::new(revoked.cloned().collect())))
    }

    /// Refuses an identity from now on.
    pub(crate) fn add(&self, identity: TokenGrant) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(identity);
    }

    /// Lets a caller by whose identity was not taken back.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, and what to do.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), Status> {
        let Some(identity) = caller.granted() else { return Ok(()) };
        if self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&identity) {
            return Err(Status::permission_denied(format!(
                "the identity of {identity} was revoked; join again under another name"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_revoked_identity_is_refused_and_the_administrator_never_is() {
        let ann = Caller::Member { team: "web".parse().unwrap(), name: "ann".parse().unwrap() };
        let bob = Caller::Member { team: "web".parse().unwrap(), name: "bob".parse().unwrap() };
        let agent = Caller::Agent("eu/a1".parse().unwrap());
        let revocations = Revocations::of([ann.granted().unwrap()].iter());
        assert!(revocations.check(&ann).is_err());
        assert!(revocations.check(&agent).is_ok());
        revocations.add(agent.granted().unwrap());
        assert!(revocations.check(&agent).is_err());
        for other in [bob, Caller::Admin, Caller::Anonymous] {
            assert!(revocations.check(&other).is_ok(), "{other}");
        }
    }
}
