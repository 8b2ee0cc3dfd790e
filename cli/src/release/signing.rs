//! Signatures of a release, under the names that the configuration gives them.
//!
//! Two kinds, and which is which is told by what is signed. **What an agent built** has a signature of the fleet's signer
//! already: it is put under the configured name as it is (base64 of DER, as `cosign verify-blob --key` takes it), and the
//! certificate's name gets the public key in PEM. **What is packed here** (archives, checksums, documents) is no agent's
//! work, so no key of the fleet may sign it: the configured command does, with the user's own key, as in GoReleaser.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use meridian_trust::sidecar::Sidecar;

use crate::{
    goreleaser::plan::{Maker, PlannedCommand, PlannedSignature, Stdin},
    release::{
        assets::Layout,
        checks::part_of,
        hooks::{Hook, HookError},
    },
};

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The command failed.
    #[error("the signature {name}: {source}")]
    Command {
        /// Which.
        name: String,
        /// Why.
        source: HookError,
    },
    /// The command ended well and left nothing.
    #[error("the signature {name}: `{program}` wrote no {path}")]
    Nothing {
        /// Which.
        name: String,
        /// The program.
        program: String,
        /// The file that is missing.
        path: String,
    },
    /// A file could not be read or written.
    #[error("the signature {name}: {path}: {source}", path = path.display())]
    File {
        /// Which.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the fleet signed has no signature here.
    #[error("the signature {0}: what it is of was not signed by the fleet")]
    Unsigned(String),
}

impl SigningError {
    /// Whether a command only took too long.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        matches!(self, Self::Command { source, .. } if source.is_late())
    }
}

/// Makes every signature of the plan.
///
/// # Errors
/// When one cannot be made.
pub async fn sign_all(
    layout: &Layout,
    env: &BTreeMap<String, String>,
    deadline: Instant,
) -> Result<(), SigningError> {
    for signature in &layout.plan.signatures {
        match &signature.maker {
            Maker::Fleet => of_fleet(layout, signature)?,
            Maker::Command(command) => {
                of_command(&layout.project, &signature.name, command, env, deadline).await?;
            }
        }
    }
    Ok(())
}

fn of_fleet(layout: &Layout, signature: &PlannedSignature) -> Result<(), SigningError> {
    let unsigned = || SigningError::Unsigned(signature.name.clone());
    let part = part_of(&layout.plan, &signature.subject).ok_or_else(unsigned)?;
    let signed = layout.signed(part).ok_or_else(unsigned)?;
    let name = signed.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside =
        [(Sidecar::Signature, Some(&signature.name)), (Sidecar::PublicKey, signature.certificate.as_ref())];
    for (sidecar, to) in beside {
        let Some(to) = to else { continue };
        let (from, to) = (signed.with_file_name(sidecar.file_name(&name)), layout.asset(to));
        fs::copy(&from, &to).map_err(|source| SigningError::File {
            name: signature.name.clone(),
            path: from,
            source,
        })?;
    }
    Ok(())
}

async fn of_command(
    project: &Path,
    name: &str,
    command: &PlannedCommand,
    env: &BTreeMap<String, String>,
    deadline: Instant,
) -> Result<(), SigningError> {
    let mut env = env.clone();
    env.extend(command.env.clone());
    let stdin = match &command.stdin {
        Stdin::Nothing => None,
        Stdin::Text(text) => Some(text.clone().into_bytes()),
        Stdin::File(file) => {
            let path = project.join(file);
            let read = fs::read(&path);
            Some(read.map_err(|source| SigningError::File { name: name.to_owned(), path, source })?)
        }
    };
    let mut words = vec![command.program.clone()];
    words.extend(command.args.iter().cloned());
    // Arguments may hold a passphrase; the program's name says enough.
    let hook = Hook { line: command.program.clone(), words, env: &env, directory: project, stdin };
    let failed = |source| SigningError::Command { name: name.to_owned(), source };
    hook.run(deadline).await.map_err(failed)?;
    for path in [&command.signature, &command.certificate].into_iter().filter(|path| !path.is_empty()) {
        if !project.join(path).is_file() {
            return Err(SigningError::Nothing {
                name: name.to_owned(),
                program: command.program.clone(),
                path: path.clone(),
            });
        }
    }
    Ok(())
}
