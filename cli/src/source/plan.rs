//! What is to be built, once every SOURCE on the command line is understood.

use std::path::Path;

use meridian_core::build::{GitOrigin, Source};
use meridian_store::tree::{Tree, TreeError};

use crate::{
    args::build::BuildArgs,
    build::request::SourceFacts,
    project::ProjectFile,
    source::{
        git::Git,
        grammar::{self, GitText, SourceText},
        modules::{self, ModuleSet},
        scan::scan,
        selection::{self, Listing, SelectionError},
    },
    trouble::Trouble,
};

/// One build to come.
#[derive(Debug)]
pub struct Plan {
    /// What the source says about itself.
    pub facts: SourceFacts,
    /// The project's file; all defaults for a module source, which has none of its own here.
    pub file: ProjectFile,
    /// The source.
    pub what: What,
}

/// What a plan builds.
#[derive(Debug)]
pub enum What {
    /// A package that the fleet fetches itself.
    Module {
        /// The package's import path.
        package: String,
        /// What is asked for.
        query: String,
    },
    /// Files of ours.
    Tree(Box<Files>),
}

/// Files that are uploaded.
#[derive(Debug, Clone)]
pub struct Files {
    /// Their digests.
    pub tree: Tree,
    /// The module's place in the tree.
    pub work_dir: String,
    /// Whether the tree's `go.work` applies.
    pub workspace: bool,
    /// The commit that they are.
    pub origin: Option<GitOrigin>,
}

impl Files {
    /// The source that they are, without receipts yet.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Tree {
            root: self.tree.root,
            work_dir: self.work_dir.clone(),
            workspace: self.workspace,
            origin: self.origin.clone(),
            receipts: Vec::new(),
        }
    }
}

/// Where plans are made.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The user's git.
    pub git: Git,
    /// The user's cache directory.
    pub cache: &'a Path,
    /// Where the artifacts will go, absolute and without links.
    pub out: &'a Path,
    /// The flags.
    pub args: &'a BuildArgs,
}

/// Directories of one module.
struct Directory {
    set: ModuleSet,
    packages: Vec<String>,
}

impl Planner<'_> {
    /// Understands every SOURCE and digests what is on this machine.
    ///
    /// # Errors
    /// When a SOURCE is not one, git fails, or a file cannot be read.
    pub async fn plan(&self) -> Result<Vec<Plan>, Trouble> {
        let default = [".".to_owned()];
        let sources = if self.args.sources.is_empty() { &default[..] } else { &self.args.sources };
        let mut plans = Vec::new();
        let mut directories: Vec<Directory> = Vec::new();
        for text in sources {
            match grammar::parse(text, Path::exists).map_err(Trouble::usage)? {
                SourceText::Path(path) => add_directory(&mut directories, &path)?,
                SourceText::Git(text) => plans.push(self.repository(&text).await?),
                SourceText::Module { package, query } => plans.push(module(package, query)),
            }
        }
        for directory in directories {
            plans.push(self.directory(directory).await?);
        }
        Ok(plans)
    }

    async fn directory(&self, directory: Directory) -> Result<Plan, Trouble> {
        let Directory { set, packages } = directory;
        let file = ProjectFile::load(&set.module).map_err(Trouble::usage)?;
        let wants_version = self.args.version.is_none() && file.version.is_none();
        let select = selection::select(&self.git, &set, Listing::WorkTree, &file.include, Some(self.out));
        let describe = async { if wants_version { self.git.describe(&set.module).await } else { None } };
        let (selected, described) = tokio::join!(select, describe);
        let tree =
            scan(&set, selected.map_err(selection_trouble)?, self.cache).await.map_err(tree_trouble)?;
        let commit = self.commit(&file, &set.module).await?;
        let facts = SourceFacts { commit, ..facts(&set, packages, described, &tree)? };
        Ok(Plan { facts, file, what: files(set, tree, None) })
    }

    /// The work tree's own commit, when a stamp wants it. The fleet knows only the files, so the client
    /// has to say it.
    async fn commit(&self, file: &ProjectFile, module: &Path) -> Result<Option<String>, Trouble> {
        let wants = |value: &String| value.contains("{commit}");
        if !file.flags.stamps.values().any(wants) && !self.args.stamps.iter().any(wants) {
            return Ok(None);
        }
        let no_commit = || {
            Trouble::usage(format_args!(
                "a stamp says {{commit}}, but {} is at no git commit",
                module.display()
            ))
        };
        self.git.head(module).await.ok_or_else(no_commit).map(Some)
    }

    async fn repository(&self, text: &GitText) -> Result<Plan, Trouble> {
        let checkout =
            self.git.checkout(text, &self.cache.join("git")).await.map_err(|error| {
                if error.is_users() { Trouble::usage(error) } else { Trouble::broken(error) }
            })?;
        let source = checkout.directory.join(&text.directory);
        if !source.is_dir() {
            let message = format_args!("{} has no directory {:?}", checkout.url, text.directory);
            return Err(Trouble::usage(message));
        }
        let set = modules::find_within(&checkout.directory, &source, None).map_err(Trouble::usage)?;
        let file = ProjectFile::load(&set.module).map_err(Trouble::usage)?;
        // An export is never the place that artifacts go to.
        let selected = selection::select(&self.git, &set, Listing::Everything, &file.include, None).await;
        let tree =
            scan(&set, selected.map_err(selection_trouble)?, self.cache).await.map_err(tree_trouble)?;
        let packages = vec![set.package.clone()];
        let facts = facts(&set, packages, Some(checkout.version), &tree)?;
        let origin = GitOrigin { url: checkout.url, commit: checkout.commit };
        Ok(Plan { facts, file, what: files(set, tree, Some(origin)) })
    }
}

