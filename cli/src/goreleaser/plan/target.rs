//! Which platforms a build is for.

use meridian_core::golang::platform::Platform;

use crate::goreleaser::{
    config::{Build, LEVELS, Place, Selector, Text},
    template::Value,
};

use super::error::PlanError;

/// The template fields of the levels, in the order of [`LEVELS`].
const LEVEL_FIELDS: [&str; LEVELS] = ["Amd64", "I386", "Arm", "Arm64", "Mips", "Ppc64", "Riscv64"];
/// What a level is when the configuration says none; GOARM is Go's older default.
const DEFAULT_LEVELS: [&str; LEVELS] = ["v1", "sse2", "6", "v8.0", "hardfloat", "power8", "rva20u64"];
const GOARM: usize = 2;
/// What GOARM can be; Go would take a kind of floating point after it, which has no place in the names.
const GOARM_VALUES: [&str; 3] = ["5", "6", "7"];
const GOPPC64: usize = 5;
const GORISCV64: usize = 6;

const DEFAULT_GOOS: [&str; 3] = ["linux", "darwin", "windows"];
const DEFAULT_GOARCH: [&str; 3] = ["amd64", "arm64", "386"];

/// What `go_first_class` in `targets` stands for.
const FIRST_CLASS: [&str; 8] = [
    "darwin_amd64",
    "darwin_arm64",
    "linux_386",
    "linux_amd64",
    "linux_arm",
    "linux_arm64",
    "windows_386",
    "windows_amd64",
];

const GOOS: [&str; 15] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "wasip1",
];

const GOARCH: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "s390x",
    "wasm", "riscv64", "loong64", "sparc", "sparc64",
];

/// The pairs that GoReleaser builds for; a pair of a matrix that is not among them is passed over.
const PAIRS: [&str; 47] = [
    "aix_ppc64",
    "android_386",
    "android_amd64",
    "android_arm",
    "android_arm64",
    "darwin_amd64",
    "darwin_arm64",
    "dragonfly_amd64",
    "freebsd_386",
    "freebsd_amd64",
    "freebsd_arm",
    "freebsd_arm64",
    "illumos_amd64",
    "ios_arm64",
    "js_wasm",
    "wasip1_wasm",
    "linux_386",
    "linux_amd64",
    "linux_arm",
    "linux_arm64",
    "linux_ppc64",
    "linux_ppc64le",
    "linux_mips",
    "linux_mipsle",
    "linux_mips64",
    "linux_mips64le",
    "linux_s390x",
    "linux_riscv64",
    "linux_loong64",
    "netbsd_386",
    "netbsd_amd64",
    "netbsd_arm",
    "netbsd_arm64",
    "openbsd_386",
    "openbsd_amd64",
    "openbsd_arm",
    "openbsd_arm64",
    "openbsd_riscv64",
    "plan9_386",
    "plan9_amd64",
    "plan9_arm",
    "solaris_amd64",
    "solaris_sparc",
    "solaris_sparc64",
    "windows_arm64",
    "windows_386",
    "windows_amd64",
];

/// A platform in GoReleaser's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// GOOS.
    pub goos: String,
    /// GOARCH, or `all` for a universal binary.
    pub goarch: String,
    /// The architecture's level; empty where it has none.
    pub level: String,
}

impl Target {
    /// `linux_amd64_v1`; nothing for a universal binary.
    #[must_use]
    pub fn name(&self) -> String {
        match self.level.as_str() {
            _ if self.goarch == "all" => String::new(),
            "" => format!("{}_{}", self.goos, self.goarch),
            level => format!("{}_{}_{level}", self.goos, self.goarch),
        }
    }

    /// Reads `GOOS_GOARCH` or `GOOS_GOARCH_LEVEL`; a level that is left out is the default.
    pub(super) fn parse(text: &str, goarm: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let (goos, goarch) = (parts.next()?, parts.next()?);
        let level = parts.next().map_or_else(|| default_level(goarch, goarm), str::to_owned);
        let is_whole = !goos.is_empty() && !goarch.is_empty() && parts.next().is_none();
        is_whole.then(|| Self { goos: goos.to_owned(), goarch: goarch.to_owned(), level })
    }

    /// The target as Go's platform.
    pub(super) fn platform(&self, place: &Place) -> Result<Platform, PlanError> {
        if self.goarch == "arm" && !GOARM_VALUES.contains(&self.level.as_str()) {
            return Err(PlanError::Unknown {
                place: place.clone(),
                found: self.level.clone(),
                known: GOARM_VALUES.join(", "),
            });
        }
        let separator = if self.level.is_empty() { "" } else { "/" };
        let text = format!("{}/{}{separator}{}", self.goos, self.goarch, self.level);
        Platform::parse(&text).map_err(|source| PlanError::Platform { place: place.clone(), source })
    }

