//! Whether what a provenance says agrees with what the executable says of itself.
//!
//! A signer that was lied to about the build still signs only what the executable's own build info says; and the
//! coordinator, which trusts no agent, compares the two again before it accepts. What cmd/go leaves out under
//! `-trimpath` (`-ldflags`, and with it the stamps) cannot be compared. **Each rule stands in [`RULES`] by itself**, so
//! that a test can leave one out and see a forgery pass; the settings have a table of their own (`settings.rs`).
//!
//! Not here: whether the parameters are those that were ordered (`meridian-core`), what the source says of its modules
//! ([`crate::modfiles`]), and signatures.

mod settings;

use meridian_core::{
    build::Toolchain,
    golang::{
        h1::H1Error,
        toolchain_pins::{DEFAULT_VERSION, default_pin},
    },
};

use crate::{
    executable::{BuildInfo, Module},
    statement::{ModuleContent, ModuleUsed, ModuleVersion, Provenance, Source, ToolchainUsed},
};

/// What does not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// A hash that cannot be read.
    #[error("the executable names a malformed hash for module {module}: {error}")]
    Hash {
        /// The module.
        module: String,
        /// What is wrong.
        error: H1Error,
    },
    /// A fact of the build.
    #[error("the executable says {what} {found:?}, expected {wanted:?}")]
    Fact {
        /// Which fact.
        what: &'static str,
        /// The executable's word.
        found: String,
        /// What the provenance or the source says.
        wanted: String,
    },
    /// A setting that Meridian never makes.
    #[error("the executable was built with {0}, which no build of ours has")]
    Setting(String),
    /// A setting that this release does not know.
    #[error(
        "the executable names the build setting {0}, of which this release of meridian does not know what it changes; \
         build with a go that does not record it, or upgrade meridian"
    )]
    UnknownSetting(String),
    /// A setting that is there twice.
    #[error("the executable names the build setting {0} twice, which cmd/go never does")]
    RepeatedSetting(String),
    /// The lists of modules.
    #[error("the executable and the provenance name different modules, the first is {0}")]
    Modules(String),
    /// Another Go than the one that was asked for.
    #[error("the provenance names the toolchain {found}, and {wanted} was asked for")]
    Toolchain {
        /// What the provenance says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// `go.sum` has another hash, or none.
    #[error("module {module} has the hash {found}, but the source's go.sum says {wanted}")]
    Sum {
        /// The module and its version.
        module: String,
        /// What was linked.
        found: String,
        /// What go.sum says.
        wanted: String,
    },
    /// A replacement that the source does not make.
    #[error("module {module} is replaced by {by}, and the source does not say so")]
    Replacement {
        /// The module and its version.
        module: String,
        /// What was linked instead.
        by: String,
    },
    /// A module without a hash whose files are not in the source.
    #[error("module {module} has no hash, and the source does not hold it (replaced by {directory:?})")]
    NotInTree {
        /// The module and its version.
        module: String,
        /// The directory that the executable names; empty for none.
        directory: String,
    },
}

/// The two sides.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// What the statement says.
    pub provenance: &'a Provenance,
    /// What the executable says.
    pub info: &'a BuildInfo,
}

/// One rule: its name, and what it demands.
pub type Rule = (&'static str, fn(&Sides<'_>) -> Result<(), Disagreement>);

/// Every rule that the two sides must keep.
pub const RULES: &[Rule] = &[
    ("the Go version", go_version),
    ("the toolchain is the one that was asked for", toolchain_asked),
    ("the toolchain's hash is the one that is pinned", toolchain_pinned),
    ("the experiments of the Go version", experiments),
    ("no unknown setting", settings::known),
    ("no setting twice", settings::once),
    ("each setting is what it must be", settings::as_wanted),
    ("the main package", |s| of_module(s, |m| same("the main package", &s.info.path, m.package))),
    ("the main module", |s| of_module(s, |m| same("the main module", &m.found.path, m.module))),
    ("the main module's version", |s| {
        of_module(s, |m| same("the main module's version", &m.found.version, m.version))
    }),
    ("the main module's hash", |s| of_module(s, |m| same("the main module's hash", &m.found.sum, &m.h1))),
    ("the modules", modules),
];

/// Whether the provenance says what the executable's build info says.
///
/// # Errors
/// The first rule that is broken.
pub fn check(provenance: &Provenance, info: &BuildInfo) -> Result<(), Disagreement> {
    RULES.iter().try_for_each(|(_, rule)| rule(&Sides { provenance, info }))
}

/// The modules that an executable says were linked, its own apart.
///
/// # Errors
/// When one has a hash that is none.
pub fn modules_of(info: &BuildInfo) -> Result<Vec<ModuleUsed>, Disagreement> {
    let mut modules = Vec::with_capacity(info.deps.len());
    for dep in &info.deps {
        let hash = |error| Disagreement::Hash { module: dep.path.clone(), error };
        let content = match (dep.replace.as_deref(), dep.h1().map_err(hash)?) {
            (None, Some(h1)) => ModuleContent::Own(h1),
            (Some(by), Some(h1)) => ModuleContent::Replaced { by: version_of(by), h1 },
            // cmd/go knows no hash of files that lie in a directory.
            (Some(by), None) => ModuleContent::Tree { directory: by.path.clone() },
            (None, None) => ModuleContent::Tree { directory: String::new() },
        };
        modules.push(ModuleUsed { module: version_of(dep), content });
    }
    modules.sort_by(|a, b| a.module.cmp(&b.module));
    Ok(modules)
}

