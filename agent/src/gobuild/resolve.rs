//! Finds the module and version that `package@query` means.

use std::path::Path;

use meridian_core::{
    build::{Resolution, Source},
    digest::Digest,
    golang::{module_path::check_import_path, semver},
    machine::{
        effect::Work,
        input::{Failure, FailureKind, Phase, Progress},
    },
};
use tracing::Instrument as _;

use super::{
    builder::{GoBuilder, Task},
    classify::{self, Stage},
    lineage,
    request::Run,
};
use crate::{process::Exit, spans::step_span, toolchain::ToolchainRef};

/// One answer of `go list -m -json`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    path: String,
    #[serde(default)]
    version: String,
    error: Option<ListedError>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedError {
    err: String,
}

/// The answer of `go mod download -json`.
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Downloaded {
    dir: String,
    sum: String,
    /// What went wrong: with `-json` it stands here and nowhere else.
    error: String,
}

/// What is remembered of a resolution.
#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    module: String,
    version: String,
    sum: String,
}

impl GoBuilder {
    /// Finds the module and version that the work's source means, by the toolchain's own `go`. A full version
    /// means the same for ever and is remembered.
    ///
    /// # Errors
    /// In the proxy's own words when there is no such module, version or package.
    pub async fn resolve(&self, work: &Work, run: Run<'_>) -> Result<Resolution, Failure> {
        let Source::Module { package, query } = &work.spec.source else {
            return Err(classify::request("only package@version is resolved", ""));
        };
        check_import_path(package)
            .map_err(|error| classify::request(error.to_string(), "check the package path"))?;
        if query.is_empty() || query.starts_with('-') || query.contains(char::is_whitespace) {
            return Err(classify::request(
                format!("{query:?} is not a version query"),
                "such as latest or v1.2.3",
            ));
        }
        let key = Digest::of(format!("resolve {package}@{query} {}", self.go.proxy).as_bytes());
        let is_fixed = semver::canonical(query).as_ref() == Some(query);
        if is_fixed && let Some(Note { module, version, sum }) = self.notes.get(key) {
            return Ok(Resolution { module, version, sum });
        }
        let toolchain = self.traced_toolchain(work, run).await?;
        let task = self.task(&work.task.build.project.team)?;
        let detail = format!("{package}@{query}");
        (run.progress)(Progress { phase: Phase::Modules, done: 0, total: 0, detail });
        let span = step_span(Phase::Modules, work, run.fence);
        let found = self.find_module(&toolchain, &task, package, query, run).instrument(span).await?;
        if is_fixed {
            let Resolution { module, version, sum } = found.clone();
            self.notes.put(key, &Note { module, version, sum });
        }
        Ok(found)
    }

    /// Asks the proxies first, by themselves: that is quick, and what they say of an unknown module is worth
    /// more than what a look for its repository ends with.
    async fn find_module(
        &self,
        toolchain: &ToolchainRef,
        task: &Task,
        package: &str,
        query: &str,
        run: Run<'_>,
    ) -> Result<Resolution, Failure> {
        let mut worst: Option<Failure> = None;
        let mut is_known_missing = true;
        for round in self.go.proxy.rounds() {
            if round.is_last_resort && !is_known_missing {
                continue;
            }
            let failure = match self.find_with(toolchain, task, (package, query), &round.list, run).await {
                Err(failure) if failure.kind != FailureKind::Lost => failure,
                ended => return ended,
            };
            let kind = failure.kind;
            is_known_missing = kind == FailureKind::Modules;
            // A place that could not answer may be the one that has it.
            let says_more = kind.is_retried() && !round.is_last_resort && round.list != "direct";
            match &worst {
                Some(worst) if worst.kind.is_retried() || !says_more => {}
                _ => worst = Some(failure),
            }
        }
        Err(worst.unwrap_or_else(|| classify::infrastructure("GOPROXY names no place to ask".to_owned())))
    }

