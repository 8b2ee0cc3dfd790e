//! The settings of a build that an executable records, and what each must be.
//!
//! One row for each setting that cmd/go writes (`setBuildInfo` and `setPGOProfilePath` in its `load/pkg.go`, Go 1.18 to
//! 1.27): the order fixes it, cmd/go's default under the agent's cleared environment does (`gobuild/lineage.rs` in the
//! agent), or it must be absent, since no build of ours asks for it. **Only two are free, each with its reason; a
//! setting without a row is refused**, for nobody here knows what it changes: a Go that records a new one needs a row
//! first. `-mod`, `-modfile`, `-overlay` and `-covermode` are never recorded, so they have none.

use super::{Disagreement, Sides, same};
use crate::statement::ToolchainUsed;

/// What a setting must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This value. An empty one is also met by a setting that is not there: cmd/go writes none that is empty.
    Value(String),
    /// This value, or nothing where an older Go does not record it.
    ValueIfRecorded(&'static str),
    /// Not there.
    Absent,
    /// Anything.
    Free,
}

/// A setting that cmd/go records.
pub(super) struct Row {
    /// Its name in the build info.
    pub(super) key: &'static str,
    /// What it must be for these parameters; it is handed its own name.
    pub(super) wanted: fn(&Sides<'_>, &str) -> Wanted,
}

const fn row(key: &'static str, wanted: fn(&Sides<'_>, &str) -> Wanted) -> Row {
    Row { key, wanted }
}

/// Every setting, in the order in which cmd/go writes them.
pub(super) const TABLE: &[Row] = &[
    // No order can ask for an instrumented build, or for flags of the compiler or the assembler.
    row("-asan", absent),
    row("-asmflags", absent),
    // No order names a build mode: cmd/go's default for a main package. Go before 1.20 does not record it.
    row("-buildmode", |_, _| Wanted::ValueIfRecorded("exe")),
    row("-compiler", |_, _| Wanted::ValueIfRecorded("gc")),
    row("-gccgoflags", absent),
    row("-gcflags", absent),
    // cmd/go leaves it out under -trimpath: one that is there comes from another build, or from a forger's hand.
    row("-ldflags", absent),
    row("-cover", absent),
    row("-msan", absent),
    row("-race", absent),
    row("-tags", |s, _| Wanted::Value(s.provenance.external.flags.tags.join(","))),
    row("-trimpath", |_, _| Wanted::Value("true".to_owned())),
    // cmd/go takes the profile beside the main package by itself (`-pgo=auto`) and records its name without a
    // directory. Whether the source has one is not known here.
    row("-pgo", |_, _| Wanted::ValueIfRecorded("default.pgo")),
    // A function of the source: the go line, `godebug` lines and `//go:debug` lines of the main module and package.
    row("DefaultGODEBUG", |_, _| Wanted::Free),
    row("CGO_ENABLED", |s, _| {
        Wanted::Value(if s.provenance.external.flags.cgo { "1" } else { "0" }.to_owned())
    }),
    // Left out under -trimpath, as linker flags are.
    row("CGO_CFLAGS", absent),
    row("CGO_CPPFLAGS", absent),
    row("CGO_CXXFLAGS", absent),
    row("CGO_LDFLAGS", absent),
    row("GOARCH", |s, _| Wanted::Value(s.provenance.external.platform.arch.clone())),
    row("GOEXPERIMENT", experiment),
    // Set to `off`, which is not recorded.
    row("GOFIPS140", absent),
    row("GOOS", |s, _| Wanted::Value(s.provenance.external.platform.os.clone())),
    row("GO386", level),
    row("GOAMD64", level),
    row("GOARM", level),
    row("GOARM64", level),
    row("GOMIPS", level),
    row("GOMIPS64", level),
    row("GOPPC64", level),
    row("GORISCV64", level),
    row("GOWASM", level),
    // `-buildvcs=false`: a revision would be one that nobody checked.
    row("vcs", absent),
    row("vcs.modified", absent),
    row("vcs.revision", absent),
    row("vcs.time", absent),
];

fn absent(_: &Sides<'_>, _: &str) -> Wanted {
    Wanted::Absent
}

/// The level of the ordered architecture, and no other architecture's.
fn level(sides: &Sides<'_>, key: &str) -> Wanted {
    let of_target = sides.provenance.external.platform.env().into_iter().find(|(name, _)| *name == key);
    of_target.map_or(Wanted::Absent, |(_, value)| Wanted::Value(value))
}

/// No experiment is ordered. Where the Go is the one installed on the agent, it may have been built with experiments
/// as its default, which it records here: that Go is the agent's word anyway, and which experiments were on stands in
/// the version, too, where [`super::experiments`] compares them.
fn experiment(sides: &Sides<'_>, _: &str) -> Wanted {
    match &sides.provenance.toolchain {
        ToolchainUsed::Installed { .. } => Wanted::Free,
        ToolchainUsed::Module { .. } => Wanted::Absent,
    }
}

/// Whether every setting has a row.
pub(super) fn known(Sides { info, .. }: &Sides<'_>) -> Result<(), Disagreement> {
    let is_unknown = |key: &str| TABLE.iter().all(|row| row.key != key);
    match info.settings.iter().find(|setting| is_unknown(&setting.key)) {
        None => Ok(()),
        Some(setting) => Err(Disagreement::UnknownSetting(setting.key.clone())),
    }
}

/// Whether no setting is there twice. cmd/go writes each once, and readers differ in which of two they take.
pub(super) fn once(Sides { info, .. }: &Sides<'_>) -> Result<(), Disagreement> {
    let mut keys: Vec<&str> = info.settings.iter().map(|setting| setting.key.as_str()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Disagreement::RepeatedSetting(pair[0].to_owned())),
    }
}

/// Whether each setting that has a row is what the row says.
pub(super) fn as_wanted(sides: &Sides<'_>) -> Result<(), Disagreement> {
    TABLE.iter().try_for_each(|row| row.check(sides))
}

impl Row {
    /// Whether the setting is what it must be.
    pub(super) fn check(&self, sides: &Sides<'_>) -> Result<(), Disagreement> {
        let found = sides.info.setting(self.key);
        match ((self.wanted)(sides, self.key), found) {
            (Wanted::Free, _) | (Wanted::Absent | Wanted::ValueIfRecorded(_), None) => Ok(()),
            (Wanted::Absent, Some(found)) => Err(Disagreement::Setting(format!("{}={found}", self.key))),
            (Wanted::ValueIfRecorded(wanted), Some(found)) => same(self.key, found, wanted),
            (Wanted::Value(wanted), found) => same(self.key, found.unwrap_or_default(), &wanted),
        }
    }
}
