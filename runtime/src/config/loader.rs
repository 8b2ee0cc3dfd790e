//! From layers to a typed value.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{
    document::{Node, Parser, value_of},
    env::Overlay,
    errors::{ConfigErrors, Found, Origin, Problem},
    schema::{Findings, Key, Kind, walk},
};

/// Larger than any configuration a person writes, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// A type that can be loaded. Its defaults are serde's (`#[serde(default)]`); `deny_unknown_fields` is not needed.
pub trait ConfigType: DeserializeOwned {
    /// The keys of its root table.
    const SCHEMA: &'static [Key];

    /// What is wrong between values; what one value shows by itself is for its [`Kind`] to judge. A value that could not
    /// be read has its default here, and a problem that rests on it is not told.
    fn check(&self) -> Vec<Problem>;
}

/// The layers a configuration is made of; a later one wins over an earlier one, files first, then the environment, then
/// flags.
#[derive(Debug, Default)]
pub struct Loader {
    files: Vec<(PathBuf, bool)>,
    vars: BTreeMap<String, String>,
    overrides: Vec<(String, toml::Value, String)>,
}

impl Loader {
    /// No layers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that must exist.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.files.push((path.as_ref().to_owned(), true));
        self
    }

    /// Adds a file that may be absent.
    #[must_use]
    pub fn optional_file(mut self, path: impl AsRef<Path>) -> Self {
        self.files.push((path.as_ref().to_owned(), false));
        self
    }

    /// Adds environment variables, usually `std::env::vars()`. The key `a.b-c` is set by `MERIDIAN_A_B_C`; lists are
    /// separated by commas, and a table whose keys are the user's is written as in a file: `{ acme = 300 }`.
    #[must_use]
    pub fn env(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        self.vars.extend(vars);
        self
    }

    /// Sets the key at the dotted `path`, as the flag `origin` asked.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>, origin: &str) -> Self {
        self.overrides.push((path.to_owned(), value.into(), origin.to_owned()));
        self
    }

    /// Sets the key at the dotted `path` to what a person wrote behind a flag: a whole number, `true` or `false`, a list or
    /// a table as in a file, or else text. A table is added to what the layers below have there.
    #[must_use]
    pub fn set_text(self, path: &str, text: &str, origin: &str) -> Self {
        if let Ok(number) = text.parse::<i64>() {
            return self.set(path, number, origin);
        }
        if let Ok(truth) = text.parse::<bool>() {
            return self.set(path, truth, origin);
        }
        // An address of IPv6 begins like a list, and is none for having a port at its end.
        let is_within = |open: char, close: char| {
            text.trim().strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
        };
        let is_nested = is_within('[', ']') || is_within('{', '}');
        match is_nested.then(|| value_of(text)).flatten() {
            Some(value) => self.set(path, value, origin),
            None => self.set(path, text, origin),
        }
    }

    /// Reads all layers into a `T`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load<T: ConfigType>(&self) -> Result<T, ConfigErrors> {
        let mut found = Vec::new();
        let mut tree = self.layers(T::SCHEMA, &mut found);
        let mut findings = Findings::of(T::SCHEMA);
        walk(Kind::Table(T::SCHEMA), &mut tree, "", &mut findings);
        if !found.is_empty() {
            // A file that is broken may hold what seems to be missing, and anything that another value needs.
            findings.found.retain(|found| !found.message.starts_with("missing key"));
            found.append(&mut findings.found);
            return Err(ConfigErrors::new(found));
        }
        found.append(&mut findings.found);
        match tree.clone().into_toml().try_into::<T>() {
            Ok(value) => {
                found.extend(problems(&value, &tree, &findings));
                if found.is_empty() { Ok(value) } else { Err(ConfigErrors::new(found)) }
            }
            Err(error) => {
                // After other mistakes this says only that what they are about is not there.
                if found.is_empty() {
                    let message = error.to_string().trim().replace('\n', " ");
                    found.push(Found { origin: tree.origin.clone(), message });
                }
                Err(ConfigErrors::new(found))
            }
        }
    }

    fn layers(&self, keys: &[Key], found: &mut Vec<Found>) -> Node {
        let origin = |layer, name: &str| Origin { layer, line: 0, column: 0, name: Arc::from(name) };
        let mut tree = Node::empty(origin(0, "configuration"));
        for (layer, (path, required)) in self.files.iter().enumerate() {
            let name = path.display().to_string();
            match read(path) {
                Ok(text) => {
                    let mut parser = Parser { layer, name: Arc::from(name), text: &text, found: Vec::new() };
                    if let Some(node) = parser.parse() {
                        tree.origin = node.origin.clone();
                        tree.merge(node);
                    }
                    found.append(&mut parser.found);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {}
                Err(error) => {
                    found.push(Found {
                        origin: origin(layer, &name),
                        message: format!("cannot read it: {error}"),
                    });
                }
            }
        }
        let layer = self.files.len();
        let Overlay { nodes: mut overlays, found: mut refused, .. } = Overlay::of(keys, layer, &self.vars);
        found.append(&mut refused);
        for (path, value, flag) in &self.overrides {
            let origin = origin(layer + 1, flag);
            let node = Node::from_toml(value.clone(), &origin);
            overlays.push(Node::at_path(path, node.value, &origin));
        }
        for overlay in overlays {
            tree.merge(overlay);
        }
        tree
    }
}

/// What is wrong between values that could all be read.
fn problems<T: ConfigType>(value: &T, tree: &Node, findings: &Findings) -> Vec<Found> {
    let mut problems = value.check();
    problems.retain(|problem| !problem.paths.iter().any(|path| findings.is_unread(path)));
    let found = |Problem { paths, message }: Problem| {
        let path = paths.first().map_or("", String::as_str);
        Found { origin: tree.origin_of(path).clone(), message: format!("`{path}`: {message}") }
    };
    problems.into_iter().map(found).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > FILE_LEN_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    fs::read_to_string(path)
}
