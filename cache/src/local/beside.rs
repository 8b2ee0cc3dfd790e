//! What a shim says to an agent that did not start it: the go command of a CI job that runs beside the agent.
//!
//! All such shims come to one socket. A connection begins with a greeting and one [`Opening`]. The first of a shim
//! says what its go command is about, is answered with the name of a run, and stays open for as long as the go command
//! lives; each further one names the run and goes on as a connection of a task does. Whoever knows no run's name gets
//! nothing of it.
//!
//! **Whoever listens there decides what the go command takes for its objects.** In a directory such as `/tmp` anybody can,
//! while no agent does. So nothing is said to one that runs as neither root nor the go command's own user nor the one that
//! was named ([`connect`]), before it is known from the kernel who that is.
//!
//! Each text is JSON with its length before it, and unknown fields are passed over: here the two ends may be of different
//! releases.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The first bytes of a connection.
const GREETING: [u8; 4] = *b"MRS1";
/// The longest text: a command line of many packages.
const LEN_MAX: usize = 256 << 10;
/// How far up the module of a directory is looked for.
const MODULE_DEPTH_MAX: usize = 64;
/// How many bytes of a go command's arguments are told.
const ARGUMENTS_LEN_MAX: usize = 64 << 10;

/// How long an agent is waited for after an opening: it may have a toolchain to hash and a coordinator to ask.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// How long an agent takes at most to begin a run. Shorter than it is waited for, which began earlier, so that one that
/// refuses in the end is still heard.
pub const BEGIN_WITHIN: Duration = Duration::from_secs(6);
const _: () = assert!(BEGIN_WITHIN.as_secs() + 2 <= ANSWER_WITHIN.as_secs());

/// The variables of a go command that say with which toolchain it works. cmd/go sets these and the following for its
/// children, whoever said them.
const TOOLCHAIN_VARIABLES: [&str; 4] = ["GOROOT", "GOVERSION", "GOHOSTOS", "GOHOSTARCH"];
/// Those that say for which machine it compiles.
pub const PLATFORM_VARIABLES: [&str; 11] = [
    "GOOS",
    "GOARCH",
    "GO386",
    "GOAMD64",
    "GOARM",
    "GOARM64",
    "GOMIPS",
    "GOMIPS64",
    "GOPPC64",
    "GORISCV64",
    "GOWASM",
];
/// Those that change what it compiles.
pub const COMPILE_VARIABLES: [&str; 7] =
    ["GOEXPERIMENT", "GOFIPS140", "GOFLAGS", "CGO_ENABLED", "CGO_CFLAGS", "CC", "CXX"];

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// Only to ask who is there.
    Ask {
        /// The project that somebody wants to build for.
        project: Option<String>,
    },
    /// A go command begins.
    Run(About),
    /// One more connection of a run.
    Lane {
        /// Which.
        run: String,
    },
}

/// What a go command is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// For which project, of those that the agent serves; its first where nothing is said.
    pub project: Option<String>,
    /// The path of the module that it runs in, or of what else the directory is; empty where that cannot be known.
    pub module: String,
    /// Where in that module it runs.
    pub within: String,
    /// Its command line without its own name; empty where that cannot be known.
    pub arguments: Vec<String>,
    /// Variables that say what it makes.
    pub variables: BTreeMap<String, String>,
}

/// What is answered to an [`Opening`], but for a lane's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    /// Who is there.
    Here {
        /// The agent.
        agent: String,
        /// Its release.
        version: String,
        /// The projects that it serves.
        projects: Vec<String>,
    },
    /// A run began.
    Run {
        /// Its name.
        run: String,
    },
    /// It serves no such thing.
    Refused {
        /// Why.
        why: String,
    },
}

impl About {
    /// What can be known of the go command that started this process.
    #[must_use]
    pub fn of_parent(project: Option<String>) -> Self {
        let (module, within) = env::current_dir().ok().and_then(|dir| module_of(&dir)).unwrap_or_default();
        let variable = |name: &str| Some((name.to_owned(), env::var(name).ok()?));
        let names = TOOLCHAIN_VARIABLES.iter().chain(&PLATFORM_VARIABLES).chain(&COMPILE_VARIABLES);
        let variables = names.filter_map(|name| variable(name)).collect();
        Self { project, module, within, arguments: parent_arguments(), variables }
    }
}

