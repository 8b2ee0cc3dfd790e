//! What each text of `meridian.toml` must be.
//!
//! A request is judged as a whole by [`BuildSpec::check`]; here one value is put into a request that is good
//! otherwise, so that the file says the same, and says it with the line.

use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    digest::Digest,
    golang::{h1::H1, platform::Platform},
    id::ProjectId,
};
use meridian_runtime::config::{Kind, nearest};

use crate::build::request::normal_package;

pub(super) const PROJECT: Kind = Kind::Parsed {
    expected: "TEAM/PROJECT",
    check: |text| text.parse::<ProjectId>().map(|_| ()).map_err(|error| error.to_string()),
};

pub(super) const NAME: Kind =
    Kind::Parsed { expected: "a file name", check: |text| judge(|spec| spec.name = Some(text.to_owned())) };

pub(super) const VERSION: Kind =
    Kind::Parsed { expected: "a version", check: |text| judge(|spec| text.clone_into(&mut spec.version)) };

pub(super) const PACKAGE: Kind = Kind::Parsed {
    expected: ". or ./path",
    check: |text| judge(|spec| spec.packages = vec![normal_package(text)]),
};

pub(super) const PLATFORM: Kind = Kind::Parsed {
    expected: "a platform",
    check: |text| Platform::parse(text.trim()).map(|_| ()).map_err(|error| error.to_string()),
};

/// A path or pattern of what lies in the module.
pub(super) const BELOW: Kind = Kind::Parsed { expected: "a path below the module", check: below };

pub(super) const TAG: Kind = Kind::Parsed {
    expected: "a build tag",
    check: |text| judge(|spec| spec.flags.tags = vec![text.to_owned()]),
};

pub(super) const LINKER_FLAG: Kind = Kind::Parsed {
    expected: "a linker flag",
    check: |text| judge(|spec| spec.flags.ldflags = vec![text.to_owned()]),
};

pub(super) const STAMP: Kind = Kind::Parsed {
    expected: "a variable",
    check: |text| judge(|spec| spec.flags.stamps = vec![(text.to_owned(), String::new())]),
};

pub(super) const STAMP_VALUE: Kind = Kind::Parsed {
    expected: "a stamp's value",
    check: |text| judge(|spec| spec.flags.stamps = vec![("main.x".to_owned(), text.to_owned())]),
};

pub(super) const GO: Kind = Kind::Parsed { expected: "a version, default or local", check: go };

/// The agent's platform, for which a toolchain is pinned.
pub(super) const PIN_HOST: Kind = Kind::Parsed { expected: "GOOS/GOARCH", check: pin_host };

pub(super) const PIN: Kind = Kind::Parsed {
    expected: "h1:HASH",
    check: |text| H1::parse(text).map(|_| ()).map_err(|error| error.to_string()),
};

/// What a request says of the one value that `change` puts into it.
fn judge(change: impl FnOnce(&mut BuildSpec)) -> Result<(), String> {
    let root = Digest::of(b"");
    let mut spec = BuildSpec {
        source: Source::Tree {
            root,
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        },
        packages: vec![".".to_owned()],
        platforms: Platform::parse("linux/amd64").into_iter().collect(),
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    };
    change(&mut spec);
    spec.check().map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn below(path: &str) -> Result<(), String> {
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|step| step == "..") {
        return Err("it does not lie below the module".to_owned());
    }
    Ok(())
}

fn go(text: &str) -> Result<(), String> {
    const WORDS: [&str; 2] = ["default", "local"];
    if WORDS.contains(&text) {
        return Ok(());
    }
    let version = text.strip_prefix("go").unwrap_or(text).to_owned();
    let judged = judge(|spec| spec.toolchain = Toolchain::Version { version, pins: Vec::new() });
    judged.map_err(|error| match nearest(text, WORDS) {
        Some(near) => format!("{error}, did you mean `{near}`?"),
        None => error,
    })
}

fn pin_host(text: &str) -> Result<(), String> {
    let platform = Platform::parse(text).map_err(|error| error.to_string())?;
    if platform.pair() == text { Ok(()) } else { Err("a toolchain has no level".to_owned()) }
}
