//! Archives, executables that are uploaded as they are, and the archive of the source.

use std::collections::BTreeSet;

use crate::goreleaser::{
    config::{Archive, FormatOverride, Place, Text},
    template::{self, Scope},
};

use super::{
    artifact::{Artifact, Kind},
    error::PlanError,
    model::{PlannedArchive, PlannedFile, PlannedSource},
    resolve::Resolver,
};

/// More archives than any release has.
const ARCHIVES_MAX: usize = 4096;
const ID: &str = "default";
const NAME: &str = "{{ .ProjectName }}_{{ .Version }}_{{ .Os }}_{{ .Arch }}{{ with .Arm }}v{{ . }}{{ end }}{{ with .Mips }}_{{ . }}{{ end }}{{ if not (eq .Amd64 \"v1\") }}{{ .Amd64 }}{{ end }}";
const BINARY_NAME: &str = "{{ .Binary }}_{{ .Version }}_{{ .Os }}_{{ .Arch }}{{ with .Arm }}v{{ . }}{{ end }}{{ with .Mips }}_{{ . }}{{ end }}{{ if not (eq .Amd64 \"v1\") }}{{ .Amd64 }}{{ end }}";
const FORMAT: &str = "tar.gz";
/// The format of an executable as it is.
const BINARY: &str = "binary";
/// The format that stands for no archive at all.
const NONE: &str = "none";
const FORMATS: [&str; 9] = ["tar.gz", "tgz", "tar", "gz", "tar.xz", "txz", "tar.zst", "tzst", "zip"];
/// The files that go into an archive when the configuration names none.
const FILES: [&str; 6] = ["license*", "LICENSE*", "readme*", "README*", "changelog*", "CHANGELOG*"];
const SOURCE_NAME: &str = "{{ .ProjectName }}-{{ .Version }}";
const SOURCE_FORMATS: [&str; 4] = ["zip", "tar", "tgz", "tar.gz"];

