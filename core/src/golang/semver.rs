//! Go's semantic versions: `v` in front, short forms allowed, and an ordering over every text.
//!
//! Go orders and canonicalises versions by its own rules (an invalid version sorts before all valid ones,
//! build metadata is ignored, `v1` means `v1.0.0`), and a module cache that follows other rules would choose
//! another version than Go does. This module does not resolve queries and knows nothing of modules.

use std::cmp::Ordering;

/// A version taken apart; every part borrows from the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parsed<'a> {
    major: &'a str,
    minor: &'a str,
    patch: &'a str,
    /// What a short form leaves out: `.0.0` for `v1`, `.0` for `v1.2`.
    short: &'static str,
    /// With its leading `-`.
    prerelease: &'a str,
    /// With its leading `+`.
    build: &'a str,
}

/// Whether the text is a version: `v1`, `v1.2`, `v1.2.3`, with `-PRERELEASE` and `+BUILD` after a full one.
#[must_use]
pub fn is_valid(v: &str) -> bool {
    parse(v).is_some()
}

/// `vMAJOR.MINOR.PATCH[-PRERELEASE]`, without build metadata; `None` for what is no version.
#[must_use]
pub fn canonical(v: &str) -> Option<String> {
    let parsed = parse(v)?;
    Some(format!("{}{}", &v[..v.len() - parsed.build.len()], parsed.short))
}

/// As [`canonical`], but `+incompatible` stays: the canonical version of a module.
#[must_use]
pub fn canonical_of_module(v: &str) -> Option<String> {
    let mut text = canonical(v)?;
    if build(v) == "+incompatible" {
        text.push_str("+incompatible");
    }
    Some(text)
}

/// `v2` of `v2.1.0`; empty for what is no version.
#[must_use]
pub fn major(v: &str) -> &str {
    parse(v).map_or("", |parsed| &v[..1 + parsed.major.len()])
}

/// `v2.1` of `v2.1.0`; empty for what is no version. Owned, since `v2` gives `v2.0`.
#[must_use]
pub fn major_minor(v: &str) -> String {
    parse(v).map_or_else(String::new, |parsed| format!("v{}.{}", parsed.major, parsed.minor))
}

/// The prerelease with its leading `-`; empty when there is none.
#[must_use]
pub fn prerelease(v: &str) -> &str {
    parse(v).map_or("", |parsed| parsed.prerelease)
}

/// The build metadata with its leading `+`; empty when there is none.
#[must_use]
pub fn build(v: &str) -> &str {
    parse(v).map_or("", |parsed| parsed.build)
}

/// Orders two texts as versions. What is no version is less than every version and equal to any other.
#[must_use]
pub fn compare(v: &str, w: &str) -> Ordering {
    match (parse(v), parse(w)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(v), Some(w)) => compare_numbers(v.major, w.major)
            .then_with(|| compare_numbers(v.minor, w.minor))
            .then_with(|| compare_numbers(v.patch, w.patch))
            .then_with(|| compare_prereleases(v.prerelease, w.prerelease)),
    }
}

