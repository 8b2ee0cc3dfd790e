//! What an honest signer makes of a build that is made up, in parts that can be altered one by one.

use meridian_core::{
    attestation::SigningOrder,
    build::{Source as Asked, Toolchain, artifact_name_of, version_named},
    digest::Digest,
    golang::{
        h1::H1,
        toolchain_pins::{DEFAULT_VERSION, default_pin},
    },
    id::{AgentId, Fence, FleetName, PlacementNumber},
    keyring::{KeyAlgorithm, KeyHolder, KeyId},
    machine::{effect::Work, record::TaskKind, request::request_digest},
    quantity::ByteCount,
    time::Wall,
};
use meridian_proto::v1::{self, keys_client::KeysClient};
use meridian_trust::{
    agreement::modules_of,
    bundle::EnvelopeBundle,
    dsse::Envelope,
    executable::read_build_info,
    holder::Holder,
    keys::{Signer as _, SigningKey},
    message::Message,
    proof::proof_text,
    sbom::{Sbom, Subject as SbomSubject},
    statement::{
        ExternalParameters, InternalParameters, PAYLOAD_TYPE, Provenance, Sandbox, Subject, ToolchainUsed,
    },
};
use tonic::{Status, transport::Channel};

use super::executable::{BuildText, executable};

/// The host that scripted agents say they run on.
pub(super) const HOST: &str = "linux/amd64";
/// The version of Meridian that they say they are.
pub(super) const VERSION: &str = "0";

/// An agent's signer, which signs whatever it is given.
pub struct Signer {
    key: SigningKey,
    fleet: FleetName,
    agent: AgentId,
}

/// One attempt whose result is to be made up.
#[derive(Debug, Clone)]
pub struct Sketch<'a> {
    /// What was ordered.
    pub work: &'a Work,
    /// The lease.
    pub fence: Fence,
    /// Where it came from.
    pub placement: PlacementNumber,
    /// What the executable says of its modules, `path` and `mod` included.
    pub modules: &'a str,
    /// When it is built.
    pub now: Wall,
    /// Makes the executable one of many.
    pub salt: u64,
}

/// A signed file before it is uploaded: bytes that can be altered one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The artifact's name.
    pub name: String,
    /// Which of the build's packages it is.
    pub package: String,
    /// The artifact.
    pub executable: Vec<u8>,
    /// The key that it says signed.
    pub key: KeyId,
    /// The raw signature over the artifact.
    pub signature: Vec<u8>,
    /// `X.intoto.sigstore.json`.
    pub provenance: Vec<u8>,
    /// `X.sbom.cdx.json`.
    pub sbom: Vec<u8>,
}

