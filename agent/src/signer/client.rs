//! The agent's end of the line: starts the signer, asks it, and starts it again when it died.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::statement::Sandbox;

use super::{
    channel::Channel,
    home::HomeError,
    protocol::{Answer, Ask, Owner, PublicKey, SignAsk, SignedArtifact, ToolchainFacts},
    settings::{NoCredentials, SignerSettings},
    setup::{self, Setup},
    user::UserError,
};

/// How long the signer may take for one artifact: 4 GiB are hashed twice.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How the signer is started, and whom it belongs to.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    /// `meridian` itself.
    pub program: PathBuf,
    /// Where its key and its log lie. Nobody else may read it.
    pub state_dir: PathBuf,
    /// How it is set up.
    pub settings: SignerSettings,
    /// The user that builds run as when the agent is root; the signer never does.
    pub build_user: u32,
    /// The fleet's root: SPKI, DER.
    pub root: Vec<u8>,
    /// The fleet.
    pub fleet: String,
    /// The agent: REGION/NAME.
    pub agent: String,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerFailure {
    /// The signer looked, and would not.
    #[error("the signer refused: {0}")]
    Refused(String),
    /// Whoever holds its key did not sign: a token, a key service. Worth another try.
    #[error("the signer's key cannot be used now: {0}")]
    KeyAway(String),
    /// There is no signer, or it does not answer.
    #[error("the signer does not answer: {0}")]
    Away(#[from] io::Error),
    /// As whom it should run is not known.
    #[error(transparent)]
    User(#[from] UserError),
    /// Its directory cannot be its own.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A secret of its has no place.
    #[error(transparent)]
    Credentials(#[from] NoCredentials),
    /// The agent's own secret cannot be kept.
    #[error(transparent)]
    Secret(#[from] meridian_runtime::secret_file::SecretFileError),
}

impl SignerFailure {
    /// Whether the process, or the key behind it, is better begun anew.
    fn ends_the_line(&self) -> bool {
        matches!(self, Self::Away(_) | Self::KeyAway(_))
    }
}

/// One artifact to be signed.
#[derive(Debug)]
pub struct Request {
    /// The coordinator's order: a DSSE envelope, JSON.
    pub order: String,
    /// The fleet's keyring: a DSSE envelope, JSON.
    pub keyring: String,
    /// Which of the order's packages the file is.
    pub package: String,
    /// The file.
    pub file: OwnedFd,
    /// The Go that built it.
    pub toolchain: ToolchainFacts,
    /// What stood around the compiler.
    pub sandbox: Sandbox,
    /// When the attempt began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// A running signer. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    config: SignerConfig,
    /// What was made ready when it first started.
    setup: OnceLock<Setup>,
    /// The key that it had first, by which the fleet knows it.
    spki: OnceLock<Vec<u8>>,
    /// One question at a time; `None` while there is no process.
    line: Mutex<Option<Line>>,
}

struct Line {
    channel: Channel,
    child: Child,
    key: PublicKey,
}

impl Drop for Line {
    fn drop(&mut self) {
        // It ends by itself when the line does; a signer that hangs must not outlive its agent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Signer {
    /// Starts the signer and asks for its key.
    ///
    /// # Errors
    /// When it does not start, or belongs to another agent.
    pub async fn start(config: SignerConfig) -> Result<Self, SignerFailure> {
        let (setup, spki) = (OnceLock::new(), OnceLock::new());
        let signer = Self(Arc::new(Inner { config, setup, spki, line: Mutex::new(None) }));
        signer.key().await?;
        Ok(signer)
    }

    /// Its key, with proof that it holds it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn key(&self) -> Result<PublicKey, SignerFailure> {
        self.with_line(|line| Ok(line.key.clone())).await
    }

    /// Has an artifact signed.
    ///
    /// # Errors
    /// When it refuses or does not answer.
    pub async fn sign(&self, request: Request) -> Result<SignedArtifact, SignerFailure> {
        self.with_line(move |line| {
            let Request { order, keyring, package, file, toolchain, sandbox, started_ms } = request;
            let ask = SignAsk { order, keyring, package, toolchain, sandbox, started_ms };
            line.channel.send(&Ask::Sign(Box::new(ask)), Some(file.as_fd()))?;
            match line.channel.receive::<Answer>()? {
                Some((Answer::Signed(signed), _)) => Ok(*signed),
                Some((Answer::Refused(why), _)) => Err(SignerFailure::Refused(why)),
                Some((Answer::KeyAway(why), _)) => Err(SignerFailure::KeyAway(why)),
                Some((Answer::Ready(_), _)) => Err(io::Error::other("it answered another question").into()),
                None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        })
        .await
    }

    /// Asks on the line, after making one where there is none. A line that failed is given up: what it says next
    /// could be the answer to an earlier question.
    async fn with_line<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Line) -> Result<T, SignerFailure> + Send + 'static,
    ) -> Result<T, SignerFailure> {
        let inner = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || {
            let mut line = inner.line.lock().unwrap_or_else(PoisonError::into_inner);
            let mut open = match line.take() {
                Some(open) => open,
                None => inner.open_line()?,
            };
            let answer = ask(&mut open);
            if !answer.as_ref().is_err_and(SignerFailure::ends_the_line) {
                *line = Some(open);
            }
            answer
        });
        asked.await.map_err(io::Error::other)?
    }
}

impl Inner {
    fn open_line(&self) -> Result<Line, SignerFailure> {
        let setup = match self.setup.get() {
            Some(ready) => ready,
            None => {
                let ready = setup::prepare(&self.config)?;
                self.setup.get_or_init(|| ready)
            }
        };
        let (ours, theirs) = UnixStream::pair()?;
        let child = spawn(&self.config, setup, theirs)?;
        let channel = Channel::new(ours);
        channel.set_deadline(Some(ANSWER_WITHIN))?;
        channel.send(&Ask::Begin(Box::new(setup.begin(self.owner()))), None)?;
        let dir = self.config.state_dir.display();
        let key = match channel.receive::<Answer>()? {
            Some((Answer::Ready(key), _)) => key,
            // Its files are named from its directory.
            Some((Answer::Refused(why), _)) => {
                return Err(SignerFailure::Refused(format!("{why} (in {dir})")));
            }
            Some((Answer::KeyAway(why), _)) => return Err(SignerFailure::KeyAway(why)),
            _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        };
        if *self.spki.get_or_init(|| key.spki.clone()) != key.spki {
            let why = "it came back with another key than the one that is certified; start the agent again";
            return Err(SignerFailure::Refused(why.to_owned()));
        }
        Ok(Line { channel, child, key })
    }

    fn owner(&self) -> Owner {
        let SignerConfig { root, fleet, agent, .. } = &self.config;
        Owner { root: STANDARD.encode(root), fleet: fleet.clone(), agent: agent.clone() }
    }
}

/// Starts the process in its own directory. It becomes its own user by itself, once it has read what only the agent's
/// user may read.
fn spawn(config: &SignerConfig, setup: &Setup, socket: UnixStream) -> io::Result<Child> {
    let mut command = Command::new(&config.program);
    command
        .args(["signer", "--state", "."])
        .env_clear()
        .envs(&setup.environment)
        .current_dir(&config.state_dir)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    // A signal to the agent's group, such as Ctrl-C, must not end the signer before the attempts.
    command.process_group(0);
    command.spawn()
}