/// Whether it is a pseudo-version: `vX.Y.Z-[…]yyyymmddhhmmss-abcdefabcdef`, made from a commit.
#[must_use]
pub fn is_pseudo(v: &str) -> bool {
    let Some(parsed) = parse(v) else { return false };
    let Some((rest, revision)) = parsed.prerelease.rsplit_once('-') else { return false };
    let stamp = rest.rsplit(['.', '-']).next().unwrap_or_default();
    let before = &rest[..rest.len() - stamp.len()];
    let is_shape = before == "-" || before == "-0." || (before.starts_with('-') && before.ends_with(".0."));
    parsed.short.is_empty()
        && is_shape
        && stamp.len() == 14
        && stamp.bytes().all(|b| b.is_ascii_digit())
        && revision.len() == 12
        && revision.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn parse(v: &str) -> Option<Parsed<'_>> {
    let rest = v.strip_prefix('v')?;
    let (major, rest) = take_number(rest)?;
    let mut parsed = Parsed { major, minor: "0", patch: "0", short: "", prerelease: "", build: "" };
    if rest.is_empty() {
        return Some(Parsed { short: ".0.0", ..parsed });
    }
    let (minor, rest) = take_number(rest.strip_prefix('.')?)?;
    parsed.minor = minor;
    if rest.is_empty() {
        return Some(Parsed { short: ".0", ..parsed });
    }
    let (patch, rest) = take_number(rest.strip_prefix('.')?)?;
    parsed.patch = patch;
    let (prerelease, build) = rest.split_at(rest.find('+').unwrap_or(rest.len()));
    if !prerelease.is_empty() {
        let identifiers = prerelease.strip_prefix('-')?;
        identifiers.split('.').all(|id| is_identifier(id) && !is_padded_number(id)).then_some(())?;
    }
    if !build.is_empty() {
        build[1..].split('.').all(is_identifier).then_some(())?;
    }
    Some(Parsed { prerelease, build, ..parsed })
}

/// The decimal number at the start, which has no leading zero.
fn take_number(text: &str) -> Option<(&str, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(len);
    (len == 1 || (len > 1 && !number.starts_with('0'))).then_some((number, rest))
}

fn is_identifier(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_number(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_digit())
}

fn is_padded_number(id: &str) -> bool {
    is_number(id) && id.len() > 1 && id.starts_with('0')
}

/// Numbers have no leading zeros, so the longer one is the greater, whatever its size.
fn compare_numbers(x: &str, y: &str) -> Ordering {
    x.len().cmp(&y.len()).then_with(|| x.cmp(y))
}

