//! Module paths, import paths and how both are written in a proxy's addresses.
//!
//! The rules are Go's own. An address must not depend on letter case (some file systems do not), so an upper
//! case letter is written as `!` and its lower case; an address with a raw upper-case letter or a stray `!`
//! is refused, since it would be a second name for the same content. Nothing here asks a proxy anything.

use std::{borrow::Cow, fmt};

/// The longest path or version that is looked at, in bytes.
pub const PATH_LEN_MAX: usize = 1024;

/// Why a path, a version or an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} {text:?}: {why}")]
pub struct PathError {
    /// Which kind of text it was meant to be.
    pub what: What,
    /// What was given, cut short.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Which kind of text was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A module's path, such as `example.com/web/v2`.
    ModulePath,
    /// A package's path.
    ImportPath,
    /// A version as it stands in an address.
    Version,
    /// A module's path as it stands in an address.
    EscapedPath,
    /// A version as it stands in an address, escaped.
    EscapedVersion,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ModulePath => "module path",
            Self::ImportPath => "import path",
            Self::Version => "version",
            Self::EscapedPath => "escaped module path",
            Self::EscapedVersion => "escaped version",
        })
    }
}

fn error(what: What, text: &str, why: impl Into<String>) -> PathError {
    PathError { what, text: text.chars().take(200).collect(), why: why.into() }
}

/// Checks a module's path: an import path whose first element is a lower-case domain name, no element of
/// which begins with a dot, and whose major-version suffix is well formed.
///
/// # Errors
/// When the path breaks Go's rule, or is longer than [`PATH_LEN_MAX`].
pub fn check_module_path(path: &str) -> Result<(), PathError> {
    let refuse = |why: String| error(What::ModulePath, path, why);
    check_elements(path, Elements::Module).map_err(refuse)?;
    let first = path.split('/').next().unwrap_or_default();
    if !first.contains('.') {
        return Err(refuse("missing dot in first path element".to_owned()));
    }
    let is_domain = |b: u8| matches!(b, b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z');
    if let Some(bad) = first.bytes().find(|b| !is_domain(*b)) {
        return Err(refuse(format!("invalid char {:?} in first path element", char::from(bad))));
    }
    split_major(path).map(|_| ()).ok_or_else(|| refuse("invalid version".to_owned()))
}

/// Checks a package's path.
///
/// # Errors
/// When the path breaks Go's rule, or is longer than [`PATH_LEN_MAX`].
pub fn check_import_path(path: &str) -> Result<(), PathError> {
    check_elements(path, Elements::Import).map_err(|why| error(What::ImportPath, path, why))
}

/// A module's path as it stands in a proxy's address and in the module cache.
///
/// # Errors
/// When the path is not a module's.
pub fn escape_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    check_module_path(path)?;
    Ok(escape(path))
}

/// A version or query as it stands in a proxy's address and in the module cache.
///
/// # Errors
/// When the version could not be a file name or holds a `!`.
pub fn escape_version(version: &str) -> Result<Cow<'_, str>, PathError> {
    check_element_of_file(version).map_err(|why| error(What::Version, version, why))?;
    if version.contains('!') || !version.is_ascii() {
        return Err(error(What::Version, version, "disallowed version string"));
    }
    Ok(escape(version))
}

/// The module's path that an address means.
///
/// # Errors
/// When the address holds a raw upper-case letter, a stray `!`, or means no module path.
pub fn unescape_path(escaped: &str) -> Result<String, PathError> {
    let path = unescape(escaped).ok_or_else(|| error(What::EscapedPath, escaped, "not an escaped text"))?;
    check_module_path(&path).map_err(|e| error(What::EscapedPath, escaped, e.why))?;
    Ok(path)
}

/// The version that an address means.
///
/// # Errors
/// When the address holds a raw upper-case letter, a stray `!`, or what could not be a file name.
pub fn unescape_version(escaped: &str) -> Result<String, PathError> {
    let refuse = |why: String| error(What::EscapedVersion, escaped, why);
    let version = unescape(escaped).ok_or_else(|| refuse("not an escaped text".to_owned()))?;
    check_element_of_file(&version).map_err(refuse)?;
    Ok(version)
}

