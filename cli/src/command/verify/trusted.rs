//! By what artifacts are judged: the roots that are trusted beforehand, and the keyrings that are known besides the one
//! that lies in `dist/`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use meridian_core::time::Wall;
use meridian_trust::{
    dsse::Envelope,
    keyring::{Keyring, KeyringFile, Root},
    verify::{Policy, Verifier},
};

use crate::{
    args::VerifyArgs,
    command::context::Context,
    fleet::{
        root,
        saved::{self, SavedError},
        seen_keyring,
    },
    given_file,
    trouble::Trouble,
};

/// A root, and what this machine knows of its fleet.
#[derive(Debug)]
pub struct Trusted {
    root: Root,
    /// Where the fleet's keyrings are kept; `None` for a root that is no joined fleet's.
    directory: Option<PathBuf>,
    /// The keyring that was given.
    given: Option<Envelope>,
}

impl Trusted {
    /// Everything that may vouch: the root that was given, else that of every fleet that was joined.
    ///
    /// # Errors
    /// When nothing is trusted, a file is not what it should be, or the given keyring is no trusted root's.
    pub fn all(context: &Context, args: &VerifyArgs) -> Result<Vec<Self>, Trouble> {
        let mut trusted = match &args.trust {
            Some(path) => {
                let root = root::read_root(path)?;
                // A given root may be the one of a fleet that was joined, and then more is known of it.
                let joined = joined(context)?;
                let directory = joined.into_iter().find(|one| one.root.key() == root.key());
                let directory = directory.and_then(|one| one.directory);
                vec![Self { root, directory, given: None }]
            }
            None => joined(context)?,
        };
        if trusted.is_empty() {
            return Err(Trouble::usage("nothing is trusted beforehand: no fleet was joined here").hint(
                "give the fleet's root with --trust fleet.pub; whoever runs the fleet gets it by `meridian keyring root`",
            ));
        }
        if let Some(path) = &args.keyring {
            supply(&mut trusted, path)?;
        }
        Ok(trusted)
    }

    /// A verifier for the artifacts beside a keyring file. A keyring that is new to this machine is kept.
    ///
    /// # Errors
    /// When a keyring that is kept of this fleet cannot be used.
    pub fn verifier(&self, beside: Option<&[u8]>, policy: &Policy, now: Wall) -> Result<Verifier, Trouble> {
        let verifier = Verifier::new(self.root.clone(), beside, policy.clone(), now);
        if verifier.keyring().is_none() {
            // Not this root's, or nobody's: no other keyring stands in for it.
            return Ok(verifier);
        }
        let kept = match &self.directory {
            Some(directory) => seen_keyring::recall(directory, &self.root).map_err(Trouble::broken)?,
            None => Vec::new(),
        };
        let verifier = verifier.with_keyrings(kept.iter().chain(&self.given)).map_err(Trouble::broken)?;
        let seen = beside.and_then(|bytes| KeyringFile::parse(bytes).ok());
        if let (Some(directory), Some(file)) = (&self.directory, seen) {
            let keep = |keyring| seen_keyring::remember(directory, &self.root, keyring, now);
            // A state directory that cannot be written is no reason not to verify.
            if let Err(error) = file.keyrings().try_for_each(keep) {
                tracing::warn!(%error, "the keyring could not be kept");
            }
        }
        Ok(verifier)
    }
}

/// The fleets that this user has joined, and the local one.
fn joined(context: &Context) -> Result<Vec<Trusted>, Trouble> {
    let mut joined = Vec::new();
    for fleet in saved::all(&context.directories.state).map_err(SavedError::trouble)? {
        let identity = fleet.identity;
        let root = root::root_of(identity.authority_der(), identity.id().fleet())?;
        joined.push(Trusted { root, directory: Some(fleet.directory), given: None });
    }
    let local = root::local_root(&context.directories)?;
    joined.extend(local.map(|root| Trusted { root, directory: None, given: None }));
    Ok(joined)
}

/// What to do about keyring files that are believed under no root.
pub fn advice(trusted: &[Trusted], files: &BTreeSet<PathBuf>) -> Option<String> {
    if let Some(damaged) = files.iter().find(|path| is_damaged(trusted, path)) {
        return Some(format!(
            "{} is damaged: get it again from where the artifacts come from, or build them again; the artifacts \
             themselves may be whole",
            damaged.display()
        ));
    }
    (!files.is_empty()).then(|| {
        "an artifact is trusted under a root that was pinned on joining its fleet, or that --trust names, and under \
         no other"
            .to_owned()
    })
}

/// Whether a keyring file is none, or is not what the root that it names has signed.
fn is_damaged(trusted: &[Trusted], path: &Path) -> bool {
    let Ok(Some(bytes)) = given_file::read(path) else { return false };
    let Ok(file) = KeyringFile::parse(&bytes) else { return true };
    let named = trusted.iter().find(|one| one.root.key().id() == file.keyring.key_id());
    named.is_some_and(|one| file.open(&one.root).is_err())
}

/// Adds the keyring in a file to the root that signed it.
fn supply(trusted: &mut [Trusted], path: &Path) -> Result<(), Trouble> {
    let shown = path.display();
    let bytes =
        given_file::read_named(path).map_err(|error| Trouble::usage(format_args!("{shown}: {error}")))?;
    let file = KeyringFile::parse(&bytes).map_err(|error| {
        Trouble::usage(format_args!("{shown}: {error}"))
            .hint("give a keyring.json, such as `meridian keyring export` prints")
    })?;
    let is_by = |one: &&mut Trusted| file.keyring.key_id() == one.root.key().id();
    let Some(one) = trusted.iter_mut().find(is_by) else {
        return Err(Trouble::usage(format_args!(
            "{shown}: this keyring is of no fleet that is trusted here"
        )));
    };
    Keyring::open(&file.keyring, &one.root)
        .map_err(|error| Trouble::usage(format_args!("{shown}: {error}")))?;
    one.given = Some(file.keyring);
    Ok(())
}
