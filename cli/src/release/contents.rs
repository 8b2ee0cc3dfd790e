//! What goes into an archive: executables that were verified, and files of the project that patterns name.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    goreleaser::{
        plan::{Part, PlannedArchive, PlannedFile},
        template::{base, clean, dir},
    },
    release::{
        archive::Entry,
        glob::{self, GlobError},
    },
};

/// Why an archive has no contents.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A pattern is wrong.
    #[error("the archive {archive}: {source}")]
    Glob {
        /// Which archive.
        archive: String,
        /// Why.
        source: GlobError,
    },
    /// A pattern matches nothing.
    #[error("the archive {archive}: no file matches {pattern:?}")]
    Nothing {
        /// Which archive.
        archive: String,
        /// The pattern.
        pattern: String,
    },
    /// A path in the archive would lead out of where it is unpacked.
    #[error("the archive {archive}: the path {path:?} in it would leave the directory it is unpacked in")]
    Outside {
        /// Which archive.
        archive: String,
        /// The path.
        path: String,
    },
    /// Two files want one path.
    #[error("the archive {archive}: {first} and {second} would both be {path:?} in it")]
    Twice {
        /// Which archive.
        archive: String,
        /// The path.
        path: String,
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// A link that leads out of the project, or to a directory.
    #[error("the archive {archive}: {path} is a link to {what}")]
    Link {
        /// Which archive.
        archive: String,
        /// The link.
        path: String,
        /// Where it leads.
        what: &'static str,
    },
    /// A file cannot be read.
    #[error("the archive {archive}: cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which archive.
        archive: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where an archive's contents come from.
pub struct Origin<'a> {
    /// The project's directory.
    pub project: &'a Path,
    /// Where everything goes, from which patterns take nothing.
    pub out: &'a Path,
    /// Where an executable lies.
    pub executable: &'a dyn Fn(Part) -> PathBuf,
}

/// The entries of an archive, sorted by their paths in it.
///
/// # Errors
/// When a pattern is wrong or matches nothing, a path would leave the archive or is taken, or a file cannot be read.
pub fn entries(origin: &Origin<'_>, archive: &PlannedArchive) -> Result<Vec<Entry>, ContentError> {
    let mut found = Found { archive, entries: BTreeMap::new() };
    for file in &archive.files {
        let glob = |source| ContentError::Glob { archive: archive.name.clone(), source };
        let paths = glob::files(origin.project, &file.pattern, origin.out).map_err(glob)?;
        if paths.is_empty() && !file.is_default {
            return Err(ContentError::Nothing {
                archive: archive.name.clone(),
                pattern: file.pattern.clone(),
            });
        }
        let prefix = prefix(origin.project, &paths);
        for path in &paths {
            let (content, is_executable) = found.read(origin.project, path)?;
            found.add(&destination(file, &prefix, path), content, is_executable)?;
        }
    }
    for (part, name) in &archive.binaries {
        found.add(name, (origin.executable)(*part), true)?;
    }
    Ok(found.entries.into_values().collect())
}

struct Found<'a> {
    archive: &'a PlannedArchive,
    entries: BTreeMap<String, Entry>,
}

impl Found<'_> {
    /// A file of the project, links followed as long as they stay in it; and whether it is executable.
    fn read(&self, project: &Path, path: &str) -> Result<(PathBuf, bool), ContentError> {
        let absolute = project.join(path);
        let failed = |source| ContentError::Read {
            archive: self.archive.name.clone(),
            path: absolute.clone(),
            source,
        };
        let link =
            |what| ContentError::Link { archive: self.archive.name.clone(), path: path.to_owned(), what };
        let real = fs::canonicalize(&absolute).map_err(failed)?;
        if !real.starts_with(project) {
            return Err(link("something outside of the project"));
        }
        let metadata = fs::metadata(&real).map_err(failed)?;
        if !metadata.is_file() {
            return Err(link("something that is no file"));
        }
        Ok((real, metadata.permissions().mode() & 0o111 != 0))
    }

    fn add(&mut self, path: &str, content: PathBuf, is_executable: bool) -> Result<(), ContentError> {
        let cleaned = place(self.archive, path)?;
        let entry = Entry { path: cleaned.clone(), content, is_executable };
        match self.entries.get(&cleaned) {
            Some(known) if known.content == entry.content => Ok(()),
            Some(known) => Err(ContentError::Twice {
                archive: self.archive.name.clone(),
                path: cleaned,
                first: known.content.display().to_string(),
                second: entry.content.display().to_string(),
            }),
            None => {
                self.entries.insert(cleaned, entry);
                Ok(())
            }
        }
    }
}

/// Checks what can be judged before anything is built: that no pattern and no path leaves where it belongs.
///
/// # Errors
/// The first that does.
pub fn check(archive: &PlannedArchive) -> Result<(), ContentError> {
    for file in &archive.files {
        let glob = |source| ContentError::Glob { archive: archive.name.clone(), source };
        glob::check(&file.pattern).map_err(glob)?;
        place(archive, &destination(file, "", "file"))?;
    }
    archive.binaries.iter().try_for_each(|(_, name)| place(archive, name).map(drop))
}

/// A path with the directory that everything in the archive lies in.
fn place(archive: &PlannedArchive, path: &str) -> Result<String, ContentError> {
    let wrapped = match archive.wrap_in.as_str() {
        "" => path.to_owned(),
        directory => format!("{directory}/{path}"),
    };
    let is_step = |step: &str| !matches!(step, "" | "." | "..");
    let is_plain = |c: char| c != '\\' && !c.is_control();
    let cleaned = clean(&wrapped);
    // Judged as written: what is cleaned away in one unpacker is followed in another.
    let climbs = wrapped.split('/').any(|step| step == "..") || wrapped.starts_with('/');
    if climbs || !cleaned.split('/').all(is_step) || !cleaned.chars().all(is_plain) {
        return Err(ContentError::Outside { archive: archive.name.clone(), path: wrapped });
    }
    Ok(cleaned)
}

