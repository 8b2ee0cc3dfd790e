//! The platforms Go can build for.
//!
//! A platform always carries its architecture's level explicitly (GOAMD64, GOARM, …), so that a build never
//! depends on what an agent's environment or a Go release takes as the default. [`Platform::parse`] reads
//! what a person writes and refuses what Go cannot build; a platform that comes back from the journal is
//! taken as it was, since a later Go may drop a port that an old build was made for.

use std::{fmt, str::FromStr};

use super::{
    level::{canonical_level, default_level, level_advice, variable},
    nearness,
};

/// A target: GOOS, GOARCH and the architecture's level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub arch: String,
    /// The explicit architecture level: GOAMD64 `v1`, GOARM `7`, GOARM64 `v8.0`, GO386 `sse2`, …; empty for
    /// an architecture that has none. Always filled in by the parser with Go's default.
    pub level: String,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlatformError {
    /// It is not two or three parts.
    #[error("{0:?} is not a platform: expected GOOS/GOARCH or GOOS/GOARCH/LEVEL, such as linux/amd64")]
    Shape(String),
    /// Go has no such port.
    #[error("go has no platform {text:?}{}; it builds for {}", did_you_mean(near), all_platforms())]
    Unknown {
        /// What was given.
        text: String,
        /// The platforms nearest to it in spelling, nearest first; may be empty.
        near: Vec<&'static str>,
    },
    /// The architecture has no such level.
    #[error("{arch} has no level {level:?}: {}", level_advice(arch))]
    Level {
        /// GOARCH.
        arch: String,
        /// What was given.
        level: String,
    },
}

/// Every pair that `go tool dist list` of Go 1.27 prints, in its order.
pub const PLATFORMS: [&str; 47] = [
    "aix/ppc64",
    "android/386",
    "android/amd64",
    "android/arm",
    "android/arm64",
    "darwin/amd64",
    "darwin/arm64",
    "dragonfly/amd64",
    "freebsd/386",
    "freebsd/amd64",
    "freebsd/arm",
    "freebsd/arm64",
    "illumos/amd64",
    "ios/amd64",
    "ios/arm64",
    "js/wasm",
    "linux/386",
    "linux/amd64",
    "linux/arm",
    "linux/arm64",
    "linux/loong64",
    "linux/mips",
    "linux/mips64",
    "linux/mips64le",
    "linux/mipsle",
    "linux/ppc64",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "netbsd/386",
    "netbsd/amd64",
    "netbsd/arm",
    "netbsd/arm64",
    "openbsd/386",
    "openbsd/amd64",
    "openbsd/arm",
    "openbsd/arm64",
    "openbsd/ppc64",
    "openbsd/riscv64",
    "plan9/386",
    "plan9/amd64",
    "plan9/arm",
    "solaris/amd64",
    "wasip1/wasm",
    "windows/386",
    "windows/amd64",
    "windows/arm64",
];

/// The longest text that is compared with Go's platforms; anything longer is no misspelling of one.
const TEXT_LEN_MAX: usize = 64;

impl Platform {
    /// Reads `GOOS/GOARCH` or `GOOS/GOARCH/LEVEL` and fills in Go's default level.
    ///
    /// The level is what Go's own variable takes (`v3`, `7`, `v8.2`, `softfloat`); `v7` for arm and `v8` for
    /// arm64 are understood as well, since image tools write them so. Options follow a `,` as in Go or a
    /// `+`, which does not end an item of a comma-separated list: `linux/arm64/v8.0+crypto`.
    ///
    /// # Errors
    /// When the text has another shape, Go has no such port, or the architecture no such level.
    pub fn parse(text: &str) -> Result<Self, ParsePlatformError> {
        let shape = || ParsePlatformError::Shape(text.chars().take(TEXT_LEN_MAX).collect());
        if text.len() > TEXT_LEN_MAX {
            return Err(shape());
        }
        let mut parts = text.split('/');
        let (Some(os), Some(arch), level, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(shape());
        };
        if os.is_empty() || arch.is_empty() || level == Some("") {
            return Err(shape());
        }
        if !is_supported(os, arch) {
            let near = near_matches(os, arch);
            return Err(ParsePlatformError::Unknown { text: format!("{os}/{arch}"), near });
        }
        let level = match level {
            None => default_level(arch).to_owned(),
            Some(level) => canonical_level(arch, level).ok_or_else(|| ParsePlatformError::Level {
                arch: arch.to_owned(),
                level: level.to_owned(),
            })?,
        };
        Ok(Self { os: os.to_owned(), arch: arch.to_owned(), level })
    }

