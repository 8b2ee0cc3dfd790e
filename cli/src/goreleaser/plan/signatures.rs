//! Signatures of assets and of executables.

use std::{collections::BTreeMap, sync::Arc};

use crate::goreleaser::config::{Signing, Text};

use super::{
    artifact::{Artifact, Kind},
    error::PlanError,
    model::{Maker, PlannedCommand, PlannedSignature, Stdin},
    resolve::Resolver,
    shell::expand,
};

const ID: &str = "default";
const NAME: &str = "${artifact}.sig";
const BINARY_NAME: &str = "${artifact}_{{ .Os }}_{{ .Arch }}{{ with .Arm }}v{{ . }}{{ end }}{{ with .Mips }}_{{ . }}{{ end }}{{ if not (eq .Amd64 \"v1\") }}{{ .Amd64 }}{{ end }}";
const PROGRAM: &str = "gpg";
const ARGS: [&str; 4] = ["--output", "$signature", "--detach-sig", "$artifact"];
const KNOWN: [&str; 8] = ["checksum", "source", "all", "archive", "binary", "sbom", "package", "none"];

impl Resolver<'_> {
    /// `signs`
    pub(super) fn signatures(&mut self) {
        let config = self.config;
        self.check_ids("signs", config.signs.iter().map(id_of));
        self.sign("signs", &config.signs, "none", &KNOWN, NAME, |artifacts, artifact| match artifacts {
            "checksum" => artifact.kind == Kind::Checksum,
            "source" => artifact.kind == Kind::SourceArchive,
            "all" => artifact.is_asset() && !matches!(artifact.kind, Kind::Signature | Kind::Certificate),
            "archive" => artifact.kind == Kind::Archive,
            "binary" => artifact.kind == Kind::UploadableBinary,
            "sbom" => artifact.kind == Kind::Sbom,
            _ => false,
        });
    }

    /// `binary_signs`
    pub(super) fn binary_signatures(&mut self) {
        let config = self.config;
        self.check_ids("binary_signs", config.binary_signs.iter().map(id_of));
        let known = ["binary", "none"];
        self.sign(
            "binary_signs",
            &config.binary_signs,
            "binary",
            &known,
            BINARY_NAME,
            |artifacts, artifact| artifacts == "binary" && artifact.kind == Kind::Binary,
        );
    }

    fn sign(
        &mut self,
        section: &str,
        signings: &[Signing],
        default: &str,
        known: &[&str],
        name: &str,
        is_signed: impl Fn(&str, &Artifact) -> bool,
    ) {
        // All of them see the same artifacts: no signature is signed.
        let before = self.artifacts.clone();
        for signing in signings {
            let artifacts = signing.artifacts.as_ref().map_or(default, |text| text.text.as_str());
            if !known.contains(&artifacts) {
                let place = signing.artifacts.as_ref().map(|text| text.place.clone()).unwrap_or_default();
                let known = known.join(", ");
                self.error(PlanError::Unknown { place, found: artifacts.to_owned(), known });
                continue;
            }
            let signature = signing.signature.clone();
            let signature =
                signature.unwrap_or_else(|| Text::default_of(format!("{section}.signature"), name));
            let ids: Vec<String> = signing.ids.iter().map(|id| id.text.clone()).collect();
            let signed =
                before.iter().filter(|artifact| is_signed(artifacts, artifact) && artifact.is_of(&ids));
            for artifact in signed {
                self.signature(signing, artifacts == "binary", &signature, artifact);
            }
        }
    }

    fn signature(&mut self, signing: &Signing, is_of_binaries: bool, name: &Text, artifact: &Artifact) {
        let mut env = (*self.env).clone();
        env.extend([
            ("artifactName".to_owned(), artifact.name.clone()),
            ("artifact".to_owned(), artifact.path.clone()),
            ("artifactID".to_owned(), artifact.id.clone()),
            ("digest".to_owned(), String::new()),
        ]);
        // Its own environment sees of the environment only what stands before in it.
        let mut own = BTreeMap::new();
        for text in &signing.env {
            let scope = self.scope.with_env(Arc::new(own.clone()));
            let Some(rendered) = self.render(text, &scope) else { return };
            if let Some((name, value)) = rendered.split_once('=').filter(|(name, _)| !name.is_empty()) {
                own.insert(name.to_owned(), value.to_owned());
            }
        }
        env.extend(own.clone());
        // First with the path, which is where the file goes, then with the name, which is what it is called.
        let Some(path) = self.named(name, artifact, &env) else { return };
        env.insert("signature".to_owned(), path.clone());
        let maker = if is_of_binaries {
            Maker::Fleet
        } else {
            match self.command(signing, path, artifact, &mut env, own) {
                Some(command) => Maker::Command(command),
                None => return,
            }
        };
        env.insert("artifact".to_owned(), artifact.name.clone());
        let Some(signature) = self.named(name, artifact, &env) else { return };
        let Some(certificate) = self.named_optional(signing.certificate.as_ref(), artifact, &env) else {
            return;
        };
        let id = id_of(signing);
        let made = Artifact::plain(Kind::Signature, &self.dist, &signature, &id);
        let beside = (!certificate.is_empty())
            .then(|| Artifact::plain(Kind::Certificate, &self.dist, &certificate, &id));
        self.plan.signatures.push(PlannedSignature {
            name: made.name.clone(),
            certificate: beside.as_ref().map(|artifact| artifact.name.clone()),
            subject: artifact.subject(),
            maker,
        });
        self.artifacts.push(made);
        self.artifacts.extend(beside);
    }

    /// The command that signs an artifact, with the paths of its files.
    fn command(
        &mut self,
        signing: &Signing,
        signature: String,
        artifact: &Artifact,
        env: &mut BTreeMap<String, String>,
        own: BTreeMap<String, String>,
    ) -> Option<PlannedCommand> {
        let certificate = self.named_optional(signing.certificate.as_ref(), artifact, env)?;
        if !certificate.is_empty() {
            env.insert("certificate".to_owned(), certificate.clone());
        }
        let default = ARGS.map(|text| Text::default_of("signs.args", text));
        let args = if signing.args.is_empty() { &default[..] } else { &signing.args[..] };
        // What is signed is not there yet, so nothing knows its digest.
        let is_digest = |text: &&Text| text.text.contains("$digest") || text.text.contains("${digest}");
        if let Some(text) = args.iter().chain(&signing.stdin).find(is_digest) {
            self.error(PlanError::Digest(text.place.clone()));
            return None;
        }
        let mut rendered = Vec::new();
        for arg in args {
            rendered.push(self.named(arg, artifact, env)?);
        }
        let stdin = match (&signing.stdin, &signing.stdin_file) {
            (Some(text), _) => Stdin::Text(self.named(text, artifact, env)?),
            (None, Some(file)) => Stdin::File(file.text.clone()),
            (None, None) => Stdin::Nothing,
        };
        let program = signing.cmd.as_ref().map_or(PROGRAM, |text| text.text.as_str()).to_owned();
        Some(PlannedCommand { program, args: rendered, env: own, stdin, signature, certificate })
    }

    fn named_optional(
        &mut self,
        text: Option<&Text>,
        artifact: &Artifact,
        env: &BTreeMap<String, String>,
    ) -> Option<String> {
        text.map_or_else(|| Some(String::new()), |text| self.named(text, artifact, env))
    }

    fn named(&mut self, text: &Text, artifact: &Artifact, env: &BTreeMap<String, String>) -> Option<String> {
        let scope = self.scope_of(artifact).with_env(Arc::new(env.clone()));
        let expanded = expand(&text.text, |name| env.get(name).map(String::as_str));
        self.render(&Text { text: expanded, place: text.place.clone() }, &scope)
    }
}

fn id_of(signing: &Signing) -> String {
    signing.id.as_ref().map_or(ID, |id| id.text.as_str()).to_owned()
}
