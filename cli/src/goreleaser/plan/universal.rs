//! Universal binaries: executables of macOS that hold one for each architecture.

use crate::goreleaser::{
    config::{Text, UniversalBinary},
    template,
};

use super::{
    artifact::{Artifact, Kind, clean_name},
    model::{Part, PlannedUniversal},
    resolve::Resolver,
    target::Target,
};

impl Resolver<'_> {
    /// `universal_binaries`
    pub(super) fn universal_binaries(&mut self) {
        let config = self.config;
        let project_name = self.plan.project_name.clone();
        let id_of = |universal: &UniversalBinary| {
            universal.id.as_ref().map_or_else(|| project_name.clone(), |id| id.text.clone())
        };
        self.check_ids("universal_binaries", config.universal_binaries.iter().map(id_of));
        for universal in &config.universal_binaries {
            let id = id_of(universal);
            let scope = self.scope.clone();
            let name = universal.name_template.clone();
            let name = name.unwrap_or_else(|| Text::default_of("project_name", &project_name));
            let Some(name) = self.render(&name, &scope) else { continue };
            let Some(mod_timestamp) = self.render_optional(universal.mod_timestamp.as_ref(), &scope) else {
                continue;
            };
            let ids: Vec<String> = match &universal.ids[..] {
                [] => vec![id.clone()],
                ids => ids.iter().map(|id| id.text.clone()).collect(),
            };
            self.universal_binary(universal, id, name, mod_timestamp, &ids);
        }
    }

    fn universal_binary(
        &mut self,
        universal: &UniversalBinary,
        id: String,
        name: String,
        mod_timestamp: String,
        ids: &[String],
    ) {
        let is_part = |artifact: &Artifact| {
            let is_darwin = artifact.target.as_ref().is_some_and(|target| target.goos == "darwin");
            artifact.kind == Kind::Binary && is_darwin && artifact.is_of(ids)
        };
        let parts: Vec<&Artifact> = self.artifacts.iter().filter(|artifact| is_part(artifact)).collect();
        // Without builds for macOS GoReleaser passes over it.
        let Some(first) = parts.first() else { return };
        let path = template::clean(&format!("{}/{id}_darwin_all/{name}", self.dist));
        let artifact = Artifact {
            kind: Kind::UniversalBinary,
            name: clean_name(&name),
            path: path.clone(),
            target: Some(Target {
                goos: "darwin".to_owned(),
                goarch: "all".to_owned(),
                level: String::new(),
            }),
            id: id.clone(),
            binary: first.binary.clone(),
            extension: first.extension.clone(),
            part: Some(Part::Universal(self.plan.universal_binaries.len())),
        };
        let builds = parts.iter().filter_map(|artifact| match artifact.part {
            Some(Part::Build(index)) => Some(index),
            _ => None,
        });
        self.plan.universal_binaries.push(PlannedUniversal {
            id,
            name: artifact.name.clone(),
            path,
            builds: builds.collect(),
            replaces: universal.replaces,
            mod_timestamp: Some(mod_timestamp).filter(|text| !text.is_empty()),
        });
        self.artifacts.push(artifact);
        if universal.replaces {
            self.artifacts.retain(|artifact| !is_part(artifact));
        }
    }
}
