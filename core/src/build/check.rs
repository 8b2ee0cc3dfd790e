//! Whether a spec may enter.
//!
//! Every rule stands here, once, for the client that wants to tell its user early and for the coordinator that
//! must not trust the client. All findings are told at once. Whether a receipt is genuine is its holder's
//! question, and whether a module exists is the proxy's; neither is asked here.

use std::collections::BTreeSet;

use super::{
    BuildFlags, BuildSpec, GitOrigin, PACKAGES_MAX, PLATFORMS_MAX, RECEIPTS_MAX, Rebuild, Source, SpecError,
    TEXT_LEN_MAX, Toolchain, WISHED_MAX, Wishes, flags, names::executable_name,
};
use crate::golang::{h1::H1, module_path, platform::Platform};

/// The longest artifact name or version, in bytes: what is left of a file name's 255 is for the platform.
const NAME_LEN_MAX: usize = 100;

impl BuildSpec {
    /// Checks everything that can be checked without asking anybody.
    ///
    /// # Errors
    /// Every finding, in the order of the spec's fields.
    pub fn check(&self) -> Result<(), Vec<SpecError>> {
        let mut found = Vec::new();
        self.check_source(&mut found);
        self.check_packages(&mut found);
        self.check_platforms(&mut found);
        check_toolchain(&self.toolchain, &mut found);
        flags::check(&self.flags, &mut found);
        self.check_name(&mut found);
        self.check_rebuild(&mut found);
        self.check_wishes(&mut found);
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// Puts what has no order of its own into the one order that [`BuildSpec::check`] wants: tags and pins
    /// are sorted, and repeated tags dropped.
    pub fn normalise(&mut self) {
        let BuildFlags { tags, .. } = &mut self.flags;
        tags.sort_unstable();
        tags.dedup();
        if let Toolchain::Version { pins, .. } = &mut self.toolchain {
            pins.sort_unstable();
        }
    }

    fn check_wishes(&self, found: &mut Vec<SpecError>) {
        let Wishes { region, agent, regions, labels, at_once, .. } = &self.wishes;
        for (what, count) in [("regions", regions.len()), ("labels", labels.len())] {
            if count > WISHED_MAX {
                found.push(SpecError::TooMany { what, max: WISHED_MAX });
            }
        }
        let wished = region.as_ref().or(agent.as_ref().map(|agent| &agent.region));
        if let Some(region) = wished.filter(|region| !self.wishes.allows(region)) {
            found.push(SpecError::OutOfBounds(region.clone()));
        }
        if let (Some(region), Some(agent)) = (region, agent)
            && agent.region != *region
        {
            found.push(SpecError::Elsewhere(agent.clone(), region.clone()));
        }
        if *at_once == Some(0) {
            found.push(SpecError::NoneAtOnce);
        }
    }

    fn check_source(&self, found: &mut Vec<SpecError>) {
        match &self.source {
            Source::Module { package, query } => {
                let first = package.split('/').next().unwrap_or_default();
                let is_path = module_path::check_import_path(package).is_ok() && first.contains('.');
                if !is_path || !is_query(query) {
                    found.push(SpecError::Module(brief(&format!("{package}@{query}"))));
                }
            }
            Source::Tree { root, work_dir, origin, receipts, .. } => {
                if !work_dir.is_empty() && !is_clean_path(work_dir) {
                    found.push(SpecError::Path { what: "work directory", path: brief(work_dir) });
                }
                if let Some(origin) = origin {
                    check_origin(origin, found);
                }
                if receipts.len() > RECEIPTS_MAX {
                    found.push(SpecError::TooMany { what: "receipts", max: RECEIPTS_MAX });
                } else if receipts.iter().any(|receipt| receipt.digest != *root) {
                    found.push(SpecError::Receipt);
                }
            }
        }
    }

    fn check_packages(&self, found: &mut Vec<SpecError>) {
        if matches!(self.source, Source::Module { .. }) {
            if self.packages != ["."] {
                found.push(SpecError::ModulePackages);
            }
            return;
        }
        if !is_bounded("packages", self.packages.len(), 1, PACKAGES_MAX, found) {
            return;
        }
        let (mut paths, mut executables) = (BTreeSet::new(), BTreeSet::new());
        for path in &self.packages {
            let below = path.strip_prefix("./");
            if path != "." && !below.is_some_and(|below| is_clean_path(below) && !below.contains("...")) {
                found.push(SpecError::Path { what: "package", path: brief(path) });
            } else if !paths.insert(path) {
                found.push(SpecError::Twice(format!("package {path}")));
            } else if path != "." && !executables.insert(executable_name(path)) {
                found.push(SpecError::Twice(format!("executable {}", executable_name(path))));
            }
        }
    }

    fn check_platforms(&self, found: &mut Vec<SpecError>) {
        if !is_bounded("platforms", self.platforms.len(), 1, PLATFORMS_MAX, found) {
            return;
        }
        let mut platforms = BTreeSet::new();
        for platform in &self.platforms {
            if let Err(error) = platform.check() {
                found.push(SpecError::Platform(error));
            } else if !platforms.insert(platform) {
                found.push(SpecError::Twice(format!("platform {platform}")));
            }
        }
    }

    fn check_rebuild(&self, found: &mut Vec<SpecError>) {
        let Some(Rebuild { of: _, resolution, builders }) = &self.rebuild else { return };
        if !self.from_scratch {
            found.push(SpecError::Rebuild("starts from scratch"));
        }
        if resolution.is_some() != matches!(self.source, Source::Module { .. }) {
            found.push(SpecError::Rebuild(
                "of a module needs what it resolved to, and of a tree has nothing to",
            ));
        }
        let built: Vec<&Platform> = builders.iter().map(|(platform, _)| platform).collect();
        if built != self.platforms.iter().collect::<Vec<_>>() {
            found
                .push(SpecError::Rebuild("names the first builder of each of its platforms, in their order"));
        }
    }

    fn check_name(&self, found: &mut Vec<SpecError>) {
        if let Some(name) = &self.name
            && (!is_file_name(name) || self.packages.len() != 1)
        {
            found.push(SpecError::Name(brief(name)));
        }
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
        if self.version.len() > NAME_LEN_MAX || !self.version.bytes().all(is_plain) {
            found.push(SpecError::Version(brief(&self.version)));
        }
    }
}

fn check_origin(origin: &GitOrigin, found: &mut Vec<SpecError>) {
    if origin.url.len() > TEXT_LEN_MAX || origin.url.chars().any(char::is_control) {
        found.push(SpecError::Text("repository address"));
    }
    let authority = origin.url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        found.push(SpecError::Credentials);
    }
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if !matches!(origin.commit.len(), 40 | 64) || !origin.commit.bytes().all(is_hex) {
        found.push(SpecError::Commit(brief(&origin.commit)));
    }
}

