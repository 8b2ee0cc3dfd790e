//! What an agent has left in its build cache that has built something, so that a test's agents need not compile the standard
//! library before anything begins.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use super::world::WITHIN;
use crate::{
    fixture::program::{Program, saying},
    fleet::Fleet,
    home::Home,
};

/// What of an agent's state makes it warm. A state directory without a version is nobody's to fill.
const KEPT: [&str; 2] = ["VERSION", "cache"];

/// A warm agent's state, for as long as this process runs.
#[derive(Debug)]
pub(super) struct Template {
    directory: PathBuf,
    /// Removes the directory when its standard input ends, as it does however this process does.
    _remover: Child,
}

impl Template {
    /// The one of this process. It is made at the first call, and not in a network that is gone before the process is.
    pub(super) fn get() -> &'static Self {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(Self::make)
    }

    /// Gives an agent that has not been started what one has that has built.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[track_caller]
    pub(super) fn warm(&self, home: &Home) {
        copy(&self.directory, &home.path().join("agent"));
    }

    fn make() -> Self {
        let directory = tempfile::Builder::new().prefix("mrdwarm").tempdir().expect("a directory").keep();
        let remover = Command::new("sh")
            .args(["-c", "cat >/dev/null; rm -rf \"$0\""])
            .arg(&directory)
            .stdin(Stdio::piped())
            // Not ended with us by a signal for all of our group.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut fleet = Fleet::start();
        let agent = fleet.join_agent("eu/first", 1, Home::with_proxy("off"));
        let client = fleet.member("alice");
        let source = client.home.path().join("source");
        Program::module("example.test/first")
            .file("main.go", &saying("first"))
            .write(&source)
            .expect("a directory can be written");
        let source = source.display().to_string();
        client.build(&[&source, "--version", "1", "--project", "acme/first"]).expect_success();
        let ended = fleet.agent(agent).terminate(WITHIN);
        assert!(ended.success(), "{ended}");
        for kept in KEPT {
            copy(&fleet.agent_home(agent).path().join("agent").join(kept), &directory.join(kept));
        }
        Self { directory, _remover: remover }
    }
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).expect("a directory in a fresh home");
    }
    let copied = Command::new("cp").arg("-a").arg("--no-target-directory").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}
