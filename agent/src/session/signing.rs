//! Has what an attempt built signed, and keeps the signer's key certified.

use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use meridian_core::{
    attestation::{Attestation, Document},
    build::Receipt,
    digest::Digest,
    id::{Fence, TaskId},
    keyring::KeyId,
    quantity::ByteCount,
    time::Wall,
};
use meridian_proto::v1::{self, agents_client::AgentsClient, keys_client::KeysClient};
use meridian_trust::{dsse::Envelope, order::Order, statement::Sandbox};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::{
    gobuild::BuiltFile,
    signer::{PublicKey, Request, SignedArtifact, Signer, SignerFailure, ToolchainFacts},
    toolchain::{Origin, ToolchainRef},
    transfer::{BlobContent, BlobUpload},
};

/// How often the key's life is renewed. The coordinator answers the same until half of it is over.
const CERTIFY_EVERY: Duration = Duration::from_secs(24 * 3600);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long until a key that was revoked is asked for again: it stays so, and the log should go on saying it.
const PAUSE_REFUSED: Duration = Duration::from_secs(3600);
/// How long a call may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningFailure {
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerFailure),
    /// The coordinator.
    #[error("no order to sign was given: {0}")]
    Order(Box<Status>),
    /// The file.
    #[error("the artifact cannot be opened: {0}")]
    File(#[from] std::io::Error),
    /// What was signed is not what was built.
    #[error("the signer signed something else: {0}")]
    Differs(String),
    /// The coordinator did not certify the key.
    #[error("the signer's key is not certified yet")]
    NotCertified,
}

/// Why the key is not certified.
enum CertifyFailure {
    /// The coordinator took it back.
    Refused(String),
    /// Something that may pass.
    Trouble(String),
}

/// The agent's way to signatures. Clones share it.
#[derive(Clone)]
pub(crate) struct Signing {
    signer: Signer,
    channel: Channel,
    certified: Arc<watch::Sender<bool>>,
    ask_again: Arc<Notify>,
}

/// An artifact with what its signer said.
pub(crate) struct Signed {
    digest: Digest,
    key: KeyId,
    signature: Vec<u8>,
    provenance: String,
    sbom: String,
}

impl Signing {
    /// Signs through `signer`; orders come over `channel`.
    pub(crate) fn new(signer: Signer, channel: Channel) -> Self {
        let certified = Arc::new(watch::Sender::new(false));
        Self { signer, channel, certified, ask_again: Arc::default() }
    }

    /// Has the key looked at again now rather than at its time.
    pub(crate) fn ask_again(&self) {
        self.ask_again.notify_one();
    }

