//! Finds Go's settings: process environment, user's file, installed Go.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;

use super::list::{ParseProxyError, ProxyList};

/// The settings of Go's that decide where modules come from and what is trusted.
const SETTINGS: [&str; 9] =
    ["GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOSUMDB", "GOINSECURE", "GOVCS", "GOAUTH", "NETRC", "GOPROXY"];

/// What the network itself needs; taken from the process environment only, and given to the module phase.
const NETWORK: [&str; 17] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "GIT_CONFIG_GLOBAL",
];

/// Of these, what belongs to one login or one editor's terminal: two terminals of one user differ in it.
const OF_A_SESSION: [&str; 3] = ["GIT_ASKPASS", "SSH_ASKPASS", "SSH_AUTH_SOCK"];

/// The process environment, as a value.
pub type Variables = BTreeMap<String, String>;

/// One setting and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// `environment`, or the file that says so.
    pub origin: String,
}

/// What this agent's Go builds use to reach modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoEnvironment {
    /// Where modules come from.
    pub proxy: ProxyList,
    /// Who said so: `environment`, or a file.
    pub proxy_origin: String,
    /// The other settings that were found, GOPROXY among them.
    pub settings: BTreeMap<String, Setting>,
    /// Proxies, certificates and agents of the network, from the process environment.
    pub network: Variables,
    /// The user's home directory, where git and netrc find credentials.
    pub home: Option<PathBuf>,
    /// The Go that is installed, when there is one.
    pub installed: Option<PathBuf>,
}

/// Why there is no GOPROXY to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// Nobody says where modules come from.
    #[error(
        "no GOPROXY: it is not in the environment, {file} does not set it, and no installed Go has a go.env; \
         set GOPROXY to your module proxy's URL (or install any Go)"
    )]
    Missing {
        /// The user's file that was looked at.
        file: String,
    },
    /// Somebody says nonsense.
    #[error("GOPROXY of {origin} cannot be used: {source}")]
    Bad {
        /// Who said so.
        origin: String,
        /// What is wrong.
        source: ParseProxyError,
    },
}

/// The environment of this process. None of what is looked up can be anything but text, and a variable that is not may
/// be anybody's.
#[must_use]
pub fn process_environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl GoEnvironment {
    /// Finds the settings from this process's environment and this machine's files.
    ///
    /// # Errors
    /// When no GOPROXY is found, or one that cannot be read.
    pub fn discover() -> Result<Self, DiscoverError> {
        Self::discover_in(&process_environment(), &common_goroots())
    }

    /// The same from a given environment, with given places of installed Go.
    ///
    /// # Errors
    /// When no GOPROXY is found, or one that cannot be read.
    pub fn discover_in(variables: &Variables, goroots: &[PathBuf]) -> Result<Self, DiscoverError> {
        let home = variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let user_file = user_file(variables, home.as_deref());
        let installed = installed_goroot(variables, home.as_deref(), goroots);
        let go_env = installed.as_ref().map(|root| root.join("go.env"));
        let files: Vec<_> = [user_file.clone(), go_env]
            .into_iter()
            .flatten()
            .map(|path| (path.display().to_string(), read_env_file(&path)))
            .collect();
        let mut settings = BTreeMap::new();
        for name in SETTINGS {
            if let Some(setting) = look_up(name, variables, &files) {
                settings.insert(name.to_owned(), setting);
            }
        }
        let Some(proxy) = settings.get("GOPROXY") else {
            let file = user_file.map_or_else(|| "the go/env file".into(), |path| path.display().to_string());
            return Err(DiscoverError::Missing { file });
        };
        let parsed = proxy
            .value
            .parse()
            .map_err(|source| DiscoverError::Bad { origin: proxy.origin.clone(), source })?;
        let network = NETWORK
            .iter()
            .filter_map(|name| variables.get(*name).map(|value| ((*name).to_owned(), value.clone())))
            .collect();
        let proxy_origin = proxy.origin.clone();
        Ok(Self { proxy: parsed, proxy_origin, settings, network, home, installed })
    }

    /// Names what is set here, for telling whether another process would set the same. A digest, since values may
    /// hold credentials. Who made a setting does not count, nor does what belongs to one session of the user.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let settings: BTreeMap<_, _> =
            self.settings.iter().map(|(name, setting)| (name, &setting.value)).collect();
        let network: BTreeMap<_, _> =
            self.network.iter().filter(|(name, _)| !OF_A_SESSION.contains(&name.as_str())).collect();
        // The debug form quotes, so that no value can pass for two.
        let text = format!("{settings:?} {network:?} {:?} {:?}", self.home, self.installed);
        Digest::of(text.as_bytes()).to_hex()
    }

    /// What weakens the check of modules, for the log: empty when nothing does.
    #[must_use]
    pub fn weaknesses(&self) -> Vec<String> {
        let says = |name: &str| self.settings.get(name).filter(|setting| !setting.value.is_empty());
        let mut found = Vec::new();
        if let Some(setting) = says("GOSUMDB").filter(|setting| setting.value == "off") {
            found.push(format!("GOSUMDB=off ({}): modules are not checked", setting.origin));
        }
        if let Some(setting) = says("GONOSUMDB") {
            found.push(format!("GONOSUMDB={} ({}): these are not checked", setting.value, setting.origin));
        }
        if let Some(setting) = says("GOINSECURE") {
            found
                .push(format!("GOINSECURE={} ({}): these travel unprotected", setting.value, setting.origin));
        }
        found
    }
}