fn check_toolchain(toolchain: &Toolchain, found: &mut Vec<SpecError>) {
    let Toolchain::Version { version, pins } = toolchain else { return };
    if !is_go_version(version) {
        found.push(SpecError::GoVersion(brief(version)));
    }
    if !is_bounded("toolchain pins", pins.len(), 0, PLATFORMS_MAX, found) {
        return;
    }
    for (host, sum) in pins {
        let is_pair = Platform::parse(host).is_ok_and(|platform| platform.pair() == *host);
        if !is_pair || H1::parse(sum).is_err() {
            found.push(SpecError::Pin(brief(&format!("{host} = {sum}"))));
        }
    }
    if !pins.is_sorted_by(|a, b| a.0 < b.0) {
        found.push(SpecError::Unsorted("toolchain pins"));
    }
}

/// Pushes a finding and says no when a list is too short or too long.
pub(super) fn is_bounded(
    what: &'static str,
    len: usize,
    min: usize,
    max: usize,
    found: &mut Vec<SpecError>,
) -> bool {
    if len < min {
        found.push(SpecError::Empty(what));
    } else if len > max {
        found.push(SpecError::TooMany { what, max });
    }
    (min..=max).contains(&len)
}

/// Keeps an error text short, whatever was sent.
pub(super) fn brief(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Slash-separated elements, none of which is empty, `.` or `..` or holds what a path should not.
fn is_clean_path(path: &str) -> bool {
    let is_bad = |c: char| c.is_control() || c == '\\';
    path.len() <= TEXT_LEN_MAX
        && path.split('/').all(|element| {
            !matches!(element, "" | "." | "..") && element.len() <= 255 && !element.contains(is_bad)
        })
}

/// A version, a branch, a commit or a comparison, as cmd/go takes it after the `@`. It stands in an argument
/// and in an address, so nothing else may enter.
fn is_query(query: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/+~-<>=".contains(&b);
    (1..=NAME_LEN_MAX * 2).contains(&query.len())
        && !query.starts_with(['-', '/', '.'])
        && !query.contains("..")
        && query.bytes().all(is_allowed)
}

fn is_file_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    (1..=NAME_LEN_MAX).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(is_allowed)
}

/// `1.27`, `1.27.3`, `1.27rc1` or `1.27beta2`, without the `go` prefix.
fn is_go_version(version: &str) -> bool {
    let is_number = |text: &str| {
        (1..=4).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let Some((major, rest)) = version.split_once('.') else { return false };
    let tail = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let minor = &rest[..rest.len() - tail.len()];
    let last = ["rc", "beta", "."].iter().find_map(|mark| tail.strip_prefix(mark));
    is_number(major) && is_number(minor) && (tail.is_empty() || last.is_some_and(is_number))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