    /// Checks a platform whose parts came from outside, level included.
    ///
    /// # Errors
    /// When Go has no such port, or the level is not written as [`Platform::parse`] writes it.
    pub fn check(&self) -> Result<(), ParsePlatformError> {
        if !is_supported(&self.os, &self.arch) {
            let text = format!("{}/{}", self.os, self.arch).chars().take(TEXT_LEN_MAX).collect();
            return Err(ParsePlatformError::Unknown { text, near: near_matches(&self.os, &self.arch) });
        }
        if canonical_level(&self.arch, &self.level).as_ref() == Some(&self.level) {
            return Ok(());
        }
        let level = self.level.chars().take(TEXT_LEN_MAX).collect();
        Err(ParsePlatformError::Level { arch: self.arch.clone(), level })
    }

    /// The environment that makes Go build for it: GOOS, GOARCH and the level's variable.
    ///
    /// An architecture without a level gives only the first two. GOWASM is given empty, so that a value from
    /// elsewhere cannot apply.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![("GOOS", self.os.clone()), ("GOARCH", self.arch.clone())];
        env.extend(variable(&self.arch).map(|variable| (variable, self.level.clone())));
        env
    }

    /// What an executable's name ends with: `.exe` on windows, nothing elsewhere (Go adds nothing for wasm).
    #[must_use]
    pub fn executable_suffix(&self) -> &'static str {
        if self.os == "windows" { ".exe" } else { "" }
    }

    /// Whether the level is the one that Go takes by itself.
    #[must_use]
    pub fn has_default_level(&self) -> bool {
        self.level == default_level(&self.arch)
    }

    /// GOOS/GOARCH without the level: what names a host or a toolchain.
    #[must_use]
    pub fn pair(&self) -> String {
        format!("{}/{}", self.os, self.arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if self.has_default_level() {
            return Ok(());
        }
        write!(f, "/{}", self.level.replace(',', "+"))
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        Self::parse(text)
    }
}

/// Whether Go 1.27 builds for the pair.
#[must_use]
pub fn is_supported(os: &str, arch: &str) -> bool {
    PLATFORMS.iter().any(|pair| pair.split_once('/') == Some((os, arch)))
}

/// What other tools call Go's names.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("macos", "darwin"),
    ("osx", "darwin"),
    ("mac", "darwin"),
    ("win", "windows"),
    ("win32", "windows"),
    ("win64", "windows"),
    ("wasi", "wasip1"),
    ("x86_64", "amd64"),
    ("x64", "amd64"),
    ("x86", "386"),
    ("i386", "386"),
    ("i686", "386"),
    ("aarch64", "arm64"),
    ("armv7", "arm"),
];

/// At most three platforms that `os/arch` may have meant, nearest first.
fn near_matches(os: &str, arch: &str) -> Vec<&'static str> {
    let go_name = |name: &str| {
        let lower = name.to_ascii_lowercase();
        OTHER_NAMES.iter().find(|(other, _)| *other == lower).map_or(lower, |(_, go)| (*go).to_owned())
    };
    let text = format!("{}/{}", go_name(os), go_name(arch));
    if text.len() > TEXT_LEN_MAX {
        return Vec::new();
    }
    nearness::nearest(&text, &PLATFORMS, 3)
}

fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn all_platforms() -> String {
    PLATFORMS.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn every_platform_of_go_parses_with_its_default_level_and_prints_as_it_was() {
        for pair in PLATFORMS {
            let platform = platform(pair);
            assert_eq!(platform.to_string(), pair);
            assert_eq!(platform.check(), Ok(()));
            assert!(platform.has_default_level());
        }
    }

    #[test]
    fn the_platforms_are_sorted_and_unique() {
        assert!(PLATFORMS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn the_level_is_always_explicit() {
        for (text, level) in [
            ("linux/amd64", "v1"),
            ("linux/386", "sse2"),
            ("linux/arm", "7"),
            ("linux/arm64", "v8.0"),
            ("linux/mips", "hardfloat"),
            ("linux/mips64le", "hardfloat"),
            ("linux/ppc64le", "power8"),
            ("linux/riscv64", "rva20u64"),
            ("linux/s390x", ""),
            ("linux/loong64", ""),
            ("js/wasm", ""),
        ] {
            assert_eq!(platform(text).level, level, "{text}");
        }
    }

    #[test]
    fn a_level_has_one_spelling() {
        for (text, canonical) in [
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm/7", "linux/arm"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/arm/v6", "linux/arm/6"),
            ("linux/arm/7,softfloat", "linux/arm/7+softfloat"),
            ("linux/arm/6+hardfloat", "linux/arm/6"),
            ("linux/arm/5,softfloat", "linux/arm/5"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9.0"),
            ("linux/arm64/v8.2,lse", "linux/arm64/v8.2"),
            ("linux/arm64/v8.0,crypto,lse", "linux/arm64/v8.0+lse+crypto"),
            ("linux/mipsle/softfloat", "linux/mipsle/softfloat"),
        ] {
            let platform = platform(text);
            assert_eq!(platform.to_string(), canonical, "{text}");
            assert_eq!(super::Platform::parse(canonical), Ok(platform.clone()), "{text}");
            assert_eq!(platform.check(), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_environment_names_the_level_as_go_does() {
        let env = platform("linux/arm/7+softfloat").env();
        assert_eq!(
            env,
            [("GOOS", "linux"), ("GOARCH", "arm"), ("GOARM", "7,softfloat")].map(|(k, v)| (k, v.to_owned()))
        );
        assert_eq!(platform("wasip1/wasm").env()[2], ("GOWASM", String::new()));
        assert_eq!(platform("linux/s390x").env().len(), 2);
    }

    #[test]
    fn only_windows_executables_have_a_suffix() {
        assert_eq!(platform("windows/arm64").executable_suffix(), ".exe");
        assert_eq!(platform("js/wasm").executable_suffix(), "");
    }

    fn nearest(text: &str) -> Vec<&'static str> {
        match Platform::parse(text) {
            Err(ParsePlatformError::Unknown { near, .. }) => near,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_unknown_platform_is_told_its_near_matches() {
        assert_eq!(nearest("linux/amd46")[0], "linux/amd64");
        assert_eq!(nearest("macos/aarch64")[0], "darwin/arm64");
        assert_eq!(nearest("Linux/x86_64")[0], "linux/amd64");
        assert_eq!(nearest("windwos/amd64")[0], "windows/amd64");
        assert!(nearest("windows/arm").contains(&"windows/arm64"));
        assert_eq!(nearest("templeos/z80"), [""; 0]);
        let error = Platform::parse("linux/amd46").unwrap_err().to_string();
        assert!(error.starts_with("go has no platform \"linux/amd46\"; did you mean linux/amd64"), "{error}");
        assert!(error.ends_with("windows/arm64"), "{error}");
    }

    #[test]
    fn a_level_that_the_architecture_lacks_is_refused_with_those_it_has() {
        for text in [
            "linux/amd64/v5",
            "linux/amd64/v1+lse",
            "linux/arm/8",
            "linux/arm/7+softfloat+hardfloat",
            "linux/arm64/v8.0+lse+lse",
            "linux/s390x/v1",
            "js/wasm/v1",
            "linux/arm64/v8.0+",
        ] {
            let error = Platform::parse(text).unwrap_err();
            assert!(matches!(error, ParsePlatformError::Level { .. }), "{text}: {error}");
        }
        let error = Platform::parse("linux/arm/9").unwrap_err().to_string();
        assert_eq!(
            error,
            "arm has no level \"9\": GOARM is one of 7, 6, 5, and may end in +hardfloat or +softfloat"
        );
    }

    #[test]
    fn a_text_of_another_shape_is_refused() {
        for text in
            ["", "linux", "/", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v1/x", &"a/".repeat(99)]
        {
            assert!(matches!(Platform::parse(text), Err(ParsePlatformError::Shape(_))), "{text}");
        }
    }

    #[test]
    fn parts_from_outside_are_checked_as_strictly_as_text() {
        let mut bad = platform("linux/arm64/v8.1");
        bad.level = "v8.1,lse".to_owned();
        assert!(bad.check().is_err());
        bad.level = "../x".to_owned();
        assert!(bad.check().is_err());
        bad.os = "a".repeat(1 << 20);
        assert!(bad.check().unwrap_err().to_string().len() < 2_000);
    }
}
