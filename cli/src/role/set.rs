//! `--set KEY=VALUE`: any key of a configuration file, from the command line.

use meridian_runtime::config::Loader;

use crate::trouble::Trouble;

/// Adds the settings to a configuration's layers, as the last and strongest one.
///
/// # Errors
/// When one is not `KEY=VALUE`.
pub(crate) fn apply(mut loader: Loader, settings: &[String]) -> Result<Loader, Trouble> {
    for setting in settings {
        let origin = format!("--set {setting}");
        let (key, value) = setting
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Trouble::usage(format_args!("--set {setting:?} is not KEY=VALUE")))?;
        loader = loader.set_text(key, value, &origin);
    }
    Ok(loader)
}
