//! Clients of the remote execution API that are not in the tests, tried by command.
//!
//! They are large, and not to be had everywhere, so continuous integration does without them. Each brings bytes to a cache of
//! ours, takes them from there, and must not come in where it has no right to; a line for each step says what it did.

use std::{
    fmt, fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use meridian_cache::reapi::{Admission, Caller, ContentConfig, Instance, Reapi, ReapiError, StockListener};
use meridian_core::digest::Digest;
use tokio::runtime::Runtime;

use crate::{
    bench::timing::run,
    fleet::{Fleet, free_address},
    home::Home,
    process::Daemon,
    stock_clients::{bgd, casd, remotetool},
    wait::{try_wait_for, wait_for_port},
};

const INSTANCE: &str = "acme/web/trusted";
const TOKEN: &str = "writer-0123456789";
const WRONG_TOKEN: &str = "nobody-0123456789";
/// How long a proxy may take until it serves, or has been refused.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A client that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StockTrial {
    /// `remotetool` of the API's Go SDK, at a port that asks for no token, since it has none to show.
    Remotetool,
    /// BuildBox's `buildbox-casd`, as a proxy between BuildGrid's `bgd` and the `[reapi]` of an agent.
    Casd,
}

impl fmt::Display for StockTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remotetool => "remotetool",
            Self::Casd => "casd",
        })
    }
}

impl StockTrial {
    /// Installs the client and tries it; prints what it did.
    ///
    /// # Errors
    /// When the client cannot be had or refuses, or what comes back is not what was sent.
    ///
    /// # Panics
    /// When Meridian's own processes do not start.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Remotetool => try_remotetool(),
            Self::Casd => try_casd(),
        }
    }

    fn did(self, step: &str) {
        println!("{self}: {step}");
    }
}

fn try_remotetool() -> anyhow::Result<()> {
    let program = remotetool().context("it cannot be installed")?;
    StockTrial::Remotetool.did("installed");
    let home = Home::with_proxy("off");
    let everybody = |_: Caller<'_>, instance: &Instance| -> Result<Admission, ReapiError> {
        Ok(Admission { scope: instance.clone(), may_write: true })
    };
    let reapi = Reapi::open(&home.path().join("reapi"), ContentConfig::default(), Arc::new(everybody))?;
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(StockListener::bind("127.0.0.1:0".parse()?, None))?;
    let service = listener.local_addr();
    runtime.spawn(async move { listener.serve(&reapi, std::future::pending()).await });
    let tool = |operation: &str, arguments: &[&str]| {
        let mut command = home.program(&program);
        command.args(["--operation", operation, "--service_no_security", "--instance", INSTANCE]);
        run(command.arg("--service").arg(service.to_string()).args(arguments))
    };
    for (name, content) in [("small", b"small".to_vec()), ("large", large())] {
        let digest = format!("{}/{}", Digest::of(&content), content.len());
        let got = format!("{name}.again");
        keep(home.path(), name, &content)?;
        let early = tool("download_blob", &["--digest", &digest, "--path", &got]);
        ensure!(early.is_err(), "it found {name} before that was sent");
        tool("upload_blob", &["--path", name])?;
        tool("download_blob", &["--digest", &digest, "--path", &got])?;
        ensure!(fs::read(home.path().join(&got))? == content, "{name} came back as something else");
        StockTrial::Remotetool.did(&format!("{} bytes went up and came back", content.len()));
    }
    Ok(())
}

/// An agent whose cache listens, and the files of those who come to it.
struct Served {
    // Ends before the home that has its tokens goes.
    _fleet: Fleet,
    listen: SocketAddr,
    certificate: PathBuf,
    casd: PathBuf,
    bgd: PathBuf,
    home: Home,
}

/// A proxy that runs.
struct Proxy {
    _process: Daemon,
    address: SocketAddr,
}

