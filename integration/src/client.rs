//! The command line as a user types it, and what it leaves behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use meridian_trust::sidecar::{KEYRING_FILE, Sidecar};
use sha2::{Digest as _, Sha256};

use crate::{
    home::Home,
    process::{Run, Running},
};

/// The longest that a command of a test may take. Far beyond what any takes: it turns a hang into a failure.
pub const COMMAND_MAX: Duration = Duration::from_secs(180);

/// One user's command line: a home, and the fleet's address unless the local fleet is meant.
#[derive(Debug)]
pub struct Client {
    /// Where this user lives.
    pub home: Home,
    /// The coordinator's address; `None` means the local fleet.
    pub coordinator: Option<String>,
}

impl Client {
    /// A user of the local fleet.
    #[must_use]
    pub const fn local(home: Home) -> Self {
        Self { home, coordinator: None }
    }

    /// A user of a local fleet without a module proxy whom tests share that run at the same time, so that
    /// the standard library is not compiled for each. What they write has to have names of its own.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Client>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shared.upgrade() {
            return client;
        }
        let client = Arc::new(Self::local(Home::with_proxy("off")));
        *shared = Arc::downgrade(&client);
        client
    }

    /// Runs `meridian` with these arguments to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments).finish(COMMAND_MAX)
    }

    /// Starts `meridian` with these arguments, and with the fleet this client belongs to.
    #[must_use]
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.home.meridian(arguments);
        if takes_a_fleet(arguments) {
            match &self.coordinator {
                Some(address) => command.args(["--coordinator", address]),
                None => command.arg("--local"),
            };
        }
        Running::start(command)
    }

    /// `meridian build` with the installed Go, into a fresh directory.
    #[track_caller]
    pub fn build(&self, arguments: &[&str]) -> Build {
        self.build_into("dist", arguments)
    }

    /// `meridian build` with the installed Go, into the directory `out` of the home.
    #[track_caller]
    pub fn build_into(&self, out: &str, arguments: &[&str]) -> Build {
        let out = self.out(out);
        let run = self.start(&self.build_arguments(&out, arguments)).finish(COMMAND_MAX);
        Build { run, dist: Dist { directory: PathBuf::from(out) } }
    }

    /// Starts `meridian build` with the installed Go and leaves it running.
    #[must_use]
    #[track_caller]
    pub fn start_build(&self, out: &str, arguments: &[&str]) -> RunningBuild {
        let out = self.out(out);
        let running = self.start(&self.build_arguments(&out, arguments));
        RunningBuild { running, dist: Dist { directory: PathBuf::from(out) } }
    }

    fn out(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn build_arguments<'a>(&self, out: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["build", "--out", out];
        if !arguments.iter().any(|argument| matches!(*argument, "--go" | "--toolchain")) {
            // A toolchain's download adds nothing to most tests.
            all.extend(["--toolchain", "local"]);
        }
        all.extend(arguments);
        all
    }
}

fn takes_a_fleet(arguments: &[&str]) -> bool {
    let ours = ["build", "rebuild", "release", "builds", "logs", "explain", "cancel", "agents", "status"];
    arguments.first().is_some_and(|command| ours.contains(command))
        && !arguments.iter().any(|argument| matches!(*argument, "--local" | "--coordinator" | "--help"))
}

/// A build that runs.
#[derive(Debug)]
pub struct RunningBuild {
    /// The command.
    pub running: Running,
    dist: Dist,
}

impl RunningBuild {
    /// Waits for its end.
    #[track_caller]
    pub fn finish(self) -> Build {
        self.finish_within(COMMAND_MAX)
    }

    /// The same for a build that takes longer than any of a test.
    #[track_caller]
    pub fn finish_within(self, max: Duration) -> Build {
        Build { run: self.running.finish(max), dist: self.dist }
    }
}

/// A build that ended.
#[derive(Debug)]
pub struct Build {
    /// What the command printed.
    pub run: Run,
    /// What it wrote.
    pub dist: Dist,
}

impl Build {
    /// Fails the test unless the build succeeded and everything it wrote is what `checksums.txt` says.
    #[track_caller]
    pub fn expect_success(self) -> Dist {
        let Self { run, dist } = self;
        let run = run.expect_code(0);
        let listed = dist.checksums();
        assert!(!listed.is_empty(), "checksums.txt lists nothing: {run}");
        for (name, digest) in &listed {
            assert_eq!(&dist.digest(name), digest, "{name} is not what checksums.txt says: {run}");
        }
        let beside = |name: &String| Sidecar::ALL.map(|sidecar| sidecar.file_name(name));
        let mut expected: Vec<String> = listed.keys().flat_map(beside).collect();
        expected.extend(listed.into_keys());
        expected.extend(["checksums.txt", KEYRING_FILE].map(str::to_owned));
        expected.sort();
        assert_eq!(dist.names(), expected, "dist/ holds something else: {run}");
        dist
    }

    /// Fails the test unless the command ended with `code`, said all of `words` and wrote no artifact.
    #[track_caller]
    pub fn expect_failure(self, code: i32, words: &[&str]) -> Run {
        let run = self.run.expect_code(code).expect_words(words);
        assert!(!run.says("panicked"), "{run}");
        assert_eq!(self.dist.names(), Vec::<String>::new(), "a failed build wrote something: {run}");
        run
    }
}

/// A directory of artifacts.
#[derive(Debug, Clone)]
pub struct Dist {
    directory: PathBuf,
}

impl Dist {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The names of the artifacts, sorted: of the files, those that `checksums.txt` lists.
    #[must_use]
    #[track_caller]
    pub fn artifacts(&self) -> Vec<String> {
        self.checksums().into_keys().collect()
    }

    /// The names of its files, sorted; none when there is no such directory.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The one artifact.
    ///
    /// # Panics
    /// When there is none or more than one.
    #[must_use]
    #[track_caller]
    pub fn only(&self) -> PathBuf {
        let names = self.artifacts();
        assert_eq!(names.len(), 1, "one artifact was expected: {names:?}");
        self.directory.join(&names[0])
    }

    /// `checksums.txt`: name to digest.
    ///
    /// # Panics
    /// When it is missing or not in `sha256sum` format.
    #[must_use]
    #[track_caller]
    pub fn checksums(&self) -> BTreeMap<String, String> {
        let path = self.directory.join("checksums.txt");
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        text.lines()
            .map(|line| {
                let (digest, name) = line.split_once("  ").expect("`DIGEST  NAME` on each line");
                (name.to_owned(), digest.to_owned())
            })
            .collect()
    }

    /// The SHA-256 of a file, in hexadecimal.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    #[track_caller]
    pub fn digest(&self, name: &str) -> String {
        let path = self.directory.join(name);
        let bytes =
            fs::read(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Runs an artifact that was built for this machine and returns what it prints to either output.
    ///
    /// # Panics
    /// When it cannot be run or fails.
    #[must_use]
    #[track_caller]
    pub fn execute(&self, name: &str, arguments: &[&str]) -> String {
        let output = std::process::Command::new(self.directory.join(name))
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        assert!(output.status.success(), "{name} failed: {output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}
