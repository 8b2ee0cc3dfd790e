//! What an honest agent's signer makes of a build that is made up: a file that says of itself what a Go executable would,
//! signed for real.

use meridian_core::{
    attestation::SigningOrder,
    build::{Resolution, artifact_name},
    digest::Digest,
    golang::{platform::Platform, toolchain_pins::default_pin},
    id::{AgentId, Fence, FleetName, PlacementNumber},
    keyring::KeyAlgorithm,
    machine::{effect::Work, record::TaskKind, request::request_digest},
    quantity::ByteCount,
    time::Wall,
};
use meridian_proto::v1;
use meridian_runtime::clock::Clock;
use meridian_trust::{
    agreement::modules_of,
    bundle::EnvelopeBundle,
    executable::read_build_info,
    holder::Holder,
    keys::{Signer as _, SigningKey},
    message::Message,
    proof::proof_text,
    sbom::{Sbom, Subject as SbomSubject},
    statement::{ExternalParameters, InternalParameters, Provenance, Sandbox, Subject, ToolchainUsed},
};
use tonic::transport::Channel;

/// The hash of nothing, as `go.sum` writes it.
pub(crate) const SUM: &str = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// What made-up module sources resolve to.
pub(crate) fn resolution() -> Resolution {
    Resolution { module: "example.com/tool".into(), version: "v1.0.0".into(), sum: SUM.into() }
}

/// An agent's signer.
pub(crate) struct Signer {
    key: SigningKey,
    pub(crate) agent: AgentId,
}

/// A signed file, not uploaded yet.
pub(crate) struct Signed {
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) executable: Vec<u8>,
    pub(crate) key: meridian_core::keyring::KeyId,
    pub(crate) signature: Vec<u8>,
    pub(crate) provenance: Vec<u8>,
    pub(crate) sbom: Vec<u8>,
}

impl Signer {
    pub(crate) fn new(agent: AgentId) -> Self {
        Self { key: SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap(), agent }
    }

    /// Has the key certified.
    pub(crate) async fn certify(&self, channel: &Channel) -> Result<v1::CertifyKeyResponse, tonic::Status> {
        let text = proof_text(&FleetName::new("acme").unwrap(), &self.agent);
        let proof = self.key.sign(&Message::of(text.as_bytes())).unwrap();
        let request = v1::CertifyKeyRequest {
            algorithm: v1::KeyAlgorithm::EcdsaP256.into(),
            spki: self.key.public().to_spki().into(),
            proof: proof.to_bytes().into(),
        };
        let mut client = v1::keys_client::KeysClient::new(channel.clone());
        client.certify(request).await.map(tonic::Response::into_inner)
    }

    /// Signs what the work asks for; `lie` may change the statement first.
    pub(crate) fn sign(
        &self,
        work: &Work,
        fence: Fence,
        placement: PlacementNumber,
        lie: impl FnOnce(&mut Provenance),
    ) -> Signed {
        let TaskKind::Compile(platform) = &work.kind else { panic!("only a compile task makes something") };
        let order = SigningOrder::of(work, self.agent.clone(), fence, placement).unwrap();
        let executable = executable(platform);
        let info = read_build_info(std::io::Cursor::new(&executable)).unwrap();
        let name = artifact_name("tool", "v1.0.0", platform);
        let digest = Digest::of(&executable);
        let now = Wall(Clock::system().now().wall_ms);
        let mut provenance = Provenance {
            subject: Subject { name, digest },
            external: ExternalParameters::ordered(&order).unwrap(),
            internal: InternalParameters {
                fence,
                package: "example.com/tool".into(),
                placement,
                request_digest: request_digest(&work.spec),
                requester: work.requester.clone(),
                sandbox: Sandbox { kind: "none".into(), features: Vec::new() },
                task: work.task.clone(),
            },
            toolchain: ToolchainUsed::Module {
                version: "v0.0.1-go1.27.3.linux-amd64".into(),
                h1: default_pin("linux/amd64").unwrap().parse().unwrap(),
                zip: None,
            },
            modules: modules_of(&info).unwrap(),
            builder: Holder::new(&format!("spiffe://acme/agent/{}", self.agent)).unwrap(),
            builder_version: "0".into(),
            started: now,
            finished: now,
        };
        lie(&mut provenance);
        let name = provenance.subject.name.clone();
        let size = ByteCount(executable.len() as u64);
        let subject = SbomSubject { name: name.clone(), digest, size, build_info: info };
        Signed {
            package: provenance.internal.package.clone(),
            signature: self.key.sign(&Message::of(&executable)).unwrap().to_bytes(),
            provenance: EnvelopeBundle { envelope: provenance.sign(&self.key).unwrap() }.to_json(),
            sbom: Sbom::of(&subject).unwrap().to_json().unwrap().into_bytes(),
            key: self.key.public().id(),
            name,
            executable,
        }
    }
}

/// The least that is an executable with Go's build info: an ELF header, one segment of writable data, and in it the
/// linker's block.
fn executable(platform: &Platform) -> Vec<u8> {
    let mut text = format!(
        "path\texample.com/tool\nmod\texample.com/tool\tv1.0.0\t{SUM}\nbuild\t-trimpath=true\nbuild\tCGO_ENABLED=0\n"
    );
    for (name, value) in platform.env() {
        text += &format!("build\t{name}={value}\n");
    }
    let framed = [&[0; 16][..], text.as_bytes(), &[0; 16]].concat();
    let mut block = b"\xff Go buildinf:\x08\x02".to_vec();
    block.resize(32, 0);
    for part in [&b"go1.27.3"[..], &framed] {
        let mut len = part.len();
        while len >= 0x80 {
            block.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        block.push(u8::try_from(len).unwrap());
        block.extend_from_slice(part);
    }
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2u16, 62] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    for long in [0u64, 64, 0] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let size = block.len() as u64;
    for word in [1u32, 6] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for long in [128u64, 0x1000, 0x1000, size, size, 16] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file.resize(128, 0);
    file.extend_from_slice(&block);
    file
}
