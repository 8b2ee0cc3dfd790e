//! Genuine files of both algorithms, as two agents of a real fleet left them, and what is altered in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::{
    dsse::pre_authentication_encoding,
    keys::{Algorithm, Signer as _, SigningKey, VerifyingKey},
    message::Message,
    sidecar::{Sidecar, signature_text},
    statement::PAYLOAD_TYPE,
};
use serde_json::{Value, json};

use super::cells::{Alteration, Form};
use crate::{fixture::program::Program, fleet::Fleet, home::Home};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

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

/// What real builds leave beside an artifact of a small program, by the algorithm of their agent's signer.
///
/// # Errors
/// When it cannot be built.
pub fn built() -> anyhow::Result<BTreeMap<Algorithm, Sample>> {
    let mut fleet = Fleet::start();
    for algorithm in ALGORITHMS {
        let home = Home::with_proxy("off");
        let table = format!("[signer]\nalgorithm = \"{algorithm}\"\n");
        fs::write(home.path().join("agent.toml"), table)?;
        fleet.join_agent(&agent(algorithm), 1, home);
    }
    let client = fleet.member("alice");
    let source = client.home.path().join("hello");
    Program::saying("example.com/hello", "hello").write(&source)?;
    let source = source.display().to_string();
    let build = |algorithm: Algorithm| {
        let agent = agent(algorithm);
        let arguments = [source.as_str(), "--version", "1.0.0", "--agent", agent.as_str()];
        let dist = client.build_into(algorithm.name(), &arguments).expect_success();
        Ok((algorithm, read(&dist.only(), algorithm)?))
    };
    ALGORITHMS.into_iter().map(build).collect()
}

fn agent(algorithm: Algorithm) -> String {
    format!("eu/{algorithm}")
}

fn read(artifact: &Path, algorithm: Algorithm) -> anyhow::Result<Sample> {
    let name = artifact.file_name().context("an artifact has a name")?.to_string_lossy();
    let beside = |sidecar: Sidecar| fs::read_to_string(artifact.with_file_name(sidecar.file_name(&name)));
    let public_key = beside(Sidecar::PublicKey)?;
    let found = VerifyingKey::from_pem(&public_key)?.algorithm();
    ensure!(found == algorithm, "an agent that should sign with {algorithm} signed with {found}");
    Ok(Sample {
        artifact: fs::read(artifact)?,
        public_key,
        signature: beside(Sidecar::Signature)?,
        message: beside(Sidecar::MessageBundle)?,
        provenance: beside(Sidecar::Provenance)?,
        other: Arc::new(SigningKey::generate(algorithm)?),
    })
}

impl Sample {
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
