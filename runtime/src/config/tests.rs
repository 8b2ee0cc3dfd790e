//! A configuration of every kind of key, and what its users are told.

use std::fs;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Sample {
    name: String,
    listen: String,
    workers: u32,
    colour: String,
    verbose: bool,
    platforms: Vec<String>,
    limits: Limits,
    labels: std::collections::BTreeMap<String, String>,
    target: Vec<Target>,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Limits {
    queue_max: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Target {
    os: String,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: "127.0.0.1:1".into(),
            workers: 4,
            colour: "auto".into(),
            verbose: false,
            platforms: Vec::new(),
            limits: Limits { queue_max: 10 },
            labels: Default::default(),
            target: Vec::new(),
        }
    }
}

fn has_port(text: &str) -> Result<(), String> {
    if text.contains(':') { Ok(()) } else { Err("the port is missing".into()) }
}

fn is_word(text: &str) -> Result<(), String> {
    if text.contains(' ') { Err("it has a space".into()) } else { Ok(()) }
}

impl ConfigType for Sample {
    const SCHEMA: &'static [Key] = &[
        Key::required("name", Kind::Text),
        Key::optional("listen", Kind::Parsed { expected: "host:port", check: has_port }),
        Key::optional("workers", Kind::Integer { min: 1, max: 64 }),
        Key::optional("colour", Kind::OneOf(&["auto", "always", "never"])),
        Key::optional("verbose", Kind::Boolean),
        Key::optional("platforms", Kind::List(&Kind::Text)),
        Key::optional(
            "limits",
            Kind::Table(&[Key::optional("queue-max", Kind::Integer { min: 0, max: i64::MAX })]),
        ),
        Key::optional(
            "labels",
            Kind::Map { keys: &Kind::Parsed { expected: "a word", check: is_word }, values: &Kind::Text },
        ),
        Key::optional("target", Kind::List(&Kind::Table(&[Key::required("os", Kind::Text)]))),
    ];

    fn check(&self) -> Vec<Problem> {
        let bad = self.target.iter().enumerate().filter(|(_, target)| target.os == "beos");
        let mut problems: Vec<Problem> =
            bad.map(|(at, _)| Problem::new(&[&format!("target[{at}].os")], "nobody builds for it")).collect();
        if self.verbose && self.colour != "never" {
            problems.push(Problem::new(&["verbose", "colour"], "needs `colour` to be never"));
        }
        problems
    }
}

fn dir_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// The errors of this text, one a line, without the directory.
fn errors(text: &str, change: impl FnOnce(Loader) -> Loader) -> Vec<String> {
    let (dir, path) = dir_with(text);
    let errors = change(Loader::new().file(&path)).load::<Sample>().unwrap_err();
    let prefix = format!("{}/", dir.path().display());
    errors.lines().map(|line| line.replace(&prefix, "")).collect()
}