fn compare_prereleases(x: &str, y: &str) -> Ordering {
    match (x.is_empty(), y.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut xs, mut ys) = (x[1..].split('.'), y[1..].split('.'));
    loop {
        let (a, b) = match (xs.next(), ys.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let order = match (is_number(a), is_number(b)) {
            (true, true) => compare_numbers(a, b),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors that x/mod publishes, in ascending order; an empty canonical form is "no version".
    const ORDERED: &[(&str, &str)] = &[
        ("bad", ""),
        ("v1-alpha.beta.gamma", ""),
        ("v1-pre", ""),
        ("v1+meta", ""),
        ("v1-pre+meta", ""),
        ("v1.2-pre", ""),
        ("v1.2+meta", ""),
        ("v1.2-pre+meta", ""),
        ("v1.0.0-alpha", "v1.0.0-alpha"),
        ("v1.0.0-alpha.1", "v1.0.0-alpha.1"),
        ("v1.0.0-alpha.beta", "v1.0.0-alpha.beta"),
        ("v1.0.0-beta", "v1.0.0-beta"),
        ("v1.0.0-beta.2", "v1.0.0-beta.2"),
        ("v1.0.0-beta.11", "v1.0.0-beta.11"),
        ("v1.0.0-rc.1", "v1.0.0-rc.1"),
        ("v1", "v1.0.0"),
        ("v1.0", "v1.0.0"),
        ("v1.0.0", "v1.0.0"),
        ("v1.2", "v1.2.0"),
        ("v1.2.0", "v1.2.0"),
        ("v1.2.3-456", "v1.2.3-456"),
        ("v1.2.3-456.789", "v1.2.3-456.789"),
        ("v1.2.3-456-789", "v1.2.3-456-789"),
        ("v1.2.3-456a", "v1.2.3-456a"),
        ("v1.2.3-pre", "v1.2.3-pre"),
        ("v1.2.3-pre+meta", "v1.2.3-pre"),
        ("v1.2.3-pre.1", "v1.2.3-pre.1"),
        ("v1.2.3-zzz", "v1.2.3-zzz"),
        ("v1.2.3", "v1.2.3"),
        ("v1.2.3+meta", "v1.2.3"),
        ("v1.2.3+meta-pre", "v1.2.3"),
        ("v1.2.3+meta-pre.sha.256a", "v1.2.3"),
    ];

    #[test]
    fn versions_are_valid_and_canonical_as_go_says() {
        for (text, want) in ORDERED {
            assert_eq!(is_valid(text), !want.is_empty(), "{text}");
            assert_eq!(canonical(text).unwrap_or_default(), *want, "{text}");
        }
    }

    #[test]
    fn any_two_versions_compare_as_go_says() {
        for (i, (v, v_canonical)) in ORDERED.iter().enumerate() {
            for (j, (w, w_canonical)) in ORDERED.iter().enumerate() {
                let want = if v_canonical == w_canonical { Ordering::Equal } else { i.cmp(&j) };
                assert_eq!(compare(v, w), want, "{v} {w}");
            }
        }
    }

    #[test]
    fn the_parts_of_a_version_are_those_of_its_text() {
        for (text, want) in ORDERED {
            let has_patch = !want.is_empty() && text.matches('.').count() >= 2;
            let plus = text.find('+').filter(|_| has_patch).unwrap_or(text.len());
            let minus = text[..plus].find('-').filter(|_| has_patch).unwrap_or(plus);
            assert_eq!(prerelease(text), if want.is_empty() { "" } else { &text[minus..plus] }, "{text}");
            assert_eq!(build(text), if want.is_empty() { "" } else { &text[plus..] }, "{text}");
            assert_eq!(major(text), if want.is_empty() { "" } else { "v1" }, "{text}");
        }
        assert_eq!(major_minor("v2"), "v2.0");
        assert_eq!(major_minor("v2.17.1-rc.1"), "v2.17");
        assert_eq!(major_minor("2.1"), "");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "v",
            "1.0.0",
            "V1.0.0",
            "v01",
            "v1.02.3",
            "v1.2.03",
            "v1.",
            "v1.2.",
            "v1.2.3.",
            "v1.2.3-",
            "v1.2.3+",
            "v1.2.3-a..b",
            "v1.2.3-01",
            "v1.2.3-ä",
            "v1.2.3+a+b",
            "v1.2.3 ",
            "latest",
            "v1.2.3_a",
        ] {
            assert!(!is_valid(text), "{text:?}");
        }
        assert!(is_valid("v1.2.3-0a"));
        assert!(is_valid("v1.2.3+01"));
    }

    #[test]
    fn numbers_are_compared_whatever_their_size() {
        let huge = format!("v{}.0.0", "9".repeat(100));
        assert_eq!(compare("v2.0.0", &huge), Ordering::Less);
        assert_eq!(compare("v1.10.0", "v1.9.0"), Ordering::Greater);
    }

    #[test]
    fn only_incompatible_survives_in_a_modules_version() {
        assert_eq!(canonical_of_module("v2.0.0+incompatible").as_deref(), Some("v2.0.0+incompatible"));
        assert_eq!(canonical_of_module("v2.0.0+meta").as_deref(), Some("v2.0.0"));
        assert_eq!(canonical_of_module("master"), None);
    }

    #[test]
    fn pseudo_versions_are_told_from_releases() {
        for text in [
            "v0.0.0-20170915032832-14c0d48ead0c",
            "v1.2.4-0.20191109021931-daa7c04131f5",
            "v1.2.3-pre.0.20191109021931-daa7c04131f5",
            "v2.0.1-0.20191109021931-daa7c04131f5+incompatible",
        ] {
            assert!(is_pseudo(text), "{text}");
        }
        for text in [
            "v1.2.3",
            "v1.2.3-rc.1",
            "v1.2.3-20191109021931",
            "v1.2.3-pre.20191109021931-daa7c04131f5",
            "v1.2.3-0.2019110902193-daa7c04131f5",
            "bad",
        ] {
            assert!(!is_pseudo(text), "{text}");
        }
    }
}