    /// Has the signer's key certified, again and again, until told to stop.
    pub(crate) async fn keep_certified(self, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            let wait = match self.certify().await {
                Ok(()) => {
                    self.certified.send_replace(true);
                    pause = PAUSE_MIN;
                    CERTIFY_EVERY
                }
                Err(CertifyFailure::Refused(why)) => {
                    self.certified.send_replace(false);
                    tracing::error!(
                        why,
                        "the signer's key counts no more: nothing that is built here is accepted"
                    );
                    PAUSE_REFUSED
                }
                Err(CertifyFailure::Trouble(why)) => {
                    tracing::warn!(why, "the signer's key is not certified yet");
                    pause = (pause * 2).min(PAUSE_MAX);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.ask_again.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn certify(&self) -> Result<(), CertifyFailure> {
        let trouble = |error: &dyn std::fmt::Display| CertifyFailure::Trouble(error.to_string());
        let PublicKey { algorithm, spki, proof } = self.signer.key().await.map_err(|e| trouble(&e))?;
        let algorithm = match algorithm.as_str() {
            "ed25519" => v1::KeyAlgorithm::Ed25519,
            _ => v1::KeyAlgorithm::EcdsaP256,
        };
        let request =
            v1::CertifyKeyRequest { algorithm: algorithm.into(), spki: spki.into(), proof: proof.into() };
        let mut client = KeysClient::new(self.channel.clone());
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.certify(request)).await;
        match answer.map_err(|_| trouble(&"no answer"))? {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::FailedPrecondition => {
                Err(CertifyFailure::Refused(status.message().to_owned()))
            }
            Err(status) => Err(trouble(&status)),
        }
    }

    /// The order of a lease, to be asked for while it is built: a round trip that nobody waits for.
    pub(crate) async fn order(
        &self,
        task: &TaskId,
        fence: Fence,
    ) -> Result<v1::OrderResponse, SigningFailure> {
        let mut certified = self.certified.subscribe();
        let is_certified = async { certified.wait_for(|certified| *certified).await.is_ok() };
        if !tokio::time::timeout(ANSWER_WITHIN, is_certified).await.unwrap_or(false) {
            return Err(SigningFailure::NotCertified);
        }
        let lease = v1::Lease { task: task.to_string(), fence: fence.0 };
        let mut client = AgentsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let answer = client.order(v1::OrderRequest { lease: Some(lease) });
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        let late = || Status::deadline_exceeded("no answer within 30 s");
        let answer = answer.unwrap_or_else(|_| Err(late()));
        answer.map(tonic::Response::into_inner).map_err(|status| SigningFailure::Order(Box::new(status)))
    }

    /// The order, or another one under the same lease when half of its life is over: it must last until the last file
    /// is signed.
    pub(crate) async fn refreshed(
        &self,
        order: v1::OrderResponse,
        task: &TaskId,
        fence: Fence,
    ) -> Result<v1::OrderResponse, SigningFailure> {
        if is_half_over(&order.order, Wall(wall_ms())) { self.order(task, fence).await } else { Ok(order) }
    }

    /// Has one file signed.
    pub(crate) async fn sign(
        &self,
        order: &v1::OrderResponse,
        file: &BuiltFile,
        toolchain: &ToolchainRef,
        sandbox: Sandbox,
        started_ms: u64,
    ) -> Result<Signed, SigningFailure> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let request = Request {
            order: text(&order.order),
            keyring: text(&order.keyring),
            package: file.package.clone(),
            file: OwnedFd::from(File::open(&file.path)?),
            toolchain: facts(toolchain),
            sandbox,
            started_ms,
        };
        let SignedArtifact { name, digest, key, signature, provenance, sbom } =
            self.signer.sign(request).await?;
        if name != file.name {
            return Err(SigningFailure::Differs(format!("{name} instead of {}", file.name)));
        }
        let malformed = || SigningFailure::Differs("a malformed digest".to_owned());
        Ok(Signed {
            digest: digest.parse().map_err(|_| malformed())?,
            key: key.parse().map_err(|_| malformed())?,
            signature,
            provenance,
            sbom,
        })
    }
}

/// The largest answer: an order and the keyring of a large fleet.
const MESSAGE_LEN_MAX: usize = 16 << 20;

/// Whether half of an order's life is over; of one that cannot be read it is, and its signer says what is wrong with it.
fn is_half_over(envelope: &[u8], now: Wall) -> bool {
    let order = Envelope::parse(envelope).ok().and_then(|envelope| Order::claimed(&envelope).ok());
    order.is_none_or(|order| now.0 >= order.issued.0.midpoint(order.expires.0))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn facts(toolchain: &ToolchainRef) -> ToolchainFacts {
    match toolchain.origin() {
        Origin::Module { version, h1 } => {
            ToolchainFacts::Module { version: version.clone(), h1: h1.to_string() }
        }
        Origin::Installed { go_command } => ToolchainFacts::Installed {
            version: toolchain.version().to_owned(),
            go_command: go_command.to_hex(),
        },
    }
}

impl Signed {
    /// What was signed.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The documents to be kept beside the artifact: provenance, then bill of materials.
    pub(crate) fn uploads(&self) -> [BlobUpload; 2] {
        [&self.provenance, &self.sbom].map(|text| BlobUpload {
            digest: Digest::of(text.as_bytes()),
            size: ByteCount(text.len() as u64),
            content: BlobContent::Bytes(text.clone().into()),
        })
    }

    /// The attestation, once its documents are held: their receipts in the order of [`Self::uploads`].
    pub(crate) fn attestation(self, receipts: [Receipt; 2]) -> Attestation {
        let [provenance, sbom] = receipts.map(|receipt| Document {
            digest: receipt.digest,
            size: receipt.size,
            receipts: vec![receipt],
        });
        Attestation { key: self.key, signature: self.signature, provenance, sbom }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn an_order_is_asked_for_anew_when_half_of_its_life_is_over() {
        let payload = STANDARD.encode(include_str!("../../../trust/tests/golden/order.json"));
        let envelope = serde_json::json!({
            "payload": payload,
            "payloadType": meridian_trust::order::PAYLOAD_TYPE,
            "signatures": [{ "keyid": "00".repeat(32), "sig": "AAAA" }],
        });
        let is_half_over = |now: u64| is_half_over(envelope.to_string().as_bytes(), Wall(now));
        // It was issued at 4,000,000 and expires at 6,000,000.
        assert!(!is_half_over(4_999_999));
        assert!(is_half_over(5_000_000));
        assert!(is_half_over(7_000_000));
        assert!(super::is_half_over(b"{}", Wall(0)), "what cannot be read is not held to be fresh");
    }
}
