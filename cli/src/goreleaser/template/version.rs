//! Versions as the library behind GoReleaser reads them: `v1`, `1.2` and `1.2.3-rc.1+build` alike.

use super::error::Problem;

/// A version's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Major, minor and patch.
    pub numbers: [u64; 3],
    /// What follows `-`, without it.
    pub prerelease: String,
}

/// Reads a version, parts that are left out being zero; nothing when it is none.
#[must_use]
pub fn loose(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (numbers, prerelease) =
        text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
    if !build.is_none_or(is_identifiers) || !prerelease.is_none_or(is_prerelease) {
        return None;
    }
    let mut version = Version { numbers: [0; 3], prerelease: prerelease.unwrap_or_default().to_owned() };
    let mut parts = numbers.split('.');
    for (at, number) in version.numbers.iter_mut().enumerate() {
        match parts.next() {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                *number = digits.parse().ok()?;
            }
            None if at > 0 => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(version)
}

fn is_identifiers(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
}

/// As identifiers, but no number begins with a zero.
fn is_prerelease(text: &str) -> bool {
    let is_padded = |part: &str| {
        part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    is_identifiers(text) && !text.split('.').any(is_padded)
}

/// The next version: `place` is 0 for major, 1 for minor, 2 for patch. A leading `v` stays.
///
/// The next patch of a pre-release is the version it precedes.
pub(super) fn increment(text: &str, place: usize) -> Result<String, Problem> {
    let no_version = || Problem::NoVersion(text.chars().take(80).collect());
    let version = loose(text).ok_or_else(no_version)?;
    let [mut major, mut minor, mut patch] = version.numbers;
    let next = |number: u64| number.checked_add(1).ok_or_else(no_version);
    match place {
        0 => (major, minor, patch) = (next(major)?, 0, 0),
        1 => (minor, patch) = (next(minor)?, 0),
        _ if version.prerelease.is_empty() => patch = next(patch)?,
        _ => {}
    }
    let v = if text.starts_with('v') { "v" } else { "" };
    Ok(format!("{v}{major}.{minor}.{patch}"))
}
