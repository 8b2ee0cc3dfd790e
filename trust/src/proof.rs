//! Proof that somebody who asks for a key to be certified holds its private half.

use meridian_core::{
    id::{AgentId, FleetName},
    keyring::KeyHolder,
};

use crate::holder::id_of;

/// What a signer signs with the key that it wants certified. The text says whose the key is to be and for which fleet,
/// so that a proof cannot be shown elsewhere; and it is no document that anybody else reads.
#[must_use]
pub fn proof_text(fleet: &FleetName, agent: &AgentId) -> String {
    let holder = id_of(fleet, &KeyHolder::Agent(agent.clone()));
    format!("meridian signing key proof v1\n{holder}\n")
}
