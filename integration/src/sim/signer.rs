//! Signers that are honest, and a coordinator that has looked: what the machine is told of a result's signatures.
//!
//! The simulation is about what is decided, so there is no cryptography in it.

use meridian_core::{
    attestation::{Attestation, Document, Evidence, SigningOrder},
    build::Receipt,
    digest::Digest,
    id::AgentId,
    keyring::{Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::input::Outcome,
    quantity::ByteCount,
    sandbox::Sandbox,
};

/// The key of an agent's signer.
pub(super) fn claim(agent: &AgentId) -> KeyClaim {
    KeyClaim {
        algorithm: KeyAlgorithm::EcdsaP256,
        spki: agent.to_string().into_bytes(),
        usage: KeyUse::Artifact,
        holder: KeyHolder::Agent(agent.clone()),
        grade: Grade::Production,
    }
}

/// Signs a result as `order` says; without an order there is nothing to sign.
pub(super) fn sign(order: Option<&SigningOrder>, outcome: &mut Outcome) -> Vec<Evidence> {
    let (Outcome::Built { artifacts, .. }, Some(order)) = (outcome, order) else { return Vec::new() };
    let key = KeyId::of(&claim(&order.agent).spki);
    let document = |name: &str| {
        let digest = Digest::of(format!("{name} of {} {}", order.task, order.fence).as_bytes());
        let receipt =
            Receipt { holder: "simulated".to_owned(), digest, size: ByteCount(1), mac: vec![0; 32] };
        Document { digest, size: ByteCount(1), receipts: vec![receipt] }
    };
    let signed = artifacts.iter_mut().map(|artifact| {
        let (provenance, sbom) = (document("provenance"), document("sbom"));
        artifact.attestation = Some(Attestation { key, signature: vec![1], provenance, sbom });
        Evidence {
            key,
            name: artifact.name.clone(),
            digest: artifact.digest,
            package: artifact.package.clone(),
            order: order.clone(),
            sandbox: Sandbox::default(),
        }
    });
    signed.collect()
}
