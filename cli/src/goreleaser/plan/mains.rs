//! Which main packages a pattern such as `./cmd/...` names.

use crate::goreleaser::{
    config::{Build, Place},
    template::clean,
};

use super::{
    context::{Context, MainPackage},
    error::PlanError,
};

/// A package to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Main {
    /// What its executable is called; absent where the build says it.
    pub(super) name: Option<String>,
    /// The package or file, from the build's directory.
    pub(super) path: String,
    /// Whether it is one of several, each of which is its own build then.
    pub(super) is_one_of_many: bool,
}

/// The packages of a build whose `main` is rendered.
pub(super) fn mains(build: &Build, main: &str, context: &Context) -> Result<Vec<Main>, PlanError> {
    let Some(prefix) = main.strip_suffix("/...") else {
        let path = if main.is_empty() { "." } else { main };
        return Ok(vec![Main { name: None, path: path.to_owned(), is_one_of_many: false }]);
    };
    let place = build.main.as_ref().map_or_else(Place::default, |text| text.place.clone());
    let directory = build.dir.as_ref().map_or(".", |text| text.text.as_str());
    let root = clean(&format!("{directory}/{prefix}"));
    let mut packages: Vec<&MainPackage> =
        context.main_packages.iter().filter(|package| is_under(&clean(&package.directory), &root)).collect();
    packages.sort_by(|left, right| left.directory.cmp(&right.directory));
    // Of two packages with the same name GoReleaser keeps the first.
    packages.dedup_by(|next, first| next.name == first.name);
    let count = packages.len();
    if count == 0 {
        return Err(PlanError::NoMain { place, pattern: main.to_owned() });
    }
    if count > 1 {
        for (key, is_set) in [("binary", build.binary.is_some()), ("id", build.id.is_some())] {
            if is_set {
                return Err(PlanError::ManyMains { place, count, key });
            }
        }
    }
    let read = packages.into_iter().map(|package| Main {
        name: Some(package.name.clone()),
        path: relative(&clean(&package.directory), &clean(directory)),
        is_one_of_many: count > 1,
    });
    Ok(read.collect())
}

fn is_under(directory: &str, root: &str) -> bool {
    root == "." || directory == root || directory.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// A directory from another that holds it, as Go's patterns write it.
fn relative(directory: &str, from: &str) -> String {
    let rest = if from == "." { Some(directory) } else { directory.strip_prefix(from) };
    match rest.map(|rest| rest.trim_start_matches('/')) {
        Some("" | ".") => ".".to_owned(),
        Some(rest) => format!("./{rest}"),
        None => directory.to_owned(),
    }
}
