//! The platforms Go can build for.

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