fn add_directory(directories: &mut Vec<Directory>, path: &Path) -> Result<(), Trouble> {
    let gowork = std::env::var("GOWORK").ok();
    let set = modules::find(path, gowork.as_deref()).map_err(Trouble::usage)?;
    match directories.iter_mut().find(|known| known.set.module == set.module) {
        Some(known) => known.packages.push(set.package),
        None => directories.push(Directory { packages: vec![set.package.clone()], set }),
    }
    Ok(())
}

fn module(package: String, query: String) -> Plan {
    let default_project = modules::last_word(&package).to_owned();
    // The resolved version is used in names; it is not known yet.
    let packages = vec![".".to_owned()];
    let facts = SourceFacts { packages, version: String::new(), commit: None, default_project };
    Plan { facts, file: ProjectFile::default(), what: What::Module { package, query } }
}

fn facts(
    set: &ModuleSet,
    packages: Vec<String>,
    version: Option<String>,
    tree: &Tree,
) -> Result<SourceFacts, Trouble> {
    Ok(SourceFacts {
        packages,
        version: version.unwrap_or_else(|| format!("0.0.0-{}", &tree.root.to_hex()[..12])),
        commit: None,
        default_project: set.name().map_err(Trouble::usage)?,
    })
}

pub(crate) fn selection_trouble(error: SelectionError) -> Trouble {
    let is_out = matches!(error, SelectionError::OutputAbove { .. } | SelectionError::OutputAmong { .. });
    let trouble = Trouble::usage(error);
    if is_out { trouble.hint("choose a directory of its own with --out, such as dist") } else { trouble }
}

/// A tree that is too large is well-formed all the same: it is declined, not mistyped.
pub(crate) fn tree_trouble(error: TreeError) -> Trouble {
    match error {
        TreeError::File { .. } | TreeError::Limit { .. } => {
            Trouble::refused(format_args!("the source is too large: {error}"))
                .hint("keep out of it what the build does not need: what git ignores is not taken")
        }
        error => Trouble::usage(error),
    }
}

fn files(set: ModuleSet, tree: Tree, origin: Option<GitOrigin>) -> What {
    What::Tree(Box::new(Files { tree, work_dir: set.work_dir, workspace: set.workspace, origin }))
}
