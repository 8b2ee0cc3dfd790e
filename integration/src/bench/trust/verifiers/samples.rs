//! Genuine files of both algorithms, and what is altered in them.
//!
//! The ECDSA files are those of a real build. The Ed25519 files are the same artifact under another key, made by the
//! functions that a signer calls.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::{
    bundle::{EnvelopeBundle, MessageBundle},
    dsse::{Envelope, pre_authentication_encoding},
    keys::{Algorithm, Signer as _, SigningKey},
    message::Message,
    sidecar::{Sidecar, signature_text},
    statement::PAYLOAD_TYPE,
};
use serde_json::{Value, json};

use super::cells::{Alteration, Form};
use crate::{client::Client, fixture::program::Program, home::Home};

/// The files of one artifact, as a verifier is given them.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The artifact.
    pub artifact: Vec<u8>,
    /// The public key, in PEM.
    pub public_key: String,
    /// `X.sig`.
    pub signature: String,
    /// `X.sigstore.json`.
    pub message: String,
    /// `X.intoto.sigstore.json`.
    pub provenance: String,
    /// Whoever else has a key of the same algorithm.
    other: Arc<SigningKey>,
}

/// Where a sample's files lie.
#[derive(Debug)]
pub struct Paths {
    /// The artifact.
    pub artifact: PathBuf,
    /// The public key.
    pub public_key: PathBuf,
    /// The bare signature in base64.
    pub signature: PathBuf,
    /// The bundle of the form that is verified; the bare signature has none.
    pub bundle: PathBuf,
}

/// What a real build leaves beside an artifact of a small program.
///
/// # Errors
/// When it cannot be built.
pub fn built() -> anyhow::Result<Sample> {
    let client = Client::local(Home::with_proxy("off"));
    let source = client.home.path().join("hello");
    Program::saying("example.com/hello", "hello").write(&source)?;
    let source = source.display().to_string();
    let dist = client.build(&[source.as_str(), "--version", "1.0.0"]).expect_success();
    let artifact = dist.only();
    let sample = read(&artifact);
    client.run(&["local", "stop"]);
    sample
}

fn read(artifact: &Path) -> anyhow::Result<Sample> {
    let name = artifact.file_name().context("an artifact has a name")?.to_string_lossy();
    let beside = |sidecar: Sidecar| fs::read_to_string(artifact.with_file_name(sidecar.file_name(&name)));
    Ok(Sample {
        artifact: fs::read(artifact)?,
        public_key: beside(Sidecar::PublicKey)?,
        signature: beside(Sidecar::Signature)?,
        message: beside(Sidecar::MessageBundle)?,
        provenance: beside(Sidecar::Provenance)?,
        other: Arc::new(SigningKey::generate(Algorithm::EcdsaP256)?),
    })
}

impl Sample {
    /// The same artifact and statement, signed with a fresh Ed25519 key.
    ///
    /// # Errors
    /// When nothing can be signed.
    pub fn under_ed25519(&self) -> anyhow::Result<Self> {
        let key = SigningKey::generate(Algorithm::Ed25519)?;
        let message = Message::of(&self.artifact);
        let signature = key.sign(&message)?;
        let envelope = Envelope::sign(&key, PAYLOAD_TYPE, self.statement()?)?;
        Ok(Self {
            artifact: self.artifact.clone(),
            public_key: key.public().to_pem(),
            signature: signature_text(&signature),
            message: text(MessageBundle::new(key.public(), message.digest(), &signature).to_json())?,
            provenance: text(EnvelopeBundle { envelope }.to_json())?,
            other: Arc::new(SigningKey::generate(Algorithm::Ed25519)?),
        })
    }

    fn statement(&self) -> anyhow::Result<Vec<u8>> {
        let bundle: Value = serde_json::from_str(&self.provenance)?;
        let payload = bundle["dsseEnvelope"]["payload"].as_str().context("a payload")?;
        Ok(STANDARD.decode(payload)?)
    }

    /// Alters it.
    ///
    /// # Errors
    /// When it has not the form that an alteration goes by.
    pub fn altered(&self, form: Form, alteration: Alteration) -> anyhow::Result<Self> {
        let mut altered = self.clone();
        match alteration {
            Alteration::Genuine => {}
            Alteration::ArtifactBit => {
                let middle = altered.artifact.len() / 2;
                altered.artifact[middle] ^= 1;
            }
            Alteration::ArtifactLonger => altered.artifact.push(0),
            Alteration::WrongKey => altered.public_key = self.other.public().to_pem(),
            Alteration::SignatureBit if form == Form::Raw => {
                altered.signature = flipped(&self.signature, last_byte)?;
            }
            _ => altered.alter_bundle(form, alteration)?,
        }
        ensure!(alteration == Alteration::Genuine || !altered.is(self), "{alteration:?} altered nothing");
        Ok(altered)
    }

