//! What names and flags depend on beside the configuration: git, the module, the machine, the time.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use meridian_core::time::Wall;

use crate::{
    args::release::{ReleaseArgs, Skip},
    build::request::host_platform,
    goreleaser::{
        config::Config,
        plan::{Context, DIST, GitFacts},
    },
    out_dir::OutDir,
    release::mains,
    source::{credentials::without_credentials, git::Git, modules},
    trouble::Trouble,
};

/// How long a question to git may take.
const ASK_MAX: Duration = Duration::from_secs(60);
/// How many changed files are named.
const CHANGES_SHOWN: usize = 10;

/// The facts, and what is only of interest to whoever makes the release.
#[derive(Debug)]
pub struct Facts {
    /// What the plan is made from.
    pub context: Context,
    /// The date that everything packed carries, in seconds since the Unix epoch.
    pub seconds: i64,
}

/// Collects the facts of a project.
///
/// # Errors
/// When a release is wanted and the tree is not clean or its commit has no tag, or git cannot be asked.
pub async fn gather(
    git: &Git,
    directory: &Path,
    config: &Config,
    args: &ReleaseArgs,
) -> Result<Facts, Trouble> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let dist = config.dist.as_ref().map_or(DIST, |dist| dist.text.as_str());
    let found = Asker { git, directory, env: &env }.facts(&directory.join(dist)).await?;
    let is_dirty = found.as_ref().is_some_and(|found| !found.changes.is_empty());
    let is_snapshot = args.snapshot || (args.auto_snapshot && is_dirty);
    if !is_snapshot && !args.skips(Skip::Validate) {
        validate(directory, found.as_ref())?;
    }
    let seconds = seconds(&env, found.as_ref().map(|found| found.git.commit_seconds))?;
    let host = host_platform().map_err(Trouble::usage)?;
    let module_path = modules::path_of(directory);
    let context = Context {
        directory: directory.to_owned(),
        main_packages: mains::find(directory, module_path.as_deref(), config),
        module_path,
        cargo_name: cargo_name(directory),
        remote_name: found.as_ref().and_then(|found| repository_name(&found.git.url)),
        git: found.map(|found| found.git),
        env,
        now: Wall(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)),
        host: (host.os.to_string(), host.arch.to_string()),
        is_snapshot,
        single_target: args.single_target,
    };
    Ok(Facts { context, seconds })
}

/// What git said.
#[derive(Debug)]
struct Found {
    git: GitFacts,
    /// Whether the tag is the commit's own.
    is_tagged: bool,
    /// `git status --porcelain`, line by line, without what earlier releases left.
    changes: Vec<String>,
}

fn validate(directory: &Path, found: Option<&Found>) -> Result<(), Trouble> {
    let hint = "make a snapshot with --snapshot, which needs neither a tag nor a clean tree";
    let Some(Found { git, is_tagged, changes }) = found else {
        let words = format_args!("{} is at no commit of a git repository", directory.display());
        return Err(Trouble::usage(words).hint(hint));
    };
    if !changes.is_empty() {
        let shown: Vec<&str> = changes.iter().take(CHANGES_SHOWN).map(String::as_str).collect();
        let more = changes.len() - shown.len();
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let words = format_args!("the tree differs from its commit:\n  {}{more}", shown.join("\n  "));
        return Err(Trouble::usage(words).hint(format_args!("commit or ignore them, or {hint}")));
    }
    match &git.tag {
        None => Err(Trouble::usage(format_args!("commit {} has no tag", git.short_commit)).hint(hint)),
        Some(tag) if !is_tagged => {
            let words =
                format_args!("the tag {tag} is of another commit than the one here, {}", git.short_commit);
            Err(Trouble::usage(words).hint(format_args!("tag this commit, or {hint}")))
        }
        Some(_) => Ok(()),
    }
}

/// The one date of the release: `SOURCE_DATE_EPOCH` (reproducible-builds.org) where it is set, else the commit's, and
/// now only where there is no commit.
fn seconds(env: &BTreeMap<String, String>, commit: Option<i64>) -> Result<i64, Trouble> {
    if let Some(text) = env.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) {
        let seconds = text.parse().ok().filter(|seconds| *seconds >= 0);
        return seconds.ok_or_else(|| {
            Trouble::usage(format_args!("SOURCE_DATE_EPOCH is {text:?}, not seconds since 1970"))
        });
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(commit.unwrap_or_else(|| i64::try_from(now()).unwrap_or(i64::MAX)))
}

