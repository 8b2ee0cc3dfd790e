//! The keys that GoReleaser knows and we do not follow (2.16's, with 2.17's additions), and what that changes.
//!
//! Only what is listed here or read is known; everything else is an error.

use std::borrow::Cow;

use super::report::Effect::{self, Differs, Missing, MissingAssets, Nothing};

type Keys = &'static [(&'static str, Effect)];

/// Keys of the root that only GoReleaser Pro knows; its free edition refuses them as any other.
pub(super) const PRO: &[&str] = &[
    "after",
    "app_bundles",
    "cloudsmiths",
    "dmg",
    "dockerhub",
    "furies",
    "gemfury",
    "includes",
    "monorepo",
    "msi",
    "nightly",
    "npms",
    "nsis",
    "partial",
    "template_files",
    "variables",
];

/// Of the root.
pub(super) const ROOT: Keys = &[
    ("announce", Nothing),
    ("artifactories", Nothing),
    ("aur_sources", Nothing),
    ("aurs", Nothing),
    ("blobs", Nothing),
    ("brews", Nothing),
    ("changelog", Nothing),
    ("chocolateys", Missing("Chocolatey packages")),
    ("docker_digest", Missing("container images")),
    ("docker_manifests", Missing("container images")),
    ("docker_signs", Missing("signatures of container images")),
    ("dockers", Missing("container images")),
    ("dockers_v2", Missing("container images")),
    ("env_files", Nothing),
    ("flatpak", MissingAssets(Cow::Borrowed("Flatpak bundles"))),
    ("force_token", Nothing),
    ("git", Differs("the tag is chosen as git sorts tags")),
    ("gitea_urls", Nothing),
    ("github_urls", Nothing),
    ("gitlab_urls", Nothing),
    ("gomod", Differs("the source is built as it lies here, with the fleet's settings of Go modules")),
    ("homebrew_casks", Nothing),
    ("kos", Missing("container images")),
    ("krews", Nothing),
    ("makeselfs", MissingAssets(Cow::Borrowed("self-extracting archives"))),
    ("mcp", Nothing),
    ("metadata", Nothing),
    ("milestones", Nothing),
    ("nix", Nothing),
    ("notarize", Differs("macOS binaries are neither signed with Apple's tools nor notarized")),
    ("publishers", Nothing),
    ("report_sizes", Nothing),
    ("retry", Nothing),
    ("scoops", Nothing),
    ("snapcrafts", Missing("snap packages")),
    ("srpm", MissingAssets(Cow::Borrowed("source RPMs"))),
    ("uploads", Nothing),
    ("upx", Differs("binaries are not compressed")),
    ("winget", Nothing),
];

/// Of `release`.
pub(super) const RELEASE: Keys = &[
    ("disable", Nothing),
    ("discussion_category_name", Nothing),
    ("extra_files", MissingAssets(Cow::Borrowed("the extra files"))),
    ("footer", Nothing),
    ("header", Nothing),
    ("ids", Differs("every asset counts as one of the release")),
    ("include_meta", MissingAssets(Cow::Borrowed("metadata.json"))),
    ("make_latest", Nothing),
    ("mode", Nothing),
    ("name_template", Nothing),
    ("prerelease", Nothing),
    ("replace_existing_artifacts", Nothing),
    ("replace_existing_draft", Nothing),
    ("skip_upload", Nothing),
    ("target_commitish", Nothing),
    ("use_existing_draft", Nothing),
];

/// Of `release.github` and its like.
pub(super) const REPOSITORY: Keys = &[("owner", Nothing), ("token", Nothing)];

const HOOKS: Effect = Differs("hooks around builds are not run");
const TOOL: Effect = Differs("the toolchain is the one of the module's go.mod or of the command line");

/// Of `builds[]`.
pub(super) const BUILD: Keys = &[
    ("command", Differs("the command is always `go build`")),
    ("gobinary", TOOL),
    ("hooks", HOOKS),
    ("no_main_check", Nothing),
    ("tool", TOOL),
];

/// Of `universal_binaries[]`.
pub(super) const UNIVERSAL_BINARY: Keys = &[("hooks", HOOKS)];

const FILE_INFO: Effect = Differs("owner, mode and time of files in archives are Meridian's");

/// Of `archives[]`.
pub(super) const ARCHIVE: Keys = &[("builds_info", FILE_INFO)];

/// Of `archives[].files[]`.
pub(super) const ARCHIVE_FILE: Keys = &[("info", FILE_INFO)];

/// Of `source`.
pub(super) const SOURCE: Keys = &[("files", Differs("the source archive holds the commit's files only"))];

/// Of `checksum`.
pub(super) const CHECKSUM: Keys =
    &[("extra_files", Differs("the extra files are not in the list of checksums"))];

const SBOM_TOOL: Effect = Differs("the document is Meridian's own, read from the binary's build info");

/// Of `sboms[]`.
pub(super) const SBOM: Keys = &[("args", SBOM_TOOL), ("cmd", SBOM_TOOL), ("env", SBOM_TOOL)];

/// Of `signs[]` and `binary_signs[]`.
pub(super) const SIGN: Keys = &[("output", Nothing)];

/// What signs binaries; other things are signed by the configured command.
pub(super) const FLEET_SIGNS: Effect = Differs("signatures of binaries are made by the fleet's signer");
