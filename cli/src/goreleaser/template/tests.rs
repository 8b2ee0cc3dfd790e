use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use proptest::prelude::*;

use super::{
    clock,
    eval::TEXT_LEN_MAX,
    {Fields, Problem, Scope, Template, TemplateError, Value},
};

/// The fields that the golden file was made with.
fn scope() -> Scope {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut fields: Fields = [
        ("Amd64", "v1"),
        ("Arch", "amd64"),
        ("Arm", ""),
        ("Arm64", ""),
        ("ArtifactExt", ".exe"),
        ("ArtifactName", "proj.exe"),
        ("ArtifactPath", "dist/proj_windows_amd64_v1/proj.exe"),
        ("Binary", "proj"),
        ("Commit", commit),
        ("CommitDate", "2023-11-14T22:13:20Z"),
        ("Date", "2024-04-05T19:34:38Z"),
        ("FullCommit", commit),
        ("GitTreeState", "clean"),
        ("Mips", ""),
        ("Os", "windows"),
        ("Prerelease", "rc.1"),
        ("PreviousTag", "v1.2.2"),
        ("ProjectName", "proj"),
        ("RawVersion", "1.2.3"),
        ("ShortCommit", "0123456"),
        ("Tag", "v1.2.3-rc.1"),
        ("Target", "windows_amd64_v1"),
        ("Version", "1.2.3-rc.1"),
    ]
    .into_iter()
    .map(|(name, text)| (name, Value::text(text)))
    .collect();
    fields.extend([
        ("Major", Value::Int(1)),
        ("Minor", Value::Int(2)),
        ("Patch", Value::Int(3)),
        ("CommitTimestamp", Value::Int(1_700_000_000)),
        ("Timestamp", Value::Int(1_712_345_678)),
        ("IsSnapshot", Value::Bool(true)),
        ("IsNightly", Value::Bool(false)),
        ("IsDraft", Value::Bool(false)),
        ("IsGitDirty", Value::Bool(false)),
        ("Now", Value::Time(1_712_345_678_000)),
    ]);
    let runtime = [("Goos", Value::text("linux")), ("Goarch", Value::text("amd64"))];
    fields.insert("Runtime", Value::Fields(Arc::new(runtime.into_iter().collect())));
    let env = [("FOO", "bar"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Scope::new(fields, Arc::new(BTreeMap::from(env)), 1_712_345_678_000, PathBuf::from("/project"))
}

fn render(text: &str) -> Result<String, TemplateError> {
    Template::parse(text)?.render(&scope())
}

fn problem(text: &str) -> Problem {
    render(text).unwrap_err().problem
}

#[test]
fn every_template_gives_what_goreleaser_gives_and_fails_where_it_fails() {
    let golden = include_str!("../../../golden/goreleaser/templates.jsonl");
    let mut count = 0;
    let mut wrong = Vec::new();
    for line in golden.lines().skip(1) {
        let row: BTreeMap<String, String> = serde_json::from_str(line).unwrap();
        let (template, expected, error) = (&row["template"], &row["result"], &row["error"]);
        count += 1;
        match render(template) {
            Ok(found) if error.is_empty() && found == *expected => {}
            Err(_) if !error.is_empty() => {}
            found => wrong.push(format!("{template:?}: {found:?} instead of {expected:?} {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 250, "{count}");
}

#[test]
fn what_goreleaser_renders_and_we_do_not_is_refused_by_name() {
    for (template, what) in [
        ("{{ $x := .Os }}", "variables are"),
        ("{{ with $x := .Os }}{{ end }}", "variables are"),
        ("{{ range .Os }}{{ end }}", "`range` is"),
        ("{{ define \"x\" }}{{ end }}", "`define` is"),
        ("{{ block \"x\" . }}{{ end }}", "`block` is"),
        ("{{ 1.5 }}", "numbers with a fraction are"),
        ("{{ .5 }}", "numbers with a fraction are"),
        ("{{ 1e3 }}", "numbers with an exponent are"),
        ("{{ 'a' }}", "character constants are"),
        ("{{ html .Os }}", "the function `html` is"),
        ("{{ readFile \"/etc/passwd\" }}", "the function `readFile` is"),
        ("{{ sha256 \"/etc/passwd\" }}", "the function `sha256` is"),
        ("{{ filter .Os \"a\" }}", "the function `filter` is"),
        ("{{ title \"é\" }}", "`title` of letters outside ASCII is"),
        ("{{ printf \"%[2]s\" .Os .Os }}", "`[` in a format is"),
        ("{{ printf \"% x\" 12 }}", "a sign before `x` is"),
        ("{{ .Now.Weekday }}", "`Weekday` of a time is"),
    ] {
        assert_eq!(problem(template), Problem::Unsupported(what.to_owned()), "{template}");
    }
}

#[test]
fn a_format_that_does_not_fit_its_values_is_refused_where_go_writes_that_into_the_name() {
    for (template, words) in [
        ("{{ printf \"%s\" }}", "`%s` has no value"),
        ("{{ printf \"x\" 1 }}", "`printf` has more values than verbs"),
        ("{{ printf \"%d\" \"x\" }}", "`%d` does not take a text"),
        ("{{ printf \"%z\" 1 }}", "`%z` does not take a number"),
        ("{{ printf \"%\" }}", "`%` ends the format"),
    ] {
        assert_eq!(problem(template), Problem::Syntax(words.to_owned()), "{template}");
    }
}

#[test]
fn a_misspelt_name_is_reported_with_its_place_and_the_nearest_there_is() {
    let error = render("a\n  {{ .Verison }}").unwrap_err();
    let words = "there is no `.Verison` here; did you mean `.Version`? (line 2, column 6 of the template)";
    assert_eq!(error.to_string(), words);
    let error = render("é{{ tolwer .Os }}").unwrap_err();
    let words = "there is no function `tolwer`; did you mean `tolower`? (line 1, column 5 of the template)";
    assert_eq!(error.to_string(), words);
    let near = Some(".Env.FOO".to_owned());
    assert_eq!(problem("{{ .Env.FOOO }}"), Problem::UnknownField { name: ".Env.FOOO".to_owned(), near });
    let name = ".Entirely".to_owned();
    assert_eq!(problem("{{ .Entirely }}"), Problem::UnknownField { name, near: None });
}

#[test]
fn paths_are_made_absolute_in_the_projects_directory() {
    assert_eq!(render("{{ abs \"a/../b\" }}").unwrap(), "/project/b");
    assert_eq!(render("{{ abs \"/a/./b\" }}").unwrap(), "/a/b");
}

#[test]
fn a_template_cannot_make_more_than_a_name_could_hold() {
    let long = "a".repeat(1000);
    for template in [
        format!("{{{{ replace \"{long}\" \"\" \"{long}\" }}}}"),
        format!("{{{{ printf \"%{TEXT_LEN_MAX}d%{TEXT_LEN_MAX}d\" 1 2 }}}}"),
        "{{ printf \"%99999999999999999999d\" 1 }}".to_owned(),
        format!("{{{{ print \"{long}\" }}}}").repeat(TEXT_LEN_MAX / 1000 / 2 + 70),
        "a".repeat(TEXT_LEN_MAX + 1),
    ] {
        assert_eq!(problem(&template), Problem::TooLong(TEXT_LEN_MAX), "{}", &template[..60]);
    }
}

#[test]
fn deep_templates_are_refused_before_they_use_up_the_stack() {
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(matches!(problem(&parentheses), Problem::Unsupported(_)));
    let branches = format!("{}{}", "{{if 1}}".repeat(4_000), "{{end}}".repeat(4_000));
    assert!(matches!(problem(&branches), Problem::Unsupported(_)));
}

#[test]
fn moments_far_from_now_are_written_as_go_writes_them() {
    for (seconds, text) in [
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(clock::rfc3339(seconds), text);
    }
    assert_eq!(clock::format("002 .000 .999 .99 Mon", 1_709_251_199_120), "060 .120 .12 .12 Thu");
}

/// Pieces that templates are made of, so that random ones come near to real ones.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{ "),
        Just(" }}"),
        Just("{{- "),
        Just(" -}}"),
        Just(".Os"),
        Just(".Env"),
        Just(".FOO"),
        Just("$"),
        Just("("),
        Just(")"),
        Just("|"),
        Just(" "),
        Just("if "),
        Just("else "),
        Just("end"),
        Just("with "),
        Just("eq "),
        Just("and "),
        Just("or "),
        Just("not "),
        Just("\"a\""),
        Just("`b`"),
        Just("1"),
        Just("-2"),
        Just("printf "),
        Just("\"%05d\""),
        Just("replace "),
        Just("\"\""),
        Just("title "),
        Just("index "),
        Just("slice "),
        Just("split "),
        Just("é"),
        Just("/*"),
        Just("*/"),
        Just("nil"),
        Just("."),
        Just("true"),
        Just(".Now"),
        Just(".Format"),
        Just("\"2006 .000\""),
        Just("incpatch "),
        Just("\"v1.2\""),
        Just("\n"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_rendered_or_refused_within_bounds(text in prop_oneof![pieces(), ".{0,80}", any::<String>()]) {
        if let Ok(rendered) = render(&text) {
            prop_assert!(rendered.len() <= TEXT_LEN_MAX);
        }
    }

    #[test]
    fn a_text_without_braces_is_itself(text in "[^{]{0,80}") {
        prop_assert_eq!(render(&text).unwrap(), text);
    }

    #[test]
    fn any_layout_writes_any_moment(layout in ".{0,40}", ms in -62_135_596_800_000..=253_402_300_799_999_i64) {
        let text = clock::format(&layout, ms);
        prop_assert!(text.len() <= layout.len() * 9 + 9);
    }
}
