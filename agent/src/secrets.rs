//! Which values are secret on this agent, and where they are found.
//!
//! Two kinds: what the operator *declares* in `agent.toml` (names of environment variables, files, systemd credentials),
//! and what the agent itself *uses* to reach modules: passwords in Go's settings and in the network's proxies, those of
//! the netrc file, of git's credential stores (`~/.git-credentials` and `git/credentials` in the user's configuration
//! directory) and in addresses of git's configuration files. **All of them are masked, or the agent does not start**:
//! none is left out for being one too many. Values are read here, on the machine that has them, and go into the
//! redaction and nowhere else: not to the coordinator, not into a journal, not into a log.
//!
//! A declared value that cannot be masked (too short, a common word) is refused by its name, so that nobody believes it
//! hidden. One that the agent merely uses is warned of instead: the operator did not choose it here, and the shape of
//! a URL hides it in most places.
//!
//! Not here: what GOAUTH commands and git's credential helpers print. They are asked by cmd/go and git themselves.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    goproxy::{GoEnvironment, Variables},
    redaction::{Redaction, Secret, SecretError},
};

/// Where systemd puts the credentials of a service.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// The shortest user name that stands alone in a URL and is taken for a token: those of forges have 20 and more.
const TOKEN_LEN_MIN: usize = 20;
/// The longest file of credentials, in bytes: a half of one would be masked by half.
const FILE_LEN_MAX: u64 = 256 << 10;

/// What the operator declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredSecrets {
    /// Names of environment variables of the agent.
    pub variables: Vec<String>,
    /// Files whose content is secret; a bare name is a systemd credential.
    pub files: Vec<PathBuf>,
}

/// Why declared secrets cannot be masked. Never shows a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A declared variable that nobody set.
    #[error(
        "redaction.variables names {0}, which is not in the agent's environment: set it, or do not declare it"
    )]
    Unset(String),
    /// A credential that the service was not given.
    #[error(
        "redaction.files names the credential {0}, and systemd gave this process none ({CREDENTIALS_DIRECTORY} is not set): \
         write LoadCredential={0}:PATH, or name a file by its whole path"
    )]
    NoCredentials(String),
    /// A file that cannot be read.
    #[error("redaction.files names {}, which cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of credentials that is too long to be masked as a whole.
    #[error("{} holds credentials that git and go use here, and cannot be masked: {source}", path.display())]
    Found {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A value that cannot be masked.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Makes everything that is secret here ready to be masked.
///
/// # Errors
/// When a declared secret cannot be read or masked, or there are more credentials than can be masked.
pub fn gather(
    declared: &DeclaredSecrets,
    variables: &Variables,
    go: &GoEnvironment,
) -> Result<Redaction, SecretsError> {
    let mut secrets = Vec::new();
    for name in &declared.variables {
        let value = variables.get(name).ok_or_else(|| SecretsError::Unset(name.clone()))?;
        secrets.push(Secret::new(&format!("in the variable {name}"), value.as_bytes())?);
    }
    for file in &declared.files {
        let path = located(file, variables)?;
        let bytes = read(&path).map_err(|source| SecretsError::File { path: path.clone(), source })?;
        secrets.push(Secret::new(&format!("in {}", path.display()), &bytes)?);
    }
    for (name, value) in found(variables, go)? {
        match Secret::new(&name, value.as_bytes()) {
            Ok(secret) => secrets.push(secret),
            Err(error) => tracing::warn!(%error, "a credential of this agent is masked in URLs alone"),
        }
    }
    Ok(Redaction::new(&secrets)?)
}

/// A file's whole path. A bare name is that of a credential.
fn located(file: &Path, variables: &Variables) -> Result<PathBuf, SecretsError> {
    if file.components().count() != 1 || file.is_absolute() {
        return Ok(file.to_owned());
    }
    let directory = variables.get(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
    let lacks = || SecretsError::NoCredentials(file.display().to_string());
    Ok(Path::new(directory.ok_or_else(lacks)?).join(file))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        let told = format!("it has more than {FILE_LEN_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, told));
    }
    Ok(bytes)
}

/// What the agent uses, by value: each once, with the name that is told when it cannot be masked.
fn found(variables: &Variables, go: &GoEnvironment) -> Result<Vec<(String, String)>, SecretsError> {
    let mut found = BTreeMap::new();
    let settings = go.settings.iter().map(|(name, setting)| (name, &setting.value));
    for (name, value) in settings.chain(&go.network) {
        for secret in of_urls(value) {
            found.entry(secret).or_insert_with(|| format!("the password in {name}"));
        }
    }
    let netrc = netrc(go).into_iter().map(|path| (path, of_netrc as fn(&str) -> Vec<String>));
    let of_git =
        files_of_git(variables, go).into_iter().map(|path| (path, of_lines as fn(&str) -> Vec<String>));
    for (path, secrets_in) in netrc.chain(of_git) {
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                return Err(SecretsError::Found { path, source });
            }
            // git and cmd/go run as this user and read no more of it.
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a file of credentials cannot be read");
                continue;
            }
        };
        for secret in secrets_in(&String::from_utf8_lossy(&bytes)) {
            found.entry(secret).or_insert_with(|| format!("a password in {}", path.display()));
        }
    }
    Ok(found.into_iter().map(|(value, name)| (name, value)).collect())
}

