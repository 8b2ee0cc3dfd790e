//! From tree to configuration: builds.

use super::{
    keys,
    model::{Build, Details, LEVELS, Matrix, Override, Selector, Text},
    report::Effect,
    section::{Findings, Section},
};

/// The keys of the levels, in the order of [`LEVELS`].
const LEVEL_KEYS: [&str; LEVELS] = ["goamd64", "go386", "goarm", "goarm64", "gomips", "goppc64", "goriscv64"];
/// The keys that `targets` replaces.
const MATRIX_KEYS: [&str; 3] = ["goos", "goarch", "ignore"];

pub(super) fn build(mut section: Section<'_>, findings: &mut Findings) -> Build {
    let overrides = section.sections("overrides", findings);
    let ignore = section.sections("ignore", findings);
    let build = Build {
        place: section.place(),
        id: section.text("id", findings),
        builder: section.text("builder", findings),
        dir: section.text("dir", findings),
        main: section.text("main", findings),
        binary: section.text("binary", findings),
        matrix: Matrix {
            goos: section.texts("goos", findings),
            goarch: section.texts("goarch", findings),
            levels: LEVEL_KEYS.map(|key| section.texts(key, findings)),
        },
        targets: section.texts("targets", findings),
        ignore: ignore.into_iter().map(|section| ignored(section, findings)).collect(),
        details: details(&mut section, findings),
        overrides: overrides.into_iter().map(|section| one_override(section, findings)).collect(),
        mod_timestamp: section.text("mod_timestamp", findings),
        skip: section.text("skip", findings),
        no_unique_dist_dir: section.text("no_unique_dist_dir", findings),
    };
    if !build.targets.is_empty() {
        for key in MATRIX_KEYS.into_iter().chain(LEVEL_KEYS) {
            if let Some(line) = section.line_of(key) {
                let path = format!("{}.{key}", build.place.path);
                findings.ignore(line, path, Effect::Unused("`targets` names the platforms"));
            }
        }
    }
    if let Some(builder) = build.builder.as_ref().filter(|builder| builder.text != "go") {
        let line = builder.place.line.unwrap_or_default();
        findings.ignore(
            line,
            &builder.place.path,
            Effect::MissingAssets("what other builders than go build".into()),
        );
    }
    section.finish(keys::BUILD, findings);
    build
}

fn selector(section: &mut Section<'_>, findings: &mut Findings) -> Selector {
    let mut plain = |key| section.text(key, findings).map(|text: Text| text.text).unwrap_or_default();
    Selector { goos: plain("goos"), goarch: plain("goarch"), levels: LEVEL_KEYS.map(plain) }
}

fn ignored(mut section: Section<'_>, findings: &mut Findings) -> Selector {
    let selector = selector(&mut section, findings);
    section.finish(&[], findings);
    selector
}

fn one_override(mut section: Section<'_>, findings: &mut Findings) -> Override {
    let read = Override {
        place: section.place(),
        selector: selector(&mut section, findings),
        details: details(&mut section, findings),
    };
    section.finish(&[], findings);
    read
}

fn details(section: &mut Section<'_>, findings: &mut Findings) -> Details {
    Details {
        buildmode: section.text("buildmode", findings),
        ldflags: section.text_or_texts("ldflags", findings),
        tags: section.words("tags", findings),
        flags: section.words("flags", findings),
        asmflags: section.text_or_texts("asmflags", findings),
        gcflags: section.text_or_texts("gcflags", findings),
        env: section.texts("env", findings),
    }
}
