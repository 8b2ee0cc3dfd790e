//! The `Keys` service: signing keys certified, revoked, and published as the keyring.

use meridian_core::{
    keyring::{KeyClaim, KeyHolder, KeyUse},
    machine::{effect::Reply, input::Input},
    time::Wall,
};
use meridian_proto::{convert::keyring::key_algorithm, v1};
use meridian_trust::{
    keys::{Signature, VerifyingKey},
    message::Message,
    proof::proof_text,
};
use tonic::{Request, Response, Status};

use crate::{
    authorization::Caller,
    handle::Handle,
    signing::{Signing, SigningError},
    status::{from_command, from_convert, from_reply, internal, invalid},
};

/// The `Keys` service.
pub(crate) struct KeysService {
    pub(crate) handle: Handle,
    pub(crate) signing: Signing,
}

pub(super) fn from_signing(error: SigningError) -> Status {
    match error {
        SigningError::Command(error) => from_command(error),
        other => internal("nothing could be signed", other),
    }
}

#[tonic::async_trait]
impl v1::keys_server::Keys for KeysService {
    async fn certify(
        &self,
        request: Request<v1::CertifyKeyRequest>,
    ) -> Result<Response<v1::CertifyKeyResponse>, Status> {
        let Caller::Agent(agent) = Caller::of(&request) else {
            return Err(Status::permission_denied("only agents have signing keys certified"));
        };
        let message = request.into_inner();
        let key = VerifyingKey::from_spki(&message.spki).map_err(invalid)?;
        let algorithm = key_algorithm(message.algorithm).map_err(|e| from_convert(&e))?;
        if key.algorithm() != algorithm {
            return Err(invalid("the key is of another algorithm than it says"));
        }
        // Whoever certifies a key that he does not hold could claim another's signatures for his own.
        let proof = Signature::parse(key.algorithm(), &message.proof).map_err(invalid)?;
        let text = proof_text(self.signing.fleet(), &agent);
        key.verify(&Message::of(text.as_bytes()), &proof).map_err(invalid)?;
        let claim = KeyClaim {
            algorithm,
            spki: message.spki.into(),
            usage: KeyUse::Artifact,
            holder: KeyHolder::Agent(agent.clone()),
            grade: self.signing.grade(),
        };
        let reply = self
            .handle
            .request(move |request| Input::CertifyKey { request, claim })
            .await
            .map_err(from_command)?;
        let key = match reply {
            Reply::KeyCertified { key } => key,
            other => return Err(from_reply("certify", other)),
        };
        tracing::info!(%agent, key = %key.id(), "a signing key is certified");
        let keyring = self.signing.keyring().await.map_err(from_signing)?.to_json();
        Ok(Response::new(v1::CertifyKeyResponse { key: Some(key.as_ref().into()), keyring: keyring.into() }))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let message = request.into_inner();
        let key = message.key.parse().map_err(invalid)?;
        let since = message.since_ms.map(Wall);
        let reply = self
            .handle
            .request(move |request| Input::RevokeKey { request, key, since })
            .await
            .map_err(from_command)?;
        match reply {
            Reply::KeyRevoked { changed } => {
                tracing::warn!(%key, changed, "a signing key is revoked");
                Ok(Response::new(v1::RevokeKeyResponse { changed }))
            }
            other => Err(from_reply("revoke", other)),
        }
    }

    async fn keyring(
        &self,
        _request: Request<v1::KeyringRequest>,
    ) -> Result<Response<v1::KeyringResponse>, Status> {
        let keyring = self.signing.keyring().await.map_err(from_signing)?.to_json();
        Ok(Response::new(v1::KeyringResponse { keyring: keyring.into() }))
    }
}
