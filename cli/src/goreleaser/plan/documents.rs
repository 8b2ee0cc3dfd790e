//! Software bills of materials.

use crate::goreleaser::{
    config::{Document, Text},
    template::{self, Scope},
};

use super::{
    artifact::{Artifact, Kind},
    error::PlanError,
    model::{PlannedDocument, Subject},
    resolve::Resolver,
    shell::expand,
};

const ID: &str = "default";
const ARTIFACTS: &str = "archive";
const KNOWN: [&str; 5] = ["source", "package", "archive", "binary", "any"];
const NAME: &str = "{{ .ArtifactName }}.sbom.json";
const BINARY_NAME: &str = "{{ .Binary }}_{{ .Version }}_{{ .Os }}_{{ .Arch }}.sbom.json";

impl Resolver<'_> {
    /// `sboms`
    pub(super) fn documents(&mut self) {
        let config = self.config;
        let id_of = |document: &Document| document.id.as_ref().map_or(ID, |id| id.text.as_str()).to_owned();
        self.check_ids("sboms", config.sboms.iter().map(id_of));
        // All of them see the same artifacts: none is made of another's document.
        let before = self.artifacts.clone();
        for document in &config.sboms {
            if !self.render_flag(document.disable.as_ref()) {
                self.document(document, &id_of(document), &before);
            }
        }
    }

    fn document(&mut self, document: &Document, id: &str, before: &[Artifact]) {
        let artifacts = document.artifacts.clone();
        let artifacts = artifacts
            .unwrap_or_else(|| Text::default_of(format!("{}.artifacts", document.place.path), ARTIFACTS));
        let names = if document.documents.is_empty() {
            let path = format!("{}.documents", document.place.path);
            match artifacts.text.as_str() {
                "binary" => vec![Text::default_of(path, BINARY_NAME)],
                "any" => {
                    return self.error(PlanError::Empty { place: document.place.clone(), key: "documents" });
                }
                _ => vec![Text::default_of(path, NAME)],
            }
        } else {
            document.documents.clone()
        };
        if names.len() > 1 && artifacts.text != "any" {
            return self.error(PlanError::ManyDocuments(document.place.clone()));
        }
        let is_subject = |artifact: &&Artifact| match artifacts.text.as_str() {
            "source" => artifact.kind == Kind::SourceArchive,
            "archive" => artifact.kind == Kind::Archive,
            "binary" => is_binary(artifact, before),
            _ => false,
        };
        match artifacts.text.as_str() {
            "any" => {
                let scope = self.scope.clone();
                names.iter().for_each(|name| self.one_document(name, id, None, &scope));
            }
            known if KNOWN.contains(&known) => {
                let ids: Vec<String> = document.ids.iter().map(|id| id.text.clone()).collect();
                for artifact in before.iter().filter(is_subject).filter(|artifact| artifact.is_of(&ids)) {
                    let scope = self.scope_of(artifact);
                    names.iter().for_each(|name| self.one_document(name, id, Some(artifact), &scope));
                }
            }
            _ => self.error(PlanError::Unknown {
                place: artifacts.place.clone(),
                found: artifacts.text.clone(),
                known: KNOWN.join(", "),
            }),
        }
    }

    fn one_document(&mut self, name: &Text, id: &str, artifact: Option<&Artifact>, scope: &Scope) {
        // `$artifact` is the artifact's path from the output directory.
        let path = artifact.map(|artifact| {
            let in_dist = artifact.path.strip_prefix(&format!("{}/", template::clean(&self.dist)));
            in_dist.unwrap_or(&artifact.path).to_owned()
        });
        let value = |name: &str| match name {
            "artifact" if path.is_some() => path.as_deref(),
            "artifactID" if artifact.is_some() => artifact.map(|artifact| artifact.id.as_str()),
            name => self.env.get(name).map(String::as_str),
        };
        let expanded = Text { text: expand(&name.text, value), place: name.place.clone() };
        let Some(rendered) = self.render(&expanded, scope) else { return };
        let name = template::base(&rendered);
        let made = Artifact::plain(Kind::Sbom, &self.dist, &name, id);
        let subject = artifact.map_or(Subject::Project, Artifact::subject);
        self.plan.documents.push(PlannedDocument { name: made.name.clone(), subject });
        self.artifacts.push(made);
    }
}

/// Whether an artifact is an executable; one that is uploaded as it is counts once, as the asset.
fn is_binary(artifact: &Artifact, all: &[Artifact]) -> bool {
    match artifact.kind {
        Kind::UploadableBinary => true,
        Kind::Binary | Kind::UniversalBinary => {
            !all.iter().any(|other| other.kind == Kind::UploadableBinary && other.path == artifact.path)
        }
        _ => false,
    }
}
