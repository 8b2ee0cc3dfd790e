//! Records what successive versions of real programs ask of a Go build cache.
//!
//! Each version is built with a cache that holds what the versions before it left there. Before a build all entries are
//! made to look old; cmd/go touches each entry that it reads and is older than an hour, so what is young afterwards is
//! what this build asked for, and what is new is what it missed. An entry's file is named by the action's id and says how
//! long the output is, so nothing stands between cmd/go and its cache that could change either.
//!
//! ```text
//! program github.com/nats-io/nats-server/v2 .
//! version v2.12.1 cpu 61250
//! - 3..7 12
//! + 1200/480 88/71
//! ```
//!
//! Entries are numbered by their first use. A version's entries are those of the version before it, without the numbers
//! behind `-`, and with new ones, of which `+` has the lengths as they are and as zstd leaves them; `=` brings back numbers
//! that were gone. `cpu` is the processor time of the build in milliseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};

/// A program: its module, the directory of its command, and its versions in order.
pub type Recorded = (&'static str, &'static str, &'static [&'static str]);

/// What is recorded: servers and tools of three hundred to nine hundred packages, in versions that one Go builds.
pub const PROGRAMS: [Recorded; 4] = [
    (
        "github.com/nats-io/nats-server/v2",
        ".",
        &[
            "v2.12.1", "v2.12.3", "v2.12.4", "v2.12.7", "v2.12.8", "v2.12.9", "v2.12.10", "v2.12.11",
            "v2.12.12", "v2.12.14", "v2.12.15", "v2.14.0", "v2.14.1", "v2.14.2", "v2.14.3", "v2.14.4",
            "v2.14.5", "v2.14.6", "v2.14.7", "v2.14.8", "v2.14.9", "v2.15.0", "v2.15.1", "v2.15.2",
        ],
    ),
    (
        "github.com/caddyserver/caddy/v2",
        "./cmd/caddy",
        &["v2.10.2", "v2.11.3", "v2.11.4", "v2.11.5", "v2.11.6", "v2.11.7", "v2.11.8", "v2.11.9"],
    ),
    (
        "helm.sh/helm/v3",
        "./cmd/helm",
        &[
            "v3.17.0", "v3.17.3", "v3.17.4", "v3.18.0", "v3.18.4", "v3.18.6", "v3.19.0", "v3.19.5",
            "v3.20.2", "v3.21.3", "v3.21.4",
        ],
    ),
    (
        "github.com/gohugoio/hugo",
        ".",
        &[
            "v0.153.0", "v0.153.1", "v0.153.2", "v0.153.3", "v0.153.4", "v0.154.1", "v0.154.2", "v0.154.4",
            "v0.154.5", "v0.155.0", "v0.155.1", "v0.155.2", "v0.155.3",
        ],
    ),
];

/// How old entries are made to look: older than what cmd/go touches.
const LOOKS_OLD: Duration = Duration::from_secs(2 * 3_600);
/// What blobs are compressed with on the wire.
const ZSTD_LEVEL: i32 = 3;

/// Builds all versions of [`PROGRAMS`], and writes a file for each program into a directory.
///
/// # Errors
/// When a program's first versions do not build, or files cannot be written. A later version that does not build is left
/// out.
pub fn record(into: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(into)?;
    for program @ (module, _, _) in &PROGRAMS {
        let name = file_name(module);
        eprintln!("{name}");
        let text = record_program(program)?;
        fs::write(into.join(format!("{name}.txt")), text)?;
    }
    Ok(())
}

/// The last part of a module's path that is a name.
fn file_name(module: &str) -> &str {
    module.rsplit('/').find(|part| !part.starts_with('v') || part.len() > 3).unwrap_or(module)
}

fn record_program((module, command, versions): &Recorded) -> anyhow::Result<String> {
    let cache = tempfile::tempdir()?;
    let mut text = format!("program {module} {command}\n");
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut before: BTreeSet<usize> = BTreeSet::new();
    let mut recorded = 0;
    for version in *versions {
        eprintln!("  {version}");
        age(cache.path())?;
        let cpu_ms = match build(module, version, command, cache.path()) {
            Ok(cpu_ms) => cpu_ms,
            Err(why) if recorded > 0 => {
                eprintln!("  left out: {why:#}");
                continue;
            }
            Err(why) => return Err(why),
        };
        recorded += 1;
        let used = used(cache.path())?;
        ensure!(!used.is_empty(), "{module}@{version} asked nothing of its cache");
        let mut now = BTreeSet::new();
        let mut new = Vec::new();
        for (action, entry) in used {
            let next = numbers.len();
            let number = *numbers.entry(action).or_insert(next);
            if number == next {
                new.push(entry.lengths()?);
            }
            now.insert(number);
        }
        let first_new = numbers.len() - new.len();
        let gone: Vec<usize> = before.difference(&now).copied().collect();
        let back: Vec<usize> =
            now.difference(&before).copied().filter(|number| *number < first_new).collect();
        let _infallible = writeln!(text, "version {version} cpu {cpu_ms}");
        for (mark, numbers) in [('-', gone), ('=', back)] {
            if !numbers.is_empty() {
                let _infallible = writeln!(text, "{mark}{}", ranges(&numbers));
            }
        }
        if !new.is_empty() {
            let _infallible = writeln!(text, "+ {}", new.join(" "));
        }
        before = now;
    }
    Ok(text)
}

