//! Which Go modules a directory needs, and where the tree that holds them all begins.
//!
//! A module alone is its own tree. A module that a `go.work` above it uses brings the workspace's other
//! modules along, and the tree begins at the `go.work`. A module that replaces another by a path brings
//! that one too, and the tree begins where both are below. Only these directories are uploaded, never the
//! whole monorepo around them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

use meridian_core::golang::module_path::split_major;

/// Where a build's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSet {
    /// The root of the tree, absolute.
    pub root: PathBuf,
    /// The module that is built, absolute.
    pub module: PathBuf,
    /// The directories to take, relative to the root: `""` for the root itself.
    pub directories: BTreeSet<PathBuf>,
    /// Single files at the root that the build needs: `go.work` and `go.work.sum`.
    pub files: Vec<PathBuf>,
    /// The module's place in the tree, slash-separated; `""` for the root.
    pub work_dir: String,
    /// Whether the tree's `go.work` applies.
    pub workspace: bool,
    /// The source's place in its module as a package path: `.` or `./cmd/x`.
    pub package: String,
}

/// Why no modules could be found.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file or directory could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a directory.
    #[error("{} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// There is no module.
    #[error("no go.mod in {} or above it; `go mod init` makes one", .0.display())]
    NoModule(PathBuf),
    /// There is a workspace and no module.
    #[error(
        "{} is a workspace's directory and no module; build one of the modules that its go.work uses{}",
        directory.display(),
        used.first().map(|first| format!(", such as {first}")).unwrap_or_default()
    )]
    OnlyWorkspace {
        /// Where the `go.work` is.
        directory: PathBuf,
        /// What it uses.
        used: Vec<String>,
    },
    /// A workspace uses a module that is not below it.
    #[error("{} uses {used}, which is not below it; only modules below a go.work can be built with it (GOWORK=off builds without it)", work.display())]
    OutsideWorkspace {
        /// The `go.work`.
        work: PathBuf,
        /// What it says.
        used: String,
    },
    /// A replaced or used directory has no module.
    #[error("{} names {named}, but there is no go.mod in it", by.display())]
    Missing {
        /// The file that names it.
        by: PathBuf,
        /// What it says.
        named: String,
    },
    /// A repository whose module replaces another by a path outside it.
    #[error("{} needs a module that lies outside its repository", .0.display())]
    OutsideRepository(PathBuf),
    /// A path that the wire cannot carry.
    #[error("{} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
}

impl ModuleSet {
    /// What the module is called for short: the last word of its path. The directory's name only where the
    /// module has no path, since everybody may call his clone what he likes.
    ///
    /// # Errors
    /// When the `go.mod` cannot be read.
    pub fn name(&self) -> Result<String, ModulesError> {
        let paths = directive(&read(&self.module.join("go.mod"))?, "module");
        let directory = || self.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(paths.first().map_or_else(directory, |path| last_word(path).to_owned()))
    }
}

/// The path of the module whose `go.mod` lies in a directory.
#[must_use]
pub fn path_of(directory: &Path) -> Option<String> {
    directive(&read(&directory.join("go.mod")).ok()?, "module").into_iter().next()
}

/// The last word of a module's or package's path, without the suffix of a major version.
#[must_use]
pub fn last_word(path: &str) -> &str {
    let path = split_major(path).map_or(path, |(path, _)| path);
    path.rsplit('/').next().unwrap_or(path)
}

/// Finds what `source` needs. `gowork` is the user's `GOWORK`: `off`, a file, or nothing.
///
/// # Errors
/// When there is no module, or a file of it cannot be read.
pub fn find(source: &Path, gowork: Option<&str>) -> Result<ModuleSet, ModulesError> {
    find_within(Path::new("/"), source, gowork)
}

/// The same, never looking at or taking anything outside `boundary`: for an exported repository, whose
/// surroundings are not its own.
///
/// # Errors
/// As [`find`], and when the module needs what lies outside.
pub fn find_within(boundary: &Path, source: &Path, gowork: Option<&str>) -> Result<ModuleSet, ModulesError> {
    let set = find_unbounded(boundary, source, gowork)?;
    if !set.root.starts_with(canonical(boundary)?) {
        return Err(ModulesError::OutsideRepository(set.module));
    }
    Ok(set)
}

