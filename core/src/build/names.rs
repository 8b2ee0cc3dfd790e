//! What artifacts are called.

use crate::golang::platform::Platform;

/// The name that Go itself gives a package's executable, without a suffix.
///
/// It is the last element of the import path, or the one before it when the last is a major version
/// (`glow` for `github.com/charmbracelet/glow/v2`). Go keeps the `.v2` of a gopkg.in path, and so does this.
#[must_use]
pub fn executable_name(package_path: &str) -> String {
    let mut elements = package_path.rsplit('/').filter(|element| !element.is_empty());
    let last = elements.next().unwrap_or_default();
    let name = if is_major_version(last) { elements.next().unwrap_or(last) } else { last };
    name.to_owned()
}

/// `v2` and later, without leading zeros; neither `v0` nor `v1`.
fn is_major_version(element: &str) -> bool {
    element.strip_prefix('v').is_some_and(|number| {
        !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && !number.starts_with('0')
            && number != "1"
    })
}

/// The version that artifacts carry and stamps are made of: as it was given, else as the source was resolved.
#[must_use]
pub fn version_named<'a>(given: &'a str, resolved: Option<&'a str>) -> &'a str {
    resolved.filter(|_| given.is_empty()).unwrap_or(given)
}

/// The file name of the executable of `import_path`, whose base name may have been given.
#[must_use]
pub fn artifact_name_of(
    named: Option<&str>,
    import_path: &str,
    version: &str,
    platform: &Platform,
) -> String {
    let base = named.map_or_else(|| executable_name(import_path), str::to_owned);
    artifact_name(&base, version, platform)
}

/// An artifact's file name: `NAME_VERSION_OS_ARCH[.exe]`.
///
/// VERSION is written by [`version_for_names`] and left out with its underscore when there is none. A level
/// that is not Go's default follows the architecture (`linux_amd64v3`, `linux_armv6`, `linux_mips_softfloat`),
/// so that two levels of one platform never share a name.
#[must_use]
pub fn artifact_name(name: &str, version: &str, platform: &Platform) -> String {
    let mut text = name.to_owned();
    let version = version_for_names(version);
    if !version.is_empty() {
        text.push('_');
        text.push_str(&version);
    }
    text.push_str(&format!("_{}_{}", platform.os, platform.arch));
    if !platform.has_default_level() {
        let level = platform.level.replace(',', "-");
        let separator = match level.as_bytes() {
            [b'0'..=b'9', ..] => "v",
            [b'v', ..] => "",
            _ => "_",
        };
        text.push_str(separator);
        text.push_str(&level);
    }
    text.push_str(platform.executable_suffix());
    text
}

/// A version as it stands in file names.
///
/// The `v` before a digit goes; letters, digits, `.`, `_`, `-`, `~` and `+` stay (GoReleaser keeps the `+` of
/// build metadata too); every other character, such as the `/` of a branch, becomes `-`.
#[must_use]
pub fn version_for_names(version: &str) -> String {
    let number = version.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '+');
    number.unwrap_or(version).chars().map(|c| if is_kept(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_named_as_go_names_them() {
        for (path, name) in [
            ("example.com/mycmd", "mycmd"),
            ("example.com/mycmd/v0", "v0"),
            ("example.com/mycmd/v1", "v1"),
            ("example.com/mycmd/v2", "mycmd"),
            ("example.com/mycmd/v03", "v03"),
            ("example.com/mycmd/v12", "mycmd"),
            ("example.com/mycmd/v2x", "v2x"),
            ("mycmd", "mycmd"),
            ("v2", "v2"),
            ("github.com/junegunn/fzf", "fzf"),
            ("golang.org/x/tools/cmd/stringer", "stringer"),
            ("github.com/charmbracelet/glow/v2", "glow"),
            ("gopkg.in/foo/bar.v2", "bar.v2"),
            ("./cmd/server", "server"),
            ("", ""),
        ] {
            assert_eq!(executable_name(path), name, "{path}");
        }
    }

    #[test]
    fn artifacts_are_named_by_version_and_platform() {
        for (version, platform, name) in [
            ("v0.56.3", "linux/amd64", "fzf_0.56.3_linux_amd64"),
            ("0.56.3", "windows/amd64", "fzf_0.56.3_windows_amd64.exe"),
            ("", "darwin/arm64", "fzf_darwin_arm64"),
            ("v1.0.0", "linux/amd64/v3", "fzf_1.0.0_linux_amd64v3"),
            ("v1.0.0", "linux/arm/6", "fzf_1.0.0_linux_armv6"),
            ("v1.0.0", "linux/arm/6+softfloat", "fzf_1.0.0_linux_armv6-softfloat"),
            ("v1.0.0", "linux/arm64/v8.2", "fzf_1.0.0_linux_arm64v8.2"),
            ("v1.0.0", "linux/mips/softfloat", "fzf_1.0.0_linux_mips_softfloat"),
            ("v1.0.0", "linux/riscv64/rva22u64", "fzf_1.0.0_linux_riscv64_rva22u64"),
        ] {
            assert_eq!(artifact_name("fzf", version, &Platform::parse(platform).unwrap()), name);
        }
    }

    #[test]
    fn a_version_never_leaves_its_file_name() {
        for (version, text) in [
            ("v1.2.3", "1.2.3"),
            ("v2.0.0+incompatible", "2.0.0+incompatible"),
            ("version-2", "version-2"),
            ("feature/x y", "feature-x-y"),
            ("../../etc", "..-..-etc"),
            ("v1.0.0\n\0ä", "1.0.0---"),
            ("", ""),
        ] {
            assert_eq!(version_for_names(version), text, "{version:?}");
        }
    }
}