/// The path of the nearest module around a directory, and the way from it to the directory.
fn module_of(dir: &Path) -> Option<(String, String)> {
    dir.ancestors().take(MODULE_DEPTH_MAX).find_map(|root| {
        let mut text = String::new();
        let file = std::fs::File::open(root.join("go.mod")).ok()?;
        file.take(LEN_MAX as u64).read_to_string(&mut text).ok()?;
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("module"))?;
        let name = line.split("//").next()?.trim().trim_matches('"');
        Some((name.to_owned(), dir.strip_prefix(root).ok()?.display().to_string()))
    })
}

/// The command line of the parent, where the system tells.
fn parent_arguments() -> Vec<String> {
    let Ok(file) = std::fs::File::open(format!("/proc/{}/cmdline", std::os::unix::process::parent_id()))
    else {
        return Vec::new();
    };
    let mut text = Vec::new();
    if file.take(ARGUMENTS_LEN_MAX as u64).read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.skip(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Says what a connection is for.
///
/// # Errors
/// When the other end does not take it.
pub fn say_opening(stream: &mut impl Write, opening: &Opening) -> io::Result<()> {
    let mut bytes = GREETING.to_vec();
    bytes.extend_from_slice(&frame(opening)?);
    stream.write_all(&bytes)
}

/// Reads what a connection is for, and no byte more.
///
/// # Errors
/// When it does not begin as it should.
pub fn read_opening(stream: &mut impl Read) -> io::Result<Opening> {
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting)?;
    if greeting != GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a caller of another kind"));
    }
    read_frame(stream)
}

/// Answers.
///
/// # Errors
/// When the other end does not take it.
pub fn say_opened(stream: &mut impl Write, opened: &Opened) -> io::Result<()> {
    stream.write_all(&frame(opened)?)
}

/// Why an agent's socket is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there, or the connection broke.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// Somebody is there, and busy or stuck.
    #[error("the agent did not answer within {} s", within.as_secs())]
    Silent {
        /// How long it was waited for.
        within: Duration,
    },
    /// Somebody is there, and may be anybody.
    #[error(
        "user {uid} listens there, who is neither root nor this user: if that one runs the agent, name it with \
         `meridian ci-env --owner`"
    )]
    Stranger {
        /// Who.
        uid: u32,
    },
}

/// Connects to the socket of an agent that runs as root, as this user, or as `owner`.
///
/// # Errors
/// When nobody is there, or somebody else.
pub fn connect(socket: &Path, owner: Option<u32>) -> Result<UnixStream, AskError> {
    let own = rustix::process::geteuid().as_raw();
    connect_to(socket, &[0, own, owner.unwrap_or(own)])
}

fn connect_to(socket: &Path, believed: &[u32]) -> Result<UnixStream, AskError> {
    let stream = UnixStream::connect(socket)?;
    let uid = listener(&stream, socket)?;
    if believed.contains(&uid) { Ok(stream) } else { Err(AskError::Stranger { uid }) }
}

/// The user that listens at the other end.
#[cfg(target_os = "linux")]
fn listener(stream: &UnixStream, _: &Path) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// The user that put the socket there: the standard library does not tell of more.
#[cfg(not(target_os = "linux"))]
fn listener(_: &UnixStream, socket: &Path) -> io::Result<u32> {
    Ok(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(socket)?))
}

/// Connects to an agent's socket as [`connect`] does and says what for; what it answers.
///
/// # Errors
/// When nobody is there, somebody else is, or nothing is answered in time.
pub fn ask(socket: &Path, owner: Option<u32>, opening: &Opening) -> Result<(UnixStream, Opened), AskError> {
    let mut stream = connect(socket, owner)?;
    let opened = answer(&mut stream, opening, ANSWER_WITHIN)?;
    Ok((stream, opened))
}

