//! Whether what a provenance says agrees with what the executable says of itself, and with the source's `go.sum`.
//!
//! A signer that was lied to about the build still signs only what the executable's own build info says; and the
//! coordinator, which trusts no agent, compares the two again before it accepts. What cmd/go leaves out under
//! `-trimpath` (`-ldflags`, and with it the stamps) cannot be compared.
//!
//! Not here: whether the parameters are those that were ordered (`meridian-core`), and signatures.

use std::collections::HashMap;

use meridian_core::golang::h1::{H1, H1Error};

use crate::{
    executable::{BuildInfo, Module},
    statement::{
        ExternalParameters, ModuleContent, ModuleUsed, ModuleVersion, Provenance, Source, ToolchainUsed,
    },
};

/// Most bytes of a `go.sum` that are read.
pub const GO_SUM_LEN_MAX: usize = 16 << 20;

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
    #[error("the executable says {what} {found:?}, the provenance {wanted:?}")]
    Fact {
        /// Which fact.
        what: &'static str,
        /// The executable's word.
        found: String,
        /// The provenance's.
        wanted: String,
    },
    /// The lists of modules.
    #[error("the executable and the provenance name different modules, the first is {0}")]
    Modules(String),
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

/// Whether the provenance says what the executable's build info says.
///
/// # Errors
/// The first thing in which they differ.
pub fn check(provenance: &Provenance, info: &BuildInfo) -> Result<(), Disagreement> {
    check_toolchain(&provenance.toolchain, info)?;
    check_target(&provenance.external, info)?;
    check_main(&provenance.external.source, info)?;
    let (said, found) = (&provenance.modules, modules_of(info)?);
    if *said == found {
        return Ok(());
    }
    let differs = |module: &&ModuleUsed| !said.contains(module) || !found.contains(module);
    let first = said.iter().chain(&found).find(differs).map(|used| &used.module);
    Err(Disagreement::Modules(first.map_or_else(String::new, |m| format!("{}@{}", m.path, m.version))))
}

fn check_toolchain(toolchain: &ToolchainUsed, info: &BuildInfo) -> Result<(), Disagreement> {
    // Experiments follow the version after a blank.
    let found = info.go_version.split(' ').next().unwrap_or_default();
    let wanted = match toolchain {
        ToolchainUsed::Installed { version, .. } => version.split(' ').next().unwrap_or_default(),
        ToolchainUsed::Module { version, .. } => {
            let release = version.strip_prefix("v0.0.1-").unwrap_or(version);
            release.rsplit_once('.').map_or(release, |(release, _)| release)
        }
    };
    same("the Go version", found, wanted)
}

fn check_target(external: &ExternalParameters, info: &BuildInfo) -> Result<(), Disagreement> {
    let said = |key| info.setting(key).unwrap_or_default();
    same("GOOS", said("GOOS"), &external.platform.os)?;
    same("GOARCH", said("GOARCH"), &external.platform.arch)?;
    for (name, value) in external.platform.env() {
        if !matches!(name, "GOOS" | "GOARCH") {
            same(name, said(name), &value)?;
        }
    }
    same("CGO_ENABLED", said("CGO_ENABLED"), if external.flags.cgo { "1" } else { "0" })?;
    same("-trimpath", said("-trimpath"), "true")?;
    same("-tags", said("-tags"), &external.flags.tags.join(","))
}

fn check_main(source: &Source, info: &BuildInfo) -> Result<(), Disagreement> {
    let Source::Module { h1, module, package, version, .. } = source else { return Ok(()) };
    let main = info.main.clone().unwrap_or_default();
    same("the main package", &info.path, package)?;
    same("the main module", &main.path, module)?;
    same("the main module's version", &main.version, version)?;
    same("the main module's hash", &main.sum, &h1.to_string())
}

fn same(what: &'static str, found: &str, wanted: &str) -> Result<(), Disagreement> {
    if found == wanted {
        return Ok(());
    }
    Err(Disagreement::Fact { what, found: found.to_owned(), wanted: wanted.to_owned() })
}