/// ` 3..7 12`, of which the end is meant as well.
fn ranges(numbers: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let [first, ..] = rest {
        let run = rest.iter().zip(*first..).take_while(|(number, expected)| *number == expected).count();
        let _infallible = match run {
            1 => write!(text, " {first}"),
            _ => write!(text, " {first}..{}", first + run - 1),
        };
        rest = &rest[run..];
    }
    text
}

/// An entry that a build used.
struct Entry {
    output: PathBuf,
    length: u64,
}

impl Entry {
    fn lengths(&self) -> anyhow::Result<String> {
        let output = fs::read(&self.output).with_context(|| self.output.display().to_string())?;
        let packed = zstd::bulk::compress(&output, ZSTD_LEVEL)?.len();
        Ok(format!("{}/{packed}", self.length))
    }
}

fn entries(cache: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for shard in fs::read_dir(cache)? {
        let shard = shard?.path();
        if !shard.is_dir() {
            continue;
        }
        for entry in fs::read_dir(shard)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(action) = name.strip_suffix("-a") {
                found.push((action.to_owned(), entry.path()));
            }
        }
    }
    Ok(found)
}

fn age(cache: &Path) -> anyhow::Result<()> {
    for (_, path) in entries(cache)? {
        fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() - LOOKS_OLD)?;
    }
    Ok(())
}

/// The young entries by their actions.
fn used(cache: &Path) -> anyhow::Result<BTreeMap<String, Entry>> {
    let mut used = BTreeMap::new();
    for (action, path) in entries(cache)? {
        let is_young = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default() < LOOKS_OLD / 2;
        if !is_young {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut words = text.split_whitespace().skip(2);
        let (Some(output), Some(length)) = (words.next(), words.next()) else {
            bail!("{} is not an entry", path.display());
        };
        let shard = output.get(..2).context("an output's id is short")?;
        let output = cache.join(shard).join(format!("{output}-d"));
        used.insert(action, Entry { output, length: length.parse()? });
    }
    Ok(used)
}

/// Builds a version, and returns the processor time that it took in milliseconds.
fn build(module: &str, version: &str, command: &str, cache: &Path) -> anyhow::Result<u64> {
    let downloaded = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .env("GOTOOLCHAIN", "local")
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&downloaded.stdout)?;
    let directory = said["Dir"].as_str().with_context(|| format!("{module}@{version} cannot be had"))?;
    let scratch = tempfile::tempdir()?;
    let go = |words: &[&str], output: &Path| {
        let mut go = Command::new("go");
        go.args(words).arg(output).arg(command).current_dir(directory);
        go.env("GOCACHE", cache).env("CGO_ENABLED", "0").env("GOFLAGS", "-trimpath -buildvcs=false");
        go.env("GOTOOLCHAIN", "local").env("GOWORK", "off");
        go
    };
    // What is downloaded is no part of the build.
    let _modules = Command::new("go").args(["mod", "download"]).current_dir(directory).output()?;
    let before = children_cpu_ms()?;
    let built = go(&["build", "-o"], &scratch.path().join("program")).output()?;
    let after = children_cpu_ms()?;
    ensure!(
        built.status.success(),
        "{module}@{version}: {}",
        String::from_utf8_lossy(&built.stderr).lines().last().unwrap_or_default()
    );
    Ok(after.saturating_sub(before))
}

/// The processor time of all processes that were waited for.
fn children_cpu_ms() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("the kernel says nothing of this process")?;
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    // A tick is a hundredth of a second wherever Go is built on Linux.
    Ok(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_ranges_and_modules_give_short_names() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), " 1..3 7 9..10");
        assert_eq!(ranges(&[]), "");
        assert_eq!(file_name("github.com/nats-io/nats-server/v2"), "nats-server");
        assert_eq!(file_name("helm.sh/helm/v3"), "helm");
    }
}
