//! A user's home of its own for every test: nothing is shared with the machine or with another test.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::binary;

/// What a process may see of the environment of the tests: how to reach the network, and where programs are.
const PASSED_ON: &[&str] = &[
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where it is set, a machine on which nothing can be started as another user fails what needs that.
const OTHER_USERS_REQUIRED: &str = "MERIDIAN_REQUIRE_OTHER_USERS";

/// Directories and an environment as one user on one machine has them. Removed when dropped.
#[derive(Debug)]
pub struct Home {
    directory: tempfile::TempDir,
    environment: BTreeMap<OsString, OsString>,
    /// A program and its arguments that start each `meridian`, such as `taskset -c 0`.
    starter: Vec<OsString>,
    /// What is started instead of the binary that the tests built, where that one cannot be reached.
    binary: Option<PathBuf>,
}

impl Home {
    /// A fresh home with an empty state directory, whose module proxy is `goproxy`. Fixture modules are in no
    /// checksum database, so that is off for them; [`Home::with_the_real_proxy`] has it on.
    ///
    /// # Panics
    /// When no directory can be made.
    #[must_use]
    pub fn with_proxy(goproxy: &str) -> Self {
        let mut home = Self::bare();
        home.set("GOPROXY", goproxy);
        home.set("GOSUMDB", "off");
        home
    }

    /// A fresh home that reaches the module proxy and checksum database that this machine's Go is set to.
    ///
    /// # Panics
    /// When no directory can be made or there is no Go to ask.
    #[must_use]
    pub fn with_the_real_proxy() -> Self {
        let mut home = Self::bare();
        for name in ["GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE"] {
            let value = go_env(name);
            if !value.is_empty() {
                home.set(name, value);
            }
        }
        home
    }

    fn bare() -> Self {
        // Unix sockets have short names, so the path must stay short too.
        let directory = tempfile::Builder::new().prefix("mrd").tempdir().expect("a temporary directory");
        let mut home = Self { directory, environment: BTreeMap::new(), starter: Vec::new(), binary: None };
        for name in PASSED_ON {
            if let Some(value) = env::var_os(name) {
                home.set(name, value);
            }
        }
        for (name, below) in [
            ("HOME", "home"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "data"),
            ("TMPDIR", "tmp"),
        ] {
            let path = home.path().join(below);
            std::fs::create_dir_all(&path).expect("a directory in a fresh temporary directory");
            home.set(name, path);
        }
        home.set("NO_COLOR", "1");
        home
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where Meridian keeps the state of this user.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path().join("state/meridian")
    }

    /// Sets a variable for every process started from here on.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
    }

    /// A variable as processes see it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// `program` in this environment and no other.
    #[must_use]
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).current_dir(self.path());
        command
    }

    /// `meridian` with these arguments.
    #[must_use]
    pub fn meridian<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let binary = self.binary.as_deref().unwrap_or_else(|| binary::meridian());
        let mut words = self.starter.iter().map(OsString::as_os_str).chain([binary.as_os_str()]);
        let mut command = self.program(words.next().unwrap_or_default());
        command.args(words).args(arguments);
        command
    }

    /// The user id that owns it, and as which every `meridian` in it runs.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn owner(&self) -> u32 {
        std::fs::metadata(self.path()).expect("the home is there").uid()
    }

    /// Starts every `meridian` from here on by these words, such as `sh -c "umask 077; exec …"`. They come after those
    /// that are there already.
    pub fn begin_with(&mut self, words: &[&str]) {
        self.starter.extend(words.iter().map(OsString::from));
    }

    /// Starts every `meridian` from here on on one core alone. Says why when this machine cannot.
    ///
    /// # Errors
    /// The reason.
    pub fn confine_to_one_core(&mut self) -> Result<(), String> {
        let tried = Command::new("taskset").args(["-c", "0", "true"]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            return Err("there is no taskset, or it may not be used".to_owned());
        }
        self.starter.extend(["taskset", "-c", "0"].map(OsString::from));
        Ok(())
    }

    /// Starts every `meridian` from here on where no namespace can be made and no other user exists, as in a container
    /// with its runtime's defaults. Says why when this machine cannot.
    ///
    /// # Errors
    /// The reason.
    pub fn forbid_namespaces(&mut self) -> Result<(), String> {
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
        let words = ["unshare", "--user", "--map-root-user", "sh", "-c", script];
        let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
        if !tried.is_ok_and(|output| output.status.success()) {
            return Err("there is no unshare, or it may not be used".to_owned());
        }
        self.starter.extend(words.map(OsString::from));
        Ok(())
    }

    /// Gives this home to the user `nobody`, as whom every `meridian` is started from here on. Says why when
    /// this machine cannot.
    ///
    /// # Errors
    /// The reason.
    ///
    /// # Panics
    /// When the home cannot be given away although we are root, or other users must be had and cannot.
    pub fn become_nobody(&mut self) -> Result<(), String> {
        const WORDS: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        other_users(&WORDS).inspect_err(|why| {
            assert!(env::var_os(OTHER_USERS_REQUIRED).is_none(), "{OTHER_USERS_REQUIRED} is set: {why}");
        })?;
        // The one that was built may lie where nobody else can look.
        let binary = self.path().join("meridian");
        std::fs::copy(binary::meridian(), &binary).expect("a copy of the binary");
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(self.path()).status();
        assert!(given.is_ok_and(|status| status.success()), "the home cannot be given away");
        self.binary = Some(binary);
        self.starter.extend(WORDS.map(OsString::from));
        Ok(())
    }
}

/// Why nothing can be started as another user by these words.
fn other_users(words: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can start a process as another user".to_owned());
    }
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
    let works = tried.is_ok_and(|output| output.status.success());
    works.then_some(()).ok_or_else(|| "there is no setpriv, or it may not be used".to_owned())
}

impl Drop for Home {
    /// A module cache is written read-only: removing it needs the permission first.
    fn drop(&mut self) {
        let local = self.state().join("local");
        if local.exists() {
            let stopped = self.meridian(["local", "stop"]).output();
            if !stopped.is_ok_and(|output| output.status.success()) {
                eprintln!("the local fleet in {} could not be stopped", local.display());
            }
        }
        let allowed = Command::new("chmod").args(["-R", "u+w"]).arg(self.path()).output();
        if let Err(error) = allowed {
            eprintln!("cannot make {} writable: {error}", self.path().display());
        }
    }
}

/// A value of `go env` as the user who runs the tests has it.
///
/// # Panics
/// When there is no Go: the tests build Go programs.
#[must_use]
pub fn go_env(name: &str) -> String {
    let output =
        Command::new("go").args(["env", name]).output().expect("the tests need an installed Go in PATH");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `GOOS/GOARCH` of this machine.
#[must_use]
pub fn host_platform() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| format!("{}/{}", go_env("GOHOSTOS"), go_env("GOHOSTARCH")))
}
