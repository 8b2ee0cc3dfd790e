use proptest::prelude::*;

use crate::goreleaser::yaml::YamlError;

use super::{Config, ConfigErrors, Effect, Report, Text};

fn read(text: &str) -> (Config, Report) {
    Config::read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes(text: &str) -> String {
    Config::read(text).unwrap_err().to_string()
}

fn words(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.text.as_str()).collect()
}

#[test]
fn every_ignored_key_is_reported_with_its_line_and_what_that_changes() {
    let text = "version: 2\nbuilds:\n  - goos: [linux]\n    hooks:\n      pre: make\n      post:\n        - cmd: upx\n    \
                tool: go1.22\n    no_main_check: true\nupx: [{enabled: true}]\nnfpms:\n  - formats: [deb, rpm]\n  \
                - id: second\nrelease:\n  prerelease: auto\n  github: {owner: acme, name: x}\nbrews: []\nmilestones:\n\
                signs: [{artifacts: binary, cmd: gpg}, {artifacts: checksum, cmd: gpg}]\narchives: [{files: [{src: a, info: {mode: 420}}]}]\n";
    let reported: Vec<String> = read(text).1.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(
        reported,
        [
            "line 5: `builds[0].hooks.pre`: hooks around builds are not run",
            "line 6: `builds[0].hooks.post`: hooks around builds are not run",
            "line 8: `builds[0].tool`: the toolchain is the one of the module's go.mod or of the command line",
            "line 9: `builds[0].no_main_check`: no build and no name depends on it",
            "line 10: `upx`: binaries are not compressed",
            "line 12: `nfpms[0]`: missing among the assets: Linux packages: deb, rpm",
            "line 13: `nfpms[1]`: missing among the assets: Linux packages",
            "line 15: `release.prerelease`: no build and no name depends on it",
            "line 16: `release.github.owner`: no build and no name depends on it",
            "line 17: `brews`: no build and no name depends on it",
            "line 19: `signs[0].cmd`: signatures of binaries are made by the fleet's signer",
            "line 20: `archives[0].files[0].info.mode`: owner, mode and time of files in archives are Meridian's",
        ]
    );
}

#[test]
fn what_goreleaser_does_not_know_is_a_mistake_with_the_nearest_key() {
    let text =
        "version: 2\narchive: []\nbuilds:\n  - gooos: [linux]\n    hook: x\nchecksum:\n  entirely: other\n";
    assert_eq!(
        mistakes(text),
        "line 2: `archive`: GoReleaser knows no such key here; did you mean `archives`?\n\
         line 4: `builds[0].gooos`: GoReleaser knows no such key here; did you mean `goos`?\n\
         line 5: `builds[0].hook`: GoReleaser knows no such key here; did you mean `hooks`?\n\
         line 7: `checksum.entirely`: GoReleaser knows no such key here"
    );
    let old = mistakes("archives:\n  - replacements: {linux: Linux}\n");
    assert!(old.ends_with("the file is not of `version: 2`, so it may be a key of version 1"), "{old}");
}

#[test]
fn keys_of_the_pro_edition_are_ignored_where_the_file_says_so() {
    let (_, report) = read("version: 2\npro: true\nincludes: [x]\nbuilds: [{prebuilt: {path: x}}]\n");
    let paths: Vec<&str> = report.ignored.iter().map(|key| key.path.as_str()).collect();
    assert_eq!(paths, ["includes", "builds[0].prebuilt"]);
    assert!(report.ignored.iter().all(|key| key.effect == Effect::Unknown));
}

#[test]
fn keys_of_the_pro_edition_are_refused_where_the_file_does_not_say_so() {
    let words =
        "this is a key of GoReleaser Pro, which GoReleaser refuses where the file does not say `pro: true`";
    assert_eq!(mistakes("version: 2\nincludes: [x]\n"), format!("line 2: `includes`: {words}"));
}