fn try_casd() -> anyhow::Result<()> {
    let casd = casd().context("it cannot be installed")?;
    let bgd = bgd().context("its client cannot be installed")?;
    StockTrial::Casd.did("installed");
    let served = Served::start(casd, bgd)?;
    let (home, content) = (served.home.path(), large());
    keep(home, "tree/small.txt", b"small")?;
    keep(home, "tree/below/large.bin", &content)?;

    let first = served.proxy("first", TOKEN)?;
    let sent = served.cas(&first, &["upload-dir", "tree"])?;
    let last = sent.trim().lines().last().unwrap_or_default();
    let root = last.split_once("digest=[").map(|(_, root)| root.trim_end_matches(']'));
    let root = root.with_context(|| format!("bgd named no tree: {sent}"))?;
    drop(first);
    StockTrial::Casd.did(&format!("a tree of {} bytes went up through it", content.len() + 5));

    let second = served.proxy("second", TOKEN)?;
    served.cas(&second, &["download-dir", root, "again"])?;
    let came = |name: &str| fs::read(home.join("again").join(name));
    ensure!(came("small.txt")? == b"small", "small.txt came back as something else");
    ensure!(came("below/large.bin")? == content, "large.bin came back as something else");
    StockTrial::Casd.did("another one, which had nothing, brought the same tree back");

    let (mut stranger, _) = served.start_casd("stranger", WRONG_TOKEN)?;
    // It ends at once when it may not even ask what the server can do.
    let has_ended = try_wait_for(ANSWER_WITHIN, || stranger.ended()).is_some();
    let said = stranger.log();
    ensure!(
        has_ended && said.contains("a bearer token that is known here is needed"),
        "it was let in: {said}"
    );
    StockTrial::Casd.did("one with a wrong token was refused");
    Ok(())
}

impl Served {
    fn start(casd: PathBuf, bgd: PathBuf) -> anyhow::Result<Self> {
        let (home, listen) = (Home::with_proxy("off"), free_address());
        let kept = |name: &str, content: &str| keep(home.path(), name, content.as_bytes());
        // It shows a token to a server with a certificate alone.
        let made = rcgen::generate_simple_self_signed([listen.ip().to_string()])?;
        let certificate = kept("tls.crt", &made.cert.pem())?;
        let key = kept("tls.key", &made.signing_key.serialize_pem())?;
        let tokens = kept("tokens", &format!("{TOKEN} {INSTANCE} write\n"))?;
        let settings = [
            format!("reapi.listen={listen}"),
            format!("reapi.tokens={}", tokens.display()),
            format!("reapi.certificates={}", certificate.display()),
            format!("reapi.key={}", key.display()),
        ];
        let mut fleet = Fleet::start();
        let settings = settings.each_ref().map(String::as_str);
        fleet.join_agent_with("eu/cache", 1, Home::with_proxy("off"), &settings);
        wait_for_port(listen);
        Ok(Self { _fleet: fleet, listen, certificate, casd, bgd, home })
    }

    /// A proxy with an empty directory that shows this token, as soon as it serves.
    fn proxy(&self, name: &str, token: &str) -> anyhow::Result<Proxy> {
        let (mut process, address) = self.start_casd(name, token)?;
        let serves = try_wait_for(ANSWER_WITHIN, || match process.ended() {
            Some(_) => Some(false),
            None => TcpStream::connect(address).is_ok().then_some(true),
        });
        ensure!(serves == Some(true), "it does not serve:\n{}", process.log());
        Ok(Proxy { _process: process, address })
    }

    fn start_casd(&self, name: &str, token: &str) -> anyhow::Result<(Daemon, SocketAddr)> {
        let address = free_address();
        let token = keep(self.home.path(), &format!("{name}.token"), token.as_bytes())?;
        let mut command = self.home.program(&self.casd);
        command.arg(format!("--bind={address}")).arg(format!("--cas-remote=https://{}", self.listen));
        command.arg(format!("--cas-server-cert={}", self.certificate.display()));
        command.arg(format!("--cas-instance={INSTANCE}"));
        command.arg(format!("--cas-access-token={}", token.display()));
        command.arg("--cas-retry-limit=0").arg(self.home.path().join(name));
        let log = self.home.path().join(format!("{name}.log"));
        Ok((Daemon::start(name, command, &log)?, address))
    }

    /// What `bgd` has a proxy do, to which it shows nothing.
    fn cas(&self, proxy: &Proxy, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.home.program(&self.bgd);
        run(command.arg("cas").arg(format!("--remote=http://{}", proxy.address)).args(arguments))
    }
}

/// More than fits a message.
fn large() -> Vec<u8> {
    (0..1_500_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect()
}

/// Writes a file that only its owner reads.
fn keep(directory: &Path, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().context("a directory")?)?;
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}
