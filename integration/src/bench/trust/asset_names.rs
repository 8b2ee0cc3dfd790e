//! Asset names of public modules' own configurations, as a real GoReleaser gives them and as `meridian release` does.
//!
//! Each module's zip carries its `.goreleaser.yaml`, which is used as it is. The zip's files become a repository of one
//! commit and one tag. On GoReleaser's side `go build` is a stand-in that writes a header, and so are the tools that sign
//! and describe: names do not depend on what they make, and a real build of all targets would take hours. On our side the
//! names are those of `release --snapshot --dry-run`, and for [`MADE`] those of a release that a local fleet really made.
//! A configuration that we refuse counts as a mismatch.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, ledger::Ledger, matrix::install_goreleaser, timing::run},
    client::Client,
    fixture::git::git_in,
    home::Home,
};

/// The figures of this part.
pub const KEYS: &[&str] = &["goreleaser_configs", "asset_name_mismatches"];

/// A module at a version whose zip carries a configuration of version 2.
struct Module {
    path: &'static str,
    version: &'static str,
    /// What its own continuous integration sets and the configuration asks for.
    env: &'static [(&'static str, &'static str)],
    /// Files that its `before` hooks make and archives want; hooks are run on neither side.
    made_by_hooks: &'static [&'static str],
}

const fn module(path: &'static str, version: &'static str) -> Module {
    Module { path, version, env: &[], made_by_hooks: &[] }
}

const MODULES: [Module; 18] = [
    module("github.com/junegunn/fzf", "v0.65.2"),
    module("github.com/derailed/k9s", "v0.50.16"),
    module("github.com/mikefarah/yq/v4", "v4.54.3"),
    module("github.com/terraform-linters/tflint", "v0.64.0"),
    module("github.com/evilmartians/lefthook", "v1.13.6"),
    module("github.com/mgechev/revive", "v1.17.1"),
    module("github.com/pressly/goose/v3", "v3.30.0"),
    module("github.com/golangci/golangci-lint/v2", "v2.15.0"),
    module("github.com/segmentio/golines", "v0.13.0"),
    module("github.com/stern/stern", "v1.32.0"),
    module("github.com/nektos/act", "v0.2.89"),
    module("github.com/hashicorp/terraform-plugin-docs", "v0.25.0"),
    module("github.com/open-policy-agent/conftest", "v0.71.1"),
    module("github.com/golangci/misspell", "v0.8.0"),
    Module { env: &[("KO_DOCKER_REPO", "example.test/ko")], ..module("github.com/google/ko", "v0.19.1") },
    Module { env: &[("GOVERSION", "go1.26")], ..module("github.com/air-verse/air", "v1.67.4") },
    Module { env: &[("COSIGN_PASSWORD", "none")], ..module("github.com/securego/gosec/v2", "v2.30.0") },
    Module { made_by_hooks: &["man/actionlint.1"], ..module("github.com/rhysd/actionlint", "v1.7.12") },
];

/// Modules whose releases are really made, by a local fleet: small ones.
const MADE: [&str; 2] = ["github.com/segmentio/golines", "github.com/golangci/misspell"];

/// What GoReleaser would make that Meridian does not, and what it would run on this machine.
const SKIPPED: &str = "nfpm,snapcraft,docker,ko,flatpak,makeself,srpm,chocolatey,notarize,before";
/// GoReleaser's types of artifacts that it uploads, but for those of [`SKIPPED`].
const UPLOADED: [u64; 8] = [1, 2, 3, 12, 13, 14, 15, 28];
/// The names that are really made elsewhere.
const TOOLS: [&str; 4] = ["gpg", "cosign", "syft", "upx"];

/// What came of one module.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    assets: usize,
    mismatches: Vec<String>,
}

/// `goreleaser_configs`, `asset_name_mismatches`.
///
/// # Errors
/// When a module cannot be fetched, GoReleaser fails on one, or a release fails.
pub fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let goreleaser = match install_goreleaser() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("GoReleaser cannot be installed: {error:#}");
            figures.peer_is_missing();
            return Ok(());
        }
    };
    let mut ledger = Ledger::open("asset-names", plan.fresh)?;
    let (mut equal, mut mismatches) = (0_u32, 0);
    let mut world = None;
    for module in &MODULES {
        let key = format!("{}@{}", module.path, module.version);
        let outcome = match ledger.get::<Outcome>(&key) {
            Some(outcome) => outcome,
            None => {
                let world = match &mut world {
                    Some(world) => world,
                    none => none.insert(World::prepare(&goreleaser)?),
                };
                let outcome = world.compare(module).with_context(|| key.clone())?;
                ledger.keep(&key, &outcome)?;
                outcome
            }
        };
        for mismatch in &outcome.mismatches {
            eprintln!("{key}: {mismatch}");
        }
        eprintln!("{key}: {} assets, {} mismatches", outcome.assets, outcome.mismatches.len());
        equal += u32::from(outcome.mismatches.is_empty());
        mismatches += outcome.mismatches.len();
    }
    figures.add("goreleaser_configs", f64::from(equal));
    figures.add("asset_name_mismatches", u32::try_from(mismatches).map_or(f64::INFINITY, f64::from));
    Ok(())
}

/// Where both sides work.
struct World {
    client: Client,
    goreleaser: PathBuf,
    go: PathBuf,
    tools: PathBuf,
}

