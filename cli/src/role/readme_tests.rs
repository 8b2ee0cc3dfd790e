//! That what the README shows can be copied as it stands, and that what it says of defaults is so.

use std::fmt::Debug;

use clap::{CommandFactory as _, Parser as _};
use meridian_runtime::config::{ConfigType, Loader};

use super::{
    agent::{AgentFile, asked},
    coordinator::CoordinatorFile,
};
use crate::args::{CacheCommand, Cli, Command};

const README: &str = include_str!("../../../README.md");

/// The examples in a language.
fn examples(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    README.split(&begin as &str).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// What a file says, or all that is wrong with it.
fn load<C: ConfigType>(text: &str) -> Result<C, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("role.toml");
    std::fs::write(&path, text).unwrap();
    Loader::new().file(&path).load().map_err(|errors| errors.to_string())
}

fn agent(text: &str) -> Result<AgentFile, String> {
    load(&format!("coordinator = \"a.example:1\"\n{text}"))
}

/// With the settings that are only shown, behind a `#`.
fn with_all_that_is_shown(example: &str) -> String {
    let is_key = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(said) if said.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => format!("{said}\n"),
        _ => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

#[test]
fn every_example_of_the_readme_can_be_copied_as_it_stands() {
    let mut seen = Vec::new();
    for example in examples("toml") {
        let table = example.lines().find(|line| line.starts_with('[')).unwrap_or_default();
        for text in [example.to_owned(), with_all_that_is_shown(example)] {
            let found = match table {
                "[cache]" | "[schedule]" => load::<CoordinatorFile>(&text).map(drop),
                _ => agent(&text).map(drop),
            };
            assert_eq!(found, Ok(()), "{text}");
        }
        seen.push(table);
    }
    seen.sort_unstable();
    let expected = [
        "[cache]",
        "[reapi]",
        "[redaction]",
        "[remote_cache]",
        "[schedule]",
        "[shard]",
        "[sidecar]",
        "[signer]",
        "[signer]",
    ];
    assert_eq!(seen, expected);
}

/// The rows `| key | meaning | default |` below a head that names the file.
fn keys_of(file: &str) -> Vec<(&'static str, &'static str)> {
    let head = format!("| key of `{file}` | meaning | default |\n|---|---|---|\n");
    let tables = README.split(&head as &str).skip(1).filter_map(|rest| rest.split("\n\n").next());
    let row = |row: &'static str| {
        let (rest, default) = row.trim_matches([' ', '|']).rsplit_once(" | ").unwrap_or_default();
        (rest.split_once(" | ").unwrap_or_default().0.trim_matches('`'), default)
    };
    tables.flat_map(str::lines).map(row).collect()
}

/// A file that says of each key that has a number for its default just that number.
fn defaults(file: &str, is_meant: fn(&str) -> bool, count: usize) -> String {
    let rows =
        keys_of(file).into_iter().filter(|(key, default)| is_meant(key) && default.parse::<u64>().is_ok());
    let lines: Vec<String> = rows.map(|(key, default)| format!("{key} = {default}\n")).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines.concat()
}

#[test]
fn the_defaults_that_the_readme_tells_are_those_that_count() {
    let same = |said: &dyn Debug, unsaid: &dyn Debug| assert_eq!(format!("{said:?}"), format!("{unsaid:?}"));
    let text = defaults("coordinator.toml", |_| true, 6);
    same(&load::<CoordinatorFile>(&text).unwrap(), &load::<CoordinatorFile>("").unwrap());
    let text = defaults("agent.toml", |key| !key.starts_with("limits."), 3);
    same(&agent(&text).unwrap(), &agent("").unwrap());
    // The machine has a say in what is not said of these.
    let text = defaults("agent.toml", |key| key.starts_with("limits."), 4);
    let limits = |text: &str| {
        let settings: Vec<String> = text.lines().map(|line| line.replace(' ', "")).collect();
        asked(None, &settings).map(|asked| asked.limits).unwrap_or_else(|trouble| panic!("{trouble:?}"))
    };
    same(&limits(&text), &limits(""));
}

/// Nobody but an administrator may do it, so whoever copies the line has to say as whom.
fn check_command(line: &str) {
    let words = line.split_whitespace().take_while(|word| *word != "#");
    let parsed = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Cache(cache) = parsed.command else { panic!("{line}") };
    let (state, project) = match cache.command {
        CacheCommand::Stats(_) => return,
        CacheCommand::Warm(args) => (args.whose.state, args.project.is_some()),
        CacheCommand::Evict(args) => (args.whose.state, true),
        CacheCommand::Verify(args) => (args.whose.state, true),
    };
    assert!(state.is_some() && project, "{line}");
}

#[test]
fn every_command_about_the_cache_in_the_readme_and_in_its_help_can_be_copied_as_it_stands() {
    let of_readme: Vec<&str> = examples("sh")
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.starts_with("meridian cache "))
        .collect();
    assert_eq!(of_readme.len(), 5);
    of_readme.into_iter().for_each(check_command);
    let cli = Cli::command();
    let cache = cli.find_subcommand("cache").unwrap();
    for command in cache.get_subcommands() {
        let help = command.get_after_help().unwrap_or_else(|| panic!("{}", command.get_name())).to_string();
        let lines: Vec<&str> =
            help.lines().map(str::trim).filter(|line| line.starts_with("meridian cache ")).collect();
        assert!(!lines.is_empty(), "{help}");
        for line in lines {
            check_command(line);
            let is_complete = !line.contains("--state") || line.contains("--coordinator");
            assert!(is_complete, "{line}");
        }
    }
}