    async fn find_with(
        &self,
        toolchain: &ToolchainRef,
        task: &Task,
        (package, query): (&str, &str),
        proxy: &str,
        run: Run<'_>,
    ) -> Result<Resolution, Failure> {
        let mut args = vec!["list".into(), "-m".into(), "-e".into(), "-json".into()];
        args.extend(prefixes(package).map(|path| format!("{path}@{query}").into()));
        let mut command = self.network_command(toolchain, task, Stage::Resolve, args);
        lineage::set(&mut command.env, "GOPROXY", proxy);
        let said = command.run(run, &mut |_| true).await.map_err(|(failure, _)| failure)?;
        let answers: Result<Vec<Listed>, _> = serde_json::Deserializer::from_str(&said).into_iter().collect();
        let answers = answers
            .map_err(|error| classify::infrastructure(format!("go list -m -json cannot be read: {error}")))?;
        let mut empty_handed = None;
        for answer in &answers {
            if let Some(error) = &answer.error {
                // Whoever cannot answer now may be the one that has it: a shorter path must not win by that.
                let failure =
                    classify::classify(Stage::Resolve, Exit::Code(1), &format!("go: {}", error.err));
                if failure.kind.is_retried() {
                    return Err(failure);
                }
                continue;
            }
            if answer.version.is_empty() {
                continue;
            }
            let downloaded = self.download_module(toolchain, task, answer, run).await?;
            let Listed { path, version, .. } = answer;
            if has_package(&downloaded.dir, path, package) {
                let (module, version) = (path.clone(), version.clone());
                return Ok(Resolution { module, version, sum: downloaded.sum });
            }
            empty_handed.get_or_insert_with(|| {
                format!("module {path}@{version} found, but does not contain package {package}")
            });
        }
        let words = empty_handed.or_else(|| best_words(&answers)).unwrap_or_else(|| "not found".into());
        Err(classify::classify(Stage::Resolve, Exit::Code(1), &format!("go: {package}@{query}: {words}")))
    }

    async fn download_module(
        &self,
        toolchain: &ToolchainRef,
        task: &Task,
        found: &Listed,
        run: Run<'_>,
    ) -> Result<Downloaded, Failure> {
        let module = format!("{}@{}", found.path, found.version);
        let args = vec!["mod".into(), "download".into(), "-json".into(), module.clone().into()];
        let command = self.network_command(toolchain, task, Stage::Resolve, args);
        let ended = command.run_to_end(run, &mut |_| true).await?;
        let told = serde_json::from_str::<Downloaded>(&ended.stdout);
        if ended.exit.is_success() {
            return told.map_err(|error| {
                classify::infrastructure(format!("go mod download -json cannot be read: {error}"))
            });
        }
        match told {
            Ok(Downloaded { error, .. }) if !error.is_empty() => {
                let error = command.cleaned(&error);
                let words = if error.contains(&module) { error } else { format!("{module}: {error}") };
                Err(classify::classify(Stage::Resolve, ended.exit, &format!("go: {words}")))
            }
            _ => Err(command.failure_of(&ended)),
        }
    }
}

/// The paths that could be the package's module, longest first.
fn prefixes(package: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(package), |path| path.rsplit_once('/').map(|(shorter, _)| shorter))
}

/// Whether the module that lies in `dir` has Go files in the package's directory.
fn has_package(dir: &str, module: &str, package: &str) -> bool {
    let below = package.strip_prefix(module).unwrap_or("").trim_start_matches('/');
    let files = std::fs::read_dir(Path::new(dir).join(below));
    files.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".go") && !name.ends_with("_test.go")
    })
}

/// The words that say most: of a module that exists without this version, else of the longest path.
fn best_words(answers: &[Listed]) -> Option<String> {
    let words = || answers.iter().filter_map(|answer| answer.error.as_ref()).map(|error| &error.err);
    let telling = |text: &&String| text.contains("unknown revision") || text.contains("no matching versions");
    words().find(telling).or_else(|| words().next()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_a_candidate_and_the_longest_comes_first() {
        let paths: Vec<_> = prefixes("a.test/b/c").collect();
        assert_eq!(paths, ["a.test/b/c", "a.test/b", "a.test"]);
    }

    #[test]
    fn a_package_of_tests_only_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cmd/x");
        std::fs::create_dir_all(&place).unwrap();
        let text = dir.path().display().to_string();
        std::fs::write(place.join("x_test.go"), "").unwrap();
        assert!(!has_package(&text, "a.test/m", "a.test/m/cmd/x"));
        std::fs::write(place.join("x.go"), "").unwrap();
        assert!(has_package(&text, "a.test/m", "a.test/m/cmd/x"));
        assert!(!has_package(&text, "a.test/m", "a.test/m"));
    }
}