/// Splits a module's path from its major-version suffix: `/v2` and later, `.v1` and the like for gopkg.in,
/// else empty. The two parts joined are the path.
///
/// `None` when the path ends in what looks like a suffix and is none, such as `/v1` or `/v2.0`.
#[must_use]
pub fn split_major(path: &str) -> Option<(&str, &str)> {
    if path.starts_with("gopkg.in/") {
        return split_gopkg_in(path);
    }
    let is_digit_or_dot = |c: char| c.is_ascii_digit() || c == '.';
    let stem = path.trim_end_matches(is_digit_or_dot);
    let number = &path[stem.len()..];
    let Some(prefix) = stem.strip_suffix("/v").filter(|_| !number.is_empty()) else {
        return Some((path, ""));
    };
    let is_suffix = !number.contains('.') && !number.starts_with('0') && number != "1";
    is_suffix.then(|| path.split_at(prefix.len()))
}

fn split_gopkg_in(path: &str) -> Option<(&str, &str)> {
    let stable = path.strip_suffix("-unstable").unwrap_or(path);
    let stem = stable.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &stable[stem.len()..];
    let prefix = stem.strip_suffix(".v")?;
    let is_suffix = !number.is_empty() && (!number.starts_with('0') || (number == "0" && stable == path));
    is_suffix.then(|| path.split_at(prefix.len()))
}

