//! The Go that this release of Meridian builds with unless asked otherwise.

/// Its version, without the `go` prefix.
pub const DEFAULT_VERSION: &str = "1.27.3";

/// The hash of its module for each host that agents run on.
const DEFAULT_PINS: [(&str, &str); 4] = [
    ("linux/amd64", "h1:r0ub+FnqzZxoWm/dSUOI9DcIqYWn/mNYGFJcv7PyBzs="),
    ("linux/arm64", "h1:VY4gDzfxOrsM17J2qtgZgiAIsWhp7XWK1jMfE3kXV0s="),
    ("darwin/amd64", "h1:lNZeEEL2d/WCVokXuF1aGUU66U7zkfcDLoxktzPJdQY="),
    ("darwin/arm64", "h1:yCdfDZ+GhmDNz9efAMlsprJWmFX/baYtnSkwvgeWipA="),
];

/// The hash of the default Go for `host`, which is `GOOS/GOARCH`.
pub(super) fn default_pin(host: &str) -> Option<&'static str> {
    DEFAULT_PINS.iter().find(|(platform, _)| *platform == host).map(|(_, sum)| *sum)
}

/// `GOOS/GOARCH` of the machine this process runs on.
#[must_use]
pub fn host_platform() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        arch => arch,
    };
    format!("{os}/{arch}")
}
