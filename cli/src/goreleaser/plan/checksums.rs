//! Lists of checksums.

use crate::goreleaser::{config::Text, template::Value};

use super::{
    artifact::{Artifact, Kind},
    model::PlannedChecksums,
    resolve::Resolver,
};

const ALGORITHM: &str = "sha256";
const NAME: &str = "{{ .ProjectName }}_{{ .Version }}_checksums.txt";
const SPLIT_NAME: &str = "{{ .ArtifactName }}.{{ .Algorithm }}";

impl Resolver<'_> {
    /// `checksum`
    pub(super) fn checksums(&mut self) {
        let checksum = &self.config.checksum;
        if checksum.is_disabled {
            return;
        }
        let algorithm = checksum.algorithm.as_ref().map_or(ALGORITHM, |text| text.text.as_str()).to_owned();
        let name = checksum.name_template.clone().unwrap_or_else(|| {
            let name = if checksum.is_split { SPLIT_NAME } else { NAME };
            Text::default_of("checksum.name_template", name)
        });
        let ids: Vec<String> = checksum.ids.iter().map(|id| id.text.clone()).collect();
        let is_listed = |artifact: &&Artifact| {
            let is_own = matches!(artifact.kind, Kind::Checksum | Kind::Signature | Kind::Certificate);
            artifact.is_asset() && !is_own && artifact.is_of(&ids)
        };
        let listed: Vec<Artifact> = self.artifacts.iter().filter(is_listed).cloned().collect();
        if checksum.is_split {
            for artifact in listed {
                let scope = self.scope_of(&artifact).with([("Algorithm", Value::text(&algorithm))]);
                self.list(&name, &scope, &algorithm, vec![artifact.name], true);
            }
        } else if !listed.is_empty() || checksum.has_extra_files {
            let scope = self.scope.clone();
            let assets = listed.into_iter().map(|artifact| artifact.name).collect();
            self.list(&name, &scope, &algorithm, assets, false);
        }
    }

    fn list(
        &mut self,
        name: &Text,
        scope: &crate::goreleaser::template::Scope,
        algorithm: &str,
        assets: Vec<String>,
        is_split: bool,
    ) {
        let Some(name) = self.render(name, scope) else { return };
        let artifact = Artifact::plain(Kind::Checksum, &self.dist, &name, "");
        self.plan.checksums.push(PlannedChecksums {
            name: artifact.name.clone(),
            algorithm: algorithm.to_owned(),
            assets,
            is_split,
        });
        self.artifacts.push(artifact);
    }
}