/// Whether a version may belong to a path with this suffix, as [`split_major`] gives it.
#[must_use]
pub fn matches_major(version: &str, suffix: &str) -> bool {
    let major = super::semver::major(version);
    let suffix = suffix.strip_suffix("-unstable").filter(|s| s.starts_with(".v")).unwrap_or(suffix);
    match suffix.strip_prefix(['/', '.']) {
        // An old Go made such pseudo-versions for gopkg.in's `.v1`, and they are still required by modules.
        Some("v1") if suffix == ".v1" && version.starts_with("v0.0.0-") => true,
        Some(wanted) => major == wanted,
        None => matches!(major, "v0" | "v1") || super::semver::build(version) == "+incompatible",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Elements {
    Module,
    Import,
}

fn check_elements(path: &str, kind: Elements) -> Result<(), String> {
    if path.is_empty() {
        return Err("empty string".to_owned());
    }
    if path.len() > PATH_LEN_MAX {
        return Err(format!("longer than {PATH_LEN_MAX} bytes"));
    }
    if path.starts_with('-') {
        return Err("leading dash".to_owned());
    }
    path.split('/').try_for_each(|element| check_element(element, kind))
}

fn check_element(element: &str, kind: Elements) -> Result<(), String> {
    check_dots(element)?;
    if kind == Elements::Module && element.starts_with('.') {
        return Err("leading dot in path element".to_owned());
    }
    let is_allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '.' | '_' | '~')
            || (c == '+' && kind == Elements::Import)
    };
    if let Some(bad) = element.chars().find(|c| !is_allowed(*c)) {
        return Err(format!("invalid char {bad:?}"));
    }
    let short = check_not_reserved(element)?;
    match short.rsplit_once('~') {
        Some((_, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Err("trailing tilde and digits in path element".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_element_of_file(element: &str) -> Result<(), String> {
    check_dots(element)?;
    if element.len() > PATH_LEN_MAX {
        return Err(format!("longer than {PATH_LEN_MAX} bytes"));
    }
    let is_allowed = |c: char| {
        if c.is_ascii() {
            c.is_ascii_alphanumeric() || "!#$%&()+,-.=@[]^_{}~ ".contains(c)
        } else {
            c.is_alphabetic()
        }
    };
    if let Some(bad) = element.chars().find(|c| !is_allowed(*c)) {
        return Err(format!("invalid char {bad:?}"));
    }
    check_not_reserved(element).map(|_| ())
}

fn check_dots(element: &str) -> Result<(), String> {
    if element.is_empty() {
        return Err("empty path element".to_owned());
    }
    if element.bytes().all(|b| b == b'.') {
        return Err(format!("invalid path element {element:?}"));
    }
    if element.ends_with('.') {
        return Err("trailing dot in path element".to_owned());
    }
    Ok(())
}

/// Refuses names that Windows keeps for devices; gives the part before the first dot.
fn check_not_reserved(element: &str) -> Result<&str, String> {
    let short = element.split('.').next().unwrap_or_default();
    let upper = short.to_ascii_uppercase();
    let is_port =
        |name: &str| upper.strip_prefix(name).is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']));
    if matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL") || is_port("COM") || is_port("LPT") {
        return Err(format!("{short:?} disallowed as path element component on Windows"));
    }
    Ok(short)
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    Cow::Owned(escaped)
}

fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        match c {
            '!' => text.push(chars.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase()),
            c if c.is_ascii() && !c.is_ascii_uppercase() => text.push(c),
            _ => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, whether it is a module's, whether it is a package's: x/mod's published vectors.
    const PATHS: &[(&str, bool, bool)] = &[
        ("x.y/z", true, true),
        ("x.y", true, true),
        ("", false, false),
        ("x.y/\u{ffff}z", false, false),
        ("/x.y/z", false, false),
        ("x./z", false, false),
        (".x/z", false, true),
        ("-x/z", false, false),
        ("x..y/z", true, true),
        ("x.y/z/../../w", false, false),
        ("x.y//z", false, false),
        ("x.y/z//w", false, false),
        ("x.y/z/", false, false),
        ("x.y/z/v0", false, true),
        ("x.y/z/v1", false, true),
        ("x.y/z/v2", true, true),
        ("x.y/z/v2.0", false, true),
        ("X.y/z", false, true),
        ("!x.y/z", false, false),
        ("_x.y/z", false, true),
        ("x.y!/z", false, false),
        ("x.y\"/z", false, false),
        ("x.y#/z", false, false),
        ("x.y$/z", false, false),
        ("x.y%/z", false, false),
        ("x.y&/z", false, false),
        ("x.y'/z", false, false),
        ("x.y(/z", false, false),
        ("x.y*/z", false, false),
        ("x.y+/z", false, true),
        ("x.y,/z", false, false),
        ("x.y-/z", true, true),
        ("x.y./zt", false, false),
        ("x.y:/z", false, false),
        ("x.y;/z", false, false),
        ("x.y=/z", false, false),
        ("x.y@/z", false, false),
        ("x.y\\/z", false, false),
        ("x.y_/z", false, true),
        ("x.y~/z", false, true),
        ("x.y/z!", false, false),
        ("x.y/z+", false, true),
        ("x.y/z++", false, true),
        ("x.y/z-", true, true),
        ("x.y/z.", false, false),
        ("x.y/z_", true, true),
        ("x.y/z~", true, true),
        ("x.y/Zoo", true, true),
        ("x.y/π", false, false),
        ("x.y/aux", false, false),
        ("x.y/Com1.go", false, false),
        ("x.y/COM0", true, true),
        ("x.y/calm~1", false, false),
        ("x.y/x~", true, true),
        ("x.y/x~0.conf", false, false),
        ("x.y/x~y", true, true),
        ("x.y/.git", false, true),
        ("m", false, true),
        ("gopkg.in/yaml.v2", true, true),
        ("gopkg.in/yaml.v02", false, true),
        ("gopkg.in/yaml", false, true),
        ("gopkg.in/yaml.v2-unstable", true, true),
        ("localhost/x", false, true),
    ];

    #[test]
    fn paths_are_accepted_as_go_accepts_them() {
        for (path, is_module, is_import) in PATHS {
            assert_eq!(check_module_path(path).is_ok(), *is_module, "module {path:?}");
            assert_eq!(check_import_path(path).is_ok(), *is_import, "import {path:?}");
        }
    }

    #[test]
    fn addresses_survive_a_round_trip_and_have_no_upper_case() {
        for (path, escaped) in [
            (
                "ascii.com/abcdefghijklmnopqrstuvwxyz.-/~_0123456789",
                "ascii.com/abcdefghijklmnopqrstuvwxyz.-/~_0123456789",
            ),
            ("github.com/GoogleCloudPlatform/omega", "github.com/!google!cloud!platform/omega"),
            ("github.com/Azure/azure-sdk-for-go", "github.com/!azure/azure-sdk-for-go"),
        ] {
            assert_eq!(escape_path(path).unwrap(), escaped);
            assert_eq!(unescape_path(escaped).unwrap(), path);
        }
        assert_eq!(escape_version("v1.0.0-Alpha+Incompatible").unwrap(), "v1.0.0-!alpha+!incompatible");
        assert_eq!(unescape_version("v1.0.0-!alpha").unwrap(), "v1.0.0-Alpha");
    }

    #[test]
    fn a_second_spelling_of_an_address_is_refused() {
        for escaped in [
            "github.com/Azure/x",
            "github.com/!Azure/x",
            "github.com/!!azure/x",
            "github.com/azure/x!",
            "github.com/!1/x",
            "github.com/!/x",
            "ascii.com/π",
            "github.com/../x",
            "",
        ] {
            assert!(unescape_path(escaped).is_err(), "{escaped:?}");
        }
        for escaped in ["", "..", "V1.0.0", "v1!", "a/b", "v1.0.0\n", "a\\b", "nul"] {
            assert!(unescape_version(escaped).is_err(), "{escaped:?}");
        }
        for version in ["", ".", "feature/x", "v1!", "a:b", "ä"] {
            assert!(escape_version(version).is_err(), "{version:?}");
        }
    }

    #[test]
    fn the_major_suffix_is_split_as_go_splits_it() {
        for (path, want) in [
            ("x.y/z", Some(("x.y/z", ""))),
            ("x.y/z/v2", Some(("x.y/z", "/v2"))),
            ("x.y/z/v3", Some(("x.y/z", "/v3"))),
            ("x.y/z/v10", Some(("x.y/z", "/v10"))),
            ("x.y/v", Some(("x.y/v", ""))),
            ("x.y/z/v0", None),
            ("x.y/z/v1", None),
            ("x.y/z/v02", None),
            ("x.y/z/v2.0", None),
            ("x.y/zv2", Some(("x.y/zv2", ""))),
            ("gopkg.in/yaml.v0", Some(("gopkg.in/yaml", ".v0"))),
            ("gopkg.in/yaml.v1", Some(("gopkg.in/yaml", ".v1"))),
            ("gopkg.in/yaml.v2-unstable", Some(("gopkg.in/yaml", ".v2-unstable"))),
            ("gopkg.in/yaml.v00", None),
            ("gopkg.in/yaml", None),
            ("gopkg.in/yaml/v2", None),
        ] {
            assert_eq!(split_major(path), want, "{path}");
        }
    }

    #[test]
    fn a_version_belongs_to_its_path() {
        for (version, suffix, want) in [
            ("v1.2.3", "", true),
            ("v0.1.0", "", true),
            ("v2.0.0", "", false),
            ("v2.0.0+incompatible", "", true),
            ("v2.0.0", "/v2", true),
            ("v3.0.0", "/v2", false),
            ("v2.2.8", ".v2", true),
            ("v2.2.8", ".v2-unstable", true),
            ("v0.0.0-20161208181325-20d25e280405", ".v1", true),
            ("v1.0.0", ".v2", false),
            ("latest", "", false),
        ] {
            assert_eq!(matches_major(version, suffix), want, "{version} {suffix}");
        }
    }

    #[test]
    fn a_text_of_any_size_is_refused_briefly() {
        let error = check_module_path(&"a".repeat(1 << 20)).unwrap_err();
        assert!(error.to_string().len() < 400);
        assert!(unescape_version(&"ä".repeat(5000)).unwrap_err().to_string().len() < 1000);
    }
}