fn canonical(path: &Path) -> Result<PathBuf, ModulesError> {
    fs::canonicalize(path).map_err(|source| ModulesError::Read { path: path.to_owned(), source })
}

fn find_unbounded(boundary: &Path, source: &Path, gowork: Option<&str>) -> Result<ModuleSet, ModulesError> {
    let boundary = canonical(boundary)?;
    let source = canonical(source)?;
    if !source.is_dir() {
        return Err(ModulesError::NotDirectory(source));
    }
    let module = source
        .ancestors()
        .take_while(|directory| directory.starts_with(&boundary))
        .find(|directory| directory.join("go.mod").is_file())
        .map(Path::to_owned)
        .ok_or_else(|| no_module(&boundary, &source))?;
    let package = match slashed(source.strip_prefix(&module).unwrap_or(Path::new("")))? {
        below if below.is_empty() => ".".to_owned(),
        below => format!("./{below}"),
    };
    if let Some(work) = find_workspace(&boundary, &module, gowork)? {
        return in_workspace(&work, module, package);
    }
    alone(module, package)
}

fn alone(module: PathBuf, package: String) -> Result<ModuleSet, ModulesError> {
    let mut needed = BTreeSet::from([module.clone()]);
    add_replaced(&mut needed)?;
    let root = needed.iter().fold(module.clone(), |root, directory| common(&root, directory));
    let directories = relative_to(&root, &needed);
    Ok(ModuleSet {
        work_dir: slashed(module.strip_prefix(&root).unwrap_or(Path::new("")))?,
        root,
        module,
        directories,
        files: Vec::new(),
        workspace: false,
        package,
    })
}

fn in_workspace(work: &Path, module: PathBuf, package: String) -> Result<ModuleSet, ModulesError> {
    let root = work.parent().unwrap_or(Path::new("/")).to_owned();
    let text = read(work)?;
    let mut needed = BTreeSet::new();
    for used in directive(&text, "use") {
        let path = lexical(&root.join(&used));
        if !path.starts_with(&root) {
            return Err(ModulesError::OutsideWorkspace { work: work.to_owned(), used });
        }
        if !path.join("go.mod").is_file() {
            return Err(ModulesError::Missing { by: work.to_owned(), named: used });
        }
        needed.insert(path);
    }
    for replaced in replaced_paths(&text) {
        needed.insert(lexical(&root.join(replaced)));
    }
    add_replaced(&mut needed)?;
    if let Some(outside) = needed.iter().find(|path| !path.starts_with(&root)) {
        let used = outside.display().to_string();
        return Err(ModulesError::OutsideWorkspace { work: work.to_owned(), used });
    }
    let files = ["go.work", "go.work.sum"].map(PathBuf::from).into_iter();
    Ok(ModuleSet {
        work_dir: slashed(module.strip_prefix(&root).unwrap_or(Path::new("")))?,
        files: files.filter(|file| root.join(file).is_file()).collect(),
        directories: relative_to(&root, &needed),
        root,
        module,
        workspace: true,
        package,
    })
}

/// Why there is no module at `source`: a workspace alone is told apart, since it needs no `go mod init`.
fn no_module(boundary: &Path, source: &Path) -> ModulesError {
    let within = source.ancestors().take_while(|directory| directory.starts_with(boundary));
    let work = within.map(|directory| directory.join("go.work")).find_map(|file| {
        let used = directive(&read(&file).ok()?, "use");
        Some(ModulesError::OnlyWorkspace { directory: file.parent()?.to_owned(), used })
    });
    work.unwrap_or_else(|| ModulesError::NoModule(source.to_owned()))
}

