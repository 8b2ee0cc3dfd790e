//! Between the documents and the facts that the machine decides on: orders are written from them, and what a statement
//! says is read back into them.

use meridian_core::{
    attestation::{Evidence, OrderedSource, SigningOrder},
    golang::h1::H1Error,
    id::{AgentId, FleetName},
    keyring::{CertifiedKey, KeyId},
    sandbox::{self, SandboxDemand},
    time::Wall,
};

use crate::{
    holder::{Holder, ParseHolderError},
    keyring::Entry,
    keys::{KeyError, VerifyingKey},
    order::{Order, SandboxWanted},
    statement::{ExternalParameters, Provenance, Sandbox, Source},
};

/// Why a fact has no document, or a document no fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// A module's hash is none.
    #[error("the module's hash is malformed: {0}")]
    Hash(#[from] H1Error),
    /// A public key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A holder has no name.
    #[error(transparent)]
    Holder(#[from] ParseHolderError),
    /// The builder is no agent.
    #[error("the builder {0} is no agent")]
    Builder(Holder),
}

impl Order {
    /// The document of an order that is given at `issued`.
    ///
    /// # Errors
    /// When a module source was resolved to something that is no hash.
    pub fn of(
        order: &SigningOrder,
        fleet: FleetName,
        issued: Wall,
        expires: Wall,
        sandbox: SandboxWanted,
    ) -> Result<Self, FactError> {
        Ok(Self {
            agent: order.agent.clone(),
            expires,
            fence: order.fence,
            fleet,
            issued,
            parameters: ExternalParameters::ordered(order)?,
            placement: order.placement,
            request_digest: order.request,
            requester: order.requester.clone(),
            sandbox,
            task: order.task.clone(),
        })
    }
}

impl ExternalParameters {
    /// The parameters that an order makes: those that the provenance must repeat.
    ///
    /// # Errors
    /// When a module was resolved to something that is no `h1:`.
    pub fn ordered(order: &SigningOrder) -> Result<Self, FactError> {
        let source = match &order.source {
            OrderedSource::Module { package, query, module, version, sum } => Source::Module {
                h1: sum.parse()?,
                module: module.clone(),
                package: package.clone(),
                query: query.clone(),
                version: version.clone(),
            },
            OrderedSource::Tree { root, work_dir, workspace, origin } => Source::Tree {
                origin: origin.clone(),
                root: *root,
                work_dir: work_dir.clone(),
                workspace: *workspace,
            },
        };
        Ok(Self {
            flags: order.flags.clone(),
            from_scratch: order.from_scratch,
            name: order.name.clone(),
            packages: order.packages.clone(),
            platform: order.platform.clone(),
            source,
            toolchain: order.toolchain.clone(),
            version: order.version.clone(),
        })
    }
}

impl Provenance {
    /// What the statement says, for whoever decides; `key` is the one that signed it.
    ///
    /// # Errors
    /// When the builder is no agent.
    pub fn evidence(&self, key: KeyId) -> Result<Evidence, FactError> {
        let external = self.external.clone();
        let source = match external.source {
            Source::Module { h1, module, package, query, version } => {
                OrderedSource::Module { package, query, module, version, sum: h1.to_string() }
            }
            Source::Tree { origin, root, work_dir, workspace } => {
                OrderedSource::Tree { root, work_dir, workspace, origin }
            }
        };
        Ok(Evidence {
            key,
            name: self.subject.name.clone(),
            digest: self.subject.digest,
            package: self.internal.package.clone(),
            order: SigningOrder {
                task: self.internal.task.clone(),
                fence: self.internal.fence,
                agent: agent_of(&self.builder)?,
                placement: self.internal.placement,
                request: self.internal.request_digest,
                source,
                packages: external.packages,
                platform: external.platform,
                toolchain: external.toolchain,
                flags: external.flags,
                name: external.name,
                version: external.version,
                from_scratch: external.from_scratch,
                requester: self.internal.requester.clone(),
            },
            sandbox: (&self.internal.sandbox).into(),
        })
    }
}

impl From<&Sandbox> for sandbox::Sandbox {
    fn from(said: &Sandbox) -> Self {
        Self { kind: said.kind.clone(), features: said.features.clone() }
    }
}

impl From<sandbox::Sandbox> for Sandbox {
    fn from(stood: sandbox::Sandbox) -> Self {
        Self { kind: stood.kind, features: stood.features }
    }
}

impl From<SandboxDemand> for SandboxWanted {
    fn from(demand: SandboxDemand) -> Self {
        match demand {
            SandboxDemand::Any => Self::WherePossible,
            SandboxDemand::Required => Self::Required,
        }
    }
}

fn agent_of(builder: &Holder) -> Result<AgentId, FactError> {
    let prefix = format!("spiffe://{}/agent/", builder.fleet());
    let name = builder.as_str().strip_prefix(&prefix).and_then(|name| name.parse().ok());
    name.ok_or_else(|| FactError::Builder(builder.clone()))
}

impl Entry {
    /// A certified key as the keyring of `fleet` has it.
    ///
    /// # Errors
    /// When its public key is none.
    pub fn of(key: &CertifiedKey, fleet: &FleetName) -> Result<Self, FactError> {
        Ok(Self {
            key: VerifyingKey::from_spki(&key.claim.spki)?,
            key_use: key.claim.usage,
            holder: Holder::of(fleet, &key.claim.holder)?,
            grade: key.claim.grade,
            not_before: key.not_before,
            not_after: key.not_after,
            revoked: key.revoked,
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::id::{Fence, PlacementNumber};

    use super::*;
    use crate::statement::tests::provenance;

    #[test]
    fn an_order_and_the_statement_of_what_was_built_under_it_are_the_same_facts() {
        let key = KeyId::of(b"spki");
        let provenance = provenance();
        let evidence = provenance.evidence(key).unwrap();
        assert_eq!((evidence.key, &evidence.name), (key, &provenance.subject.name));
        let fleet = FleetName::new("acme").unwrap();
        let order =
            Order::of(&evidence.order, fleet, Wall(1), Wall(2), SandboxWanted::WherePossible).unwrap();
        assert_eq!(order.parameters, provenance.external);
        assert_eq!((order.task, order.fence), (provenance.internal.task, provenance.internal.fence));
        assert_eq!(order.placement, provenance.internal.placement);
        assert_eq!(order.request_digest, provenance.internal.request_digest);
        assert_eq!(order.requester, provenance.internal.requester);
        assert_eq!(order.agent.to_string(), "eu-central/a1");
    }

    #[test]
    fn a_builder_that_is_no_agent_gives_no_evidence() {
        for builder in
            ["spiffe://acme/coordinator", "spiffe://acme/agent/eu", "spiffe://acme/team/web/member/ann"]
        {
            let mut provenance = provenance();
            provenance.builder = Holder::new(builder).unwrap();
            let told = provenance.evidence(KeyId::of(b"spki"));
            assert!(matches!(told, Err(FactError::Builder(_))), "{builder}: {told:?}");
        }
    }

    #[test]
    fn a_module_that_was_resolved_to_no_hash_cannot_be_ordered() {
        let mut order = provenance().evidence(KeyId::of(b"spki")).unwrap().order;
        order.source = OrderedSource::Module {
            package: "a.test/x".to_owned(),
            query: "latest".to_owned(),
            module: "a.test/x".to_owned(),
            version: "v1.0.0".to_owned(),
            sum: "none".to_owned(),
        };
        (order.fence, order.placement) = (Fence(1), PlacementNumber(1));
        let fleet = FleetName::new("acme").unwrap();
        let made = Order::of(&order, fleet, Wall(1), Wall(2), SandboxWanted::Required);
        assert!(matches!(made, Err(FactError::Hash(_))), "{made:?}");
    }
}