impl Signer {
    /// A signer with a key of its own.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(algorithm: KeyAlgorithm, fleet: FleetName, agent: AgentId) -> anyhow::Result<Self> {
        Ok(Self { key: SigningKey::generate(algorithm)?, fleet, agent })
    }

    /// Its key's name.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key.public().id()
    }

    /// Has the key certified over an agent's own connection.
    ///
    /// # Errors
    /// What the coordinator says instead.
    pub async fn certify(&self, channel: &Channel) -> Result<(), Status> {
        let text = proof_text(&self.fleet, &self.agent);
        let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let proof = self.key.sign(&Message::of(text.as_bytes())).map_err(|e| internal(&e))?;
        let algorithm = v1::KeyAlgorithm::from(self.key.public().algorithm());
        let request = v1::CertifyKeyRequest {
            algorithm: algorithm.into(),
            spki: self.key.public().to_spki().into(),
            proof: proof.to_bytes().into(),
        };
        KeysClient::new(channel.clone()).certify(request).await.map(drop)
    }

    /// What an honest agent would report of an attempt.
    ///
    /// # Errors
    /// When the work makes no artifact.
    pub fn claim(&self, sketch: &Sketch<'_>) -> anyhow::Result<Claim> {
        self.claim_with(sketch, |_| {}, |statement| statement)
    }

    /// The same with a statement that was changed before it was signed: as a value, then as text.
    ///
    /// # Errors
    /// When the work makes no artifact, or the changed value cannot be said.
    pub fn claim_with(
        &self,
        sketch: &Sketch<'_>,
        lie: impl FnOnce(&mut Provenance),
        rewrite: impl FnOnce(String) -> String,
    ) -> anyhow::Result<Claim> {
        let (executable, mut provenance) = self.honest(sketch)?;
        let info = read_build_info(std::io::Cursor::new(&executable))?;
        let (name, package) = (provenance.subject.name.clone(), provenance.internal.package.clone());
        let subject = SbomSubject {
            name: name.clone(),
            digest: Digest::of(&executable),
            size: ByteCount(executable.len() as u64),
            build_info: info,
        };
        lie(&mut provenance);
        let statement = rewrite(String::from_utf8(provenance.to_statement()?)?);
        let envelope = Envelope::sign(&self.key, PAYLOAD_TYPE, statement.into_bytes())?;
        Ok(Claim {
            signature: self.sign(&executable)?,
            provenance: EnvelopeBundle { envelope }.to_json(),
            sbom: Sbom::of(&subject)?.to_json()?.into_bytes(),
            key: self.key(),
            name,
            package,
            executable,
        })
    }

    /// The raw signature over some bytes.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.sign(&Message::of(bytes))?.to_bytes())
    }

    /// A bundle around any payload of any type.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn bundle(&self, payload_type: &str, payload: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let envelope = Envelope::sign(&self.key, payload_type, payload)?;
        Ok(EnvelopeBundle { envelope }.to_json())
    }

    /// The artifact, and what an honest signer states of it.
    ///
    /// # Errors
    /// When the work makes no artifact.
    pub fn honest(&self, sketch: &Sketch<'_>) -> anyhow::Result<(Vec<u8>, Provenance)> {
        let Sketch { work, fence, placement, modules, now, salt } = sketch.clone();
        let TaskKind::Compile(platform) = &work.kind else { anyhow::bail!("only a compile makes something") };
        let text = BuildText { go_version: format!("go{DEFAULT_VERSION}"), modules: modules.to_owned() };
        let executable = executable(&text, platform, salt);
        let info = read_build_info(std::io::Cursor::new(&executable))?;
        let order = SigningOrder::of(work, self.agent.clone(), fence, placement);
        let order = order.ok_or_else(|| anyhow::anyhow!("the source is not resolved"))?;
        let package = match &work.spec.source {
            Asked::Module { package, .. } => package.clone(),
            Asked::Tree { .. } => work.spec.packages.first().cloned().unwrap_or_default(),
        };
        let resolved = work.resolution.as_ref().map(|found| found.version.as_str());
        let version = version_named(&work.spec.version, resolved);
        let pin: H1 = default_pin(HOST).unwrap_or_default().parse()?;
        let toolchain = match &work.spec.toolchain {
            Toolchain::Local => ToolchainUsed::Installed {
                version: format!("go{DEFAULT_VERSION}"),
                go_command: Digest::of(b"go"),
            },
            Toolchain::Default | Toolchain::Version { .. } => ToolchainUsed::Module {
                version: format!("v0.0.1-go{DEFAULT_VERSION}.{}", HOST.replace('/', "-")),
                h1: pin,
                zip: None,
            },
        };
        let provenance = Provenance {
            subject: Subject {
                name: artifact_name_of(work.spec.name.as_deref(), &info.path, version, platform),
                digest: Digest::of(&executable),
            },
            external: ExternalParameters::ordered(&order)?,
            internal: InternalParameters {
                fence,
                package,
                placement,
                request_digest: request_digest(&work.spec),
                requester: work.requester.clone(),
                sandbox: Sandbox { kind: "none".into(), features: Vec::new() },
                task: work.task.clone(),
            },
            toolchain,
            modules: modules_of(&info)?,
            builder: Holder::of(&self.fleet, &KeyHolder::Agent(self.agent.clone()))?,
            builder_version: VERSION.into(),
            started: now,
            finished: now,
        };
        Ok((executable, provenance))
    }
}
