//! The signer itself: a process that runs no build step and holds the one key that can sign for its agent.
//!
//! It believes nobody: an order counts only under a key that the pinned root certified; what is signed is hashed here,
//! from a descriptor; its name and its modules are read from the bytes; and what the agent alone can know (which
//! toolchain, which sandbox) is compared with the executable where that says something of it.
//!
//! Its files are named from its working directory, which is the only one it needs.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_core::{
    build::{artifact_name_of, version_named},
    digest::Digest,
    id::{AgentId, FleetName},
    keyring::KeyHolder,
    quantity::ByteCount,
    sandbox::Sandbox,
    time::Wall,
};
use meridian_trust::{
    agreement,
    bundle::EnvelopeBundle,
    dsse::Envelope,
    executable::{BuildInfo, read_build_info},
    holder::Holder,
    keyring::Root,
    keys::{Algorithm, SignError, Signer, VerifyingKey},
    message::{Content, Message},
    order::{Order, SandboxWanted},
    proof::proof_text,
    sbom,
    statement::{InternalParameters, Provenance, ProvenanceError, Source, Subject},
};

use super::{
    channel::Channel,
    confinement, isolation,
    key_source::KeySource,
    protocol::{Answer, Ask, Begin, Owner, PublicKey, SignAsk, SignedArtifact},
    seen_keyrings::SeenKeyrings,
    signed_log::{LogError, Signed, SignedLog},
};

/// The largest file that is signed, in bytes.
const ARTIFACT_LEN_MAX: u64 = 4 << 30;
const OWNER_FILE: &str = "owner.json";

/// Why a signer does not start or does not sign. The text is for the agent's log and the task's history.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It does not start, or would not.
    #[error("{0}")]
    Refused(String),
    /// Whoever holds its key did not sign, or its log cannot be written: both are tried anew by another process.
    #[error("{0}")]
    Key(String),
}

impl SignerError {
    fn new(what: impl std::fmt::Display) -> Self {
        Self::Refused(what.to_string())
    }

    /// A log that could not be written says no more what is on the disk: the next process reads it again.
    fn of_log(error: LogError) -> Self {
        match error {
            LogError::File { .. } | LogError::Segment(_) | LogError::Broken => Self::Key(error.to_string()),
            refused => Self::new(refused),
        }
    }

    fn answer(self) -> Answer {
        match self {
            Self::Refused(why) => Answer::Refused(why),
            Self::Key(why) => Answer::KeyAway(why),
        }
    }
}

/// What the key's holder says is its own trouble; what cannot be read, or changed, is the artifact's.
impl From<SignError> for SignerError {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Read(error) => Self::new(error),
            away @ (SignError::Holder(_) | SignError::Late { .. }) => Self::Key(away.to_string()),
        }
    }
}

/// A signer that was told whom it belongs to.
struct Service {
    key: Box<dyn Signer>,
    log: SignedLog,
    keyrings: SeenKeyrings,
    fleet: FleetName,
    agent: AgentId,
}

/// Runs the signer's process: hides, and serves the agent at the other end of standard input until that hangs up. The
/// key and the log lie in `state`.
///
/// # Errors
/// When the process cannot be closed to others or the state cannot be used; of the latter the agent is told as well.
pub fn run(state: &Path) -> Result<(), SignerError> {
    confinement::hide().map_err(SignerError::new)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(SignerError::new)?;
    serve(socket.into(), state)
}

