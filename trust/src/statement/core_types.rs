//! How types of the core are written in documents; the core itself knows no format.

use meridian_core::{
    build::{BuildFlags, GitOrigin, Toolchain},
    golang::platform::Platform,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Platform", deny_unknown_fields)]
pub(super) struct PlatformWire {
    arch: String,
    level: String,
    os: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GitOrigin", deny_unknown_fields)]
pub(super) struct GitOriginWire {
    commit: String,
    url: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BuildFlags", deny_unknown_fields)]
pub(super) struct BuildFlagsWire {
    cgo: bool,
    ldflags: Vec<String>,
    /// Pairs of name and value; their order is the linker's.
    stamps: Vec<(String, String)>,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Toolchain", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ToolchainWire {
    Default,
    Version { pins: Vec<(String, String)>, version: String },
    Local,
}

/// `#[serde(with = "optional_origin")]`, since a remote form does not reach into an `Option`.
pub(super) mod optional_origin {
    use meridian_core::build::GitOrigin;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::GitOriginWire;

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "GitOriginWire")] &'a GitOrigin);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "GitOriginWire")] GitOrigin);

    pub(in crate::statement) fn serialize<S: Serializer>(
        origin: &Option<GitOrigin>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        origin.as_ref().map(Borrowed).serialize(serializer)
    }

    pub(in crate::statement) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<GitOrigin>, D::Error> {
        Ok(Option::<Owned>::deserialize(deserializer)?.map(|Owned(origin)| origin))
    }
}
