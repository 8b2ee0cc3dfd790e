//! The project's directory and its configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    args::release::{ReleaseArgs, Skip},
    goreleaser::config::{Config, FILE_NAMES, Place, Report, Text},
    trouble::Trouble,
};

/// A longer configuration is none.
const CONFIG_LEN_MAX: u64 = 4 << 20;

/// A project with what its configuration says.
#[derive(Debug)]
pub struct Project {
    /// Its directory, absolute and without links.
    pub directory: PathBuf,
    /// The configuration's file.
    pub file: PathBuf,
    /// What it says, without the steps that are left out.
    pub config: Config,
    /// What it says that is not followed.
    pub report: Report,
}

impl Project {
    /// Finds and reads the configuration that the command line means.
    ///
    /// # Errors
    /// When there is none, or all of its mistakes at once.
    pub fn read(args: &ReleaseArgs) -> Result<Self, Trouble> {
        let directory = fs::canonicalize(&args.directory)
            .map_err(|error| Trouble::usage(format_args!("{}: {error}", args.directory.display())))?;
        if !directory.is_dir() {
            return Err(Trouble::usage(format_args!("{} is not a directory", args.directory.display())));
        }
        let file = match &args.config {
            Some(file) => file.clone(),
            None => find(&directory)?,
        };
        let text = text_of(&file).map_err(|why| Trouble::usage(format_args!("{}: {why}", file.display())))?;
        let (mut config, report) = Config::read(&text).map_err(|errors| {
            let told = errors.to_string().replace('\n', "\n  ");
            Trouble::usage(format_args!("{} cannot be followed:\n  {told}", file.display()))
        })?;
        leave_out(&mut config, args);
        Ok(Self { directory, file, config, report })
    }
}

fn find(directory: &Path) -> Result<PathBuf, Trouble> {
    let found = FILE_NAMES.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let words = format_args!("no GoReleaser configuration in {}", directory.display());
        let hint = format!("it is looked for as {}; name another with --config", FILE_NAMES.join(", "));
        Trouble::usage(words).hint(hint)
    })
}

fn text_of(file: &Path) -> Result<String, String> {
    let read = |file: &Path| -> io::Result<Vec<u8>> {
        if fs::metadata(file)?.len() > CONFIG_LEN_MAX {
            return Err(io::Error::other("longer than 4 MiB, which no configuration is"));
        }
        fs::read(file)
    };
    let bytes = read(file).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

/// Takes out of the configuration what the command line says otherwise.
fn leave_out(config: &mut Config, args: &ReleaseArgs) {
    if let Some(out) = &args.out {
        // An absolute path is joined to the project's directory as itself.
        let out = std::path::absolute(out).unwrap_or_else(|_| out.clone());
        let place = Place { path: "--out".to_owned(), line: None };
        config.dist = Some(Text { text: out.display().to_string(), place });
    }
    if args.skips(Skip::Before) {
        config.before_hooks.clear();
    }
    if args.skips(Skip::Sbom) {
        config.sboms.clear();
    }
    if args.skips(Skip::Sign) {
        config.signs.clear();
        config.binary_signs.clear();
    }
}