/// The hashes that a source's `go.sum` files demand.
#[derive(Debug, Clone, Default)]
pub struct GoSums(HashMap<(String, String), Vec<H1>>);

impl GoSums {
    /// Adds a file: lines of `MODULE VERSION HASH`; those for a `go.mod` alone say nothing of what is linked. Whatever is
    /// no such line is passed over, as cmd/go has judged the file already.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(path), Some(version), Some(hash), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let Ok(hash) = hash.parse()
                && !version.ends_with("/go.mod")
            {
                self.0.entry((path.to_owned(), version.to_owned())).or_default().push(hash);
            }
        }
    }

    /// Whether each module that was linked has the hash that `go.sum` demands.
    ///
    /// # Errors
    /// The first one that has another, or that `go.sum` does not name.
    pub fn check(&self, modules: &[ModuleUsed]) -> Result<(), Disagreement> {
        for used in modules {
            let (module, found) = match &used.content {
                ModuleContent::Own(h1) => (&used.module, h1),
                ModuleContent::Replaced { by, h1 } => (by, h1),
                ModuleContent::Tree { .. } => continue,
            };
            let known = self.0.get(&(module.path.clone(), module.version.clone()));
            if known.is_some_and(|known| known.contains(found)) {
                continue;
            }
            let wanted = known.and_then(|known| known.first());
            return Err(Disagreement::Sum {
                module: format!("{}@{}", module.path, module.version),
                found: found.to_string(),
                wanted: wanted.map_or_else(|| "nothing of it".to_owned(), ToString::to_string),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{executable::Setting, statement::tests::provenance};

    fn setting(key: &str, value: &str) -> Setting {
        Setting { key: key.to_owned(), value: value.to_owned() }
    }

    /// The build info that the statements' sample would have come from.
    fn info() -> BuildInfo {
        let dep = |used: &ModuleUsed| {
            let (sum, replace) = match &used.content {
                ModuleContent::Own(h1) => (h1.to_string(), None),
                ModuleContent::Replaced { by, h1 } => {
                    let (path, version) = (by.path.clone(), by.version.clone());
                    (String::new(), Some(Module { path, version, sum: h1.to_string(), replace: None }))
                }
                ModuleContent::Tree { directory } if directory.is_empty() => (String::new(), None),
                ModuleContent::Tree { directory } => {
                    (String::new(), Some(Module { path: directory.clone(), ..Module::default() }))
                }
            };
            let (path, version) = (used.module.path.clone(), used.module.version.clone());
            Module { path, version, sum, replace: replace.map(Box::new) }
        };
        let settings = [
            ("-tags", "netgo,osusergo"),
            ("-trimpath", "true"),
            ("CGO_ENABLED", "0"),
            ("GOARCH", "amd64"),
            ("GOOS", "linux"),
            ("GOAMD64", "v1"),
        ];
        BuildInfo {
            go_version: "go1.27.3 X:nocoverageredesign".to_owned(),
            path: "example.org/web/cmd/web".to_owned(),
            main: None,
            // Go's order is not ours.
            deps: provenance().modules.iter().rev().map(dep).collect(),
            settings: settings.map(|(key, value)| setting(key, value)).into(),
        }
    }

    #[test]
    fn a_provenance_agrees_with_the_executable_that_it_was_made_from() {
        assert_eq!(modules_of(&info()).unwrap(), provenance().modules);
        assert_eq!(check(&provenance(), &info()), Ok(()));
    }

    #[test]
    fn whatever_an_executable_says_differently_is_named() {
        type Change = fn(&mut BuildInfo);
        let changes: &[(&str, Change)] = &[
            ("the Go version", |info| info.go_version = "go1.27.2".to_owned()),
            ("GOOS", |info| info.settings.push(setting("GOOS", "darwin"))),
            ("GOARCH", |info| info.settings.push(setting("GOARCH", "arm64"))),
            ("GOAMD64", |info| info.settings.push(setting("GOAMD64", "v3"))),
            ("CGO_ENABLED", |info| info.settings.push(setting("CGO_ENABLED", "1"))),
            ("-trimpath", |info| info.settings.retain(|setting| setting.key != "-trimpath")),
            ("-tags", |info| info.settings.push(setting("-tags", "netgo"))),
            ("different modules", |info| drop(info.deps.pop())),
            ("different modules", |info| {
                info.deps.push(Module { path: "a.test/x".to_owned(), ..Module::default() })
            }),
            ("different modules", |info| info.deps[0].replace = None),
            ("example.com/b@v2.0.0+incompatible", |info| {
                let own = info.deps.iter_mut().find(|dep| dep.path == "example.com/b").unwrap();
                own.sum = format!("h1:{}=", "A".repeat(43));
            }),
            ("malformed hash", |info| info.deps.iter_mut().for_each(|dep| dep.sum = "h1:x".to_owned())),
        ];
        for (word, change) in changes {
            let mut info = info();
            change(&mut info);
            let told = check(&provenance(), &info).unwrap_err().to_string();
            assert!(told.contains(word), "{word}: {told}");
        }
    }

    #[test]
    fn the_main_module_of_a_published_one_must_be_the_one_that_was_resolved() {
        let mut provenance = provenance();
        let h1: H1 = format!("h1:{}=", "A".repeat(43)).parse().unwrap();
        provenance.external.source = Source::Module {
            h1,
            module: "example.org/web".to_owned(),
            package: "example.org/web/cmd/web".to_owned(),
            query: "latest".to_owned(),
            version: "v1.0.0".to_owned(),
        };
        let main = |version: &str, sum: String| Module {
            path: "example.org/web".to_owned(),
            version: version.to_owned(),
            sum,
            replace: None,
        };
        let mut info = BuildInfo { main: Some(main("v1.0.0", h1.to_string())), ..info() };
        assert_eq!(check(&provenance, &info), Ok(()));
        for (word, main) in [
            ("version", main("v1.0.1", h1.to_string())),
            ("version", main("(devel)", String::new())),
            ("hash", main("v1.0.0", format!("h1:{}8=", "A".repeat(42)))),
        ] {
            info.main = Some(main);
            let told = check(&provenance, &info).unwrap_err().to_string();
            assert!(told.contains(word), "{word}: {told}");
        }
    }

    #[test]
    fn every_module_that_was_linked_needs_the_hash_that_go_sum_demands() {
        let modules = provenance().modules;
        let lines = |change: fn(&str) -> String| {
            let line = |used: &ModuleUsed| match &used.content {
                ModuleContent::Own(h1) => format!("{} {} {h1}\n", used.module.path, used.module.version),
                ModuleContent::Replaced { by, h1 } => format!("{} {} {h1}\n", by.path, by.version),
                ModuleContent::Tree { .. } => String::new(),
            };
            let mut sums = GoSums::default();
            sums.add("not a line\n\nexample.com/b v2.0.0+incompatible/go.mod h1:x=\n");
            sums.add(&change(&modules.iter().map(line).collect::<String>()));
            sums.check(&modules)
        };
        assert_eq!(lines(str::to_owned), Ok(()));
        assert_eq!(lines(|text| text.replace('\n', "\r\n")), Ok(()));
        let told = lines(|text| text.lines().skip(1).collect()).unwrap_err().to_string();
        assert!(
            told.contains("example.com/b@v2.0.0+incompatible") && told.contains("nothing of it"),
            "{told}"
        );
        let told = lines(|text| text.replace("example.com/toml v1.3.1", "example.com/toml v1.3.2"));
        assert!(told.unwrap_err().to_string().contains("example.com/toml@v1.3.1"));
        let other = lines(|text| text.replacen("h1:", "h1:AAAA", 1).replacen("=\n", "", 0));
        assert!(matches!(other, Err(Disagreement::Sum { .. })), "{other:?}");
    }
}