impl Resolver<'_> {
    /// `archives`; one of GoReleaser's own where there is none.
    pub(super) fn archives(&mut self) {
        let config = self.config;
        let own =
            [Archive { place: Place { path: "archives".to_owned(), line: None }, ..Archive::default() }];
        let archives = if config.archives.is_empty() { &own[..] } else { &config.archives[..] };
        let id_of = |archive: &Archive| archive.id.as_ref().map_or(ID, |id| id.text.as_str()).to_owned();
        self.check_ids("archives", archives.iter().map(id_of));
        let mut paths = BTreeSet::new();
        for archive in archives {
            let formats: Vec<&Text> = archive.formats.iter().collect();
            let default = Text::default_of(format!("{}.formats", archive.place.path), FORMAT);
            let formats = if formats.is_empty() { vec![&default] } else { formats };
            let has_binary = formats.iter().any(|format| format.text == BINARY);
            let name = archive.name_template.clone().unwrap_or_else(|| {
                let name = if has_binary { BINARY_NAME } else { NAME };
                Text::default_of(format!("{}.name_template", archive.place.path), name)
            });
            let step = Step { archive, id: id_of(archive), name };
            if archive.is_meta {
                for format in formats {
                    self.archive(&step, &[], format, &mut paths);
                }
                continue;
            }
            let groups = self.groups(archive);
            let counts: BTreeSet<usize> = groups.iter().map(Vec::len).collect();
            if counts.len() > 1 && !has_binary && !archive.allows_different_binary_count {
                self.error(PlanError::BinaryCount(archive.place.clone()));
                continue;
            }
            for group in groups {
                let goos = group[0].target.as_ref().map(|target| target.goos.as_str()).unwrap_or_default();
                for format in overridden(&archive.format_overrides, goos).unwrap_or(formats.clone()) {
                    match format.text.as_str() {
                        NONE => {}
                        BINARY => group.iter().for_each(|binary| self.uploaded(&step, binary)),
                        _ => self.archive(&step, &group, format, &mut paths),
                    }
                }
            }
        }
    }

    /// The executables of an archive, grouped as they go into one.
    ///
    /// That is by GOOS and GOARCH; by GOAMD64, GOARM and GOMIPS as well when there are several of one of them.
    fn groups(&self, archive: &Archive) -> Vec<Vec<Artifact>> {
        let ids: Vec<String> = archive.ids.iter().map(|id| id.text.clone()).collect();
        let is_binary = |artifact: &&Artifact| {
            matches!(artifact.kind, Kind::Binary | Kind::UniversalBinary | Kind::Library)
                && artifact.is_of(&ids)
        };
        let binaries: Vec<&Artifact> = self.artifacts.iter().filter(is_binary).collect();
        let levels: BTreeSet<(usize, &str)> = binaries
            .iter()
            .filter_map(|artifact| artifact.target.as_ref().and_then(|target| target.grouping_level()))
            .collect();
        let kinds: BTreeSet<usize> = levels.iter().map(|(kind, _)| *kind).collect();
        let is_specific = levels.len() > kinds.len();
        let mut groups: Vec<(String, Vec<Artifact>)> = Vec::new();
        for binary in binaries {
            let Some(target) = &binary.target else { continue };
            let level = target.grouping_level().filter(|_| is_specific).map_or("", |(_, level)| level);
            let key = format!("{}/{}/{level}", target.goos, target.goarch);
            match groups.iter_mut().find(|(there, _)| *there == key) {
                Some((_, group)) => group.push(binary.clone()),
                None => groups.push((key, vec![binary.clone()])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// One archive of some executables, or of files only.
    fn archive(&mut self, step: &Step<'_>, group: &[Artifact], format: &Text, paths: &mut BTreeSet<String>) {
        let archive = step.archive;
        if !FORMATS.contains(&format.text.as_str()) {
            return self.error(unknown(format, &[&FORMATS[..], &[BINARY, NONE]].concat()));
        }
        let scope = group.first().map_or_else(|| self.scope.clone(), |first| self.scope_of(first));
        let Some(folder) = self.render(&step.name, &scope) else { return };
        let name = format!("{folder}.{}", format.text);
        let mut artifact = Artifact::plain(Kind::Archive, &self.dist, &name, &step.id);
        artifact.target = group.first().and_then(|first| first.target.clone());
        if !paths.insert(artifact.path.clone()) {
            return self.error(PlanError::ArchiveExists { place: step.name.place.clone(), name });
        }
        if paths.len() > ARCHIVES_MAX {
            return self.error(PlanError::TooMany { what: "archives", max: ARCHIVES_MAX });
        }
        let Some(wrap_in) = self.wrap_in(archive, &step.name, &scope) else { return };
        let files = self.files(archive, &scope);
        if archive.is_meta && files.is_empty() {
            self.error(PlanError::Empty { place: archive.place.clone(), key: "files" });
        }
        let in_archive = |binary: &Artifact| {
            if archive.strips_binary_directory { template::base(&binary.name) } else { binary.name.clone() }
        };
        let binaries = group.iter().filter_map(|binary| binary.part.map(|part| (part, in_archive(binary))));
        self.plan.archives.push(PlannedArchive {
            id: step.id.clone(),
            name: artifact.name.clone(),
            format: format.text.clone(),
            binaries: binaries.collect(),
            wrap_in,
            files,
        });
        self.artifacts.push(artifact);
    }

    /// An executable that is uploaded as it is.
    fn uploaded(&mut self, step: &Step<'_>, binary: &Artifact) {
        let scope = self.scope_of(binary);
        let Some(name) = self.render(&step.name, &scope) else { return };
        let Some(part) = binary.part else { return };
        let name = format!("{name}{}", binary.extension);
        let artifact = Artifact {
            kind: Kind::UploadableBinary,
            path: binary.path.clone(),
            target: binary.target.clone(),
            binary: Some(binary.name.clone()),
            part: Some(part),
            ..Artifact::plain(Kind::UploadableBinary, &self.dist, &name, &step.id)
        };
        self.plan.archives.push(PlannedArchive {
            id: step.id.clone(),
            name: artifact.name.clone(),
            format: BINARY.to_owned(),
            binaries: vec![(part, artifact.name.clone())],
            wrap_in: String::new(),
            files: Vec::new(),
        });
        self.artifacts.push(artifact);
    }

    fn wrap_in(&mut self, archive: &Archive, name: &Text, scope: &Scope) -> Option<String> {
        match archive.wrap_in_directory.as_ref() {
            None => Some(String::new()),
            Some(text) if text.text == "false" => Some(String::new()),
            Some(text) if text.text == "true" => self.render(name, scope),
            Some(text) => self.render(text, scope),
        }
    }

    fn files(&mut self, archive: &Archive, scope: &Scope) -> Vec<PlannedFile> {
        if archive.files.is_empty() {
            let file = |pattern: &str| PlannedFile {
                pattern: pattern.to_owned(),
                destination: String::new(),
                strips_parent: false,
                is_default: true,
            };
            return FILES.iter().map(|pattern| file(pattern)).collect();
        }
        let files = archive.files.iter().filter_map(|file| {
            let destination = Text { text: file.destination.clone(), place: file.source.place.clone() };
            Some(PlannedFile {
                pattern: self.render(&file.source, scope)?,
                destination: self.render(&destination, scope)?,
                strips_parent: file.strips_parent,
                is_default: false,
            })
        });
        files.collect()
    }

    /// `source`
    pub(super) fn source_archive(&mut self) {
        let source = &self.config.source;
        if !source.is_enabled {
            return;
        }
        let format = source.format.clone().unwrap_or_else(|| Text::default_of("source.format", FORMAT));
        if !SOURCE_FORMATS.contains(&format.text.as_str()) {
            return self.error(unknown(&format, &SOURCE_FORMATS));
        }
        let name = source.name_template.clone();
        let name = name.unwrap_or_else(|| Text::default_of("source.name_template", SOURCE_NAME));
        let scope = self.scope.clone();
        let Some(name) = self.render(&name, &scope) else { return };
        let Some(prefix) = self.render_optional(source.prefix_template.as_ref(), &scope) else { return };
        let name = format!("{name}.{}", format.text);
        let artifact = Artifact::plain(Kind::SourceArchive, &self.dist, &name, "");
        self.plan.source = Some(PlannedSource { name: artifact.name.clone(), format: format.text, prefix });
        self.artifacts.push(artifact);
    }
}

/// An archive of the configuration with its defaults.
struct Step<'a> {
    archive: &'a Archive,
    id: String,
    name: Text,
}

/// The formats of the first override that is for an operating system.
fn overridden<'a>(overrides: &'a [FormatOverride], goos: &str) -> Option<Vec<&'a Text>> {
    let is_said = |over: &&FormatOverride| !over.goos.is_empty() && !over.formats.is_empty();
    let over = overrides.iter().filter(is_said).find(|over| goos.starts_with(&over.goos))?;
    Some(over.formats.iter().collect())
}

fn unknown(found: &Text, known: &[&str]) -> PlanError {
    PlanError::Unknown { place: found.place.clone(), found: found.text.clone(), known: known.join(", ") }
}