/// Asks git about one project.
struct Asker<'a> {
    git: &'a Git,
    directory: &'a Path,
    env: &'a BTreeMap<String, String>,
}

impl Asker<'_> {
    /// `None` where there is no repository, or no commit in it. Releases go to `out`.
    async fn facts(&self, out: &Path) -> Result<Option<Found>, Trouble> {
        let Some(commit) = self.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await else {
            return Ok(None);
        };
        // The commit's own of several, the highest version first, as GoReleaser chooses.
        let own = self.ask(&["tag", "--points-at", "HEAD", "--sort", "-version:refname"]).await;
        let own: Vec<String> = own.unwrap_or_default().lines().map(str::to_owned).collect();
        let tag = match self.variable("GORELEASER_CURRENT_TAG").or_else(|| own.first().cloned()) {
            Some(tag) => Some(tag),
            None => self.ask(&["describe", "--tags", "--abbrev=0"]).await,
        };
        let previous = match (self.variable("GORELEASER_PREVIOUS_TAG"), &tag) {
            (Some(previous), _) => Some(previous),
            (None, Some(tag)) => {
                self.ask(&["describe", "--tags", "--abbrev=0", &format!("tags/{tag}^")]).await
            }
            (None, None) => None,
        };
        let changes = self.changes(out).await?;
        let seconds = self.ask(&["show", "--no-patch", "--format=%ct", "HEAD"]).await;
        let [subject, contents, body] = self.message(tag.as_deref()).await;
        let git = GitFacts {
            branch: self.ask(&["rev-parse", "--abbrev-ref", "HEAD"]).await.unwrap_or_default(),
            previous_tag: previous.unwrap_or_default(),
            commit_seconds: seconds.and_then(|text| text.parse().ok()).unwrap_or(0),
            short_commit: self.ask(&["show", "--no-patch", "--format=%h", "HEAD"]).await.unwrap_or_default(),
            summary: self.ask(&["describe", "--always", "--dirty", "--tags"]).await.unwrap_or_default(),
            url: self.ask(&["ls-remote", "--get-url"]).await.map(|url| url_of(&url)).unwrap_or_default(),
            is_dirty: !changes.is_empty(),
            tag_subject: subject,
            tag_contents: contents,
            tag_body: body,
            commit,
            tag: tag.clone(),
        };
        let is_tagged = tag.is_some_and(|tag| own.contains(&tag));
        Ok(Some(Found { git, is_tagged, changes }))
    }

    /// What differs from the commit, a line each. Untracked files in `out` do not count: an earlier release left them
    /// there, and the next one removes them.
    async fn changes(&self, out: &Path) -> Result<Vec<String>, Trouble> {
        let top = self.ask(&["rev-parse", "--show-toplevel"]).await.unwrap_or_default();
        let out = OutDir::find(out).ok().map(|found| found.path().to_owned());
        let out = out.filter(|out| out.starts_with(&top) && !self.directory.starts_with(out));
        let Some(out) = out.as_deref().and_then(Path::to_str) else { return self.status(&[]).await };
        let mut changes = self.status(&["--untracked-files=no"]).await?;
        let elsewhere = format!(":(exclude,literal){out}");
        let untracked = self.status(&["--", ":/", &elsewhere]).await?;
        changes.extend(untracked.into_iter().filter(|line| line.starts_with("??")));
        Ok(changes)
    }

    async fn status(&self, more: &[&str]) -> Result<Vec<String>, Trouble> {
        let arguments = [&["status", "--porcelain"], more].concat();
        let status = self.git.run(self.directory, &arguments, ASK_MAX).await.map_err(Trouble::broken)?;
        Ok(String::from_utf8_lossy(&status).lines().map(str::to_owned).collect())
    }

    /// Subject, contents and body: the annotated tag's, else the commit's.
    async fn message(&self, tag: Option<&str>) -> [String; 3] {
        let mut message = [const { String::new() }; 3];
        let formats = [("subject", "%s"), ("contents", "%B"), ("body", "%b")];
        for ((of_tag, of_commit), part) in formats.into_iter().zip(&mut message) {
            if let Some(tag) = tag {
                let format = format!(
                    "--format=%(contents{})",
                    match of_tag {
                        "contents" => String::new(),
                        other => format!(":{other}"),
                    }
                );
                *part = self.ask(&["tag", "-l", &format, tag]).await.unwrap_or_default();
            }
            if part.is_empty() {
                let format = format!("--format={of_commit}");
                *part = self.ask(&["log", "-1", &format]).await.unwrap_or_default();
            }
        }
        message
    }

    /// What git answers, without blanks around it; nothing where it has no answer.
    async fn ask(&self, arguments: &[&str]) -> Option<String> {
        let out = self.git.run(self.directory, arguments, ASK_MAX).await.ok()?;
        let text = String::from_utf8(out).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

/// The address of a remote. Without one git answers with the word `origin`.
fn url_of(answer: &str) -> String {
    if answer == "origin" { String::new() } else { without_credentials(answer) }
}

/// `tool` for `git@example.org:acme/tool.git`.
fn repository_name(url: &str) -> Option<String> {
    let path = url.trim_end_matches('/');
    let name = path.rsplit(['/', ':']).next()?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The `name` of `[package]` in a `Cargo.toml`.
fn cargo_name(directory: &Path) -> Option<String> {
    let text = fs::read_to_string(directory.join("Cargo.toml")).ok()?;
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[package]").skip(1);
    let pairs = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| key.trim() == "name")?;
    let name = value.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_called_as_its_address_ends() {
        for (url, name) in [
            ("https://example.org/acme/tool.git", Some("tool")),
            ("git@example.org:acme/tool", Some("tool")),
            ("git@example.org:tool.git", Some("tool")),
            ("file:///srv/tool.git/", Some("tool")),
            ("", None),
        ] {
            assert_eq!(repository_name(url).as_deref(), name, "{url}");
        }
        assert_eq!(url_of("https://user:secret@example.org/a.git"), "https://example.org/a.git");
        assert_eq!(url_of("origin"), "");
    }

    #[test]
    fn the_date_is_the_commits_unless_another_is_named() {
        let env = |value: &str| BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), value.to_owned())]);
        assert_eq!(seconds(&BTreeMap::new(), Some(7)).unwrap(), 7);
        assert_eq!(seconds(&env(""), Some(7)).unwrap(), 7);
        assert_eq!(seconds(&env("12"), Some(7)).unwrap(), 12);
        for wrong in ["-1", "soon", "1.5"] {
            assert!(seconds(&env(wrong), Some(7)).unwrap_err().message.contains(wrong));
        }
        assert!(seconds(&BTreeMap::new(), None).unwrap() > 1_700_000_000);
    }

    #[tokio::test]
    async fn what_an_earlier_release_left_untracked_does_not_make_the_tree_differ() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let project = top.join("tool");
        let write = |path: &str, text: &str| {
            let path = project.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let git = |arguments: &[&str]| {
            let name = ["-c", "user.name=a", "-c", "user.email=a@b.example"];
            let done =
                std::process::Command::new("git").args(name).args(arguments).current_dir(&top).status();
            assert!(done.unwrap().success());
        };
        write("main.go", "package main\n");
        write("out/kept", "1\n");
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "one"]);
        let (asked, env) = (Git::of_user(false), BTreeMap::new());
        let asker = Asker { git: &asked, directory: &project, env: &env };
        let changes = async |out: &str| asker.changes(&project.join(out)).await.unwrap();
        write("dist/tool.tar.gz", "");
        assert_eq!(changes("dist").await, [""; 0]);
        assert_eq!(changes("out").await, ["?? tool/dist/"]);
        assert_eq!(changes("../../elsewhere").await, ["?? tool/dist/"], "outside the repository");
        // The whole project is nobody's output.
        assert_eq!(changes(".").await, ["?? tool/dist/"]);
        write("out/kept", "2\n");
        write("out/made", "");
        assert_eq!(changes("out").await, [" M tool/out/kept", "?? tool/dist/"], "what is tracked counts");
        write("build/dist/x", "");
        write("build/notes", "");
        assert!(changes("build/dist").await.contains(&"?? tool/build/".to_owned()), "more than output");
    }

    #[test]
    fn a_cargo_package_gives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cargo_name(dir.path()), None);
        let text = "[workspace]\nname = \"no\"\n[package]\nname = \"crate\"\n[lib]\nname = \"other\"\n";
        fs::write(dir.path().join("Cargo.toml"), text).unwrap();
        assert_eq!(cargo_name(dir.path()).as_deref(), Some("crate"));
    }
}