/// Where git keeps credentials in plain text: its two stores, and addresses in its configuration. The directory below
/// home counts also where `XDG_CONFIG_HOME` names another one, since the agent's git is not told of that.
fn files_of_git(variables: &Variables, go: &GoEnvironment) -> Vec<PathBuf> {
    let named = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = go.home.as_deref();
    let directories = named("XDG_CONFIG_HOME").into_iter().chain(home.map(|home| home.join(".config")));
    let mut files: Vec<PathBuf> = directories
        .flat_map(|directory| ["credentials", "config"].map(|name| directory.join("git").join(name)))
        .collect();
    files.extend(home.into_iter().flat_map(|home| [home.join(".git-credentials"), home.join(".gitconfig")]));
    files.extend(named("GIT_CONFIG_GLOBAL"));
    files
}

fn of_lines(text: &str) -> Vec<String> {
    text.lines().flat_map(of_urls).collect()
}

/// The netrc file that cmd/go and git read.
fn netrc(go: &GoEnvironment) -> Option<PathBuf> {
    match go.settings.get("NETRC") {
        Some(setting) => Some(PathBuf::from(&setting.value)),
        None => go.home.as_ref().map(|home| home.join(".netrc")),
    }
}

/// The passwords in a text's URLs, as they are written and as they are meant; of a URL with a user's name alone that
/// name, when it is long enough for a token.
fn of_urls(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for (at, _) in text.match_indices("://") {
        let rest = &text[at + 3..];
        let authority =
            rest.split(['/', '?', '#', ',', '|', ' ', '\t', '\n', '"', '\'']).next().unwrap_or_default();
        let Some((user, _)) = authority.rsplit_once('@') else { continue };
        let secret = match user.split_once(':') {
            Some((_, password)) => password,
            None if user.len() >= TOKEN_LEN_MIN => user,
            None => continue,
        };
        if secret.is_empty() {
            continue;
        }
        let meant = percent_decoded(secret);
        if meant != secret {
            secrets.push(meant);
        }
        secrets.push(secret.to_owned());
    }
    secrets
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The passwords of a netrc file: the word after each `password`, and `account`. A `macdef` runs to an empty line.
fn of_netrc(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let mut is_next = false;
    let mut in_macro = false;
    for line in text.lines() {
        if in_macro {
            in_macro = !line.trim().is_empty();
            continue;
        }
        for word in line.split_ascii_whitespace() {
            if std::mem::take(&mut is_next) {
                secrets.push(word.trim_matches('"').to_owned());
                continue;
            }
            if word.starts_with('#') {
                break;
            }
            is_next = matches!(word, "password" | "account");
            in_macro |= word == "macdef";
        }
    }
    secrets
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
            let variables = [
                ("HOME".to_owned(), dir.path().display().to_string()),
                ("GOPROXY".to_owned(), "https://ci:proxy-pass%21@proxy.test,direct".to_owned()),
            ];
            Self { dir, variables: variables.into() }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn gather(&self, variables: &[&str], files: &[PathBuf]) -> Result<Redaction, SecretsError> {
            let go = GoEnvironment::discover_in(&self.variables, &[]).unwrap();
            let variables = variables.iter().map(|name| (*name).to_owned()).collect();
            gather(&DeclaredSecrets { variables, files: files.to_vec() }, &self.variables, &go)
        }
    }

    #[test]
    fn declared_variables_files_and_credentials_are_masked() {
        let mut machine = Machine::new();
        machine.variables.insert("DEPLOY".into(), "in-a-variable".into());
        machine.variables.insert("CREDENTIALS_DIRECTORY".into(), machine.dir.path().display().to_string());
        let file = machine.write("file", "in-a-file-42\n");
        machine.write("npm", "in-a-credential\n");
        let redaction = machine.gather(&["DEPLOY"], &[file, "npm".into()]).unwrap();
        let told = redaction.text("in-a-variable, in-a-file-42, in-a-credential, aW4tYS12YXJpYWJsZQ==");
        assert_eq!(told, "***, ***, ***, ***==");
    }

    #[test]
    fn what_the_agent_uses_to_reach_modules_is_secret_without_being_declared() {
        let mut machine = Machine::new();
        machine.variables.insert("HTTPS_PROXY".into(), "http://u:network-pass@proxy.test:3128".into());
        machine.write(
            ".netrc",
            "machine git.test login ci password netrc-pass-1\ndefault login x password netrc-2b\n",
        );
        machine.write(
            ".git-credentials",
            "https://ci:store-pass-3@git.test\nhttps://ghp_0123456789abcdefghij@git.test\n",
        );
        for (path, text) in [
            ("xdg/git/credentials", "https://ci:xdg-pass-4@git.test\n"),
            (".config/git/credentials", "https://ci:config-pass-5@git.test\n"),
            (".gitconfig", "[url \"https://ci:config-pass-6@git.test/\"]\n\tinsteadOf = https://git.test/\n"),
        ] {
            std::fs::create_dir_all(machine.dir.path().join(path).parent().unwrap()).unwrap();
            machine.write(path, text);
        }
        let xdg = machine.dir.path().join("xdg").display().to_string();
        machine.variables.insert("XDG_CONFIG_HOME".into(), xdg);
        let redaction = machine.gather(&[], &[]).unwrap();
        for secret in [
            "xdg-pass-4",
            "config-pass-5",
            "config-pass-6",
            "proxy-pass%21",
            "proxy-pass!",
            "network-pass",
            "netrc-pass-1",
            "netrc-2b",
            "store-pass-3",
            "ghp_0123456789abcdefghij",
        ] {
            assert_eq!(redaction.text(&format!("it said {secret}.")), "it said ***.", "{secret}");
        }
    }

    #[test]
    fn a_declared_secret_that_cannot_be_read_or_masked_is_refused_by_name_and_without_its_value() {
        let mut machine = Machine::new();
        machine.variables.insert("PIN".into(), "4711".into());
        machine.variables.insert("WORD".into(), "Password".into());
        let short = machine.write("short", "abc\n");
        let told = |variables: &[&str], files: &[PathBuf]| {
            machine.gather(variables, files).err().map(|error| error.to_string()).unwrap()
        };
        let pin = told(&["PIN"], &[]);
        assert!(pin.contains("PIN") && pin.contains("make it longer") && !pin.contains("4711"), "{pin}");
        let word = told(&["WORD"], &[]);
        assert!(
            word.contains("WORD") && word.contains("common word") && !word.contains("Password"),
            "{word}"
        );
        let file = told(&[], std::slice::from_ref(&short));
        assert!(file.contains("short") && file.contains("3 bytes") && !file.contains("abc"), "{file}");
        assert!(told(&["GONE"], &[]).contains("redaction.variables names GONE"));
        assert!(told(&[], &["npm".into()]).contains("LoadCredential=npm"));
        assert!(told(&[], &["/nowhere/x".into()]).contains("/nowhere/x"));
    }

    #[test]
    fn every_credential_is_masked_and_more_than_can_be_are_refused() {
        let machine = Machine::new();
        let secret = |n: usize| format!("store-pass-{n:04}");
        let store = |count: usize| -> String {
            (0..count).map(|n| format!("https://ci:{}@git{n}.test\n", secret(n))).collect()
        };
        machine.write(".git-credentials", &store(3_000));
        let redaction = machine.gather(&[], &[]).unwrap();
        let every: String = (0..3_000).map(|n| secret(n) + ".").collect();
        assert_eq!(redaction.text(&every), "***.".repeat(3_000));
        let told = || machine.gather(&[], &[]).err().map(|error| error.to_string()).unwrap();
        machine.write(".git-credentials", &store(4_096));
        let count = told();
        assert!(count.contains("more than the 4096 that can be masked"), "{count}");
        machine.write(".git-credentials", &"# a long file\n".repeat(20_000));
        let len = told();
        assert!(len.contains(".git-credentials") && len.contains("more than 262144 bytes"), "{len}");
    }

    #[test]
    fn a_short_password_that_the_agent_merely_uses_keeps_no_agent_from_starting() {
        let mut machine = Machine::new();
        machine.variables.insert("GOPROXY".into(), "https://ci:abc@proxy.test".into());
        let redaction = machine.gather(&[], &[]).unwrap();
        assert_eq!(redaction.text("abc https://ci:abc@proxy.test/x"), "abc https://ci:***@proxy.test/x");
    }

    #[test]
    fn a_netrc_file_is_read_as_its_readers_do() {
        let text = "# password comment\nmachine a.test\n  login u\n  password \"one two\nmacdef init\npassword macro\n\n\
                    machine b.test login u account acc-1 password pw-2\n";
        assert_eq!(of_netrc(text), ["one", "acc-1", "pw-2"]);
    }
}
