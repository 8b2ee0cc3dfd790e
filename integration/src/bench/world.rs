//! What both sides of a comparison share: a real program, a toolchain, module caches that are filled.
//!
//! Both sides run the same Go binary with the same flags (`-trimpath -buildvcs=false`, CGO off, no GOFLAGS), each with
//! caches of its own, from a directory that is no git work tree to our side. A *cold* build has toolchain and
//! modules in place and nothing else: an empty build cache on both sides, and on ours besides no kept
//! binary, no source tree and no blob anywhere, so that it uploads and downloads all it needs. The local
//! fleet is resident in every comparison: it stays for minutes after a build, and starting it is no part of a
//! build, as booting the machine is none of `go build`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{bench::timing::run, client::Client, fixture::git::git_in, home::Home};

/// The program that is built: real, of middle size, with modules of its own.
pub const PROGRAM: &str = "github.com/junegunn/fzf";
/// Its version.
pub const VERSION: &str = "v0.56.3";
/// The platforms of the matrix.
pub const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"];
/// What builds leave in the state of a local fleet, besides toolchains and modules.
const LEFT_BY_BUILDS: [&str; 6] = [
    "agent/cache",
    "agent/blobs",
    "agent/go/gocache",
    "agent/go/outputs",
    "agent/go/sources",
    "coordinator/blobs",
];

/// Two sides with the same program and the same toolchain.
#[derive(Debug)]
pub struct World {
    /// Our side: a local fleet.
    pub client: Client,
    scratch: tempfile::TempDir,
    goroot: PathBuf,
}

impl World {
    /// Fetches the program, has our side fetch its toolchain, and fills both module caches.
    ///
    /// # Errors
    /// When the network or a build fails.
    pub fn prepare() -> anyhow::Result<Self> {
        let client = Client::local(Home::with_the_real_proxy());
        let scratch = tempfile::Builder::new().prefix("mrdbench").tempdir()?;
        let mut world = Self { client, scratch, goroot: PathBuf::new() };
        let downloaded = world.download()?;
        for side in [world.ours(), world.theirs()] {
            copy(&downloaded, &side)?;
        }
        // GoReleaser wants a repository with a tag.
        git_in(&world.theirs(), &["init", "--quiet"]);
        git_in(&world.theirs(), &["add", "--all"]);
        git_in(&world.theirs(), &["commit", "--quiet", "--message", "the program"]);
        git_in(&world.theirs(), &["tag", VERSION]);
        // For all platforms: which modules one needs is known from its first build on, as a filled module
        // cache on the other side means that nothing is asked for there.
        run(&mut world.meridian_build(&["--platform", &PLATFORMS.join(",")]))?;
        world.goroot = find_goroot(&world.client.home.state())
            .context("the agent keeps no Go toolchain below its state directory")?;
        run(world.go(&["mod", "download"]).current_dir(world.theirs()))?;
        Ok(world)
    }

    /// Our source directory.
    #[must_use]
    pub fn ours(&self) -> PathBuf {
        self.scratch.path().join("ours")
    }

    /// The other side's source directory.
    #[must_use]
    pub fn theirs(&self) -> PathBuf {
        self.scratch.path().join("theirs")
    }

    /// A directory or file for whatever a bench needs.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The toolchain that the agent uses, and so does the other side.
    #[must_use]
    pub fn goroot(&self) -> &Path {
        &self.goroot
    }

    /// `meridian build` of our source with the local fleet.
    #[must_use]
    pub fn meridian_build(&self, arguments: &[&str]) -> Command {
        let mut command = self.client.home.meridian(["build", "--local", "--version", VERSION, "--out"]);
        command.arg(self.scratch("dist")).args(arguments).arg(self.ours());
        command
    }

    /// The other side's Go with exactly our flags and a build cache of its own.
    #[must_use]
    pub fn go(&self, arguments: &[&str]) -> Command {
        let mut command = self.client.home.program(self.goroot.join("bin/go"));
        self.set_go_environment(&mut command);
        command.current_dir(self.theirs()).args(arguments);
        command
    }

    /// Sets what any Go of the other side sees.
    pub fn set_go_environment(&self, command: &mut Command) {
        let path = self.client.home.get("PATH").map(ToOwned::to_owned).unwrap_or_default();
        let mut directories = vec![self.goroot.join("bin")];
        directories.extend(std::env::split_paths(&path));
        if let Ok(joined) = std::env::join_paths(directories) {
            command.env("PATH", joined);
        }
        command
            .env("GOCACHE", self.scratch("gocache"))
            .env("GOMODCACHE", self.scratch("gomodcache"))
            .env("GOPATH", self.scratch("gopath"))
            .env("GOENV", "off")
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0");
    }

    /// `go build` as our agent calls it.
    #[must_use]
    pub fn go_build(&self, platform: &str) -> Command {
        let out = self.scratch("go-out").join(platform.replace('/', "_"));
        let mut command = self.go(&["build", "-trimpath", "-buildvcs=false", "-o"]);
        command.arg(out).arg(".");
        if let Some((os, arch)) = platform.split_once('/') {
            command.env("GOOS", os).env("GOARCH", arch);
        }
        command
    }

    /// Empties the other side's build cache and what it built.
    ///
    /// # Errors
    /// When a directory cannot be removed.
    pub fn cool_theirs(&self) -> anyhow::Result<()> {
        for name in ["gocache", "go-out", "theirs/dist"] {
            remove(&self.scratch(name))?;
        }
        Ok(())
    }

    /// Empties our fleet of whatever an earlier build of this program left: build cache, binaries, source
    /// trees, and every blob of coordinator and agent. Toolchain and modules stay. The fleet runs again when
    /// this returns.
    ///
    /// # Errors
    /// When the fleet does not stop or start, or a directory cannot be removed.
    pub fn cool_ours(&self) -> anyhow::Result<()> {
        run(&mut self.client.home.meridian(["local", "stop"]))?;
        let state = self.client.home.state().join("local");
        for name in LEFT_BY_BUILDS {
            let directory = state.join(name);
            if !directory.is_dir() {
                bail!("there is nothing at {}: nothing was built, or it moved", directory.display());
            }
            remove(&directory)?;
        }
        remove(&self.scratch("dist"))?;
        run(&mut self.client.home.meridian(["local", "start"]))?;
        Ok(())
    }

    fn download(&self) -> anyhow::Result<PathBuf> {
        let mut go = self.client.home.program("go");
        go.args(["mod", "download", "-json", &format!("{PROGRAM}@{VERSION}")])
            .env("GOMODCACHE", self.scratch("fetched"))
            .env("GOFLAGS", "-modcacherw")
            .env("GOTOOLCHAIN", "local");
        let answer: serde_json::Value = serde_json::from_str(&run(&mut go)?)?;
        answer["Dir"].as_str().map(PathBuf::from).context("go mod download names no directory")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What Go downloads is read-only. Whatever stays is in the temporary directory.
        let _removed_later = Command::new("chmod").args(["-R", "u+w"]).arg(self.scratch.path()).status();
    }
}

fn find_goroot(below: &Path) -> Option<PathBuf> {
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        if directory.join("bin/go").is_file() && directory.join("pkg/tool").is_dir() {
            return Some(directory);
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
    None
}

/// Removes a directory tree, read-only or not; one that is not there is fine.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    run(Command::new("chmod").args(["-R", "u+w"]).arg(path))?;
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").arg("-r").arg(from).arg(to))?;
    run(Command::new("chmod").args(["-R", "u+w"]).arg(to))?;
    Ok(())
}
