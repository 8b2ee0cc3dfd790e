//! The one place where flags and environment of a Go command are written.
//!
//! Two agents with other users, paths and core counts must make the same bytes, so nothing is inherited:
//! every variable that cmd/go reads is either set here or left out here.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use meridian_core::{
    build::{BuildFlags, BuildSpec, Resolution, Source, version_named},
    digest::Digest,
    golang::platform::Platform,
    id::ProjectId,
};

use crate::goproxy::GoEnvironment;

/// A process environment, in full.
pub(crate) type Env = Vec<(OsString, OsString)>;

/// Where one Go command keeps its things.
pub(crate) struct Places<'a> {
    /// Downloaded modules; shared by every task.
    pub(crate) modcache: &'a Path,
    /// Where `go install` puts what it builds.
    pub(crate) gopath: &'a Path,
    /// What is not in the shared build cache. Must be writable.
    pub(crate) gocache: &'a Path,
    /// The home directory it sees.
    pub(crate) home: &'a Path,
    /// Where it works.
    pub(crate) tmp: &'a Path,
}

/// What holds for every Go command.
fn fixed(places: &Places<'_>, search: &str) -> Env {
    let mut env: Env = [
        ("PATH", search),
        ("LC_ALL", "C"),
        // Go's index writes the times of files, in local time, into its keys.
        ("TZ", "UTC"),
        ("GOTOOLCHAIN", "local"),
        ("GOENV", "off"),
        ("GOFLAGS", ""),
        ("GO111MODULE", "on"),
        ("GOWORK", "off"),
        ("GOTELEMETRY", "off"),
        ("GOEXPERIMENT", ""),
        ("GOFIPS140", "off"),
        ("GODEBUG", ""),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    env.extend([
        ("GOMODCACHE".into(), places.modcache.into()),
        ("GOPATH".into(), places.gopath.into()),
        ("GOCACHE".into(), places.gocache.into()),
        ("HOME".into(), places.home.into()),
        ("TMPDIR".into(), places.tmp.into()),
    ]);
    env
}

/// The environment of a command that may use the network: as the agent's user is configured.
pub(crate) fn network_env(places: &Places<'_>, go: &GoEnvironment) -> Env {
    let search = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
    let mut env = fixed(places, &search);
    if let Some(home) = &go.home {
        // git, ssh and netrc find the user's credentials there.
        set(&mut env, "HOME", home);
    }
    for (name, setting) in &go.settings {
        set(&mut env, name, &setting.value);
    }
    for (name, value) in &go.network {
        set(&mut env, name, value);
    }
    // Nobody is there to answer.
    set(&mut env, "GIT_TERMINAL_PROMPT", "0");
    set(&mut env, "GCM_INTERACTIVE", "never");
    env
}

/// The environment of a command that must not use the network: modules come from the directory that an
/// earlier command filled and verified. (`GOPROXY=off` would fail where go looks for deprecations.)
pub(crate) fn offline_env(places: &Places<'_>) -> Env {
    let mut env = fixed(places, "/usr/local/bin:/usr/bin:/bin");
    let mut proxy = OsString::from(offline_proxy_prefix(places.modcache));
    proxy.push("/cache/download");
    set(&mut env, "GOPROXY", proxy);
    set(&mut env, "GOSUMDB", "off");
    set(&mut env, "GOVCS", "*:off");
    env
}

/// What the URL of every module that is asked for offline begins with.
pub(crate) fn offline_proxy_prefix(modcache: &Path) -> String {
    match reqwest::Url::from_file_path(modcache) {
        Ok(url) => url.as_str().trim_end_matches('/').to_owned(),
        Err(()) => format!("file://{}", modcache.display()),
    }
}

/// Adds what one target fixes.
pub(crate) fn add_target(env: &mut Env, platform: &Platform, flags: &BuildFlags) {
    for (name, value) in platform.env() {
        set(env, name, value);
    }
    set(env, "CGO_ENABLED", if flags.cgo { "1" } else { "0" });
}

/// Sets a variable, in place of an earlier value.
pub(crate) fn set(env: &mut Env, name: &str, value: impl Into<OsString>) {
    env.retain(|(known, _)| known != name);
    env.push((name.into(), value.into()));
}

/// The flags of `go build` and `go install`.
///
/// # Errors
/// When a linker flag holds both kinds of quotes: cmd/go has no way to write it.
pub(crate) fn flags(spec: &BuildSpec, resolution: Option<&Resolution>) -> Result<Vec<OsString>, String> {
    let mut args: Vec<OsString> = vec!["-trimpath".into(), "-buildvcs=false".into()];
    if !spec.flags.tags.is_empty() {
        args.push(format!("-tags={}", spec.flags.tags.join(",")).into());
    }
    let version = version_of(spec, resolution);
    let commit = match &spec.source {
        Source::Tree { origin: Some(origin), .. } => origin.commit.as_str(),
        _ => "",
    };
    let mut words = spec.flags.ldflags.clone();
    for (name, value) in &spec.flags.stamps {
        words.push("-X".into());
        words.push(format!("{name}={}", value.replace("{version}", version).replace("{commit}", commit)));
    }
    if !words.is_empty() {
        let words: Result<Vec<_>, _> = words.iter().map(|word| quoted(word)).collect();
        args.push(format!("-ldflags={}", words?.join(" ")).into());
    }
    Ok(args)
}

/// What `{version}` stands for, and what artifact names carry.
pub(crate) fn version_of<'a>(spec: &'a BuildSpec, resolution: Option<&'a Resolution>) -> &'a str {
    version_named(&spec.version, resolution.map(|resolution| resolution.version.as_str()))
}

/// A word as cmd/go splits it: it knows both quotes and no escapes.
fn quoted(word: &str) -> Result<String, String> {
    let plain = !word.is_empty() && !word.contains([' ', '\t', '\n', '\r', '\'', '"']);
    match (plain, word.contains('\''), word.contains('"')) {
        (true, ..) => Ok(word.to_owned()),
        (_, false, _) => Ok(format!("'{word}'")),
        (_, true, false) => Ok(format!("\"{word}\"")),
        (_, true, true) => Err(format!("linker flag {word:?} holds both kinds of quotes")),
    }
}

/// A name for "the same build again, perhaps with changed content": what a binary of an earlier run is kept
/// under. Says nothing about content; cmd/go compares build ids before it uses one. A build id is its maker's word, as a
/// cache entry is, so binaries are apart by scope as well.
pub(crate) fn lineage_key(
    scope: &str,
    project: &ProjectId,
    spec: &BuildSpec,
    package: &str,
    platform: &Platform,
    toolchain: Digest,
) -> Digest {
    let source = match &spec.source {
        Source::Module { package, .. } => format!("module {package}"),
        Source::Tree { work_dir, workspace, .. } => format!("tree {work_dir:?} {workspace}"),
    };
    let flags = &spec.flags;
    let text = format!(
        "meridian lineage 2\n{scope}\n{project}\n{source}\n{package:?}\n{platform:?}\n{toolchain}\n{}\n{:?}\n{:?}\n{:?}\n",
        flags.cgo,
        flags.tags,
        flags.ldflags,
        flags.stamps.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    );
    Digest::of(text.as_bytes())
}

/// The digest of all that a binary is built from, but for the C compiler: where it is the same, cmd/go finds that the
/// earlier binary has the right build id.
pub(crate) fn inputs_key(
    spec: &BuildSpec,
    resolution: Option<&Resolution>,
    package: &str,
    platform: &Platform,
    toolchain: Digest,
) -> Result<Digest, String> {
    let source = match &spec.source {
        Source::Module { package, .. } => format!("module {package} {resolution:?}"),
        Source::Tree { root, work_dir, workspace, .. } => format!("tree {root} {work_dir:?} {workspace}"),
    };
    let flags = flags(spec, resolution)?;
    let text = format!(
        "meridian inputs 1\n{source}\n{package:?}\n{platform:?}\n{toolchain}\n{}\n{flags:?}\n",
        spec.flags.cgo
    );
    Ok(Digest::of(text.as_bytes()))
}

/// The directory in which `go` runs for a tree source.
pub(crate) fn work_dir(root: &Path, work_dir: &str) -> PathBuf {
    if work_dir.is_empty() { root.to_owned() } else { root.join(work_dir) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_go_splits_them() {
        assert_eq!(quoted("-s").unwrap(), "-s");
        assert_eq!(quoted("a b").unwrap(), "'a b'");
        assert_eq!(quoted("it's").unwrap(), "\"it's\"");
        assert_eq!(quoted("").unwrap(), "''");
        assert!(quoted("'\"").is_err());
    }

    #[test]
    fn a_later_value_replaces_the_earlier_one() {
        let mut env: Env = vec![("A".into(), "1".into())];
        set(&mut env, "A", "2");
        assert_eq!(env, [("A".into(), "2".into())]);
    }
}