/// The `go.work` that applies to `module`: one that uses it, as the Go command would find it.
fn find_workspace(
    boundary: &Path,
    module: &Path,
    gowork: Option<&str>,
) -> Result<Option<PathBuf>, ModulesError> {
    let work = match gowork {
        Some("off") => return Ok(None),
        Some(file) if !file.is_empty() => {
            let path = PathBuf::from(file);
            Some(canonical(&path)?)
        }
        _ => {
            let within = module.ancestors().take_while(|directory| directory.starts_with(boundary));
            within.map(|directory| directory.join("go.work")).find(|file| file.is_file())
        }
    };
    let Some(work) = work else { return Ok(None) };
    let root = work.parent().unwrap_or(Path::new("/"));
    let uses = directive(&read(&work)?, "use").iter().any(|used| lexical(&root.join(used)) == module);
    Ok(uses.then_some(work))
}

/// Adds the directories that the modules replace others by, and those that these replace. A module's own
/// replacements count only in the main module, so this takes at most what is needed, never less.
fn add_replaced(needed: &mut BTreeSet<PathBuf>) -> Result<(), ModulesError> {
    let mut unread: Vec<PathBuf> = needed.iter().cloned().collect();
    while let Some(module) = unread.pop() {
        let file = module.join("go.mod");
        for replaced in replaced_paths(&read(&file)?) {
            let path = lexical(&module.join(&replaced));
            if !path.join("go.mod").is_file() {
                return Err(ModulesError::Missing { by: file, named: replaced });
            }
            if needed.insert(path.clone()) {
                unread.push(path);
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, ModulesError> {
    fs::read_to_string(path).map_err(|source| ModulesError::Read { path: path.to_owned(), source })
}

/// The arguments of every `verb` line, in both forms: `verb x` and `verb ( … )`.
fn directive(text: &str, verb: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim();
        if in_block {
            if line == ")" {
                in_block = false;
            } else if !line.is_empty() {
                found.push(unquote(line));
            }
        } else if let Some(rest) = line.strip_prefix(verb) {
            let rest_trimmed = rest.trim();
            if rest_trimmed.starts_with('(') {
                in_block = true;
            } else if rest.starts_with(char::is_whitespace) {
                found.push(unquote(rest_trimmed));
            }
        }
    }
    found
}

/// The paths on the right of `=>` in replace lines.
fn replaced_paths(text: &str) -> Vec<String> {
    let targets = directive(text, "replace");
    let targets = targets.iter().filter_map(|line| line.split_once("=>")).map(|(_, new)| unquote(new.trim()));
    targets
        .filter(|new| new.starts_with("./") || new.starts_with("../") || new == "." || new == "..")
        .collect()
}

fn unquote(text: &str) -> String {
    text.trim_matches(|c| c == '"' || c == '`').to_owned()
}

/// Resolves `.` and `..` by name alone, as the Go command does.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for step in path.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

fn common(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(x, y)| x == y).map(|(x, _)| x).collect()
}

/// The directories relative to the root, without those that lie below another.
fn relative_to(root: &Path, directories: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let covered = |path: &Path| path.ancestors().skip(1).any(|above| directories.contains(above));
    let kept = directories.iter().filter(|path| !covered(path));
    kept.filter_map(|path| path.strip_prefix(root).ok()).map(Path::to_owned).collect()
}

/// A relative path with slashes, as the wire carries it.
///
/// # Errors
/// When the path is not UTF-8.
pub fn slashed(path: &Path) -> Result<String, ModulesError> {
    let steps: Option<Vec<&str>> = path.components().map(|step| step.as_os_str().to_str()).collect();
    steps.map(|steps| steps.join("/")).ok_or_else(|| ModulesError::NotUtf8(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn names(set: &ModuleSet) -> Vec<&str> {
        set.directories.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn a_module_is_called_by_the_last_word_of_its_path() {
        let check = |go_mod: &str, name: &str| {
            let dir = tree(&[("clone/go.mod", go_mod)]);
            assert_eq!(find(&dir.path().join("clone"), None).unwrap().name().unwrap(), name, "{go_mod}");
        };
        check("// The shop.\nmodule example.org/shop/web // import\n\ngo 1.22\n", "web");
        check("module \"example.org/web/v2\"\n", "web");
        check("module gopkg.in/yaml.v3\n", "yaml");
        check("module m\n", "m");
        check("go 1.22\n", "clone");
        assert_eq!(last_word("example.org/tools/cmd/x"), "x");
    }

    #[test]
    fn a_module_alone_is_its_own_tree() {
        let dir =
            tree(&[("m/go.mod", "module m\n"), ("m/cmd/x/main.go", ""), ("other/go.mod", "module o\n")]);
        let set = find(&dir.path().join("m/cmd/x"), None).unwrap();
        assert_eq!(set.root, fs::canonicalize(dir.path().join("m")).unwrap());
        assert_eq!((set.work_dir.as_str(), set.package.as_str()), ("", "./cmd/x"));
        assert_eq!(names(&set), [""]);
        assert!(!set.workspace);
    }

    #[test]
    fn a_workspace_brings_only_the_modules_that_it_uses() {
        let work = "go 1.24\n\nuse (\n\t./app // the program\n\t\"./lib\"\n)\n";
        let files =
            [("go.work", work), ("app/go.mod", "module app\n"), ("lib/go.mod", ""), ("huge/go.mod", "")];
        let dir = tree(&files);
        let set = find(&dir.path().join("app"), None).unwrap();
        assert_eq!(names(&set), ["app", "lib"]);
        assert_eq!(set.files, [PathBuf::from("go.work")]);
        assert!(set.workspace);
        assert_eq!((set.work_dir.as_str(), set.package.as_str()), ("app", "."));

        let off = find(&dir.path().join("app"), Some("off")).unwrap();
        assert!(!off.workspace);
        let unused = find(&dir.path().join("huge"), None).unwrap();
        assert!(!unused.workspace, "a module that the workspace does not use is built without it");
    }

    #[test]
    fn a_module_replaced_by_a_path_comes_along() {
        let app =
            "module app\n\nreplace example.org/lib => ../lib\nreplace a.example/b v1 => c.example/d v2\n";
        let lib = "module lib\nreplace (\n x => ./inner\n)\n";
        let dir = tree(&[
            ("r/app/go.mod", app),
            ("r/lib/go.mod", lib),
            ("r/lib/inner/go.mod", ""),
            ("r/z/go.mod", ""),
        ]);
        let set = find(&dir.path().join("r/app"), None).unwrap();
        assert_eq!(set.root, fs::canonicalize(dir.path().join("r")).unwrap());
        assert_eq!(names(&set), ["app", "lib"], "inner lies below lib");
        assert_eq!(set.work_dir, "app");
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir =
            tree(&[("a/x.go", ""), ("b/go.mod", "replace x => ../gone\n"), ("w/go.work", "use ../b\n")]);
        let message = |name: &str| find(&dir.path().join(name), None).unwrap_err().to_string();
        assert!(message("a").contains("no go.mod"));
        assert!(
            message("w").contains("no module; build one of the modules that its go.work uses, such as ../b")
        );
        assert!(message("b").contains("../gone"));
        assert!(message("a/x.go").contains("not a directory"));
        assert!(message("nowhere").contains("cannot read"));
    }

    #[test]
    fn nothing_outside_the_boundary_is_seen_or_taken() {
        let dir = tree(&[
            ("go.mod", ""),
            ("go.work", "use ./r/m\n"),
            ("lib/go.mod", ""),
            ("r/x/a.go", ""),
            ("r/m/go.mod", ""),
            ("r/b/go.mod", "replace x => ../../lib\n"),
        ]);
        let repository = dir.path().join("r");
        let within = |name: &str| find_within(&repository, &repository.join(name), None);
        assert!(matches!(within("x"), Err(ModulesError::NoModule(_))));
        assert!(!within("m").unwrap().workspace);
        assert!(matches!(within("b"), Err(ModulesError::OutsideRepository(_))));
    }

    #[test]
    fn a_workspace_that_reaches_above_itself_is_refused() {
        let dir = tree(&[("w/go.work", "use ./m\nuse ../b\n"), ("w/m/go.mod", ""), ("b/go.mod", "")]);
        let message = find(&dir.path().join("w/m"), None).unwrap_err().to_string();
        assert!(message.contains("../b") && message.contains("GOWORK=off"), "{message}");
    }
}
