//! `.goreleaser.yaml`: a configuration that a project has already, read as a documented subset.

pub mod config;
pub mod plan;
pub mod template;
pub mod yaml;