/// Where a file goes in the archive, by GoReleaser's rules.
fn destination(file: &PlannedFile, prefix: &str, path: &str) -> String {
    let joined = |below: &str| match file.destination.as_str() {
        "" => below.to_owned(),
        directory => format!("{}/{below}", directory.trim_end_matches('/')),
    };
    if file.strips_parent {
        return joined(&base(path));
    }
    if file.destination.is_empty() {
        return path.to_owned();
    }
    match path.strip_prefix(prefix).map(|below| below.trim_start_matches('/')) {
        // One file becomes what `dst` says.
        Some("") => file.destination.trim_end_matches('/').to_owned(),
        Some(below) if prefix != "." => joined(below),
        _ => joined(path),
    }
}

/// What all paths begin with, as whole steps; the path itself where there is one only.
fn prefix(project: &Path, paths: &[String]) -> String {
    let Some(first) = paths.first() else { return String::new() };
    let shared = paths.iter().skip(1).fold(first.as_str(), |shared, path| {
        let same = shared.char_indices().zip(path.chars()).find(|((_, a), b)| a != b);
        &shared[..same.map_or(shared.len().min(path.len()), |((at, _), _)| at)]
    });
    let shared = shared.trim_end_matches('/');
    if !shared.is_empty() && project.join(shared).exists() { shared.to_owned() } else { dir(shared) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn file(pattern: &str, destination: &str, strips_parent: bool) -> PlannedFile {
        PlannedFile {
            pattern: pattern.to_owned(),
            destination: destination.to_owned(),
            strips_parent,
            is_default: false,
        }
    }

    fn archive(files: Vec<PlannedFile>, wrap_in: &str) -> PlannedArchive {
        PlannedArchive {
            id: "default".to_owned(),
            name: "x.tar.gz".to_owned(),
            format: "tar.gz".to_owned(),
            binaries: vec![(Part::Build(0), "tool".to_owned())],
            wrap_in: wrap_in.to_owned(),
            files,
        }
    }

    fn project() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        for path in ["README.md", "docs/a.md", "docs/deep/b.md", "built/tool"] {
            fs::create_dir_all(real.join(path).parent().unwrap()).unwrap();
            fs::write(real.join(path), path).unwrap();
        }
        fs::write(real.join("run.sh"), "").unwrap();
        fs::set_permissions(real.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        (dir, real)
    }

    fn paths(project: &Path, archive: &PlannedArchive) -> Result<Vec<String>, ContentError> {
        let executable = |_| project.join("built/tool");
        let origin = Origin { project, out: &project.join("dist"), executable: &executable };
        let entries = entries(&origin, archive)?;
        let text = |entry: Entry| format!("{}{}", entry.path, if entry.is_executable { "*" } else { "" });
        Ok(entries.into_iter().map(text).collect())
    }

    #[test]
    fn files_go_where_goreleaser_puts_them() {
        let (_keep, project) = project();
        for (files, wrap_in, expected) in [
            (vec![file("README.md", "", false)], "", vec!["README.md", "tool*"]),
            (vec![file("README.md", "", false)], "w", vec!["w/README.md", "w/tool*"]),
            (vec![file("docs", "", false)], "", vec!["docs/a.md", "docs/deep/b.md", "tool*"]),
            (vec![file("docs/*", "man", false)], "", vec!["man/a.md", "man/deep/b.md", "tool*"]),
            (vec![file("docs/**.md", "man", true)], "", vec!["man/a.md", "man/b.md", "tool*"]),
            (vec![file("docs/a.md", "guide.md", false)], "", vec!["guide.md", "tool*"]),
            (vec![file("docs/a.md", "guide/", true)], "", vec!["guide/a.md", "tool*"]),
            (vec![file("run.sh", "", false)], "", vec!["run.sh*", "tool*"]),
            (
                vec![file("docs", "", false), file("docs/a.md", "", false)],
                "",
                vec!["docs/a.md", "docs/deep/b.md", "tool*"],
            ),
        ] {
            assert_eq!(paths(&project, &archive(files.clone(), wrap_in)).unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn what_would_leave_the_archive_or_the_project_is_refused() {
        let (_keep, project) = project();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "").unwrap();
        symlink(outside.path().join("secret"), project.join("out.md")).unwrap();
        symlink("docs", project.join("dir.md")).unwrap();
        symlink("README.md", project.join("fine.md")).unwrap();
        let refused = |files: Vec<PlannedFile>, wrap_in: &str| {
            paths(&project, &archive(files, wrap_in)).unwrap_err().to_string()
        };
        assert!(refused(vec![file("out.md", "", false)], "").contains("outside of the project"));
        assert!(refused(vec![file("dir.md", "", false)], "").contains("no file"));
        assert!(refused(vec![file("../x", "", false)], "").contains("leaves the project"));
        assert!(refused(vec![file("none*", "", false)], "").contains("no file matches \"none*\""));
        for (destination, wrap_in) in
            [("../up", ""), ("/etc", ""), ("a/../../b", ""), ("ok", "../w"), ("ok", "/w"), ("a\\b", "")]
        {
            let told = refused(vec![file("README.md", destination, false)], wrap_in);
            assert!(told.contains("would leave the directory"), "{destination} {wrap_in}: {told}");
        }
        assert!(refused(vec![file("README.md", "tool", false)], "").contains("would both be \"tool\""));
        assert_eq!(
            paths(&project, &archive(vec![file("fine.md", "", false)], "")).unwrap(),
            ["fine.md", "tool*"]
        );
    }
}