fn version_of(module: &Module) -> ModuleVersion {
    ModuleVersion { path: module.path.clone(), version: module.version.clone() }
}

fn modules(sides: &Sides<'_>) -> Result<(), Disagreement> {
    let (said, found) = (&sides.provenance.modules, modules_of(sides.info)?);
    if *said == found {
        return Ok(());
    }
    let differs = |module: &&ModuleUsed| !said.contains(module) || !found.contains(module);
    let first = said.iter().chain(&found).find(differs).map(|used| &used.module);
    Err(Disagreement::Modules(first.map_or_else(String::new, |m| format!("{}@{}", m.path, m.version))))
}

fn go_version(sides: &Sides<'_>) -> Result<(), Disagreement> {
    // Experiments follow the version after a blank.
    let found = sides.info.go_version.split(' ').next().unwrap_or_default();
    let wanted = match &sides.provenance.toolchain {
        ToolchainUsed::Installed { version, .. } => version.split(' ').next().unwrap_or_default(),
        ToolchainUsed::Module { version, .. } => release_and_host(version).0,
    };
    same("the Go version", found, wanted)
}

/// A published Go has no experiment switched on by itself, and an installed one says its own beside its version.
/// `nocoverageredesign` is no experiment: a Go of 1.20 to 1.24 says so of a build without `-cover`, which none has.
fn experiments(sides: &Sides<'_>) -> Result<(), Disagreement> {
    let of = |version: &str| {
        let after = version.split_once(' ').map_or("", |(_, after)| after);
        let words = after.strip_prefix("X:").unwrap_or(after).split(',');
        words.filter(|word| *word != "nocoverageredesign").collect::<Vec<_>>().join(",")
    };
    let wanted = match &sides.provenance.toolchain {
        ToolchainUsed::Installed { version, .. } => of(version),
        ToolchainUsed::Module { .. } => String::new(),
    };
    same("the experiments", &of(&sides.info.go_version), &wanted)
}

/// `go1.27.3` and `linux-amd64` of `v0.0.1-go1.27.3.linux-amd64`.
pub fn release_and_host(version: &str) -> (&str, &str) {
    let release = version.strip_prefix("v0.0.1-").unwrap_or(version);
    release.rsplit_once('.').unwrap_or((release, ""))
}

fn toolchain_asked(Sides { provenance, .. }: &Sides<'_>) -> Result<(), Disagreement> {
    let asked = match &provenance.external.toolchain {
        Toolchain::Local => None,
        Toolchain::Default => Some(DEFAULT_VERSION),
        Toolchain::Version { version, .. } => Some(version.as_str()),
    };
    let found = match (&provenance.toolchain, asked) {
        (ToolchainUsed::Installed { .. }, None) => return Ok(()),
        (ToolchainUsed::Module { version, .. }, Some(asked))
            if release_and_host(version).0.strip_prefix("go") == Some(asked) =>
        {
            return Ok(());
        }
        (ToolchainUsed::Installed { version, .. }, _) => format!("{version} of the agent's machine"),
        (ToolchainUsed::Module { version, .. }, _) => version.clone(),
    };
    let wanted =
        asked.map_or_else(|| "the one installed on the agent".to_owned(), |asked| format!("go{asked}"));
    Err(Disagreement::Toolchain { found, wanted })
}

/// A toolchain without a pin was checked against the checksum database, by the agent alone.
fn toolchain_pinned(Sides { provenance, .. }: &Sides<'_>) -> Result<(), Disagreement> {
    let ToolchainUsed::Module { version, h1, .. } = &provenance.toolchain else { return Ok(()) };
    let (release, host) = release_and_host(version);
    let host = host.replacen('-', "/", 1);
    let of_request = match &provenance.external.toolchain {
        Toolchain::Version { pins, .. } => pins.iter().find(|(named, _)| *named == host),
        Toolchain::Default | Toolchain::Local => None,
    };
    let of_release = default_pin(&host).filter(|_| release.strip_prefix("go") == Some(DEFAULT_VERSION));
    let Some(pin) = of_request.map(|(_, sum)| sum.as_str()).or(of_release) else { return Ok(()) };
    let found = h1.to_string();
    if found == pin {
        return Ok(());
    }
    Err(Disagreement::Toolchain { found: format!("{version} {found}"), wanted: pin.to_owned() })
}

/// A published module beside the main module that the executable names.
struct MainModule<'a> {
    package: &'a str,
    module: &'a str,
    version: &'a str,
    h1: String,
    found: Module,
}

fn of_module(
    sides: &Sides<'_>,
    demand: impl FnOnce(&MainModule<'_>) -> Result<(), Disagreement>,
) -> Result<(), Disagreement> {
    let Source::Module { h1, module, package, version, .. } = &sides.provenance.external.source else {
        return Ok(());
    };
    let found = sides.info.main.clone().unwrap_or_default();
    demand(&MainModule { package, module, version, h1: h1.to_string(), found })
}

pub(crate) fn same(what: &'static str, found: &str, wanted: &str) -> Result<(), Disagreement> {
    if found == wanted {
        return Ok(());
    }
    Err(Disagreement::Fact { what, found: found.to_owned(), wanted: wanted.to_owned() })
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
