//! The agent's end of the line: starts the signer, asks it, and starts it again when it died.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::statement::Sandbox;

use super::{
    channel::Channel,
    protocol::{Answer, Ask, Begin, PublicKey, SignAsk, SignedArtifact, ToolchainFacts},
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
    /// As which user and group it runs, when the agent may choose; as the agent's own otherwise.
    pub run_as: Option<(u32, u32)>,
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
    /// There is no signer, or it does not answer.
    #[error("the signer does not answer: {0}")]
    Away(#[from] io::Error),
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
        let signer = Self(Arc::new(Inner { config, line: Mutex::new(None) }));
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
                None => open_line(&inner.config)?,
            };
            let answer = ask(&mut open);
            if !matches!(answer, Err(SignerFailure::Away(_))) {
                *line = Some(open);
            }
            answer
        });
        asked.await.map_err(io::Error::other)?
    }
}

fn open_line(config: &SignerConfig) -> Result<Line, SignerFailure> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&config.program);
    command
        .arg("signer")
        .arg("--state")
        .arg(&config.state_dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    // A signal to the agent's group, such as Ctrl-C, must not end the signer before the attempts.
    command.process_group(0);
    if let Some((user, group)) = config.run_as {
        command.uid(user).gid(group);
    }
    let child = command.spawn()?;
    let channel = Channel::new(ours);
    channel.set_deadline(Some(ANSWER_WITHIN))?;
    let begin = Begin {
        root: STANDARD.encode(&config.root),
        fleet: config.fleet.clone(),
        agent: config.agent.clone(),
    };
    channel.send(&Ask::Begin(begin), None)?;
    match channel.receive::<Answer>()? {
        Some((Answer::Ready(key), _)) => Ok(Line { channel, child, key }),
        Some((Answer::Refused(why), _)) => Err(SignerFailure::Refused(why)),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}
