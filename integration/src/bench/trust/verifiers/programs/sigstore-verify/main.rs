//! `sigstore-verify-peer KEY.pub BUNDLE ARTIFACT`: exits with 0 when the library accepts the bundle for the artifact
//! under that key and no other.
//!
//! The library's `Verifier` wants a log entry or a time stamp in every bundle, also where the log is to be skipped, and
//! a fleet's own key has neither. So what is called here is what that `Verifier` calls: the reading of bundles and
//! statements, the encoding of what an envelope signs, and the check of a signature.

use std::{env, error::Error, fs, process::ExitCode};

use sigstore_verify::{
    crypto::{KeyAlgorithm, sha256, verify_signature},
    types::{Bundle, DerPublicKey, SignatureContent, Statement},
};

fn main() -> ExitCode {
    match verify(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn verify(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [key, bundle, artifact] = arguments else { return Err("expected KEY.pub BUNDLE ARTIFACT".into()) };
    let key = DerPublicKey::from_pem(&fs::read_to_string(key)?)?;
    let bundle = Bundle::from_json(&fs::read_to_string(bundle)?)?;
    let artifact = fs::read(artifact)?;
    let digest = sha256(&artifact);
    let algorithm = KeyAlgorithm::from_spki(&key)?;
    match &bundle.content {
        SignatureContent::MessageSignature(message) => {
            let told = message.message_digest.as_ref().ok_or("the bundle says no digest")?;
            if told.digest.as_bytes() != digest.as_bytes() {
                return Err("the bundle is about another content".into());
            }
            let scheme = algorithm.resolve_signing_scheme(told.algorithm)?;
            verify_signature(&key, &artifact, &message.signature, scheme)?;
        }
        SignatureContent::DsseEnvelope(envelope) => {
            let scheme = algorithm.default_signing_scheme();
            verify_signature(&key, &envelope.pae(), &envelope.signature.sig, scheme)?;
            let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())?;
            if envelope.payload_type != "application/vnd.in-toto+json" || !statement.matches_sha256(&digest) {
                return Err("the statement is about something else".into());
            }
        }
        _ => return Err("another kind of content".into()),
    }
    Ok(())
}
