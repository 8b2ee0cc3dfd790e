//! From tree to configuration: the root and everything but builds.

use crate::goreleaser::yaml;

use super::{
    decode_builds::build,
    error::ConfigErrors,
    keys,
    model::{
        Archive, ArchiveFile, Checksum, Config, Document, FormatOverride, Signing, SourceArchive, Text,
        UniversalBinary,
    },
    report::{Effect, Report},
    section::{Findings, Section},
};

/// The version of the file format that is read.
const VERSION: i64 = 2;

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When the text is no YAML that we read, or every mistake in what it says at once: keys that GoReleaser
    /// does not know, and values of another kind than it takes.
    pub fn read(text: &str) -> Result<(Self, Report), ConfigErrors> {
        let document = yaml::read(text).map_err(ConfigErrors::Yaml)?;
        let mut findings = Findings::default();
        if let Some(line) = document.next_line {
            findings.note(line, "GoReleaser reads the first document of a file only");
        }
        let nothing = yaml::Node::null();
        let root = document.root.as_ref().unwrap_or(&nothing);
        let root = Section::open(root, "", &mut findings);
        let config = decode(root, &mut findings);
        let Findings { mut mistakes, mut ignored, mut notes, .. } = findings;
        if !mistakes.is_empty() {
            mistakes.sort();
            mistakes.dedup();
            return Err(ConfigErrors::Mistakes(mistakes));
        }
        ignored.sort();
        notes.sort_by_key(|note| note.line);
        Ok((config, Report { ignored, notes }))
    }
}

fn decode(mut root: Section<'_>, findings: &mut Findings) -> Config {
    match root.number("version", findings) {
        Some((VERSION, _)) => {}
        Some((version, line)) => {
            findings.is_old = true;
            let words = format!("GoReleaser 2 reads files of `version: 2`; this one says {version}");
            findings.note(line, words);
        }
        None => {
            findings.is_old = true;
            findings.note(0, "the file does not say `version: 2`, of which GoReleaser 2 warns");
        }
    }
    findings.is_pro = root.flag("pro", findings);
    let mut config = Config {
        project_name: root.text("project_name", findings),
        dist: root.text("dist", findings),
        env: root.texts("env", findings),
        ..Config::default()
    };
    if let Some(section) = root.section("release", findings) {
        release(section, &mut config, findings);
    }
    if let Some(mut section) = root.section("before", findings) {
        config.before_hooks = section.texts("hooks", findings);
        section.finish(&[], findings);
    }
    config.builds =
        root.sections("builds", findings).into_iter().map(|section| build(section, findings)).collect();
    config.universal_binaries = each(&mut root, "universal_binaries", findings, universal_binary);
    config.archives = each(&mut root, "archives", findings, archive);
    config.sboms = each(&mut root, "sboms", findings, sbom);
    config.signs = each(&mut root, "signs", findings, |section, findings| signing(section, false, findings));
    config.binary_signs =
        each(&mut root, "binary_signs", findings, |section, findings| signing(section, true, findings));
    if let Some(section) = root.section("source", findings) {
        config.source = source(section, findings);
    }
    if let Some(section) = root.section("checksum", findings) {
        config.checksum = checksum(section, findings);
    }
    if let Some(mut section) = root.section("snapshot", findings) {
        let version = section.text("version_template", findings);
        let older = section.text("name_template", findings);
        if let Some(older) = &older {
            deprecated(older, "version_template", findings);
        }
        // The older key wins in GoReleaser.
        config.snapshot_version = older.or(version);
        section.finish(&[], findings);
    }
    for (place, formats) in root.elements("nfpms", "formats") {
        let separator = if formats.is_empty() { "" } else { ": " };
        let missing = format!("Linux packages{separator}{}", formats.join(", "));
        findings.ignore(place.line.unwrap_or_default(), place.path, Effect::MissingAssets(missing.into()));
    }
    root.finish(keys::ROOT, findings);
    config
}

