//! The Go that this release of Meridian builds with unless asked otherwise.
//!
//! Pinned here, where both sides see it: an agent fetches it by these hashes, and the coordinator believes no result
//! that was built by another.

/// Its version, without the `go` prefix.
pub const DEFAULT_VERSION: &str = "1.27.3";

/// The hash of its module for each host that agents run on.
const DEFAULT_PINS: [(&str, &str); 4] = [
    ("linux/amd64", "h1:r0ub+FnqzZxoWm/dSUOI9DcIqYWn/mNYGFJcv7PyBzs="),
    ("linux/arm64", "h1:VY4gDzfxOrsM17J2qtgZgiAIsWhp7XWK1jMfE3kXV0s="),
    ("darwin/amd64", "h1:lNZeEEL2d/WCVokXuF1aGUU66U7zkfcDLoxktzPJdQY="),
    ("darwin/arm64", "h1:yCdfDZ+GhmDNz9efAMlsprJWmFX/baYtnSkwvgeWipA="),
];

/// The hash of the default Go for `host`, which is `GOOS/GOARCH`; `None` for a host that agents do not run on.
#[must_use]
pub fn default_pin(host: &str) -> Option<&'static str> {
    DEFAULT_PINS.iter().find(|(platform, _)| *platform == host).map(|(_, sum)| *sum)
}