#[test]
fn values_of_another_kind_are_mistakes_and_all_are_told() {
    let text = "version: two\nproject_name: [x]\nbuilds: {a: 1}\narchives:\n  - formats: {a: 1}\n    meta: maybe\n    \
                ids: one\nchecksum: sha256\nsigns: [x]\nbefore: {hooks: go mod tidy}\n";
    assert_eq!(
        mistakes(text),
        "line 1: `version`: this must be a whole number\n\
         line 2: `project_name`: this must be a text, not a list\n\
         line 3: `builds`: this must be a list, not a mapping\n\
         line 5: `archives[0].formats`: this must be a list of texts, not a mapping\n\
         line 6: `archives[0].meta`: this must be true or false\n\
         line 7: `archives[0].ids`: this must be a list of texts, not a text\n\
         line 8: `checksum`: this must be a mapping, not a text\n\
         line 9: `signs[0]`: this must be a mapping, not a text\n\
         line 10: `before.hooks`: this must be a list of texts, not a text"
    );
}

#[test]
fn values_are_taken_as_gos_yaml_takes_them() {
    let text = "version: 2\nbuilds:\n  - ldflags: -s -w\n    flags: -v -x\n    tags: [a b, c]\n    goarm: [6, ~, \"7\", ]\n    \
                skip: true\n    id: ''\n  -\narchives: [{meta: yes, formats: zip, wrap_in_directory: no}]\n";
    let (config, _) = read(text);
    let build = &config.builds[0];
    assert_eq!(config.builds.len(), 1);
    assert_eq!(words(&build.details.ldflags), ["-s -w"]);
    assert_eq!(words(&build.details.flags), ["-v", "-x"]);
    assert_eq!(words(&build.details.tags), ["a b", "c"]);
    assert_eq!(words(&build.matrix.levels[2]), ["6", "7"]);
    assert_eq!((build.skip.as_ref().unwrap().text.as_str(), &build.id), ("true", &None));
    assert!(config.archives[0].is_meta);
    assert_eq!(words(&config.archives[0].formats), ["zip"]);
    assert_eq!(config.archives[0].wrap_in_directory.as_ref().unwrap().text, "no");
}

#[test]
fn what_goreleaser_would_remark_is_noted() {
    let text =
        "version: 1\narchives: [{format: zip, builds: [x]}]\nsnapshot: {name_template: x}\n---\na: 1\n";
    let (config, report) = read(text);
    let notes: Vec<String> =
        report.notes.iter().map(|note| format!("{}: {}", note.line, note.words)).collect();
    assert_eq!(
        notes,
        [
            "1: GoReleaser 2 reads files of `version: 2`; this one says 1",
            "2: `archives[0].builds[0]` is deprecated in GoReleaser; say `ids`",
            "2: `archives[0].format` is deprecated in GoReleaser; say `formats`",
            "3: `snapshot.name_template` is deprecated in GoReleaser; say `version_template`",
            "4: GoReleaser reads the first document of a file only",
        ]
    );
    assert_eq!(config.snapshot_version.unwrap().text, "x");
    assert_eq!(read("project_name: x").1.notes.len(), 1);
    assert_eq!(read("").1.notes.len(), 1);
    assert_eq!(read("# nothing").0, Config::default());
}

#[test]
fn what_targets_replace_and_other_builders_make_is_reported() {
    let text = "version: 2\nbuilds:\n  - targets: [linux_amd64]\n    goos: [linux]\n    goarm: [6]\n  - builder: rust\n";
    let effects: Vec<(String, Effect)> =
        read(text).1.ignored.into_iter().map(|key| (key.path, key.effect)).collect();
    let unused = Effect::Unused("`targets` names the platforms");
    assert_eq!(
        effects,
        [
            ("builds[0].goos".to_owned(), unused.clone()),
            ("builds[0].goarm".to_owned(), unused),
            (
                "builds[1].builder".to_owned(),
                Effect::MissingAssets("what other builders than go build".into())
            ),
        ]
    );
}

#[test]
fn a_text_that_is_no_yaml_is_one_error() {
    let error = Config::read("a: [").unwrap_err();
    assert!(matches!(error, ConfigErrors::Yaml(YamlError::Syntax { .. })), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:\\-\\[\\]{}&*<' \n]{0,80}") {
        let _ = Config::read(&text);
    }
}
