//! The keyring as the root signs it, orders, acceptances, and cache grants.

use std::{path::Path, sync::Arc, time::Duration};

use meridian_core::{
    attestation::SigningOrder,
    cache::offer::CacheKey,
    digest::Digest,
    id::{AgentId, FleetName, JournalIndex},
    keyring::{CertifiedKey, Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyUse},
    machine::{
        Machine,
        effect::Reply,
        input::Input,
        record::{BuildRecord, TaskState},
    },
    quantity::Millis,
    requester::Requester,
    sandbox::SandboxDemand,
    time::Wall,
};
use meridian_proto::v1;
use meridian_runtime::{clock::Clock, identity::Authority};
use meridian_trust::{
    acceptance::Acceptance,
    artifact_grant::ArtifactGrant,
    cache_grant::{CacheGrant, ScopeText},
    dsse::Envelope,
    keyring::{Entry, Keyring, KeyringFile},
    keys::{Signer as _, SigningKey},
    order::Order,
};
use tokio_util::sync::CancellationToken;

use super::{grants::GRANT_LIFE, own_keys::OwnKeys};
use crate::handle::{CommandError, Handle};

/// How long an order may be followed. It is asked for when the attempt begins, and again before signing when half of it is
/// over.
const ORDER_LIFE: Millis = Millis::minutes(4 * 60);
/// How often the coordinator asks for its own keys' new life.
const CERTIFY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Why something could not be signed or certified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    /// A key cannot be used.
    #[error("the signing key in {0} cannot be used: {1}")]
    Key(String, String),
    /// A document cannot be made.
    #[error("cannot sign: {0}")]
    Document(String),
    /// The loop does not answer.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The machine refused.
    #[error("the coordinator's own key was not certified: {0}")]
    Refused(String),
}

/// Signs what the coordinator has to say to signers and verifiers.
#[derive(Clone)]
pub(crate) struct Signing(Arc<Inner>);

struct Inner {
    fleet: FleetName,
    grade: Grade,
    sandbox: SandboxDemand,
    keys: OwnKeys,
    handle: Handle,
    clock: Clock,
}

impl Signing {
    /// Opens the coordinator's own keys below its state directory. A local fleet's signatures are of the lower grade:
    /// whoever builds there could have signed anything. Orders demand what the fleet demands of its agents.
    pub(crate) fn open(
        state: &Path,
        authority: &Authority,
        fleet: FleetName,
        is_local: bool,
        sandbox: SandboxDemand,
        handle: Handle,
        clock: Clock,
    ) -> Result<Self, SigningError> {
        let keys = OwnKeys::open(&state.join("signing"), authority)?;
        let grade = if is_local { Grade::Dev } else { Grade::Production };
        Ok(Self(Arc::new(Inner { fleet, grade, sandbox, keys, handle, clock })))
    }

    /// How far what this fleet signs can be trusted.
    pub(crate) fn grade(&self) -> Grade {
        self.0.grade
    }

    /// The fleet.
    pub(crate) fn fleet(&self) -> &FleetName {
        &self.0.fleet
    }

    /// Has the coordinator's own keys certified, or their lives renewed.
    pub(crate) async fn certify_own(&self) -> Result<(), SigningError> {
        let Inner { keys, grade, handle, .. } = &*self.0;
        for (key, usage) in [(&keys.order, KeyUse::Order), (&keys.acceptance, KeyUse::Acceptance)] {
            let claim = claim(key, usage, KeyHolder::Coordinator, *grade);
            match handle.request(move |request| Input::CertifyKey { request, claim }).await? {
                Reply::KeyCertified { .. } => {}
                Reply::Refused(refusal) => return Err(SigningError::Refused(refusal.to_string())),
                other => return Err(SigningError::Refused(format!("{other:?}"))),
            }
        }
        Ok(())
    }