    /// The template fields `.Os`, `.Arch` and the levels.
    ///
    /// GoReleaser loses the level of ppc64le and of riscv64 on the way to its templates; so do the names here.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = vec![("Os", Value::text(&self.goos)), ("Arch", Value::text(&self.goarch))];
        for (index, field) in LEVEL_FIELDS.into_iter().enumerate() {
            let is_lost = index == GORISCV64 || (index == GOPPC64 && self.goarch == "ppc64le");
            let has_level = level_index(&self.goarch) == Some(index) && !is_lost;
            fields.push((field, Value::text(if has_level { &self.level } else { "" })));
        }
        fields
    }

    /// The level as GoReleaser passes it in the environment and groups by it: GOARM, GOMIPS or GOAMD64.
    pub(super) fn grouping_level(&self) -> Option<(usize, &str)> {
        let index = level_index(&self.goarch).filter(|index| matches!(index, 0 | 2 | 4))?;
        (!self.level.is_empty()).then_some((index, self.level.as_str()))
    }

    fn is_matched_by(&self, selector: &Selector) -> bool {
        let matches = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let own = level_index(&self.goarch);
        let levels = selector.levels.iter().enumerate();
        matches(&selector.goos, &self.goos)
            && matches(&selector.goarch, &self.goarch)
            && levels.into_iter().all(|(index, wanted)| {
                matches(wanted, if own == Some(index) { self.level.as_str() } else { "" })
            })
    }
}

/// The target that an override is for, as a text that may hold templates.
pub(super) fn text_of(selector: &Selector) -> String {
    let level = selector.levels.concat();
    let separator = if level.is_empty() { "" } else { "_" };
    format!("{}_{}{separator}{level}", selector.goos, selector.goarch)
}

/// Which of the levels an architecture has.
fn level_index(goarch: &str) -> Option<usize> {
    Some(match goarch {
        "amd64" => 0,
        "386" => 1,
        "arm" => GOARM,
        "arm64" => 3,
        "mips" | "mipsle" | "mips64" | "mips64le" => 4,
        "ppc64" | "ppc64le" => GOPPC64,
        "riscv64" => GORISCV64,
        _ => return None,
    })
}

fn default_level(goarch: &str, goarm: &str) -> String {
    match level_index(goarch) {
        Some(GOARM) => goarm.to_owned(),
        Some(index) => DEFAULT_LEVELS[index].to_owned(),
        None => String::new(),
    }
}

/// The targets of a build, each once, in the configuration's order. `goarm` is the default of GOARM.
pub(super) fn targets(build: &Build, goarm: &str) -> Result<Vec<Target>, Vec<PlanError>> {
    if build.targets.is_empty() { matrix(build, goarm) } else { listed(build, goarm) }
}

fn listed(build: &Build, goarm: &str) -> Result<Vec<Target>, Vec<PlanError>> {
    let mut targets = Vec::new();
    let mut errors = Vec::new();
    for text in &build.targets {
        let names = match text.text.as_str() {
            "go_first_class" | "go_118_first_class" => FIRST_CLASS.to_vec(),
            name => vec![name],
        };
        for name in names {
            match Target::parse(name, goarm) {
                Some(target) if !targets.contains(&target) => targets.push(target),
                Some(_) => {}
                None => {
                    errors.push(PlanError::Target { place: text.place.clone(), found: name.to_owned() });
                }
            }
        }
    }
    if errors.is_empty() { Ok(targets) } else { Err(errors) }
}

fn matrix(build: &Build, goarm: &str) -> Result<Vec<Target>, Vec<PlanError>> {
    let mut errors = Vec::new();
    let systems = words(&build.matrix.goos, &DEFAULT_GOOS, &GOOS, &mut errors);
    let arches = words(&build.matrix.goarch, &DEFAULT_GOARCH, &GOARCH, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut targets = Vec::new();
    for goos in &systems {
        for goarch in &arches {
            for level in levels(build, goarch, goarm) {
                let target = Target { goos: goos.clone(), goarch: goarch.clone(), level };
                let is_pair = PAIRS.contains(&format!("{goos}_{goarch}").as_str());
                let is_ignored = build.ignore.iter().any(|selector| target.is_matched_by(selector));
                // GoReleaser would build a repeated target twice, and fail on the second archive.
                if is_pair && !is_ignored && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
    }
    Ok(targets)
}

fn words(said: &[Text], default: &[&str], known: &[&str], errors: &mut Vec<PlanError>) -> Vec<String> {
    if said.is_empty() {
        return default.iter().map(ToString::to_string).collect();
    }
    for word in said.iter().filter(|word| !known.contains(&word.text.as_str())) {
        errors.push(PlanError::Unknown {
            place: word.place.clone(),
            found: word.text.clone(),
            known: known.join(", "),
        });
    }
    said.iter().map(|word| word.text.clone()).collect()
}

fn levels(build: &Build, goarch: &str, goarm: &str) -> Vec<String> {
    match level_index(goarch).map(|index| &build.matrix.levels[index]) {
        Some(said) if !said.is_empty() => said.iter().map(|text| text.text.clone()).collect(),
        _ => vec![default_level(goarch, goarm)],
    }
}