impl World {
    fn prepare(goreleaser: &Path) -> anyhow::Result<Self> {
        let mut client = Client::local(Home::with_the_real_proxy());
        // The repositories are this bench's own, and their commits have an author like any.
        client.home.set("GIT_CONFIG_GLOBAL", "/dev/null");
        let tools = client.home.path().join("stand-ins");
        fs::create_dir_all(&tools)?;
        let write = |name: &str, text: &str| -> anyhow::Result<()> {
            let path = tools.join(name);
            fs::write(&path, text)?;
            Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
        };
        write("go", include_str!("stand_in_go.sh"))?;
        for tool in TOOLS {
            write(tool, include_str!("stand_in_tool.sh"))?;
        }
        let path = env::var_os("PATH").context("there is no PATH")?;
        let go = env::split_paths(&path).map(|directory| directory.join("go")).find(|go| go.is_file());
        Ok(Self { client, goreleaser: goreleaser.to_owned(), go: go.context("no Go in PATH")?, tools })
    }

    fn compare(&self, module: &Module) -> anyhow::Result<Outcome> {
        let project = self.repository(module)?;
        let theirs = self.names_of_goreleaser(module, &project)?;
        let mut mismatches = Vec::new();
        match self.names_of_ours(module, &project, false) {
            Ok(ours) => mismatches.extend(differences("planned", &theirs, &ours)),
            Err(error) => mismatches.push(format!("refused: {error:#}")),
        }
        if MADE.contains(&module.path) && mismatches.is_empty() {
            match self.names_of_ours(module, &project, true) {
                Ok(ours) => mismatches.extend(differences("made", &theirs, &ours)),
                Err(error) => mismatches.push(format!("not made: {error:#}")),
            }
        }
        fs::remove_dir_all(&project)?;
        Ok(Outcome { assets: theirs.len(), mismatches })
    }

    /// The files of a module's zip as a repository of one commit, with its version for a tag.
    fn repository(&self, module: &Module) -> anyhow::Result<PathBuf> {
        let mut download = self.client.home.program(&self.go);
        download.args(["mod", "download", "-json", &format!("{}@{}", module.path, module.version)]);
        download.env("GOFLAGS", "-modcacherw").env("GOTOOLCHAIN", "local");
        let said: Value = serde_json::from_str(&run(&mut download)?)?;
        let from = said["Dir"].as_str().context("go mod download named no directory")?;
        // The last element of a path without a major version is what a clone would be called.
        let name = module.path.split('/').rfind(|word| !is_major(word)).unwrap_or("module");
        let project = self.client.home.path().join("projects").join(name);
        fs::create_dir_all(project.parent().context("a project lies somewhere")?)?;
        run(Command::new("cp").arg("-r").arg(from).arg(&project))?;
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&project))?;
        for path in module.made_by_hooks {
            let path = project.join(path);
            fs::create_dir_all(path.parent().context("a file lies somewhere")?)?;
            fs::write(path, "")?;
        }
        git_in(&project, &["init", "--quiet", "--initial-branch", "main"]);
        git_in(&project, &["add", "--all", "--force"]);
        git_in(&project, &["commit", "--quiet", "--message", "the module"]);
        git_in(&project, &["tag", module.version]);
        let remote = format!("https://{}.git", module.path);
        git_in(&project, &["remote", "add", "origin", &remote]);
        Ok(project)
    }

    fn names_of_goreleaser(&self, module: &Module, project: &Path) -> anyhow::Result<BTreeSet<String>> {
        let mut command = self.client.home.program(&self.goreleaser);
        command.args(["release", "--snapshot", "--clean", &format!("--skip={SKIPPED}")]);
        command.current_dir(project).envs(module.env.iter().copied());
        let path = env::join_paths([self.tools.as_path(), Path::new("/usr/bin"), Path::new("/bin")])?;
        command.env("PATH", path).env("STAND_IN_GO", &self.go);
        command.env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
        let said = run(&mut command)?;
        // The directory is the configuration's to choose.
        let found = fs::read_dir(project)?.flatten().map(|entry| entry.path().join("artifacts.json"));
        let Some(list) = found.into_iter().find(|path| path.is_file()) else {
            bail!("GoReleaser left no artifacts.json:\n{said}");
        };
        let artifacts: Vec<Value> = serde_json::from_slice(&fs::read(list)?)?;
        let is_uploaded = |artifact: &&Value| {
            artifact["internal_type"].as_u64().is_some_and(|kind| UPLOADED.contains(&kind))
        };
        let uploaded = artifacts.iter().filter(is_uploaded);
        Ok(uploaded.filter_map(|artifact| Some(artifact["name"].as_str()?.to_owned())).collect())
    }

    /// The names that we plan, or those of what was really made.
    fn names_of_ours(
        &self,
        module: &Module,
        project: &Path,
        is_made: bool,
    ) -> anyhow::Result<BTreeSet<String>> {
        let mut command = self.client.home.meridian(["release", "--snapshot", "--json", "--local"]);
        command.arg(project).envs(module.env.iter().copied());
        command.args(if is_made { ["--clean", "--skip=before"] } else { ["--dry-run", "--skip=before"] });
        let said: Value = serde_json::from_str(&run(&mut command)?)?;
        let assets = said["assets"].as_array().context("meridian listed no assets")?;
        let mut names = BTreeSet::new();
        for asset in assets {
            if let Some(path) = asset["path"].as_str().filter(|path| !Path::new(path).is_file()) {
                bail!("{path} was listed and is not there");
            }
            names.extend(asset["name"].as_str().map(str::to_owned));
        }
        Ok(names)
    }
}

fn differences(what: &str, theirs: &BTreeSet<String>, ours: &BTreeSet<String>) -> Vec<String> {
    let missing = theirs.difference(ours).map(|name| format!("{what}: {name} is missing"));
    let added = ours.difference(theirs).map(|name| format!("{what}: {name} is not GoReleaser's"));
    missing.chain(added).collect()
}

fn is_major(word: &str) -> bool {
    word.strip_prefix('v').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
