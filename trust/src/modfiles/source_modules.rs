//! All that a source tree says of its modules, and the comparison with what was linked.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    directives::{Directives, Replace},
    sums::GoSums,
    vendored::Vendored,
};
use crate::{
    agreement::{Disagreement, same},
    executable::BuildInfo,
    statement::{DEVEL, ModuleContent, ModuleUsed, ModuleVersion},
};

/// Most bytes of one of these files that are read.
pub const FILE_LEN_MAX: usize = 16 << 20;
/// Most bytes of all these files of a tree together: a repository of a thousand modules stays far below it.
pub const FILES_LEN_MAX: u64 = 64 << 20;

const GO_MOD: &str = "go.mod";
const GO_SUM: &str = "go.sum";
const GO_WORK: &str = "go.work";
const GO_WORK_SUM: &str = "go.work.sum";
const VENDORED: &str = "vendor/modules.txt";

/// Whether a file of the tree says something of its modules. Directories are separated by `/`.
#[must_use]
pub fn is_wanted(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    matches!(name, GO_MOD | GO_SUM)
        || matches!(path, GO_WORK | GO_WORK_SUM)
        || path.strip_suffix(VENDORED).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// What a source tree says of its modules, as far as it counts for what is built.
#[derive(Debug, Clone, Default)]
pub struct SourceModules {
    /// Where the build is asked for.
    work_dir: String,
    /// The directory that relative replacements in an executable's build info start from.
    base: String,
    /// The module in each directory that has a `go.mod`.
    modules: BTreeMap<String, String>,
    /// The modules of the workspace, or the one that is built: by path.
    members: BTreeSet<String>,
    /// The replacements that count, each with the directory of the file that says it.
    replaces: Vec<(String, Replace)>,
    sums: GoSums,
    vendored: Vendored,
}

impl SourceModules {
    /// Reads a tree's files, of which those that [`is_wanted`] are needed. `work_dir` is where the module lies, and
    /// `workspace` says whether a `go.work` at the root applies.
    #[must_use]
    pub fn read(files: &BTreeMap<String, String>, work_dir: &str, workspace: bool) -> Self {
        let mut found = Self { work_dir: work_dir.to_owned(), ..Self::default() };
        for (path, text) in files {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == GO_MOD {
                found.modules.extend(Directives::read(text).module.map(|path| (directory.to_owned(), path)));
            }
        }
        let file = |directory: &str, name: &str| files.get(&below(directory, name)).map(String::as_str);
        let mut counted = Vec::new();
        if let Some(work) = file("", GO_WORK).filter(|_| workspace).map(Directives::read) {
            counted.extend(work.uses.iter().filter_map(|used| resolve("", used)));
            found.replaces.extend(work.replaces.into_iter().map(|replace| (String::new(), replace)));
            found.sums.add(file("", GO_WORK_SUM).unwrap_or_default());
        } else if let Some(module) = nearest(&found.modules, work_dir) {
            found.base = module.to_owned();
            counted.push(module.to_owned());
        }
        for directory in counted {
            found.members.extend(found.modules.get(&directory).cloned());
            found.sums.add(file(&directory, GO_SUM).unwrap_or_default());
            let said = Directives::read(file(&directory, GO_MOD).unwrap_or_default()).replaces;
            found.replaces.extend(said.into_iter().map(|replace| (directory.clone(), replace)));
        }
        found.vendored.add(file(&found.base, VENDORED).unwrap_or_default());
        found
    }

    /// Whether each module that was linked is the one that the source demands.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self, modules: &[ModuleUsed]) -> Result<(), Disagreement> {
        modules.iter().try_for_each(|used| self.check_one(used))
    }

    fn check_one(&self, used: &ModuleUsed) -> Result<(), Disagreement> {
        let ModuleUsed { module, content } = used;
        let (named, found) = match content {
            ModuleContent::Own(h1) => (module, h1),
            ModuleContent::Replaced { by, h1 } => {
                if !self.replaces_by_module(module, by) {
                    let by = format!("{}@{}", by.path, by.version);
                    return Err(Disagreement::Replacement { module: name(module), by });
                }
                (by, h1)
            }
            ModuleContent::Tree { directory } if self.is_in_tree(module, directory) => return Ok(()),
            ModuleContent::Tree { directory } => {
                return Err(Disagreement::NotInTree { module: name(module), directory: directory.clone() });
            }
        };
        let known = self.sums.of(named);
        if known.contains(found) {
            return Ok(());
        }
        Err(Disagreement::Sum {
            module: name(named),
            found: found.to_string(),
            wanted: known.first().map_or_else(|| "nothing of it".to_owned(), ToString::to_string),
        })
    }

    fn replaces_by_module(&self, module: &ModuleVersion, by: &ModuleVersion) -> bool {
        self.replaces.iter().any(|(_, replace)| {
            replace.counts_for(module)
                && replace.by == by.path
                && replace.by_version.as_deref() == Some(by.version.as_str())
        })
    }

    /// Whether a module without a hash is one whose files lie in the tree.
    fn is_in_tree(&self, module: &ModuleVersion, directory: &str) -> bool {
        if self.vendored.holds(&module.path, &module.version, directory) {
            return true;
        }
        if directory.is_empty() {
            return module.version == DEVEL && self.members.contains(&module.path);
        }
        let Some(named) = resolve(&self.base, directory) else { return false };
        // cmd/go takes no directory without a go.mod; so what is not in the tree is not taken either.
        self.modules.contains_key(&named)
            && self.replaces.iter().any(|(from, replace)| {
                replace.counts_for(module)
                    && replace.by_version.is_none()
                    && resolve(from, &replace.by).as_ref() == Some(&named)
            })
    }

    /// Whether an executable is the program in `package`, a directory relative to where the build was asked for.
    ///
    /// # Errors
    /// When it is another program, or says that it has a version, which nothing in a tree has.
    pub fn check_main(&self, package: &str, info: &BuildInfo) -> Result<(), Disagreement> {
        let directory = resolve(&self.work_dir, package).unwrap_or_default();
        let module = nearest(&self.modules, &directory).unwrap_or_default();
        let own = self.modules.get(module).map(String::as_str).unwrap_or_default();
        // Of a module that replaces another the executable names the other.
        let replaced = self.replaces.iter().find(|(from, replace)| {
            replace.by_version.is_none()
                && resolve(from, &replace.by).as_deref() == Some(module)
                && !self.members.contains(own)
        });
        let path = replaced.map_or(own, |(_, replace)| &replace.path);
        let rest = directory.strip_prefix(module).unwrap_or_default().trim_start_matches('/');
        same("the main package", &info.path, &below(path, rest))?;
        let main = info.main.clone().unwrap_or_default();
        same("the main module", &main.path, path)?;
        if replaced.is_none() && main.version != DEVEL {
            same("the main module's version", &main.version, "")?;
        }
        same("the main module's hash", &main.sum, "")
    }
}

impl Replace {
    fn counts_for(&self, module: &ModuleVersion) -> bool {
        self.path == module.path && self.version.as_ref().is_none_or(|version| *version == module.version)
    }
}

fn name(module: &ModuleVersion) -> String {
    format!("{}@{}", module.path, module.version)
}

/// `directory/rest`, where either may be empty.
fn below(directory: &str, rest: &str) -> String {
    match (directory, rest) {
        ("", rest) => rest.to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, rest) => format!("{directory}/{rest}"),
    }
}

/// Where `path`, as written in a file of `directory`, leads to in the tree; `None` outside of it.
fn resolve(directory: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The directory at or above `directory` in which the next module lies.
fn nearest<'a>(modules: &'a BTreeMap<String, String>, directory: &str) -> Option<&'a str> {
    let mut at = directory;
    loop {
        if let Some((found, _)) = modules.get_key_value(at) {
            return Some(found);
        }
        if at.is_empty() {
            return None;
        }
        at = at.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

#[cfg(test)]
#[path = "source_modules_tests.rs"]
mod tests;
