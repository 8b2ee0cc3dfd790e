//! What agents and coordinators say to each other of builds that run beside an agent.

use meridian_core::{
    cache::sidecar::{SidecarAsk, SidecarHints, SidecarManifest},
    time::Wall,
};

use super::field::{ConvertError, message, text};
use crate::v1;

impl From<&SidecarAsk> for v1::SidecarRequest {
    fn from(ask: &SidecarAsk) -> Self {
        Self {
            project: ask.project.to_string(),
            lineage: Some((&ask.lineage).into()),
            wants_trusted: ask.wants_trusted,
        }
    }
}

impl TryFrom<v1::SidecarRequest> for SidecarAsk {
    type Error = ConvertError;

    fn try_from(wire: v1::SidecarRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            project: text(&wire.project, "project")?,
            lineage: message(wire.lineage, "lineage")?,
            wants_trusted: wire.wants_trusted,
        })
    }
}

impl From<&SidecarHints> for v1::SidecarResponse {
    fn from(told: &SidecarHints) -> Self {
        Self { hints: Some((&told.hints).into()), written_ms: told.written.map(|written| written.0) }
    }
}

impl TryFrom<v1::SidecarResponse> for SidecarHints {
    type Error = ConvertError;

    fn try_from(wire: v1::SidecarResponse) -> Result<Self, ConvertError> {
        Ok(Self { hints: message(wire.hints, "hints")?, written: wire.written_ms.map(Wall) })
    }
}

impl From<&SidecarManifest> for v1::SidecarManifest {
    fn from(said: &SidecarManifest) -> Self {
        Self {
            project: said.project.to_string(),
            scope: said.scope.to_string(),
            lineage: Some((&said.lineage).into()),
            manifest: Some((&said.manifest).into()),
            written_ms: said.written.0,
        }
    }
}

impl TryFrom<v1::SidecarManifest> for SidecarManifest {
    type Error = ConvertError;

    fn try_from(wire: v1::SidecarManifest) -> Result<Self, ConvertError> {
        Ok(Self {
            project: text(&wire.project, "project")?,
            scope: text(&wire.scope, "scope")?,
            lineage: message(wire.lineage, "lineage")?,
            manifest: message(wire.manifest, "manifest")?,
            written: Wall(wire.written_ms),
        })
    }
}
