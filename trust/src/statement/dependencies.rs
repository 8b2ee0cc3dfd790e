//! What went into a build: the source, the toolchain and every module, as SLSA's resource descriptors.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_core::{
    build::GitOrigin,
    digest::Digest,
    golang::{h1::H1, module_path},
};

use super::{ProvenanceError, Source, wire::Descriptor};

/// The Go that built it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolchainUsed {
    /// The module `golang.org/toolchain` at a version.
    Module {
        /// The module's version, such as `v0.0.1-go1.27.3.linux-amd64`.
        version: String,
        /// The `h1:` of its zip.
        h1: H1,
        /// The SHA-256 of its zip, where the builder has kept it.
        zip: Option<Digest>,
    },
    /// A Go that was installed on the builder.
    Installed {
        /// The version that it reports, such as `go1.27.3`.
        version: String,
        /// The SHA-256 of its `go` command.
        go_command: Digest,
    },
}

/// A module and its version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleVersion {
    /// The module's path.
    pub path: String,
    /// Its version.
    pub version: String,
}

/// A module that was linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleUsed {
    /// The module as the build list names it.
    pub module: ModuleVersion,
    /// Where its files came from.
    pub content: ModuleContent,
}

/// Where a module's files came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleContent {
    /// From its own zip.
    Own(H1),
    /// From the zip of the module that replaces it.
    Replaced {
        /// That module.
        by: ModuleVersion,
        /// The `h1:` of its zip.
        h1: H1,
    },
    /// From the source tree: a `replace` by a directory, or a member of the same workspace.
    Tree {
        /// The directory as the `replace` names it; empty for a member of the workspace.
        directory: String,
    },
}

const TOOLCHAIN_MODULE: &str = "golang.org/toolchain";
const TREE_URI: &str = "meridian:tree";
const INSTALLED_URI: &str = "meridian:installed-go";
const PURL: &str = "pkg:golang/";
const H1_DIGEST: &str = "goModuleH1";
/// What cmd/go calls the version of a module that it takes from a directory.
pub(crate) const DEVEL: &str = "(devel)";

/// Everything that went in, in the one order: commit, source, toolchain, modules by name.
pub(super) fn to_descriptors(
    source: &Source,
    toolchain: &ToolchainUsed,
    modules: &[ModuleUsed],
) -> Result<Vec<Descriptor>, ProvenanceError> {
    let mut descriptors = source_descriptors(source)?;
    descriptors.push(toolchain_descriptor(toolchain)?);
    let mut modules: Vec<_> = modules.iter().collect();
    modules.sort_by(|a, b| a.module.cmp(&b.module));
    if let Some(pair) = modules.windows(2).find(|pair| pair[0].module == pair[1].module) {
        return Err(ProvenanceError::Twice(purl(&pair[1].module)));
    }
    for module in modules {
        descriptors.push(module_descriptor(module, source)?);
    }
    Ok(descriptors)
}

/// The toolchain and the modules. What the source's own descriptors say follows from the parameters, so they
/// are only counted here; that they say it is seen when the whole statement is written again.
pub(super) fn from_descriptors(
    source: &Source,
    descriptors: &[Descriptor],
) -> Result<(ToolchainUsed, Vec<ModuleUsed>), ProvenanceError> {
    let missing = || ProvenanceError::Dependency("the source or the toolchain is missing".to_owned());
    let rest = descriptors.get(source_descriptors(source)?.len()..).ok_or_else(missing)?;
    let (toolchain, modules) = rest.split_first().ok_or_else(missing)?;
    let modules = modules.iter().map(read_module).collect::<Result<_, _>>()?;
    Ok((read_toolchain(toolchain)?, modules))
}

fn source_descriptors(source: &Source) -> Result<Vec<Descriptor>, ProvenanceError> {
    match source {
        Source::Module { module, version, h1, .. } => {
            let module = ModuleVersion { path: module.clone(), version: version.clone() };
            check_module(&module)?;
            Ok(vec![Descriptor::new("source", purl(&module)).with(H1_DIGEST, h1.digest())])
        }
        Source::Tree { origin, root, .. } => {
            let commit = origin.as_ref().map(|origin| {
                let mut commit = Descriptor::new("commit", git_uri(origin));
                commit.digest.insert("gitCommit".to_owned(), origin.commit.clone());
                commit
            });
            let tree = Descriptor::new("source", TREE_URI.to_owned()).with("sha256", *root);
            Ok(commit.into_iter().chain([tree]).collect())
        }
    }
}

/// `git+https://HOST/PATH@COMMIT`; the short form `user@host:path` of ssh is written as the address it means.
fn git_uri(GitOrigin { url, commit }: &GitOrigin) -> String {
    match url.split_once(':') {
        Some((host, path)) if !url.contains("://") && !host.contains('/') => {
            format!("git+ssh://{host}/{}@{commit}", path.trim_start_matches('/'))
        }
        _ => format!("git+{url}@{commit}"),
    }
}

fn toolchain_descriptor(toolchain: &ToolchainUsed) -> Result<Descriptor, ProvenanceError> {
    match toolchain {
        ToolchainUsed::Module { version, h1, zip } => {
            let module = ModuleVersion { path: TOOLCHAIN_MODULE.to_owned(), version: version.clone() };
            check_module(&module)?;
            let descriptor = Descriptor::new("toolchain", purl(&module)).with(H1_DIGEST, h1.digest());
            Ok(zip.iter().fold(descriptor, |descriptor, zip| descriptor.with("sha256", *zip)))
        }
        ToolchainUsed::Installed { version, go_command } => {
            check_text("go version", version)?;
            let mut descriptor =
                Descriptor::new("toolchain", INSTALLED_URI.to_owned()).with("sha256", *go_command);
            descriptor.annotations.insert("version".to_owned(), version.clone());
            Ok(descriptor)
        }
    }
}

