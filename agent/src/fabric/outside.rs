//! The server that is not of the fleet and keeps what the agent's region builds: the way to it, and what is shown there.

use std::{path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_cache::outside::Outside;
use meridian_runtime::{
    secret_file::{self, SecretFileError},
    tls::{ConnectError, Proxies, foreign_channel},
};
use tonic::metadata::{Ascii, MetadataValue};

use crate::config::{OutsideCredentials, OutsideSettings};

/// Why a server outside cannot be used as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum OutsideMistake {
    /// Its address or a file of certificates.
    #[error("remote_cache: {0}")]
    Connection(#[from] ConnectError),
    /// The file of credentials.
    #[error("remote_cache: {0}")]
    Credentials(#[from] SecretFileError),
    /// It is not there, or has nothing that could be shown.
    #[error("remote_cache: {} {why}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// The client. Must be called within a tokio runtime; it connects when it is first used.
///
/// # Errors
/// When a file cannot be used.
pub(crate) fn open_outside(settings: &OutsideSettings) -> Result<Arc<Outside>, OutsideMistake> {
    let shown = authorization(settings)?;
    let channel = foreign_channel(&settings.address, settings.tls.as_ref(), &Proxies::from_env())?;
    Ok(Arc::new(Outside::new(channel, settings.instance.clone(), shown)))
}

/// What is shown at each call.
///
/// # Errors
/// When the file cannot be read, others can read it, or it has no credentials.
pub(crate) fn authorization(
    settings: &OutsideSettings,
) -> Result<Option<MetadataValue<Ascii>>, OutsideMistake> {
    let Some(credentials) = &settings.credentials else { return Ok(None) };
    let (OutsideCredentials::Token(path) | OutsideCredentials::Basic(path)) = credentials;
    let wrong = |why| OutsideMistake::Content { path: path.clone(), why };
    let content = secret_file::read(path)?.ok_or_else(|| wrong("is not there"))?;
    let text = String::from_utf8(content).map_err(|_| wrong("is not text"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    let shown = match credentials {
        OutsideCredentials::Token(_) => format!("Bearer {text}"),
        OutsideCredentials::Basic(_) if !text.contains(':') => return Err(wrong("has not USER:PASSWORD")),
        OutsideCredentials::Basic(_) => format!("Basic {}", STANDARD.encode(text)),
    };
    let mut shown: MetadataValue<Ascii> =
        shown.parse().map_err(|_| wrong("has a character that no header can have"))?;
    shown.set_sensitive(true);
    Ok(Some(shown))
}
