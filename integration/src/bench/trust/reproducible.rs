//! Real modules built twice, by two agents that are as different as one machine allows, bit by bit.
//!
//! What is varied on purpose between the two:
//!
//! | | the first agent | the second agent |
//! |---|---|---|
//! | path | a home of its own | another one, and a longer path to its state |
//! | user | who runs the bench | nobody, where we are root |
//! | umask | 022 | 077 |
//! | locale, time zone | C, UTC | German, half an hour beside everybody's |
//! | cores | all | one |
//! | limits | as they are | 512 open files, a stack of 4 MiB |
//! | tools of the machine | as they are | a PATH of its own, in which gcc, git and ld fail |
//! | Go's own settings | none | `GOFLAGS`, `GOAMD64`, `GOEXPERIMENT`, `GOTOOLCHAIN`, a GOPATH and a build cache of others |
//!
//! Clocks are not moved: libfaketime stands before the C library, which a Go program never asks for the time, and the
//! agent lets no `LD_PRELOAD` through to the compiler. The second build of a target comes minutes after the first.
//!
//! Each build begins from an empty build cache (`--from-scratch`, and `rebuild` by itself), so the standard library
//! is compiled for every one of them. That is most of the time this takes, and what makes it worth something. While the
//! second agent builds a target again, the first builds the next one.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::repro_modules::MODULES;
use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, ledger::Ledger},
    client::Client,
    fleet::Fleet,
    home::Home,
};

/// The figures of this part.
pub const KEYS: &[&str] = &["repro_modules", "repro_targets", "repro_diverged", "repro_unexplained"];

/// The platforms of every module: four systems with three kinds of executable, and two architectures.
pub const PLATFORMS: [&str; 5] =
    ["linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64", "freebsd/amd64"];

/// One command for one platform.
#[derive(Debug, Clone, Copy)]
struct Target {
    package: &'static str,
    version: &'static str,
    platform: &'static str,
}

/// What became of a target. Kept, so that a run that is stopped need not build it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Verdict {
    /// Whether every bit was the same.
    is_identical: bool,
    /// Whether a cause was named for whatever differs.
    is_explained: bool,
    /// The report's causes, in words.
    causes: Vec<String>,
    /// How long both builds took, in seconds.
    seconds: f64,
}

impl Target {
    fn all() -> impl Iterator<Item = Self> {
        MODULES
            .iter()
            .flat_map(|(package, version)| PLATFORMS.map(|platform| Self { package, version, platform }))
    }

    fn key(&self) -> String {
        format!("{}@{}/{}", self.package, self.version, self.platform)
    }
}

/// `repro_modules`, `repro_targets`, `repro_diverged`, `repro_unexplained`.
///
/// # Errors
/// When the fleet does not start or the ledger cannot be written. A target that cannot be built is told and not counted.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let mut ledger = Ledger::open("reproducible", plan.fresh)?;
    let open: Vec<Target> =
        Target::all().filter(|target| ledger.get::<Verdict>(&target.key()).is_none()).collect();
    if !open.is_empty() {
        eprintln!("{} of {} targets are to be built, twice each", open.len(), Target::all().count());
        build_twice(&open, &mut ledger)?;
    }
    let (mut modules, mut targets, mut diverged, mut unexplained) = (BTreeSet::new(), 0_u32, 0_u32, 0_u32);
    for target in Target::all() {
        let Some(verdict) = ledger.get::<Verdict>(&target.key()) else { continue };
        targets += 1;
        modules.insert(target.package);
        diverged += u32::from(!verdict.is_identical);
        unexplained += u32::from(!verdict.is_identical && !verdict.is_explained);
    }
    figures.add("repro_modules", f64::from(u32::try_from(modules.len())?));
    figures.add("repro_targets", f64::from(targets));
    figures.add("repro_diverged", f64::from(diverged));
    figures.add("repro_unexplained", f64::from(unexplained));
    Ok(())
}

/// A target whose first build is done.
struct Built {
    target: Target,
    build: String,
    seconds: f64,
}

fn build_twice(open: &[Target], ledger: &mut Ledger) -> anyhow::Result<()> {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/plain", 1, plain()?);
    fleet.join_agent("ap/odd", 1, odd()?);
    let client = fleet.member("bench");
    let (sender, receiver) = sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(|| build_all(&client, open, sender));
        rebuild_all(&client, open.len(), &receiver, ledger)
    })
}

/// Builds every target on the first agent; one that fails is told.
fn build_all(client: &Client, open: &[Target], sender: SyncSender<Built>) {
    for target in open {
        match build(client, *target) {
            Ok(built) => {
                if sender.send(built).is_err() {
                    // The other side has given up and says why.
                    return;
                }
            }
            Err(error) => eprintln!("{} was not built: {error:#}", target.key()),
        }
    }
}

fn rebuild_all(
    client: &Client,
    count: usize,
    receiver: &Receiver<Built>,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let started = Instant::now();
    for (done, built) in receiver.iter().enumerate() {
        let key = built.target.key();
        let verdict = match rebuild(client, &built) {
            Ok(verdict) => verdict,
            Err(error) => {
                eprintln!("{key} was not built again: {error:#}");
                continue;
            }
        };
        let word = if verdict.is_identical { "the same".to_owned() } else { verdict.causes.join("; ") };
        let minutes = started.elapsed().as_secs() / 60;
        eprintln!("{} of {count} after {minutes} min: {key}: {word} ({:.0} s)", done + 1, verdict.seconds);
        ledger.keep(&key, &verdict)?;
    }
    Ok(())
}