fn answer(stream: &mut UnixStream, opening: &Opening, within: Duration) -> Result<Opened, AskError> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let opened = match say_opening(stream, opening) {
        // A user that may not come in is told so unheard.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => read_frame(stream).map_err(|_| error),
        said => said.and_then(|()| read_frame(stream)),
    };
    opened.map_err(|error| match error.kind() {
        // A socket whose time is up says either, as the system has it.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::Silent { within },
        _ => AskError::Connection(error),
    })
}

fn frame(text: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(text)?;
    let len = u32::try_from(text.len()).ok().filter(|_| text.len() <= LEN_MAX);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too long to be said"))?;
    Ok([&len.to_be_bytes(), text.as_slice()].concat())
}

fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a text that is too long"));
    }
    let mut text = Vec::new();
    stream.take(len as u64).read_to_end(&mut text)?;
    if text.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn openings() -> impl Strategy<Value = Opening> {
        let about = (any::<Option<String>>(), any::<String>(), any::<Vec<String>>(), any::<String>());
        prop_oneof![
            any::<Option<String>>().prop_map(|project| Opening::Ask { project }),
            any::<String>().prop_map(|run| Opening::Lane { run }),
            about.prop_map(|(project, dir, arguments, value)| Opening::Run(About {
                project,
                module: dir.clone(),
                within: dir,
                arguments,
                variables: [("GOROOT".to_owned(), value)].into(),
            })),
        ]
    }

    proptest! {
        #[test]
        fn an_opening_arrives_and_what_follows_it_is_left(opening in openings(), rest: Vec<u8>) {
            let mut bytes = Vec::new();
            say_opening(&mut bytes, &opening).unwrap();
            bytes.extend_from_slice(&rest);
            let mut input = bytes.as_slice();
            prop_assert_eq!(read_opening(&mut input).unwrap(), opening);
            prop_assert_eq!(input, rest);
        }

        #[test]
        fn noise_is_refused_without_a_panic(noise: Vec<u8>) {
            let _ = read_opening(&mut noise.as_slice());
            let _ = read_frame::<Opened>(&mut noise.as_slice());
        }
    }

    #[test]
    fn a_text_that_says_to_be_longer_than_any_is_not_waited_for() {
        let mut bytes = GREETING.to_vec();
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(read_opening(&mut bytes.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_known_of_the_parent_is_told() {
        let told = About::of_parent(Some("acme/web".to_owned()));
        assert_eq!(told.project.as_deref(), Some("acme/web"));
    }

    #[test]
    fn a_directory_belongs_to_the_nearest_module_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("cmd/web");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(dir.path().join("go.mod"), "// A comment.\nmodule example.test/p // it\n\ngo 1.24\n")
            .unwrap();
        assert_eq!(module_of(&inner), Some(("example.test/p".to_owned(), "cmd/web".to_owned())));
        std::fs::write(inner.join("go.mod"), "module \"example.test/inner\"\n").unwrap();
        assert_eq!(module_of(&inner), Some(("example.test/inner".to_owned(), String::new())));
    }

    #[test]
    fn an_agent_that_does_not_answer_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cache.sock");
        let _there = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mut stream = connect(&socket, None).unwrap();
        let within = Duration::from_millis(50);
        let silent = answer(&mut stream, &Opening::Ask { project: None }, within).unwrap_err();
        assert!(matches!(silent, AskError::Silent { .. }), "{silent}");
        let told = AskError::Silent { within: ANSWER_WITHIN }.to_string();
        assert_eq!(told, "the agent did not answer within 8 s");
    }

    #[test]
    fn whoever_listens_as_another_user_is_told_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cache.sock");
        let there = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let refused = connect_to(&socket, &[own + 1]).unwrap_err();
        assert!(refused.to_string().starts_with(&format!("user {own} listens there")), "{refused}");
        let (mut heard, mut accepted) = (Vec::new(), there.accept().unwrap().0);
        accepted.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{heard:?}");
        connect_to(&socket, &[own + 1, own]).unwrap();
        connect(&socket, None).unwrap();
    }
}
