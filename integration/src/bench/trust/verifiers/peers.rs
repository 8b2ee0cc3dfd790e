//! The verifiers, installed through the ordinary clients of their ecosystems and kept below the target directory.
//!
//! Small programs around libraries stand in `programs/`; each is a project of its own, so that nothing that it depends
//! on becomes a dependency here. A verifier that cannot be installed is reported as missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::cells::Verifier;
use crate::bench::{
    peers::{directory, go_install},
    timing::run,
};

const COSIGN_V2: (&str, &str) = ("github.com/sigstore/cosign/v2/cmd/cosign", "v2.6.5");
const COSIGN_V3: (&str, &str) = ("github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.2");
/// The newest that the Node of the twenties runs; the next one wants Node 22.
const NPM_VERSION: &str = "3.1.1";
const SIGSTORE_VERIFY_VERSION: &str = "0.15.1";

/// The verifiers that are here.
#[derive(Debug, Default)]
pub struct Peers {
    programs: BTreeMap<Verifier, PathBuf>,
}

impl Peers {
    /// Installs all of them. Says on standard error which cannot be had, and why.
    #[must_use]
    pub fn install() -> Self {
        let mut programs = BTreeMap::new();
        for verifier in Verifier::ALL {
            match install(verifier) {
                Ok(program) => drop(programs.insert(verifier, program)),
                Err(error) => eprintln!("{verifier} cannot be had: {error:#}"),
            }
        }
        Self { programs }
    }

    /// Those that nobody has to install, and cosign where it was installed before.
    #[must_use]
    pub fn at_hand() -> Self {
        let is_at_hand = |verifier: &Verifier| match verifier {
            Verifier::OpenSsl | Verifier::Go => true,
            Verifier::CosignV2 | Verifier::CosignV3 => kept(*verifier).is_ok_and(|path| path.exists()),
            Verifier::SigstoreVerify | Verifier::Npm => false,
        };
        let here = Verifier::ALL.into_iter().filter(is_at_hand);
        Self { programs: here.filter_map(|verifier| Some((verifier, install(verifier).ok()?))).collect() }
    }

    /// A verifier's program; `None` when it could not be installed.
    #[must_use]
    pub fn program(&self, verifier: Verifier) -> Option<&Path> {
        self.programs.get(&verifier).map(PathBuf::as_path)
    }

    /// How many could not be.
    #[must_use]
    pub fn missing(&self) -> usize {
        Verifier::ALL.len() - self.programs.len()
    }
}

/// Where a verifier's program is, or will be.
fn kept(verifier: Verifier) -> anyhow::Result<PathBuf> {
    Ok(match verifier {
        Verifier::CosignV2 => directory(&format!("cosign-{}", COSIGN_V2.1))?.join("cosign"),
        Verifier::CosignV3 => directory(&format!("cosign-{}", COSIGN_V3.1))?.join("cosign"),
        Verifier::OpenSsl => PathBuf::from("openssl"),
        Verifier::SigstoreVerify => {
            let project = directory(&format!("sigstore-verify-{SIGSTORE_VERIFY_VERSION}"))?;
            project.join("target/release/sigstore-verify-peer")
        }
        Verifier::Npm => directory(&format!("npm-sigstore-verify-{NPM_VERSION}"))?.join("verify.mjs"),
        Verifier::Go => directory("go-crypto")?.join("go-crypto-peer"),
    })
}

fn install(verifier: Verifier) -> anyhow::Result<PathBuf> {
    let program = kept(verifier)?;
    match verifier {
        Verifier::CosignV2 => return go_install("cosign", COSIGN_V2.0, COSIGN_V2.1),
        Verifier::CosignV3 => return go_install("cosign", COSIGN_V3.0, COSIGN_V3.1),
        Verifier::OpenSsl => drop(run(Command::new("openssl").arg("version"))?),
        Verifier::SigstoreVerify => cargo_project(&directory_of(&program, 3)?)?,
        Verifier::Npm => npm_project(&directory_of(&program, 1)?)?,
        Verifier::Go => go_project(&directory_of(&program, 1)?)?,
    }
    ensure!(verifier == Verifier::OpenSsl || program.exists(), "there is no {}", program.display());
    Ok(program)
}

fn directory_of(program: &Path, levels: usize) -> anyhow::Result<PathBuf> {
    let directory = program.ancestors().nth(levels).context("a program lies in a directory")?;
    Ok(directory.to_owned())
}

/// Writes a project's files; whatever differs from what was built makes its tool build again.
fn write(project: &Path, files: &[(&str, &str)]) -> anyhow::Result<()> {
    for (name, text) in files {
        let path = project.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(*text) {
            fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
            fs::write(path, text)?;
        }
    }
    Ok(())
}

fn cargo_project(project: &Path) -> anyhow::Result<()> {
    let manifest = include_str!("programs/sigstore-verify/Cargo.toml");
    write(
        project,
        &[("Cargo.toml", manifest), ("src/main.rs", include_str!("programs/sigstore-verify/main.rs"))],
    )?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Whatever this process was built with is not meant for it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" {
            build.env_remove(&name);
        }
    }
    build.args(["build", "--release", "--quiet"]).current_dir(project);
    build.env("CARGO_TARGET_DIR", project.join("target"));
    run(&mut build).map(drop)
}

fn npm_project(project: &Path) -> anyhow::Result<()> {
    write(
        project,
        &[
            ("package.json", include_str!("programs/npm/package.json")),
            ("verify.mjs", include_str!("programs/npm/verify.mjs")),
        ],
    )?;
    if project.join("node_modules/@sigstore/verify").exists() {
        return Ok(());
    }
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(project);
    run(&mut install).map(drop)
}

fn go_project(project: &Path) -> anyhow::Result<()> {
    write(
        project,
        &[("go.mod", include_str!("programs/go/go.mod")), ("main.go", include_str!("programs/go/main.go"))],
    )?;
    let mut build = Command::new("go");
    build.args(["build", "-o", "go-crypto-peer", "."]).current_dir(project);
    build.envs([("GOTOOLCHAIN", "local"), ("GOPROXY", "off"), ("GOWORK", "off"), ("CGO_ENABLED", "0")]);
    run(&mut build).map(drop)
}
