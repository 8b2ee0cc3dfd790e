//! `.goreleaser.yaml`: a configuration that a project has already, read as a documented subset.
//!
//! [`config::Config::read`] takes the file's text and gives what it says, with a report of every key that is
//! not followed; [`config::Config::resolve`] applies it to the facts of the project and gives the
//! [`plan::Plan`]: what is built for which platform with which flags, and what the assets are called, exactly
//! as `goreleaser release --snapshot` of GoReleaser 2.16 calls them. [`fat_macho`] joins the executables of a
//! universal binary.
//!
//! The subset: `project_name`, `dist`, `env`, `before`, `builds` with builder `go` (matrix, `targets`,
//! `ignore`, `overrides`, flags, environment), `universal_binaries`, `archives`, `source`, `checksum`,
//! `snapshot`, `sboms`, `signs`, `binary_signs`, and of `release` what names depend on. Everything else that
//! GoReleaser knows is reported with what its absence changes; what GoReleaser does not know is an error.
//!
//! Not here: reading files, asking git, building, archiving, signing. Facts come in, a plan goes out, and
//! [`crate::release`] makes what it says.

pub mod config;
pub mod fat_macho;
pub mod plan;
pub mod template;
pub mod yaml;