fn serve(socket: UnixStream, state: &Path) -> Result<(), SignerError> {
    let channel = Channel::new(socket);
    let mut service = None;
    while let Some((ask, file)) = channel.receive::<Ask>().map_err(SignerError::new)? {
        let answer = match (ask, &mut service) {
            (Ask::Begin(_), Some(_)) => {
                Err(SignerError::new("the signer was told already whom it belongs to"))
            }
            (Ask::Begin(begin), None) => Service::begin(*begin, state).and_then(|begun| {
                let ready = begun.public_key()?;
                service = Some(begun);
                Ok(Answer::Ready(ready))
            }),
            (Ask::Sign(_), None) => Err(SignerError::new("the signer was not told whom it belongs to")),
            (Ask::Sign(ask), Some(service)) => {
                let file = file.ok_or_else(|| SignerError::new("no file came to be signed"));
                file.and_then(|file| service.sign(&ask, file, now())).map(|s| Answer::Signed(Box::new(s)))
            }
        };
        let answer = answer.unwrap_or_else(SignerError::answer);
        channel.send(&answer, None).map_err(SignerError::new)?;
    }
    Ok(())
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Service {
    fn begin(begin: Begin, state: &Path) -> Result<Self, SignerError> {
        let Begin { owner, run_as, algorithm, key } = begin;
        let algorithm: Algorithm = algorithm.parse().map_err(SignerError::new)?;
        // Secrets may be the agent's user's alone; all that is read or loaded after them is its own user's business.
        confinement::stay_in_memory();
        let source = KeySource::read(key).map_err(SignerError::new)?;
        if let Some(user) = run_as {
            confinement::become_user(user).map_err(SignerError::new)?;
        }
        if matches!(source, KeySource::File(_)) {
            isolation::cut_off().map_err(SignerError::new)?;
        }
        keep_owner(&state.join(OWNER_FILE), &owner)?;
        let spki = STANDARD.decode(&owner.root).map_err(SignerError::new)?;
        let fleet: FleetName = owner.fleet.parse().map_err(SignerError::new)?;
        let root = VerifyingKey::from_spki(&spki).map_err(SignerError::new)?;
        let root = Root::new(root, Some(fleet.clone())).map_err(SignerError::new)?;
        let log = SignedLog::open(state).map_err(SignerError::new)?;
        Ok(Self {
            key: source.open(state, algorithm).map_err(SignerError::new)?,
            log,
            keyrings: SeenKeyrings::open(state, root)?,
            agent: owner.agent.parse().map_err(SignerError::new)?,
            fleet,
        })
    }

    fn public_key(&self) -> Result<PublicKey, SignerError> {
        let proof = proof_text(&self.fleet, &self.agent);
        let message = Message::of(proof.as_bytes());
        let (public, proof) = (self.key.public(), self.key.sign(&message)?);
        // Whoever holds the key may hold another one than it says.
        public.verify(&message, &proof).map_err(|error| SignerError::Key(error.to_string()))?;
        Ok(PublicKey {
            algorithm: public.algorithm().name().to_owned(),
            spki: public.to_spki(),
            proof: proof.to_bytes(),
        })
    }

    fn sign(&mut self, ask: &SignAsk, file: OwnedFd, now: Wall) -> Result<SignedArtifact, SignerError> {
        let order = self.order(ask, now)?;
        let artifact = Artifact::new(file)?;
        let message = Message::hash(&artifact).map_err(SignerError::new)?;
        let info = read_build_info(artifact.reader()).map_err(SignerError::new)?;
        // What was read in between must be what is signed.
        let again = Message::hash(&artifact).map_err(SignerError::new)?;
        if again.digest() != message.digest() {
            return Err(SignerError::new("the artifact changed while it was looked at"));
        }
        let digest = message.digest();
        let provenance = self.provenance(&order, ask, digest, &info, now)?;
        agreement::check(&provenance, &info).map_err(SignerError::new)?;
        let subject = sbom::Subject {
            name: provenance.subject.name.clone(),
            digest,
            size: ByteCount(artifact.len),
            build_info: info,
        };
        let sbom = sbom::Sbom::of(&subject).and_then(|sbom| sbom.to_json()).map_err(SignerError::new)?;
        self.log.check(&order.task, order.fence, &ask.package, digest).map_err(SignerError::new)?;
        let key = self.key.public().id().to_string();
        self.log
            .append(&Signed {
                at_ms: now.0,
                task: order.task.to_string(),
                fence: order.fence.0,
                package: ask.package.clone(),
                digest: digest.to_hex(),
                key: key.clone(),
            })
            .map_err(SignerError::of_log)?;
        let signature = self.key.sign(&message)?.to_bytes();
        let envelope = provenance.sign(&*self.key).map_err(|error| match error {
            ProvenanceError::Sign(error) => error.into(),
            other => SignerError::new(other),
        })?;
        let bundle = EnvelopeBundle { envelope }.to_json();
        Ok(SignedArtifact {
            name: provenance.subject.name,
            digest: digest.to_hex(),
            key,
            signature,
            provenance: String::from_utf8(bundle).map_err(SignerError::new)?,
            sbom,
        })
    }

    /// The order, if the coordinator gave it to this agent and it still counts.
    fn order(&mut self, ask: &SignAsk, now: Wall) -> Result<Order, SignerError> {
        let envelope = |text: &str| Envelope::parse(text.as_bytes()).map_err(SignerError::new);
        let keyring = self.keyrings.add(&ask.keyring)?;
        if *keyring.fleet() != self.fleet {
            return Err(SignerError::new("the keyring is of another fleet"));
        }
        let order =
            Order::open(&envelope(&ask.order)?, &keyring, &self.agent, now).map_err(SignerError::new)?;
        let is_ordered = match &order.parameters.source {
            Source::Module { package, .. } => ask.package == *package,
            Source::Tree { .. } => order.parameters.packages.contains(&ask.package),
        };
        if !is_ordered {
            return Err(SignerError::new(format_args!("package {:?} is not ordered", ask.package)));
        }
        if order.sandbox == SandboxWanted::Required && Sandbox::from(&ask.sandbox).is_none() {
            return Err(SignerError::new("the order demands a sandbox, and there was none"));
        }
        Ok(order)
    }

    fn provenance(
        &self,
        order: &Order,
        ask: &SignAsk,
        digest: Digest,
        info: &BuildInfo,
        now: Wall,
    ) -> Result<Provenance, SignerError> {
        let external = order.parameters.clone();
        let resolved = match &external.source {
            Source::Module { version, .. } => Some(version.as_str()),
            Source::Tree { .. } => None,
        };
        let version = version_named(&external.version, resolved);
        let name = artifact_name_of(external.name.as_deref(), &info.path, version, &external.platform);
        let toolchain = ask.toolchain.used();
        Ok(Provenance {
            subject: Subject { name, digest },
            internal: InternalParameters {
                fence: order.fence,
                package: ask.package.clone(),
                placement: order.placement,
                request_digest: order.request_digest,
                requester: order.requester.clone(),
                sandbox: ask.sandbox.clone(),
                task: order.task.clone(),
            },
            external,
            toolchain: toolchain.ok_or_else(|| SignerError::new("the toolchain's hash is malformed"))?,
            modules: agreement::modules_of(info).map_err(SignerError::new)?,
            builder: Holder::of(&self.fleet, &KeyHolder::Agent(self.agent.clone()))
                .map_err(SignerError::new)?,
            builder_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Wall(ask.started_ms.min(now.0)),
            finished: now,
        })
    }
}

/// Writes down whom the signer belongs to, or sees that it is the same as before: a key must not be carried from
/// one fleet or agent to another.
fn keep_owner(path: &Path, owner: &Owner) -> Result<(), SignerError> {
    match std::fs::read(path) {
        Ok(known) => {
            let known: Owner = serde_json::from_slice(&known).map_err(SignerError::new)?;
            if known == *owner {
                return Ok(());
            }
            Err(SignerError::new(format_args!(
                "this signer belongs to agent {} of fleet {}; another agent or fleet needs a state directory of its own",
                known.agent, known.fleet
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_vec(owner).map_err(SignerError::new)?;
            let staged = path.with_extension("new");
            std::fs::write(&staged, text)
                .and_then(|()| std::fs::rename(&staged, path))
                .map_err(SignerError::new)
        }
        Err(error) => Err(SignerError::new(error)),
    }
}

/// The file that is to be signed. It is only ever read at given places: the descriptor's own place is shared with
/// whoever sent it.
struct Artifact {
    file: File,
    len: u64,
}

impl Artifact {
    fn new(file: OwnedFd) -> Result<Self, SignerError> {
        let file = File::from(file);
        let about = file.metadata().map_err(SignerError::new)?;
        if !about.is_file() {
            return Err(SignerError::new("only a regular file is signed"));
        }
        if about.len() > ARTIFACT_LEN_MAX {
            return Err(SignerError::new("the file is larger than 4 GiB"));
        }
        Ok(Self { file, len: about.len() })
    }

    fn reader(&self) -> ReadAt<'_> {
        ReadAt { file: &self.file, place: 0, len: self.len }
    }
}

impl Content for Artifact {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.reader()))
    }
}

