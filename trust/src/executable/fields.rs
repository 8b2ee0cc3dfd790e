//! What differs between two build infos, field by field.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    build_info::{BuildInfo, Module},
    divergence::{FieldDifference, brief},
};

/// A field of a build info.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum Field {
    /// The toolchain's version.
    GoVersion,
    /// The main package's path.
    Path,
    /// The path, version, sum or replacement of the main module.
    MainModule,
    /// The path of a module of which the version or the replacement differs, or that only one has.
    Dependency(String),
    /// The path of a module of which the version is the same and the `h1:` hash is not.
    DependencySum(String),
    /// The key of a setting.
    Setting(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoVersion => f.write_str("go version"),
            Self::Path => f.write_str("main package"),
            Self::MainModule => f.write_str("main module"),
            Self::Dependency(path) => write!(f, "dependency {path}"),
            Self::DependencySum(path) => write!(f, "hash of dependency {path}"),
            Self::Setting(key) => write!(f, "setting {key}"),
        }
    }
}

/// Every field that differs: the version first, then modules by path, then settings by key.
pub(super) fn differences(left: &BuildInfo, right: &BuildInfo) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let mut push = |field: Field, left: Option<String>, right: Option<String>| {
        if left != right {
            let (left, right) = (left.map(|text| brief(&text)), right.map(|text| brief(&text)));
            found.push(FieldDifference { field, left, right });
        }
    };
    push(Field::GoVersion, Some(left.go_version.clone()), Some(right.go_version.clone()));
    push(Field::Path, Some(left.path.clone()), Some(right.path.clone()));
    let whole = |module: &Module| {
        let text = format!("{} {} {}", module.path, described(module), module.effective().sum);
        text.trim_end().to_owned()
    };
    push(Field::MainModule, left.main.as_ref().map(whole), right.main.as_ref().map(whole));
    for (path, (ours, theirs)) in pairs(&left.deps, &right.deps, |module| module.path.as_str()) {
        let (ours_text, theirs_text) = (ours.map(described), theirs.map(described));
        if ours_text == theirs_text {
            let sum = |module: &Module| module.effective().sum.clone();
            push(Field::DependencySum(brief(path)), ours.map(sum), theirs.map(sum));
        } else {
            push(Field::Dependency(brief(path)), ours_text, theirs_text);
        }
    }
    for (key, (ours, theirs)) in pairs(&left.settings, &right.settings, |setting| setting.key.as_str()) {
        let value = |setting: Option<&super::Setting>| setting.map(|setting| setting.value.clone());
        push(Field::Setting(brief(key)), value(ours), value(theirs));
    }
    found
}

/// Version, and what replaces it.
fn described(module: &Module) -> String {
    match &module.replace {
        None => module.version.clone(),
        Some(by) => format!("{} => {} {}", module.version, by.path, by.version).trim_end().to_owned(),
    }
}

/// The items of both sides by key; of several with one key the last counts, as it does for Go.
fn pairs<'i, T>(
    left: &'i [T],
    right: &'i [T],
    key: impl Fn(&'i T) -> &'i str,
) -> BTreeMap<&'i str, (Option<&'i T>, Option<&'i T>)> {
    let mut pairs: BTreeMap<&str, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for item in left {
        pairs.entry(key(item)).or_default().0 = Some(item);
    }
    for item in right {
        pairs.entry(key(item)).or_default().1 = Some(item);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executable::Setting;

    fn module(path: &str, version: &str, sum: &str) -> Module {
        Module { path: path.into(), version: version.into(), sum: sum.into(), replace: None }
    }

    fn setting(key: &str, value: &str) -> Setting {
        Setting { key: key.into(), value: value.into() }
    }

    fn info() -> BuildInfo {
        BuildInfo {
            go_version: "go1.26.8".into(),
            path: "x.test/a".into(),
            main: Some(module("x.test", "(devel)", "")),
            deps: vec![module("b.test", "v1.0.0", "h1:b"), module("c.test", "v1.0.0", "h1:c")],
            settings: vec![setting("-tags", "a"), setting("GOAMD64", "v1")],
        }
    }

    fn check(change: impl Fn(&mut BuildInfo), field: Field, left: Option<&str>, right: Option<&str>) {
        let mut changed = info();
        change(&mut changed);
        let expected =
            FieldDifference { field, left: left.map(str::to_owned), right: right.map(str::to_owned) };
        assert_eq!(differences(&info(), &changed), [expected]);
    }

    #[test]
    fn each_field_that_differs_is_named_with_both_values() {
        assert_eq!(differences(&info(), &info()), []);
        check(|i| i.go_version = "go1.27".into(), Field::GoVersion, Some("go1.26.8"), Some("go1.27"));
        check(|i| i.path = "x.test/b".into(), Field::Path, Some("x.test/a"), Some("x.test/b"));
        check(|i| i.main = None, Field::MainModule, Some("x.test (devel)"), None);
        let dependency = || Field::Dependency("b.test".into());
        check(|i| i.deps[0].version = "v1.1.0".into(), dependency(), Some("v1.0.0"), Some("v1.1.0"));
        check(|i| drop(i.deps.remove(0)), dependency(), Some("v1.0.0"), None);
        check(
            |i| i.deps[0].replace = Some(Box::new(module("./b", "", ""))),
            dependency(),
            Some("v1.0.0"),
            Some("v1.0.0 => ./b"),
        );
        let sum = Field::DependencySum("c.test".into());
        check(|i| i.deps[1].sum = "h1:x".into(), sum, Some("h1:c"), Some("h1:x"));
        check(
            |i| i.settings[1].value = "v3".into(),
            Field::Setting("GOAMD64".into()),
            Some("v1"),
            Some("v3"),
        );
        check(|i| drop(i.settings.remove(0)), Field::Setting("-tags".into()), Some("a"), None);
    }
}