fn each<T>(
    root: &mut Section<'_>,
    key: &'static str,
    findings: &mut Findings,
    read: impl Fn(Section<'_>, &mut Findings) -> T,
) -> Vec<T> {
    root.sections(key, findings).into_iter().map(|section| read(section, findings)).collect()
}

fn deprecated(older: &Text, newer: &str, findings: &mut Findings) {
    let words = format!("`{}` is deprecated in GoReleaser; say `{newer}`", older.place.path);
    findings.note(older.place.line.unwrap_or_default(), words);
}

fn release(mut section: Section<'_>, config: &mut Config, findings: &mut Findings) {
    for key in ["github", "gitlab", "gitea"] {
        if let Some(mut repository) = section.section(key, findings) {
            config.release_names.extend(repository.text("name", findings));
            repository.finish(keys::REPOSITORY, findings);
        }
    }
    config.is_draft = section.flag("draft", findings);
    section.finish(keys::RELEASE, findings);
}

fn universal_binary(mut section: Section<'_>, findings: &mut Findings) -> UniversalBinary {
    let universal = UniversalBinary {
        place: section.place(),
        id: section.text("id", findings),
        ids: section.texts("ids", findings),
        name_template: section.text("name_template", findings),
        replaces: section.flag("replace", findings),
        mod_timestamp: section.text("mod_timestamp", findings),
    };
    section.finish(keys::UNIVERSAL_BINARY, findings);
    universal
}

/// `formats` and the older `format`, which comes last in GoReleaser.
fn formats(section: &mut Section<'_>, findings: &mut Findings) -> Vec<Text> {
    let mut formats = section.text_or_texts("formats", findings);
    if let Some(older) = section.text("format", findings) {
        deprecated(&older, "formats", findings);
        formats.push(older);
    }
    formats
}

fn archive(mut section: Section<'_>, findings: &mut Findings) -> Archive {
    let mut ids = section.texts("ids", findings);
    let older = section.texts("builds", findings);
    if let Some(first) = older.first() {
        deprecated(first, "ids", findings);
    }
    ids.extend(older);
    let overrides = section.sections("format_overrides", findings);
    let archive = Archive {
        place: section.place(),
        id: section.text("id", findings),
        ids,
        name_template: section.text("name_template", findings),
        formats: formats(&mut section, findings),
        format_overrides: overrides.into_iter().map(|section| format_override(section, findings)).collect(),
        wrap_in_directory: section.text("wrap_in_directory", findings),
        strips_binary_directory: section.flag("strip_binary_directory", findings),
        files: archive_files(&mut section, findings),
        is_meta: section.flag("meta", findings),
        allows_different_binary_count: section.flag("allow_different_binary_count", findings),
    };
    section.finish(keys::ARCHIVE, findings);
    archive
}

fn format_override(mut section: Section<'_>, findings: &mut Findings) -> FormatOverride {
    let goos = section.text("goos", findings).map(|goos| goos.text).unwrap_or_default();
    let read = FormatOverride { goos, formats: formats(&mut section, findings) };
    section.finish(&[], findings);
    read
}

fn archive_files(section: &mut Section<'_>, findings: &mut Findings) -> Vec<ArchiveFile> {
    let files = section.texts_and_sections("files", findings).into_iter().map(|file| match file {
        Ok(source) => ArchiveFile { source, ..ArchiveFile::default() },
        Err(mut section) => {
            let file = ArchiveFile {
                source: section.text("src", findings).unwrap_or_default(),
                destination: section.text("dst", findings).map(|text| text.text).unwrap_or_default(),
                strips_parent: section.flag("strip_parent", findings),
            };
            section.finish(keys::ARCHIVE_FILE, findings);
            file
        }
    });
    files.collect()
}

fn source(mut section: Section<'_>, findings: &mut Findings) -> SourceArchive {
    let source = SourceArchive {
        is_enabled: section.flag("enabled", findings),
        format: section.text("format", findings),
        name_template: section.text("name_template", findings),
        prefix_template: section.text("prefix_template", findings),
    };
    section.finish(keys::SOURCE, findings);
    source
}

fn checksum(mut section: Section<'_>, findings: &mut Findings) -> Checksum {
    let checksum = Checksum {
        name_template: section.text("name_template", findings),
        algorithm: section.text("algorithm", findings),
        is_split: section.flag("split", findings),
        is_disabled: section.flag("disable", findings),
        ids: section.texts("ids", findings),
        has_extra_files: section.line_of("extra_files").is_some(),
    };
    section.finish(keys::CHECKSUM, findings);
    checksum
}

fn sbom(mut section: Section<'_>, findings: &mut Findings) -> Document {
    let document = Document {
        place: section.place(),
        id: section.text("id", findings),
        artifacts: section.text("artifacts", findings),
        documents: section.texts("documents", findings),
        ids: section.texts("ids", findings),
        disable: section.text("disable", findings),
    };
    section.finish(keys::SBOM, findings);
    document
}

fn signing(mut section: Section<'_>, is_of_binaries: bool, findings: &mut Findings) -> Signing {
    let signing = Signing {
        place: section.place(),
        id: section.text("id", findings),
        artifacts: section.text("artifacts", findings),
        signature: section.text("signature", findings),
        certificate: section.text("certificate", findings),
        ids: section.texts("ids", findings),
        env: section.texts("env", findings),
        cmd: section.text("cmd", findings),
        args: section.texts("args", findings),
        stdin: section.text("stdin", findings),
        stdin_file: section.text("stdin_file", findings),
    };
    if is_of_binaries || signing.artifacts.as_ref().is_some_and(|artifacts| artifacts.text == "binary") {
        for key in ["cmd", "args", "stdin", "stdin_file"] {
            if let Some(line) = section.line_of(key) {
                findings.ignore(line, format!("{}.{key}", signing.place.path), keys::FLEET_SIGNS);
            }
        }
    }
    section.finish(keys::SIGN, findings);
    signing
}