fn build(client: &Client, target: Target) -> anyhow::Result<Built> {
    let started = Instant::now();
    let source = format!("{}@{}", target.package, target.version);
    let words =
        ["build", &source, "--project", "acme/repro", "--platform", target.platform, "--agent", "eu/plain"];
    let rest = ["--from-scratch", "--json", "--detach"];
    let submitted = ask(client, &[&words[..], &rest].concat(), &[0])?;
    let build = submitted["builds"][0]["build"].as_str().context("no build was submitted")?.to_owned();
    // Its artifacts are of no use here; `rebuild` fetches both.
    loop {
        let listed = ask(client, &["builds", "--project", "acme/repro", "--limit", "4", "--json"], &[0])?;
        let builds = listed["builds"].as_array().context("a list of builds")?;
        let found = builds.iter().find(|listed| listed["build"] == *build).context("the build is listed")?;
        match found["state"].as_str() {
            Some("running") => thread::sleep(std::time::Duration::from_millis(200)),
            Some("succeeded") => break,
            _ => bail!("{build} {}", found["tasks"]),
        }
    }
    Ok(Built { target, build, seconds: started.elapsed().as_secs_f64() })
}

fn rebuild(client: &Client, built: &Built) -> anyhow::Result<Verdict> {
    let started = Instant::now();
    let told = ask(client, &["rebuild", &built.build, "--on", "ap/odd", "--json"], &[0, 5])?;
    let artifact = &told["artifacts"][0];
    let agents = (artifact["first"]["agent"].as_str(), artifact["again"]["agent"].as_str());
    if agents != (Some("eu/plain"), Some("ap/odd")) {
        bail!("the two builds were made by {agents:?}");
    }
    let divergence = &artifact["divergence"];
    let causes = divergence["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Verdict {
        is_identical: artifact["identical"] == true,
        is_explained: divergence["explained"] == true,
        causes: causes.iter().filter_map(|cause| Some(cause["text"].as_str()?.to_owned())).collect(),
        seconds: built.seconds + started.elapsed().as_secs_f64(),
    })
}

/// The JSON that a command prints, when it ends with one of these codes.
fn ask(client: &Client, arguments: &[&str], codes: &[i32]) -> anyhow::Result<Value> {
    let mut command = client.home.meridian(arguments);
    if let Some(address) = &client.coordinator {
        command.args(["--coordinator", address]);
    }
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.code().is_some_and(|code| codes.contains(&code)) {
        bail!(
            "{} ended with {}: {text}{}",
            arguments[0],
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_str(&text).with_context(|| format!("{} printed {text:?}", arguments[0]))
}

/// The surroundings of the first agent: as little as can be.
fn plain() -> anyhow::Result<Home> {
    let mut home = Home::with_the_real_proxy();
    home.set("LANG", "C");
    home.set("TZ", "UTC");
    home.begin_with(&["sh", "-c", "umask 022 && exec \"$@\"", "sh"]);
    Ok(home)
}

/// The surroundings of the second: whatever can be different is.
fn odd() -> anyhow::Result<Home> {
    let mut home = Home::with_the_real_proxy();
    let tools = home.path().join("a directory with blanks/of the distribution's tools");
    fs::create_dir_all(&tools)?;
    for tool in ["gcc", "cc", "ld", "clang", "pkg-config"] {
        let path = tools.join(tool);
        fs::write(&path, "#!/bin/sh\necho 'another distribution' >&2\nexit 1\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let usual = home.get("PATH").map(ToOwned::to_owned).unwrap_or_default();
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&usual)))?;
    home.set("PATH", path);
    for (name, value) in [
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "de_DE.UTF-8"),
        ("TZ", "Asia/Kathmandu"),
        ("USER", "somebody-else"),
        ("GOFLAGS", "-tags=surprise -ldflags=-s"),
        ("GOAMD64", "v3"),
        ("GOARM64", "v9.0"),
        ("GOEXPERIMENT", "nodwarf5"),
        ("GODEBUG", "gotypesalias=0"),
        ("GOTOOLCHAIN", "go1.22.1"),
        ("GOMAXPROCS", "3"),
        ("CGO_ENABLED", "1"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("GOPATH", "/somewhere/else"),
        ("GOCACHE", "/somewhere/else/cache"),
    ] {
        home.set(name, value);
    }
    for (what, done) in [("user", home.become_nobody()), ("number of cores", home.confine_to_one_core())] {
        if let Err(why) = done {
            eprintln!("both agents have the same {what}: {why}");
        }
    }
    let limits = ["prlimit", "--nofile=512", "--stack=4194304"];
    let tried = Command::new(limits[0]).args(&limits[1..]).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        home.begin_with(&limits);
    } else {
        eprintln!("both agents have the same limits: there is no prlimit, or it may not be used");
    }
    home.begin_with(&["sh", "-c", "umask 077 && exec \"$@\"", "sh"]);
    Ok(home)
}
