//! What has been made so far, as the later steps see it.

use crate::goreleaser::template::{self, Value};

use super::{
    model::{Part, Subject},
    target::Target,
};

/// GoReleaser's types of artifacts, as far as they are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Binary,
    UniversalBinary,
    /// A C library, which `-buildmode` can ask for.
    Library,
    Archive,
    /// An executable that is uploaded as it is.
    UploadableBinary,
    SourceArchive,
    Sbom,
    Checksum,
    Signature,
    Certificate,
}

/// Something that was made.
#[derive(Debug, Clone)]
pub(super) struct Artifact {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// From the project's directory.
    pub(super) path: String,
    pub(super) target: Option<Target>,
    pub(super) id: String,
    /// What `.Binary` is; the project's name where it is absent.
    pub(super) binary: Option<String>,
    /// What `.ArtifactExt` is, and what an executable's name ends with.
    pub(super) extension: String,
    /// The executable that it is.
    pub(super) part: Option<Part>,
}

impl Artifact {
    /// An asset that no platform belongs to.
    pub(super) fn plain(kind: Kind, dist: &str, name: &str, id: &str) -> Self {
        Self {
            kind,
            name: clean_name(name),
            path: template::clean(&format!("{dist}/{name}")),
            target: None,
            id: id.to_owned(),
            binary: None,
            extension: String::new(),
            part: None,
        }
    }

    /// Whether it is of one of these ids; checksums and the source belong to all, and no ids are all.
    pub(super) fn is_of(&self, ids: &[String]) -> bool {
        ids.is_empty() || matches!(self.kind, Kind::Checksum | Kind::SourceArchive) || ids.contains(&self.id)
    }

    /// Whether it is uploaded.
    pub(super) fn is_asset(&self) -> bool {
        !matches!(self.kind, Kind::Binary | Kind::UniversalBinary | Kind::Library)
    }

    pub(super) fn subject(&self) -> Subject {
        match self.part {
            Some(part) if !self.is_asset() => Subject::Part(part),
            _ => Subject::Asset(self.name.clone()),
        }
    }

    /// The template fields of an artifact.
    pub(super) fn fields(&self, project_name: &str) -> Vec<(&'static str, Value)> {
        let nowhere = Target { goos: String::new(), goarch: String::new(), level: String::new() };
        let mut fields = self.target.as_ref().unwrap_or(&nowhere).fields();
        fields.extend([
            ("Target", Value::text(self.target.as_ref().map(Target::name).unwrap_or_default())),
            ("Binary", Value::text(self.binary.as_deref().unwrap_or(project_name))),
            ("ArtifactName", Value::text(&self.name)),
            ("ArtifactExt", Value::text(&self.extension)),
            ("ArtifactPath", Value::text(&self.path)),
        ]);
        fields
    }
}

/// A name without white space around what stands before its extension, as GoReleaser cleans it.
pub(super) fn clean_name(name: &str) -> String {
    let extension = template::extension(name);
    let stem = name.strip_suffix(extension).unwrap_or(name);
    format!("{}{extension}", stem.trim())
}