fn look_up(name: &str, variables: &Variables, files: &[(String, Variables)]) -> Option<Setting> {
    // As in cmd/go, an empty variable counts as not set.
    if let Some(value) = variables.get(name).filter(|value| !value.is_empty()) {
        return Some(Setting { value: value.clone(), origin: "environment".into() });
    }
    files.iter().find_map(|(origin, values)| {
        let value = values.get(name).filter(|value| !value.is_empty())?;
        Some(Setting { value: value.clone(), origin: origin.clone() })
    })
}

fn user_file(variables: &Variables, home: Option<&Path>) -> Option<PathBuf> {
    match variables.get("GOENV").map(String::as_str) {
        Some("off") => return None,
        Some(path) if !path.is_empty() => return Some(path.into()),
        _ => {}
    }
    if cfg!(target_os = "macos") {
        return home.map(|home| home.join("Library/Application Support/go/env"));
    }
    match variables.get("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => Some(Path::new(dir).join("go/env")),
        None => home.map(|home| home.join(".config/go/env")),
    }
}

/// Reads `NAME=VALUE` lines. A file that is missing or not text says nothing.
fn read_env_file(path: &Path) -> Variables {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The directory of a Go that is installed: `$GOROOT`, the `go` in PATH, or a usual place.
fn installed_goroot(variables: &Variables, home: Option<&Path>, goroots: &[PathBuf]) -> Option<PathBuf> {
    let named = variables.get("GOROOT").map(PathBuf::from);
    let in_path = variables.get("PATH").into_iter().flat_map(std::env::split_paths).filter_map(|dir| {
        let go = std::fs::canonicalize(dir.join("go")).ok()?;
        Some(go.parent()?.parent()?.to_owned())
    });
    let in_home = home.into_iter().flat_map(|home| [home.join("go"), home.join(".local/go")]);
    named
        .into_iter()
        .chain(in_path)
        .chain(goroots.iter().cloned())
        .chain(in_home)
        .find(|root| root.join("bin/go").is_file() && root.join("VERSION").is_file())
}

fn common_goroots() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = [
        "/usr/local/go",
        "/usr/lib/go",
        "/usr/lib/golang",
        "/snap/go/current",
        "/opt/homebrew/opt/go/libexec",
        "/usr/local/opt/go/libexec",
        "/opt/go",
    ]
    .iter()
    .map(PathBuf::from)
    .collect();
    // Debian keeps one directory a minor version.
    let mut numbered: Vec<_> = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("go-"))
        .map(|entry| entry.path())
        .collect();
    numbered.sort();
    places.extend(numbered.into_iter().rev());
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
        variables: Variables,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = dir.path().join("home");
            let variables = [("HOME".to_owned(), home.display().to_string())].into();
            Self { dir, variables }
        }

        fn write(&self, path: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }

        fn goroot(&self, go_env: &str) -> PathBuf {
            self.write("go/bin/go", "");
            self.write("go/VERSION", "go1.99");
            self.write("go/go.env", go_env).parent().unwrap().to_owned()
        }

        fn discover(&self, goroots: &[PathBuf]) -> Result<GoEnvironment, DiscoverError> {
            GoEnvironment::discover_in(&self.variables, goroots)
        }
    }

    #[test]
    fn the_environment_comes_before_the_users_file_and_that_before_an_installed_go() {
        let mut machine = Machine::new();
        let root = machine.goroot("# defaults\nGOPROXY=http://third.test,direct\nGOSUMDB=sum.test\n");
        let found = machine.discover(std::slice::from_ref(&root)).unwrap();
        assert_eq!(found.proxy.to_string(), "http://third.test,direct");
        assert!(found.proxy_origin.ends_with("go.env"));
        machine.write("home/.config/go/env", "GOPROXY=http://second.test\n");
        let found = machine.discover(std::slice::from_ref(&root)).unwrap();
        assert_eq!(found.proxy.to_string(), "http://second.test");
        assert_eq!(found.settings["GOSUMDB"].value, "sum.test");
        machine.variables.insert("GOPROXY".into(), "http://first.test".into());
        let found = machine.discover(std::slice::from_ref(&root)).unwrap();
        assert_eq!(
            (found.proxy.to_string().as_str(), found.proxy_origin.as_str()),
            ("http://first.test", "environment")
        );
    }

    #[test]
    fn the_fingerprint_follows_every_value_but_neither_its_origin_nor_the_session() {
        let mut machine = Machine::new();
        machine.write("home/.config/go/env", "GOPROXY=http://u:secret@a.test\n");
        let first = machine.discover(&[]).unwrap().fingerprint();
        assert_eq!(first.len(), 64);
        machine.variables.insert("GOPROXY".into(), "http://u:secret@a.test".into());
        machine.variables.insert("SSH_AUTH_SOCK".into(), "/tmp/agent.1".into());
        assert_eq!(machine.discover(&[]).unwrap().fingerprint(), first);
        let mut seen = std::collections::BTreeSet::from([first]);
        for name in SETTINGS.iter().chain(&NETWORK).filter(|name| !OF_A_SESSION.contains(name)) {
            machine.variables.insert((*name).to_owned(), "http://other.test".into());
            assert!(seen.insert(machine.discover(&[]).unwrap().fingerprint()), "{name}");
        }
        let root = machine.goroot("");
        assert!(seen.insert(machine.discover(&[root]).unwrap().fingerprint()), "an installed Go");
    }

    #[test]
    fn a_machine_without_any_answer_is_told_what_to_set() {
        let error = Machine::new().discover(&[]).unwrap_err();
        assert!(error.to_string().contains("set GOPROXY"), "{error}");
    }

    #[test]
    fn a_go_in_the_path_is_found_through_its_link() {
        let mut machine = Machine::new();
        let root = machine.goroot("GOPROXY=http://a.test");
        let bin = machine.dir.path().join("links");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(root.join("bin/go"), bin.join("go")).unwrap();
        machine.variables.insert("PATH".into(), bin.display().to_string());
        let found = machine.discover(&[]).unwrap();
        assert_eq!(found.installed, Some(std::fs::canonicalize(root).unwrap()));
    }

    #[test]
    fn goenv_off_leaves_the_users_file_unread_and_weak_settings_are_told() {
        let mut machine = Machine::new();
        machine.write("home/.config/go/env", "GOPROXY=http://second.test\n");
        machine.variables.insert("GOENV".into(), "off".into());
        assert!(machine.discover(&[]).is_err());
        machine.variables.insert("GOPROXY".into(), "http://a.test".into());
        machine.variables.insert("GOSUMDB".into(), "off".into());
        assert_eq!(machine.discover(&[]).unwrap().weaknesses().len(), 1);
    }

    #[test]
    fn a_bad_value_names_who_gave_it() {
        let mut machine = Machine::new();
        machine.variables.insert("GOPROXY".into(), "nonsense".into());
        let error = machine.discover(&[]).unwrap_err();
        assert!(error.to_string().contains("environment"), "{error}");
    }
}