fn var(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "\
platfroms = [\"linux/amd64\"]
listen = \"nowhere\"
workers = 0x100
colour = \"nevr\"
platforms = [\"a\", 7]

[limits]
queue-max = \"many\"

[[target]]
arch = \"arm64\"
";
    let change = |loader: Loader| {
        loader.env([var("MERIDIAN_VERBOSE", "perhaps"), var("MERIDIAN_OTHER", "x")]).set(
            "limits.depth",
            3,
            "--depth",
        )
    };
    assert_eq!(
        errors(text, change),
        [
            "sample.toml:1:1: missing key `name`: expected text in quotes",
            "sample.toml:1:1: unknown key `platfroms`",
            "sample.toml:2:10: `listen`: expected host:port, found \"nowhere\": the port is missing",
            "sample.toml:3:11: `workers`: expected a whole number from 1 to 64, found the number 256",
            "sample.toml:4:10: `colour`: expected one of auto, always, never, found \"nevr\", did you mean `never`?",
            "sample.toml:5:19: `platforms[1]`: expected text in quotes, found the number 7",
            "sample.toml:8:13: `limits.queue-max`: expected a whole number, at least 0, found text \"many\"",
            "sample.toml:10:1: missing key `target[0].os`: expected text in quotes",
            "sample.toml:11:1: unknown key `target[0].arch`",
            "MERIDIAN_VERBOSE: `verbose`: expected true or false, found text \"perhaps\"",
            "--depth: unknown key `limits.depth`",
        ]
    );
}

#[test]
fn an_unknown_key_names_the_one_that_was_meant_and_does_not_hide_what_else_is_wrong() {
    let text = "name = \"é\"\nplatfroms = []\n[[target]]\nos = \"linux\"\n[[target]]\nos = \"beos\"\n";
    assert_eq!(
        errors(text, |loader| loader),
        [
            "sample.toml:2:1: unknown key `platfroms`, did you mean `platforms`?",
            "sample.toml:6:6: `target[1].os`: nobody builds for it",
        ]
    );
}

#[test]
fn a_key_of_another_table_is_named_by_its_path_and_one_that_a_file_has_is_meant_by_a_flag() {
    let unknown = |text: &str, flag: &str| {
        let found = errors(&format!("name = \"a\"\n{text}"), |loader| loader.set(flag, 1, "--set"));
        found.join("\n")
    };
    let beside = unknown("workers = 2\n", "worker");
    assert_eq!(beside, "--set: unknown key `worker`, did you mean `workers`?");
    for flag in ["queue_max", "limits_queue_max", "other.queue-mx"] {
        let told = unknown("", flag);
        assert!(told.ends_with("did you mean `limits.queue-max`?"), "{told}");
    }
    let elsewhere = unknown("[limits]\nworker = 3\n", "workers");
    assert_eq!(elsewhere, "sample.toml:3:1: unknown key `limits.worker`, did you mean `workers`?");
    assert_eq!(unknown("", "limits.depth"), "--set: unknown key `limits.depth`");
}

#[test]
fn what_is_written_behind_a_flag_may_be_a_number_a_truth_a_list_a_table_or_text() {
    let load = |path: &str, text: &str| {
        Loader::new().set("name", "a", "--name").set_text(path, text, "--set").load::<Sample>()
    };
    assert_eq!(load("workers", "8").unwrap().workers, 8);
    assert!(load("verbose", "true").unwrap_err().to_string().contains("`colour`"), "it was read as a truth");
    assert_eq!(load("platforms", r#"["a", 'b,c']"#).unwrap().platforms, ["a", "b,c"]);
    assert_eq!(load("platforms", "[]").unwrap().platforms, [""; 0]);
    assert_eq!(load("listen", "[::1]:80").unwrap().listen, "[::1]:80");
    let (_keep, path) = dir_with("name = \"a\"\n[labels]\na = \"1\"\n");
    let beside = Loader::new().file(&path).set_text("labels", r#"{ b = "2" }"#, "--set");
    assert_eq!(
        beside.load::<Sample>().unwrap().labels.keys().collect::<Vec<_>>(),
        ["a", "b"],
        "added to the file's"
    );
    let told = load("platforms", r#"{ a = "b" }"#).unwrap_err().to_string();
    assert!(told.contains("found a table"), "{told}");
    let told = load("platforms", "[]\nlabels = []").unwrap_err().to_string();
    assert!(told.contains("expected a list"), "nothing behind it is passed over: {told}");
    let told = load("platforms", "[a, b]").unwrap_err().to_string();
    assert!(told.contains("expected a list, each entry text in quotes, found text \"[a, b]\""), "{told}");
}

#[test]
fn what_values_say_together_is_told_beside_what_is_wrong_with_others() {
    let text = "\
workers = \"many\"
verbose = true
platforms = [99999999999999999999]
listn = \"a:1\"
[labels]
\"a b\" = \"1\"
c = 2
";
    assert_eq!(
        errors(text, |loader| loader),
        [
            "sample.toml:1:11: `workers`: expected a whole number from 1 to 64, found text \"many\"",
            "sample.toml:3:14: the number 99999999999999999999 is too large",
            "sample.toml:4:1: unknown key `listn`, did you mean `listen`?",
            "sample.toml:6:1: `labels.a b`: expected a word, found \"a b\": it has a space",
            "sample.toml:7:5: `labels.c`: expected text in quotes, found the number 2",
        ]
    );
    let text = text.replace("99999999999999999999", "\"a\"");
    assert_eq!(
        errors(&text, |loader| loader),
        [
            "sample.toml:1:1: missing key `name`: expected text in quotes",
            "sample.toml:1:11: `workers`: expected a whole number from 1 to 64, found text \"many\"",
            "sample.toml:2:11: `verbose`: needs `colour` to be never",
            "sample.toml:4:1: unknown key `listn`, did you mean `listen`?",
            "sample.toml:6:1: `labels.a b`: expected a word, found \"a b\": it has a space",
            "sample.toml:7:5: `labels.c`: expected text in quotes, found the number 2",
        ]
    );
}

#[test]
fn what_rests_on_a_value_that_could_not_be_read_is_not_told() {
    let text = "name = \"a\"\nverbose = true\ncolour = \"nevr\"\n";
    assert_eq!(
        errors(text, |loader| loader),
        [
            "sample.toml:3:10: `colour`: expected one of auto, always, never, found \"nevr\", did you mean `never`?",
        ]
    );
}

#[test]
fn broken_syntax_is_told_with_line_and_column_and_nothing_is_guessed_from_the_rest() {
    let found = errors("name = \nworkers = \"\n", |loader| loader);
    assert!(found.len() >= 2 && found[0].starts_with("sample.toml:1:"), "{found:?}");
    assert!(!found.iter().any(|line| line.contains("missing key")), "{found:?}");
    let found = errors("name = 99999999999999999999\n", |loader| loader);
    assert!(found[0].contains("too large"), "{found:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in r#"([a-z-]{1,10}|name|workers|target|limits| = |"|\[|\]|\n|[0-9]{1,20}|\{|\}|,|\.|é|\PC){0,30}"#) {
        let (_keep, path) = dir_with(&text);
        let loaded = Loader::new().file(&path).load::<Sample>();
        proptest::prop_assert!(loaded.map_or_else(|errors| errors.count() > 0, |sample| !sample.name.is_empty() || text.contains("name")));
    }
}

#[test]
fn later_layers_win() {
    let (_keep, path) = dir_with("name = \"file\"\nworkers = 8\nlisten = \"file:1\"\n[labels]\na = \"1\"\n");
    let loaded = Loader::new()
        .file(&path)
        .optional_file(path.with_file_name("absent.toml"))
        .env([
            var("MERIDIAN_WORKERS", "16"),
            var("MERIDIAN_LISTEN", "env:1"),
            var("MERIDIAN_PLATFORMS", "a, b"),
            var("MERIDIAN_LIMITS_QUEUE_MAX", "5"),
        ])
        .set("listen", "flag:1", "--listen")
        .set("labels.b", "2", "--label")
        .load::<Sample>()
        .unwrap();
    assert_eq!(loaded.name, "file");
    assert_eq!(loaded.workers, 16);
    assert_eq!(loaded.listen, "flag:1");
    assert_eq!(loaded.platforms, ["a", "b"]);
    assert_eq!(loaded.limits.queue_max, 5);
    assert_eq!(loaded.labels.len(), 2);
    assert_eq!(loaded.colour, "auto", "the default");
}

#[test]
fn a_table_of_the_users_own_keys_is_one_variable_and_none_is_passed_over_in_silence() {
    let load = |name: &str, value: &str| {
        let (_keep, path) = dir_with("name = \"a\"\n[labels]\na = \"1\"\n");
        let loaded = Loader::new().file(&path).env([var(name, value)]).load::<Sample>();
        loaded.map(|sample| sample.labels).map_err(|errors| errors.to_string())
    };
    let both = load("MERIDIAN_LABELS", "{ b = \"2\", \"c-d\" = \"3\" }").unwrap();
    assert_eq!(
        both.into_iter().collect::<Vec<_>>(),
        ["a1", "b2", "c-d3"].map(|text| {
            let (key, value) = text.split_at(text.len() - 1);
            (key.to_owned(), value.to_owned())
        })
    );
    for wrong in ["b = 2", "{ b = ", "{}\nx = 1", ""] {
        let told = load("MERIDIAN_LABELS", wrong).unwrap_err();
        assert!(told.starts_with("MERIDIAN_LABELS: `labels`: expected a table"), "{told}");
    }
    let told = load("MERIDIAN_LABELS", "{ b = 2 }").unwrap_err();
    assert_eq!(told, "MERIDIAN_LABELS: `labels.b`: expected text in quotes, found the number 2");
    let told = load("MERIDIAN_LABELS_B", "2").unwrap_err();
    let expected = "the entries of `labels` are set together: MERIDIAN_LABELS='{ NAME = VALUE }'";
    assert_eq!(told, format!("MERIDIAN_LABELS_B: {expected}"));
}

#[test]
fn a_file_that_must_be_there_and_is_not_is_named() {
    let error = Loader::new().file("/nonexistent/x.toml").load::<Sample>().unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/x.toml: cannot read it"), "{error}");
    let nothing = Loader::new().load::<Sample>().unwrap_err();
    assert_eq!(nothing.to_string(), "configuration: missing key `name`: expected text in quotes");
    assert_eq!(nothing.count(), 1);
}