    fn is(&self, other: &Self) -> bool {
        let all = |sample: &Self| {
            [&sample.public_key, &sample.signature, &sample.message, &sample.provenance].map(Clone::clone)
        };
        self.artifact == other.artifact && all(self) == all(other)
    }

    fn alter_bundle(&mut self, form: Form, alteration: Alteration) -> anyhow::Result<()> {
        let bundle = if form == Form::Message { &self.message } else { &self.provenance };
        let mut value: Value = serde_json::from_str(bundle)?;
        let envelope = &mut value["dsseEnvelope"];
        match (form, alteration) {
            (Form::Message, Alteration::SignatureBit) => {
                flip(&mut value["messageSignature"]["signature"], last_byte)?;
            }
            (Form::Message, Alteration::DigestBit) => {
                flip(&mut value["messageSignature"]["messageDigest"]["digest"], last_byte)?;
            }
            (Form::Message, Alteration::SecondSignature) => {
                let whole: Value = serde_json::from_str(&self.provenance)?;
                value["dsseEnvelope"] = whole["dsseEnvelope"].clone();
            }
            (_, Alteration::SignatureBit) => flip(&mut envelope["signatures"][0]["sig"], last_byte)?,
            // The 2 of a year becomes a 3: other text, no other JSON.
            (_, Alteration::PayloadBit) => flip(&mut envelope["payload"], |payload| {
                let started = b"\"startedOn\":\"";
                let at = payload.windows(started.len()).position(|window| window == started)?;
                Some(at + started.len())
            })?,
            (_, Alteration::PayloadType) => {
                envelope["payloadType"] = json!(PAYLOAD_TYPE.replace("json", "jsoo"))
            }
            (_, Alteration::SecondSignature) => {
                let payload = STANDARD.decode(envelope["payload"].as_str().context("a payload")?)?;
                let encoding = pre_authentication_encoding(PAYLOAD_TYPE, &payload);
                let second = self.other.sign(&Message::of(&encoding))?;
                let signatures = envelope["signatures"].as_array_mut().context("a list of signatures")?;
                signatures.push(json!({ "sig": signature_text(&second) }));
            }
            _ => anyhow::bail!("{alteration:?} is no alteration of {form:?}"),
        }
        let bundle = if form == Form::Message { &mut self.message } else { &mut self.provenance };
        *bundle = value.to_string();
        Ok(())
    }

    /// Writes the files that verify one form.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, directory: &Path, form: Form) -> anyhow::Result<Paths> {
        let paths = Paths {
            artifact: directory.join("artifact"),
            public_key: directory.join("artifact.pub"),
            signature: directory.join("artifact.sig"),
            bundle: directory.join("artifact.json"),
        };
        let bundle = if form == Form::Message { &self.message } else { &self.provenance };
        fs::create_dir_all(directory)?;
        fs::write(&paths.artifact, &self.artifact)?;
        fs::write(&paths.public_key, &self.public_key)?;
        fs::write(&paths.signature, &self.signature)?;
        fs::write(&paths.bundle, bundle)?;
        Ok(paths)
    }
}

/// The lowest bits of an ECDSA signature's s, and the highest of an Ed25519 signature's: both keep their form.
fn last_byte(bytes: &[u8]) -> Option<usize> {
    bytes.len().checked_sub(1)
}

fn flip(value: &mut Value, at: impl Fn(&[u8]) -> Option<usize>) -> anyhow::Result<()> {
    let altered = flipped(value.as_str().context("a text in base64")?, at)?;
    *value = json!(altered);
    Ok(())
}

/// Flips the lowest bit of one byte below base64.
fn flipped(text: &str, at: impl Fn(&[u8]) -> Option<usize>) -> anyhow::Result<String> {
    let mut bytes = STANDARD.decode(text)?;
    let at = at(&bytes).context("a place to flip a bit at")?;
    *bytes.get_mut(at).context("a byte")? ^= 1;
    Ok(STANDARD.encode(bytes))
}

fn text(bytes: Vec<u8>) -> anyhow::Result<String> {
    Ok(String::from_utf8(bytes)?)
}