fn read_toolchain(descriptor: &Descriptor) -> Result<ToolchainUsed, ProvenanceError> {
    if descriptor.uri == INSTALLED_URI {
        let version = descriptor.annotations.get("version").cloned().unwrap_or_default();
        return Ok(ToolchainUsed::Installed { version, go_command: sha256(descriptor)? });
    }
    let module = read_purl(&descriptor.uri)?;
    let zip = descriptor.digest.contains_key("sha256").then(|| sha256(descriptor)).transpose()?;
    Ok(ToolchainUsed::Module { version: module.version, h1: h1(descriptor)?, zip })
}

fn module_descriptor(used: &ModuleUsed, source: &Source) -> Result<Descriptor, ProvenanceError> {
    let name = format!("{}@{}", used.module.path, used.module.version);
    match &used.content {
        ModuleContent::Own(h1) => {
            check_module(&used.module)?;
            Ok(Descriptor::new(&name, purl(&used.module)).with(H1_DIGEST, h1.digest()))
        }
        ModuleContent::Replaced { by, h1 } => {
            check_module(&used.module)?;
            check_module(by)?;
            if *by == used.module {
                return Err(ProvenanceError::Dependency(format!("{name} is replaced by itself")));
            }
            Ok(Descriptor::new(&name, purl(by)).with(H1_DIGEST, h1.digest()))
        }
        ModuleContent::Tree { directory } => {
            if used.module.version != DEVEL {
                check_module(&used.module)?;
            }
            check_text("directory", directory)?;
            let Source::Tree { root, .. } = source else {
                let why = format!("{name} is from a source tree, and the source is none");
                return Err(ProvenanceError::Dependency(why));
            };
            let mut descriptor = Descriptor::new(&name, TREE_URI.to_owned()).with("sha256", *root);
            descriptor.annotations.insert("directory".to_owned(), directory.clone());
            Ok(descriptor)
        }
    }
}

fn read_module(descriptor: &Descriptor) -> Result<ModuleUsed, ProvenanceError> {
    let (path, version) = descriptor.name.rsplit_once('@').ok_or_else(|| bad_uri(&descriptor.name))?;
    let module = ModuleVersion { path: path.to_owned(), version: version.to_owned() };
    if descriptor.uri == TREE_URI {
        let directory = descriptor.annotations.get("directory").cloned().unwrap_or_default();
        return Ok(ModuleUsed { module, content: ModuleContent::Tree { directory } });
    }
    let (from, h1) = (read_purl(&descriptor.uri)?, h1(descriptor)?);
    let content =
        if from == module { ModuleContent::Own(h1) } else { ModuleContent::Replaced { by: from, h1 } };
    Ok(ModuleUsed { module, content })
}

/// A package URL. Its rules would have paths in lower case, which for Go names other modules; like everybody
/// else's tools, this one keeps them. Of the characters that Go allows, only `+` must be escaped.
fn purl(ModuleVersion { path, version }: &ModuleVersion) -> String {
    format!("{PURL}{path}@{version}").replace('+', "%2B")
}

fn read_purl(uri: &str) -> Result<ModuleVersion, ProvenanceError> {
    let parts = uri.strip_prefix(PURL).and_then(|rest| rest.rsplit_once('@'));
    let (path, version) = parts.ok_or_else(|| bad_uri(uri))?;
    Ok(ModuleVersion { path: path.replace("%2B", "+"), version: version.replace("%2B", "+") })
}

fn bad_uri(text: &str) -> ProvenanceError {
    ProvenanceError::Dependency(format!("{:?} names no module", text.chars().take(200).collect::<String>()))
}

fn check_module(module: &ModuleVersion) -> Result<(), ProvenanceError> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".+-_~".contains(&b);
    let is_version = (1..=256).contains(&module.version.len()) && module.version.bytes().all(is_allowed);
    // A module that a directory replaces need not have a domain name for its first element.
    if is_version && module_path::check_import_path(&module.path).is_ok() {
        return Ok(());
    }
    Err(bad_uri(&format!("{}@{}", module.path, module.version)))
}

fn check_text(what: &'static str, text: &str) -> Result<(), ProvenanceError> {
    if text.len() <= 4096 && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ProvenanceError::Text(what))
}

fn sha256(descriptor: &Descriptor) -> Result<Digest, ProvenanceError> {
    digest(&descriptor.digest, "sha256", &descriptor.name)
}

fn h1(descriptor: &Descriptor) -> Result<H1, ProvenanceError> {
    let digest = digest(&descriptor.digest, H1_DIGEST, &descriptor.name)?;
    let text = format!("h1:{}", STANDARD.encode(digest.as_bytes()));
    text.parse().map_err(|_| bad_uri(&descriptor.name))
}

fn digest(set: &BTreeMap<String, String>, kind: &str, name: &str) -> Result<Digest, ProvenanceError> {
    set.get(kind)
        .map_or("", String::as_str)
        .parse()
        .map_err(|_| ProvenanceError::Dependency(format!("{name:?} has no {kind} digest")))
}