    /// Keeps the coordinator's own keys alive until told to stop.
    pub(crate) async fn keep_certified(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CERTIFY_EVERY) => {}
            }
            if let Err(error) = self.certify_own().await {
                tracing::error!(%error, "the coordinator's own signing keys were not renewed");
            }
        }
    }

    /// The keyring as it stands, signed by the root.
    pub(crate) async fn keyring(&self) -> Result<Envelope, SigningError> {
        let read = |machine: &Machine| {
            let durable = machine.durable();
            (durable.last_index(), durable.keys().cloned().collect::<Vec<_>>())
        };
        let (version, keys) = self.0.handle.read(read).await?;
        self.signed(version, &keys)
    }

    fn signed(&self, version: JournalIndex, keys: &[CertifiedKey]) -> Result<Envelope, SigningError> {
        let document = |error: &dyn std::fmt::Display| SigningError::Document(error.to_string());
        let entries: Result<Vec<Entry>, SigningError> =
            keys.iter().map(|key| Entry::of(key, &self.0.fleet).map_err(|error| document(&error))).collect();
        let keyring =
            Keyring::new(self.0.fleet.clone(), version, entries?).map_err(|error| document(&error))?;
        let keyring = keyring.issued_at(Wall(self.0.clock.now().wall_ms));
        keyring.sign(&self.0.keys.root).map_err(|error| document(&error))
    }

    /// The signed form of an order.
    pub(crate) fn order(&self, order: &SigningOrder) -> Result<Envelope, SigningError> {
        let document = |error: &dyn std::fmt::Display| SigningError::Document(error.to_string());
        let issued = Wall(self.0.clock.now().wall_ms);
        let sandbox = self.0.sandbox.into();
        Order::of(order, self.0.fleet.clone(), issued, issued.after(ORDER_LIFE), sandbox)
            .map_err(|error| document(&error))?
            .sign(&self.0.keys.order)
            .map_err(|error| document(&error))
    }

    /// The time, as the coordinator's documents say it.
    pub(super) fn now(&self) -> Wall {
        Wall(self.0.clock.now().wall_ms)
    }

    /// The signed form of what an agent's cache may read and write for a task.
    pub(crate) fn cache_grant(
        &self,
        agent: &AgentId,
        cache_key: CacheKey,
        hints: &v1::CacheHints,
        issued: Wall,
    ) -> Result<Envelope, SigningError> {
        let document = |error: &dyn std::fmt::Display| SigningError::Document(error.to_string());
        let reads: Result<Vec<ScopeText>, _> =
            hints.reads.iter().map(|scope| scope.parse().map(ScopeText)).collect();
        let grant = CacheGrant {
            agent: agent.clone(),
            cache_key,
            expires: issued.after(GRANT_LIFE),
            fleet: self.0.fleet.clone(),
            issued,
            reads: reads.map_err(|error| document(&error))?,
            writes: hints.writes.parse().map_err(|error| document(&error))?,
        };
        grant.sign(&self.0.keys.order).map_err(|error| document(&error))
    }

    /// The signed form of what a caller may fetch from the agents that made it.
    pub(crate) fn artifact_grant(
        &self,
        bearer: Requester,
        artifacts: Vec<Digest>,
    ) -> Result<Envelope, SigningError> {
        ArtifactGrant::new(self.0.fleet.clone(), bearer, artifacts, self.now())
            .sign(&self.0.keys.order)
            .map_err(|error| SigningError::Document(error.to_string()))
    }

    /// What travels with a build's artifacts: the keyring, and when each artifact was accepted. The signatures are
    /// deterministic, so the same build gives the same acceptances whenever it is asked for.
    pub(crate) async fn keyring_file(&self, build: &BuildRecord) -> Result<KeyringFile, SigningError> {
        let keyring = self.keyring().await?;
        let mut acceptances = Vec::new();
        for task in &build.tasks {
            let TaskState::Succeeded { fence, at, artifacts, .. } = &task.state else { continue };
            for artifact in artifacts {
                let Some(attestation) = &artifact.attestation else { continue };
                let acceptance = Acceptance {
                    accepted: *at,
                    artifact: artifact.digest,
                    fence: *fence,
                    fleet: self.0.fleet.clone(),
                    provenance: attestation.provenance.digest,
                    task: task.id.clone(),
                };
                let signed = acceptance.sign(&self.0.keys.acceptance);
                acceptances.push(signed.map_err(|error| SigningError::Document(error.to_string()))?);
            }
        }
        Ok(KeyringFile::new(keyring, acceptances))
    }
}

fn claim(key: &SigningKey, usage: KeyUse, holder: KeyHolder, grade: Grade) -> KeyClaim {
    KeyClaim { algorithm: KeyAlgorithm::EcdsaP256, spki: key.public().to_spki(), usage, holder, grade }
}