/// A reader with a place of its own.
struct ReadAt<'a> {
    file: &'a File,
    place: u64,
    len: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // A file that grows meanwhile does not count: its beginning was measured.
        let left = usize::try_from(self.len.saturating_sub(self.place)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let count = self.file.read_at(&mut into[..wanted], self.place)?;
        self.place += count as u64;
        Ok(count)
    }
}

impl Seek for ReadAt<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.place.checked_add_signed(offset),
        };
        self.place = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meridian_core::id::Fence;
    use meridian_trust::message::ReadError;

    use super::*;

    #[test]
    fn a_key_that_is_late_or_away_is_told_apart_from_what_is_refused() {
        let late = SignError::Late { within: Duration::from_millis(50) };
        let away = SignError::Holder("the token failed".to_owned());
        for error in [late, away] {
            let text = error.to_string();
            assert!(matches!(SignerError::from(error).answer(), Answer::KeyAway(why) if why == text));
        }
        // A log that failed once is read again by the next process; what it forbids stays forbidden.
        assert!(matches!(SignerError::of_log(LogError::Broken).answer(), Answer::KeyAway(_)));
        let (task, lease) = ("acme/web/1/0".to_owned(), Fence(1));
        let forgotten = LogError::Forgotten { task, fence: lease, forgotten: Fence(2) };
        assert!(matches!(SignerError::of_log(forgotten).answer(), Answer::Refused(_)));
        let read = SignError::Read(ReadError::TooLarge { len_max: 1 });
        assert!(matches!(SignerError::from(read).answer(), Answer::Refused(_)));
        let proof = ProvenanceError::Times;
        assert!(matches!(SignerError::new(proof).answer(), Answer::Refused(_)));
    }
}
